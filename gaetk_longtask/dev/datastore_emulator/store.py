"""Everything that is stored: a commit at a time, and views of any time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gaetk_longtask.dev.datastore_emulator.catalog import Catalog
from gaetk_longtask.dev.datastore_emulator.database import Database
from gaetk_longtask.dev.datastore_emulator.errors import invalid
from gaetk_longtask.dev.datastore_emulator.versions import KEPT_MICROSECONDS, NOW, Versions, View


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """A commit that is being made."""

    #: The present, with what this commit has changed so far.
    view: View
    #: The number of the commit, its time in microseconds.
    now: int
    versions: Versions


class Store:
    """Owns the database. `clock` returns the time in microseconds."""

    def __init__(self, directory: Path | None, clock: Callable[[], int]) -> None:
        self._database = Database(directory)
        self._clock = clock
        self.catalog = Catalog(self._database.writer)
        self._versions = Versions(self._database.writer, self.catalog)
        #: The number of the last commit.
        self.last = self._versions.counter("version")

    @contextmanager
    def committing(self) -> Iterator[Commit]:
        """Commit what the block does with the :class:`Commit`; if it raises, change nothing."""
        with self._database.writing:
            now = max(self._clock(), self.last + 1)
            try:
                with self._database.committing() as connection:
                    yield Commit(view=View(connection=connection), now=now, versions=self._versions)
                    self._versions.finish(now)
            except BaseException:
                self.catalog.load()
                self._versions.load()
                raise
            self.last = now

    @contextmanager
    def viewing(self, at: int | None = None) -> Iterator[View]:
        """Lend a view of the present, or of a time since the horizon."""
        with self._database.reading() as connection:
            if at is not None and at < self._versions.horizon:
                raise invalid("The requested read time is too old: the versions of that time are deleted.")
            yield View(connection=connection, at=NOW if at is None else at)

    def time_of(self, microseconds: int) -> int:
        """Return a time that a client wants to read at, if that is possible, after all commits before it."""
        now = self._clock()
        if microseconds > now:
            raise invalid("read_time cannot be in the future.")
        if microseconds < now - KEPT_MICROSECONDS:
            raise invalid("read_time must be within the last hour.")
        with self._database.writing:  # a commit that is being made has an earlier time
            return microseconds

    def present(self) -> int:
        """Return the time to report for a read of the present."""
        return max(self._clock(), self.last)

    def clear(self) -> None:
        """Delete all entities. Numbers that were allocated stay allocated."""
        with self.committing() as commit:
            commit.versions.clear()

    def close(self) -> None:
        """Close the database; call it when no request is running."""
        self._database.close()
