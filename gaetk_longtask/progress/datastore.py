"""Keeps the latest snapshot of a task in Datastore."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any

from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.datastore import calls as datastore_calls
from gaetk_longtask.models import LongTaskProgress
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.progress.stores import KEPT_SECONDS, ProgressStore, Written, is_later, readable

#: How long a page waits for Datastore before it continues without a snapshot; ndb's default is a minute.
_READ_SECONDS = _WRITE_SECONDS = 1.0


class DatastoreProgressStore(ProgressStore):
    """Stores snapshots in Datastore, for applications without a memcache. Slower, and each write is billed."""

    interval_seconds = 5.0

    def __init__(self, ndb_context: Callable[[], AbstractContextManager[Any]]) -> None:
        """Create the store. `ndb_context` enters an NDB context outside any transaction, on any thread."""
        self._ndb_context = ndb_context

    def read(self, task_id: str) -> Snapshot | None:
        """Return the latest snapshot; one Datastore read."""
        try:
            with self._ndb_context():
                return self._load(task_id, retries=0, timeout=_READ_SECONDS)
        except STORE_ERRORS:
            return None

    def read_many(self, task_ids: Sequence[str]) -> dict[str, Snapshot]:
        """Return the latest snapshots; one Datastore request."""
        try:
            with self._ndb_context():
                found = LongTaskProgress.load_all(list(task_ids), retries=0, timeout=_READ_SECONDS)
        except STORE_ERRORS:
            return {}
        return readable((entity.key.id(), entity.snapshot) for entity in found if entity)

    def write(self, snapshot: Snapshot) -> Written:
        """Store the snapshot; one Datastore read and write.

        NDB's transactions have no timeout, so a thread makes the write, and the caller waits only for a second.
        """
        written: Future[Written] = Future()

        def write() -> None:
            try:
                written.set_result(self._write(snapshot))
            except BaseException as exc:  # noqa: BLE001  # raised again below
                written.set_exception(exc)

        threading.Thread(target=Context().run, args=(write,), daemon=True).start()
        try:
            return written.result(_WRITE_SECONDS)
        except TimeoutError:
            return Written.LOST

    def _write(self, snapshot: Snapshot) -> Written:
        def transact() -> Written:
            if is_later(self._load(snapshot.info.id), snapshot):
                return Written.OUTDATED
            expires_at = datetime.now(UTC) + timedelta(seconds=KEPT_SECONDS)
            key = LongTaskProgress.key_of(snapshot.info.id)
            LongTaskProgress(key=key, snapshot=snapshot.to_json(), expires_at=expires_at).save()
            return Written.YES

        try:
            with self._ndb_context():
                return datastore_calls.transaction(transact, retries=0)
        except STORE_ERRORS:
            return Written.LOST

    def add(self, snapshot: Snapshot, *, seconds: int) -> None:
        """Do nothing. A poll that finds no snapshot reads the task itself, which costs the same."""

    def _load(self, task_id: str, **options: float) -> Snapshot | None:
        entity = LongTaskProgress.load(task_id, **options)
        return Snapshot.from_json(entity.snapshot, task_id) if entity else None
