"""Keeps the latest snapshot of a task where a poll finds it cheaply: the law of it, memcache and Datastore."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from hashlib import blake2b
from typing import Any, Protocol

import pymemcache
from google.cloud import ndb
from pymemcache.client.rendezvous import RendezvousHash
from pymemcache.exceptions import MemcacheError

from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.models import LongTaskProgress
from gaetk_longtask.progress.snapshot import Snapshot

#: How long a snapshot is kept that nobody renews: longer than any beat, short enough to cost nothing.
KEPT_SECONDS = 3600
#: How long the service behind a store may take for one answer.
PATIENCE_SECONDS = 0.5
#: How often a write is tried while others write at the same moment.
_TRIES = 3
#: How long a page waits for Datastore's news before it does without; ndb's own patience is a minute.
_READ_SECONDS = 1.0


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
        """Give the latest snapshot, or None where it is unknown, lost or unreadable.

        Every poll of a task asks for it: one round trip.
        """

    def read_many(self, task_ids: Sequence[str]) -> dict[str, Snapshot]:
        """Give what `read` gives for each, by id and in one round trip; what there is no news of is left out."""

    def write(self, snapshot: Snapshot) -> Written:
        """Keep it, unless one of a higher `Snapshot.order` is there: compare and set, never overwrite the later.

        So an attempt whose task was taken over can't speak any more, and learns of it. What can't be read is
        overwritten. Where nobody writes again, it is kept for an hour.
        """

    def add(self, snapshot: Snapshot, *, seconds: int) -> None:
        """Keep it for `seconds` where there is none; a store no cheaper to ask than the task itself may do nothing."""

    def for_reporter(self) -> ProgressStore:
        """Give the store for a thread that the present request starts.

        That is this one, unless its calls need something that only the request's own thread has.
        """
        return self


def memcache_key(task_id: str) -> str:
    """Give the key that the original used."""
    return f"longtask_status_{task_id}"


def compare_and_set(
    snapshot: Snapshot,
    *,
    load: Callable[[], tuple[bytes | None, Any]],
    add: Callable[[bytes], bool],
    replace: Callable[[bytes, Any], bool],
) -> Written:
    """Keep a snapshot unless a later one is there; two round trips where nobody else writes at the same moment.

    `load` gives what is stored, or None, and what `replace` needs to replace exactly that. `add` and `replace` tell
    whether they have; all three may raise.
    """
    data = snapshot.to_json()
    for _ in range(_TRIES):
        stored, version = load()
        if stored is None:
            if add(data):
                return Written.YES
        elif _is_later(Snapshot.from_json(stored, snapshot.info.id), snapshot):
            return Written.OUTDATED
        elif replace(data, version):
            return Written.YES
    return Written.LOST


def _hash(text: str, seed: int) -> int:
    """Take the place of pymemcache's own, which is written in Python and costs a tenth of a poll."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) ^ seed


