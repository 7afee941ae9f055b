"""The interface of progress stores, which keep the latest snapshot of each task for cheap polls."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any, Protocol

from gaetk_longtask.progress.snapshot import Snapshot

#: How long a snapshot is kept after the last write: longer than any heartbeat interval, but too short to cost much.
KEPT_SECONDS = 3600
#: The timeout for one answer of the service behind a store.
PATIENCE_SECONDS = 0.5
#: How often a write is tried if there are concurrent writes.
_TRIES = 3


class Written(Enum):
    """The outcome of a write."""

    YES = "the snapshot is the latest one"
    OUTDATED = "a later snapshot is stored: the writer no longer owns the task"
    LOST = "the store did not answer, or a concurrent write was faster each time"


class ProgressStore(Protocol):
    """Keeps the latest snapshot of each task. The latest value wins.

    A store may lose a snapshot, but its methods never raise. Many threads call them at once. Each call returns within
    about a second, even if the service behind the store is down, hangs or sends malformed responses. A read then finds
    nothing, and a write is lost. A store connects on first use, reconnects by itself and needs no closing. It keeps the
    bytes of `Snapshot.to_json`, never a pickle.

    To write your own store, derive from this class and pass an instance to ``LongTaskManager(app, progress=…)``.
    """

    #: The interval at which an attempt reports its progress. An attempt that misses three reports counts as dead.
    interval_seconds: float = 0.5

    def read(self, task_id: str) -> Snapshot | None:
        """Return the latest snapshot, or None if it is unknown, lost or unreadable.

        Every poll of a task calls this, so it makes only one round trip.
        """

    def read_many(self, task_ids: Sequence[str]) -> dict[str, Snapshot]:
        """Return the latest snapshots by task id. Tasks for which `read` finds none are left out.

        The overview calls this. Override it if the service can read all of them in one round trip.
        """
        found = ((task_id, self.read(task_id)) for task_id in task_ids)
        return {task_id: snapshot for task_id, snapshot in found if snapshot is not None}

    def write(self, snapshot: Snapshot) -> Written:
        """Store the snapshot, unless one with a higher `Snapshot.order` is stored.

        This is a compare-and-set: it never overwrites a later snapshot. So an attempt whose task was taken over can no
        longer report, and learns it from the return value. An unreadable snapshot is overwritten. A snapshot is kept
        for an hour after the last write.
        """

    def add(self, snapshot: Snapshot, *, seconds: int) -> None:
        """Store the snapshot for `seconds` if none exists.

        A store may do nothing here if reading from it is not cheaper than reading the task itself.
        """

    def for_reporter(self) -> ProgressStore:
        """Return the store for a thread that the current request starts.

        This is the same store, unless its calls need something that only the request's own thread has.
        """
        return self


def memcache_key(task_id: str) -> str:
    """Return the memcache key for a task, the same as in the original library."""
    return f"longtask_status_{task_id}"


class KeyValueStore(ProgressStore):
    """Stores snapshots in a service that keeps bytes by key. The calls of a subclass may raise its `_ERRORS`."""

    interval_seconds = 0.5

    _ERRORS: tuple[type[Exception], ...]

    def read(self, task_id: str) -> Snapshot | None:
        """Return the latest snapshot; one round trip."""
        try:
            return Snapshot.from_json(self._get(memcache_key(task_id)), task_id)
        except self._ERRORS:
            return None

    def read_many(self, task_ids: Sequence[str]) -> dict[str, Snapshot]:
        """Return the latest snapshots; one round trip, to each server that has some of them."""
        keys = {memcache_key(task_id): task_id for task_id in task_ids}
        try:
            return readable((keys[key], data) for key, data in self._get_many(list(keys)).items())
        except self._ERRORS:
            return {}

    def write(self, snapshot: Snapshot) -> Written:
        """Store the snapshot; two round trips, more only with concurrent writes, and one if it is the task's first."""
        with suppress(*self._ERRORS):
            key, data = memcache_key(snapshot.info.id), snapshot.to_json()
            if not snapshot.fence and self._add(key, data, KEPT_SECONDS):
                return Written.YES
            for _ in range(_TRIES):
                stored, version = self._load(key)
                if stored is None:
                    if self._add(key, data, KEPT_SECONDS):
                        return Written.YES
                elif is_later(Snapshot.from_json(stored, snapshot.info.id), snapshot):
                    return Written.OUTDATED
                elif self._replace(key, data, version):
                    return Written.YES
        return Written.LOST

    def add(self, snapshot: Snapshot, *, seconds: int) -> None:
        """Store the snapshot if none exists; one round trip."""
        with suppress(*self._ERRORS):
            self._add(memcache_key(snapshot.info.id), snapshot.to_json(), seconds)

    def _get(self, key: str) -> bytes | None:
        return self._load(key)[0]

    @abstractmethod
    def _get_many(self, keys: list[str]) -> Mapping[str, bytes | None]:
        """Return the stored bytes by key."""

    @abstractmethod
    def _load(self, key: str) -> tuple[bytes | None, Any]:
        """Return the stored bytes or None, and their version."""

    @abstractmethod
    def _add(self, key: str, data: bytes, seconds: int) -> bool:
        """Store the bytes if the key has none, and return whether they are stored."""

    @abstractmethod
    def _replace(self, key: str, data: bytes, version: Any) -> bool:
        """Store the bytes if the key still has this version, and return whether they are stored."""


def readable(stored: Iterable[tuple[str, bytes | None]]) -> dict[str, Snapshot]:
    """Return the stored snapshots by task id. Unreadable ones are left out."""
    read = ((task_id, Snapshot.from_json(data, task_id)) for task_id, data in stored)
    return {task_id: snapshot for task_id, snapshot in read if snapshot is not None}


def is_later(stored: Snapshot | None, snapshot: Snapshot) -> bool:
    """Return whether the stored snapshot is later."""
    return stored is not None and stored.order > snapshot.order
