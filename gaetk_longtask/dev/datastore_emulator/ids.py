"""Numbers for keys without one: scattered over a wide range, and never given twice."""

from __future__ import annotations

import sqlite3
from typing import Any

from gaetk_longtask.dev.datastore_emulator.encoding import encode_path
from gaetk_longtask.dev.datastore_emulator.store import Commit

#: As in production, a number has 16 digits, and the first one is as far as possible from the second one.
_BITS = 52


def complete(key: Any, space: int | None, commit: Commit) -> bytes:
    """Complete a key with a number that no other key was given, that is not reserved and that no entity has."""
    connection = commit.view.connection
    count = commit.versions.counter("ids")
    while True:
        count += 1
        key.path[-1].id = _scattered(count)
        path = encode_path(key.path)
        if commit.view.find(space, path) is None and not _is_reserved(connection, key.path[-1].id):
            commit.versions.set_counter("ids", count)
            return path


def reserve(keys: Any, commit: Commit) -> None:
    """Never give the numbers of these keys."""
    rows = [(key.path[-1].id,) for key in keys if key.path[-1].WhichOneof("id_type") == "id"]
    commit.view.connection.executemany("insert or ignore into reserved_id values (?)", rows)


def _scattered(count: int) -> int:
    return (1 << _BITS) + int(format(count, f"0{_BITS}b")[::-1], 2)


def _is_reserved(connection: sqlite3.Connection, number: int) -> bool:
    return connection.execute("select 1 from reserved_id where id = ?", (number,)).fetchone() is not None