class MemcacheProgressStore(ProgressStore):
    """Snapshots in memcached, through pymemcache."""

    interval_seconds = 0.5

    # RuntimeError: the pool is exhausted, or another thread has just taken a dead server out of the ring.
    _ERRORS = (OSError, MemcacheError, RuntimeError, ValueError, IndexError, KeyError)

    def __init__(self, servers: Sequence[str], *, timeout_seconds: float = PATIENCE_SECONDS) -> None:
        """Take ``host:port`` names; connects when first used. The time-out holds for each call."""
        self._client: Any = pymemcache.HashClient(
            list(servers),
            connect_timeout=timeout_seconds,
            timeout=timeout_seconds,
            hasher=partial(RendezvousHash, hash_function=_hash),
            use_pooling=True,
            max_pool_size=32,
            no_delay=True,
            # A server that is gone is left alone for so long before it is tried again.
            retry_attempts=1,
            retry_timeout=1,
            dead_timeout=5,
        )

    def read(self, task_id: str) -> Snapshot | None:
        """Give the latest snapshot; one memcache get."""
        try:
            return Snapshot.from_json(self._client.get(memcache_key(task_id)), task_id)
        except self._ERRORS:
            return None

    def read_many(self, task_ids: Sequence[str]) -> dict[str, Snapshot]:
        """Give the latest snapshots; one memcache get for each server."""
        keys = {memcache_key(task_id): task_id for task_id in task_ids}
        try:
            found = self._client.get_many(list(keys))
        except self._ERRORS:
            return {}
        return readable((keys[key], data) for key, data in found.items())

    def write(self, snapshot: Snapshot) -> Written:
        """Keep it; two round trips, more only if somebody else writes at the same moment."""
        key = memcache_key(snapshot.info.id)
        try:
            return compare_and_set(
                snapshot,
                # A server that is being left alone answers None instead of a pair.
                load=lambda: self._client.gets(key) or (None, None),
                add=lambda data: self._client.add(key, data, expire=KEPT_SECONDS, noreply=False),
                replace=lambda data, cas: self._client.cas(key, data, cas, expire=KEPT_SECONDS, noreply=False),
            )
        except self._ERRORS:
            return Written.LOST

    def add(self, snapshot: Snapshot, *, seconds: int) -> None:
        """Keep it where there is none."""
        with contextlib.suppress(*self._ERRORS):
            self._client.add(memcache_key(snapshot.info.id), snapshot.to_json(), expire=seconds, noreply=False)


class DatastoreProgressStore(ProgressStore):
    """Snapshots in Datastore, for applications without a memcache: slower, and each write is billed."""

    interval_seconds = 5.0

    _ERRORS = STORE_ERRORS

    def __init__(self, ndb_context: Callable[[], AbstractContextManager[Any]]) -> None:
        """`ndb_context` enters an NDB context outside of any transaction, on any thread."""
        self._ndb_context = ndb_context

    def read(self, task_id: str) -> Snapshot | None:
        """Give the latest snapshot; one Datastore read."""
        try:
            with self._ndb_context():
                return self._load(task_id, retries=0, timeout=_READ_SECONDS)
        except self._ERRORS:
            return None

    def read_many(self, task_ids: Sequence[str]) -> dict[str, Snapshot]:
        """Give the latest snapshots; one Datastore request."""
        try:
            with self._ndb_context():
                found = LongTaskProgress.load_all(list(task_ids), retries=0, timeout=_READ_SECONDS)
        except self._ERRORS:
            return {}
        return readable((entity.key.id(), entity.snapshot) for entity in found if entity)

    def write(self, snapshot: Snapshot) -> Written:
        """Keep it; one Datastore read and write."""

        def compare_and_set() -> Written:
            if _is_later(self._load(snapshot.info.id), snapshot):
                return Written.OUTDATED
            self._save(snapshot, KEPT_SECONDS)
            return Written.YES

        try:
            with self._ndb_context():
                return ndb.transaction(compare_and_set, retries=0)  # type: ignore[no-any-return]  # ndb is untyped
        except self._ERRORS:
            return Written.LOST

    def add(self, snapshot: Snapshot, *, seconds: int) -> None:
        """Do nothing: a poll that finds no snapshot reads the task itself, which costs the same."""

    def _load(self, task_id: str, **options: float) -> Snapshot | None:
        entity = LongTaskProgress.load(task_id, **options)
        return Snapshot.from_json(entity.snapshot, task_id) if entity else None

    def _save(self, snapshot: Snapshot, seconds: int) -> None:
        expires_at = datetime.now(UTC) + timedelta(seconds=seconds)
        key = LongTaskProgress.key_of(snapshot.info.id)
        LongTaskProgress(key=key, snapshot=snapshot.to_json(), expires_at=expires_at).save()


def readable(stored: Iterable[tuple[str, bytes | None]]) -> dict[str, Snapshot]:
    """Read what is stored under ids, and leave out what can't be read."""
    read = ((task_id, Snapshot.from_json(data, task_id)) for task_id, data in stored)
    return {task_id: snapshot for task_id, snapshot in read if snapshot is not None}


def _is_later(stored: Snapshot | None, snapshot: Snapshot) -> bool:
    return stored is not None and stored.order > snapshot.order
