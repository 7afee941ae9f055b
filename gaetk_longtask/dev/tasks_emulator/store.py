"""Keeps queues, tasks and the names that may not be used again in SQLite, so that a restart changes nothing.

Each change is one transaction in a write-ahead log: a process that is killed loses only calls that it has not
answered. Without a directory, SQLite keeps the data in a temporary file, so they need no memory, either.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gaetk_longtask.dev.tasks_emulator.messages import Message, Queue, Task
from gaetk_longtask.dev.tasks_emulator.tasks import Previous, TaskRecord

FILE_NAME = "tasks.sqlite3"
#: The most names of queues and tasks that are remembered; beyond that, those that expire first are deleted.
MAX_TOMBSTONES = 1_000_000
_BUSY_SECONDS = 1.0

_TEMPORARY = "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
# Exclusive: two emulators over one directory would each dispatch every task.
_DURABLE = "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS queues (name TEXT PRIMARY KEY, message BLOB NOT NULL, from_yaml INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS tasks (
    name TEXT PRIMARY KEY, queue TEXT NOT NULL, message BLOB NOT NULL,
    executions INTEGER NOT NULL, response INTEGER, reason TEXT
);
CREATE TABLE IF NOT EXISTS tombstones (digest BLOB PRIMARY KEY, expires REAL NOT NULL) WITHOUT ROWID;
"""


class StoreError(Exception):
    """The data directory can't be used; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredQueue:
    """A queue as it was stored."""

    message: Message
    from_yaml: bool


class Store:
    """The database; callers hold the emulator's lock."""

    def __init__(self, directory: Path | None = None) -> None:
        path = None if directory is None else directory / FILE_NAME
        try:
            if directory is not None:
                directory.mkdir(parents=True, exist_ok=True)
            # Several threads use it, one at a time.
            self._database = sqlite3.connect(
                path or "", isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS
            )
        except (sqlite3.Error, OSError) as exc:
            raise StoreError(f"{directory}: {exc}") from exc
        try:
            self._database.executescript(_TEMPORARY if path is None else _DURABLE)
            self._database.executescript(_SCHEMA)
        except sqlite3.Error as exc:
            self._database.close()
            hint = " (is another emulator using it?)" if "locked" in str(exc) else ""
            raise StoreError(f"{path}: {exc}{hint}") from exc

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def queues(self) -> list[StoredQueue]:
        """Return all queues."""
        rows = self._database.execute("SELECT message, from_yaml FROM queues ORDER BY name")
        return [StoredQueue(message=Queue.FromString(row[0]), from_yaml=bool(row[1])) for row in rows]

    def tasks(self, queue: str) -> Iterator[TaskRecord]:
        """Yield the tasks of a queue; those that were being dispatched are due again."""
        rows = self._database.execute(
            "SELECT message, executions, response, reason FROM tasks WHERE queue = ? ORDER BY rowid", (queue,)
        )
        for message, executions, response, reason in rows:
            previous = None if response is None else Previous(response=response, reason=reason)
            yield TaskRecord(message=Task.FromString(message), executions=executions, previous=previous)

    def put_queue(self, message: Message, *, from_yaml: bool) -> None:
        """Write a queue's settings."""
        self._database.execute(
            "INSERT OR REPLACE INTO queues VALUES (?, ?, ?)", (message.name, message.SerializeToString(), from_yaml)
        )

    def put_task(self, record: TaskRecord, queue: str) -> None:
        """Write a task."""
        previous = record.previous
        self._database.execute(
            "INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET message = excluded.message,"
            " executions = excluded.executions, response = excluded.response, reason = excluded.reason",
            (
                record.name,
                queue,
                record.message.SerializeToString(),
                record.executions,
                previous and previous.response,
                previous and previous.reason,
            ),
        )

    def bury_task(self, name: str, until: datetime) -> None:
        """Delete a task and remember its name."""
        self._bury([("DELETE FROM tasks WHERE name = ?", name)], [name], until)

    def bury_tasks(self, queue: str, names: list[str], until: datetime) -> None:
        """Delete all tasks of a queue and remember their names."""
        self._bury([("DELETE FROM tasks WHERE queue = ?", queue)], names, until)

    def bury_queue(self, name: str, until: datetime) -> None:
        """Delete a queue and its tasks and remember its name; the names of its tasks are free."""
        deletions = [("DELETE FROM tasks WHERE queue = ?", name), ("DELETE FROM queues WHERE name = ?", name)]
        self._bury(deletions, [name], until)

    def clear(self) -> None:
        """Delete everything."""
        self._database.executescript("BEGIN; DELETE FROM queues; DELETE FROM tasks; DELETE FROM tombstones; COMMIT;")

    def is_buried(self, name: str, now: datetime) -> bool:
        """Return whether the name of a queue or task was in use recently."""
        row = self._database.execute("SELECT expires FROM tombstones WHERE digest = ?", (_digest(name),)).fetchone()
        return row is not None and row[0] > now.timestamp()

    def sweep(self, now: datetime) -> None:
        """Delete expired names, and the oldest ones if there are too many."""
        self._database.execute("DELETE FROM tombstones WHERE expires <= ?", (now.timestamp(),))
        (count,) = self._database.execute("SELECT count(*) FROM tombstones").fetchone()
        if count > MAX_TOMBSTONES:
            self._database.execute(
                "DELETE FROM tombstones WHERE digest IN (SELECT digest FROM tombstones ORDER BY expires LIMIT ?)",
                (count - MAX_TOMBSTONES,),
            )

    def _bury(self, deletions: list[tuple[str, str]], names: list[str], until: datetime) -> None:
        self._database.execute("BEGIN")
        with self._database:
            for statement, name in deletions:
                self._database.execute(statement, (name,))
            graves = ((_digest(name), until.timestamp()) for name in names)
            self._database.executemany("INSERT OR REPLACE INTO tombstones VALUES (?, ?)", graves)


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16).digest()
