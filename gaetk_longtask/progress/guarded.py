"""Guards the library against a progress store of the application's own that raises: progress may be lost, work not."""

from __future__ import annotations

from collections.abc import Sequence

from gaetk_longtask.exceptions import describe_type
from gaetk_longtask.foreign import logging_failures
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.progress.stores import ProgressStore, Written

_FAILED = "the progress store %s failed"


class GuardedProgressStore(ProgressStore):
    """A progress store that logs whatever another one raises, and then knows nothing."""

    def __init__(self, store: ProgressStore) -> None:
        self.interval_seconds = store.interval_seconds
        self.store = store  #: the application's own
        self._name = type(store).__name__

    def read(self, task_id: str) -> Snapshot | None:
        """Return the latest snapshot, or None."""
        with logging_failures(_FAILED, self._name):
            found = self.store.read(task_id)
            if found is not None and not isinstance(found, Snapshot):
                raise TypeError(f"read() must return a Snapshot or None, not {describe_type(found)}.")
            return found
        return None

    def read_many(self, task_ids: Sequence[str]) -> dict[str, Snapshot]:
        """Return the latest snapshots by id."""
        with logging_failures(_FAILED, self._name):
            return self.store.read_many(task_ids)
        return {}

    def write(self, snapshot: Snapshot) -> Written:
        """Store a snapshot unless there is a later one."""
        with logging_failures(_FAILED, self._name):
            written = self.store.write(snapshot)
            if not isinstance(written, Written):
                raise TypeError(f"write() must return a Written, not {describe_type(written)}.")
            return written
        return Written.LOST

    def add(self, snapshot: Snapshot, *, seconds: int) -> None:
        """Store a snapshot if there is none."""
        with logging_failures(_FAILED, self._name):
            self.store.add(snapshot, seconds=seconds)

    def for_reporter(self) -> ProgressStore:
        """Return a store for a thread that the current request starts."""
        with logging_failures(_FAILED, self._name):
            return GuardedProgressStore(self.store.for_reporter())
        return self
