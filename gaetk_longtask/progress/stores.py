"""The law of progress stores, which keep the latest snapshot of a task where a poll finds it cheaply."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any, Protocol

from gaetk_longtask.progress.snapshot import Snapshot

#: How long a snapshot is kept after the last write: longer than any beat, short enough to cost nothing.
KEPT_SECONDS = 3600
#: How long the service behind a store may take for one answer.
PATIENCE_SECONDS = 0.5
#: How often a write is tried while others write at the same moment.
_TRIES = 3


class Written(Enum):
    """What became of a snapshot."""

    YES = "it is the latest"
    OUTDATED = "a later one stands there: the writer no longer owns the task"
    LOST = "the store did not answer, or others were faster each time"


class ProgressStore(Protocol):
    """Keeps the latest snapshot of each task: the latest value wins, losing one is allowed, raising is not.

    Many threads call it at once. A call answers within about a second, also when the service behind it is gone, hangs
    or talks nonsense: nothing is known then, and what is written is lost. It connects when it is first used, finds by
    itself a service that is back, and needs no closing. What it keeps is bytes of `Snapshot.to_json`, never a pickle.

    A store of your own derives from this class and goes to ``LongTaskManager(app, progress=…)``.
    """

    #: The pace at which an attempt reports and beats; one that misses three beats is taken for dead.
    interval_seconds: float

    def read(self, task_id: str) -> Snapshot | None:
        """Return the latest snapshot, or None where it is unknown, lost or unreadable.

        Every poll of a task asks for it: one round trip.
        """

    def read_many(self, task_ids: Sequence[str]) -> dict[str, Snapshot]:
        """Return what `read` returns for each, by id and in one round trip; tasks without news are left out."""

    def write(self, snapshot: Snapshot) -> Written:
        """Keep it, unless one of a higher `Snapshot.order` is there: compare and set, never overwrite the later.

        So an attempt whose task was taken over can't report any more, and learns of it. What can't be read is
        overwritten. A snapshot is kept for an hour after the last write.
        """

    def add(self, snapshot: Snapshot, *, seconds: int) -> None:
        """Keep it for `seconds` where there is none; a store no cheaper to ask than the task itself may do nothing."""

    def for_reporter(self) -> ProgressStore:
        """Return the store for a thread that the present request starts.

        That is this one, unless its calls need something that only the request's own thread has.
        """
        return self


def memcache_key(task_id: str) -> str:
    """Return the key that the original used."""
    return f"longtask_status_{task_id}"


def compare_and_set(
    snapshot: Snapshot,
    *,
    load: Callable[[], tuple[bytes | None, Any]],
    add: Callable[[bytes], bool],
    replace: Callable[[bytes, Any], bool],
) -> Written:
    """Keep a snapshot unless a later one is there; two round trips unless others write at the same moment.

    `load` returns what is stored, or None, and what `replace` needs to replace exactly that. `add` and `replace` return
    whether they did it. All three may raise.
    """
    data = snapshot.to_json()
    for _ in range(_TRIES):
        stored, version = load()
        if stored is None:
            if add(data):
                return Written.YES
        elif is_later(Snapshot.from_json(stored, snapshot.info.id), snapshot):
            return Written.OUTDATED
        elif replace(data, version):
            return Written.YES
    return Written.LOST


def readable(stored: Iterable[tuple[str, bytes | None]]) -> dict[str, Snapshot]:
    """Return the snapshots that are stored under ids; what can't be read is left out."""
    read = ((task_id, Snapshot.from_json(data, task_id)) for task_id, data in stored)
    return {task_id: snapshot for task_id, snapshot in read if snapshot is not None}


def is_later(stored: Snapshot | None, snapshot: Snapshot) -> bool:
    """Return whether what is stored is later news."""
    return stored is not None and stored.order > snapshot.order
