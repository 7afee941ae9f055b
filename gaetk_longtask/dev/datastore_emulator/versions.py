"""The versions of entities: how they are found, how a commit adds them, and when old ones are deleted.

An old version is kept for transactions and for reads with a `read_time`.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from gaetk_longtask.dev.datastore_emulator.catalog import Catalog
from gaetk_longtask.dev.datastore_emulator.database import PRESENT
from gaetk_longtask.dev.datastore_emulator.entities import Entries

#: At least this long, old versions are readable in production.
KEPT_MICROSECONDS = 3600 * 1_000_000
#: The limit of the sum of their sizes.
_KEPT_BYTES = 256 * 1024 * 1024
_FORGOTTEN_AT_ONCE = 1_000
#: The time of a view that sees the present.
NOW = PRESENT - 1


class Version(NamedTuple):
    """A version of an entity."""

    id: int
    born: int
    created: int
    body: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What a reader sees: the database as a connection sees it, at a time in microseconds."""

    connection: sqlite3.Connection
    at: int = NOW

    def find(self, space: int | None, key: bytes) -> Version | None:
        """Return the version that an entity has at this time, or None."""
        found = self.connection.execute(
            "select id, born, created, body from entity where space = ? and key = ? and died > ? and born <= ?",
            (space, key, self.at, self.at),
        ).fetchone()
        return None if found is None else Version(*found)

    def get(self, identity: int) -> Version:
        """Return a version by its number."""
        return Version(
            *self.connection.execute("select id, born, created, body from entity where id = ?", (identity,)).fetchone()
        )


class Versions:
    """Adds and ends versions within a commit."""

    def __init__(self, connection: sqlite3.Connection, catalog: Catalog) -> None:
        self._writer = connection
        self._catalog = catalog
        self._old_bytes = 0
        #: Reads at an earlier time are impossible, because versions of that time are deleted.
        self.horizon = 0
        self.load()

    def load(self) -> None:
        """Read from the database what this object remembers of it, at the start and after a failed commit."""
        [self._old_bytes] = self._writer.execute(
            f"select coalesce(sum(length(body)), 0) from entity where died < {PRESENT}"  # noqa: S608 - a constant
        ).fetchone()
        self.horizon = self.counter("horizon")

    def counter(self, name: str) -> int:
        """Return a number that is stored under a name, or 0."""
        found = self._writer.execute("select value from counter where name = ?", (name,)).fetchone()
        return 0 if found is None else int(found[0])

    def set_counter(self, name: str, value: int) -> None:
        """Store a number under a name."""
        self._writer.execute("insert or replace into counter values (?, ?)", (name, value))

    def put(
        self, *, space: int, kind: int, key: bytes, body: bytes, entries: Entries, now: int, before: Version | None
    ) -> int:
        """Add a version that replaces another one, and return when the entity was created."""
        created = now if before is None else before.created
        if before is not None:
            self.end(before, now)
        identity = self._writer.execute(
            "insert into entity (space, kind, key, born, died, created, body) values (?, ?, ?, ?, ?, ?, ?)",
            (space, kind, key, now, PRESENT, created, body),
        ).lastrowid
        make = self._catalog.make
        rows = [(identity, make(name, parent=kind), value, key) for name, value in entries]
        self._writer.executemany("insert into entry (entity, property, value, key) values (?, ?, ?, ?)", rows)
        for prop, count in Counter(row[1] for row in rows).items():
            if count > 1:
                self._catalog.note_many(prop)
        return created

    def end(self, version: Version, now: int) -> None:
        """Make a version an old one. If the same commit has made it, no reader has ever seen it."""
        if version.born == now:
            self._delete([version.id])
            return
        self._writer.execute("update entity set died = ? where id = ?", (now, version.id))
        self._old_bytes += len(version.body)

    def finish(self, now: int) -> None:
        """Delete old versions that are not needed any more, and store the number of the commit."""
        if self._old_bytes:
            self._forget(now - KEPT_MICROSECONDS)
            self.set_counter("horizon", self.horizon)
        self.set_counter("version", now)

    def _forget(self, horizon: int) -> None:
        oldest = self._writer.execute(
            f"select id, died, length(body) from entity where died < {PRESENT}"  # noqa: S608 - a constant
            " order by died limit ?",
            (_FORGOTTEN_AT_ONCE,),
        )
        doomed = []
        for identity, died, length in oldest:
            if died > horizon and self._old_bytes <= _KEPT_BYTES:
                break
            doomed.append(identity)
            self._old_bytes -= length
            self.horizon = max(self.horizon, died)
        self._delete(doomed)

    def clear(self) -> None:
        """Delete all versions of all entities, as if there had never been any."""
        self._writer.execute("delete from entry")
        self._writer.execute("delete from entity")
        self._old_bytes = 0
        self.horizon = 0
        self.set_counter("horizon", 0)

    def _delete(self, identities: list[int]) -> None:
        rows = [(identity,) for identity in identities]
        self._writer.executemany("delete from entry where entity = ?", rows)
        self._writer.executemany("delete from entity where id = ?", rows)
