"""The SQLite database: its tables, one connection that writes, and several that read beside it."""

from __future__ import annotations

import fcntl
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import LifoQueue
from typing import IO

#: The end of a version that is the entity's present one.
PRESENT = (1 << 63) - 1

_FILE, _LOCK = "datastore-2.sqlite", "datastore.lock"
#: The file of the emulator before it had a store of its own.
_FILE_BEFORE = "datastore.sqlite"
_READERS = 16

_SCHEMA = f"""
-- Projects have databases, these have namespaces, these have kinds, these have properties. `many` says whether an
-- entity ever had several values of the property.
create table if not exists name (
    id integer primary key, parent integer not null, text text not null, many integer not null default 0,
    unique (parent, text)
);
-- Versions of entities. A version is what the entity was from the commit `born` until just before the commit `died`.
create table if not exists entity (
    id integer primary key, space integer not null, kind integer not null, key blob not null,
    born integer not null, died integer not null, created integer not null, body blob not null
);
create unique index if not exists entity_key on entity (space, key, died);
create index if not exists entity_kind on entity (kind, key, died);
create index if not exists entity_died on entity (died) where died < {PRESENT};
-- The indexed values of each version. The primary key is in the order of insertion, `entry_value` serves the queries.
create table if not exists entry (
    entity integer not null, property integer not null, value blob not null, key blob not null,
    primary key (entity, property, value)
) without rowid;
create index if not exists entry_value on entry (property, value, key, entity);
create table if not exists counter (name text primary key, value integer not null);
create table if not exists reserved_id (id integer primary key);
"""


class DataError(Exception):
    """The data directory can't be used."""


class Database:
    """The connections to one database. Readers see a snapshot, and never wait for the writer."""

    def __init__(self, directory: Path | None) -> None:
        #: Held while something is written, and until its effects are visible.
        self.writing = threading.RLock()
        self._lock = None
        if directory is not None:
            self._lock = _claim(directory)
            self._connect_all(directory / _FILE, synchronous="normal")
            return
        # Without a name, the files can't be left behind, however this process ends.
        with tempfile.TemporaryDirectory(prefix="datastore-") as temporary:
            self._connect_all(Path(temporary) / _FILE, synchronous="off")

    def _connect_all(self, path: Path, *, synchronous: str) -> None:
        self.writer = _connect(path, synchronous)
        self.writer.executescript(_SCHEMA)
        self._readers: LifoQueue[sqlite3.Connection] = LifoQueue()
        for _ in range(_READERS):
            self._readers.put(_connect(path, synchronous))

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection that sees the database as it is now."""
        connection = self._readers.get()
        try:
            connection.execute("begin")
            try:
                yield connection
            finally:
                connection.execute("rollback")
        finally:
            self._readers.put(connection)

    @contextmanager
    def committing(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection that writes, and commit; after an error, roll back. Hold :attr:`writing`."""
        self.writer.execute("begin immediate")
        try:
            yield self.writer
        except BaseException:
            self.writer.execute("rollback")
            raise
        self.writer.execute("commit")

    def close(self) -> None:
        """Close all connections; call it when no request is running."""
        while not self._readers.empty():
            self._readers.get().close()
        self.writer.close()
        if self._lock is not None:
            self._lock.close()


def _claim(directory: Path) -> IO[bytes]:
    """Lock the directory for this process, and return the file that holds the lock."""
    if not (directory / _FILE).exists() and (directory / _FILE_BEFORE).exists():
        raise DataError(
            f"{directory / _FILE_BEFORE} was written by an older version, whose data can't be read any more;"
            " delete it, or choose another --data-dir"
        )
    lock = (directory / _LOCK).open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        lock.close()
        raise DataError("another Datastore emulator uses it") from exc
    return lock


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    # What is committed survives a kill of the process; with `normal`, a power cut can't damage the file either.
    connection.execute(f"pragma synchronous={synchronous}")
    connection.execute("pragma temp_store=memory")
    connection.execute("select count(*) from sqlite_master").fetchone()  # opens all files
    return connection
