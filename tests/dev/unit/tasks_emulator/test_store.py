"""The data that the Cloud Tasks emulator keeps on disk."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest

from gaetk_longtask.dev.tasks_emulator import store as store_module
from gaetk_longtask.dev.tasks_emulator.acceptance import accept
from gaetk_longtask.dev.tasks_emulator.store import FILE_NAME, Store, StoreError
from tests.dev.unit.tasks_emulator.messages import DEFAULT, NOW, app_engine_task

DAY = timedelta(days=1)


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    store.close()


def test_a_buried_name_is_remembered_until_its_time_is_up(store):
    store.bury_task("t", NOW + DAY)

    assert store.is_buried("t", NOW)
    assert not store.is_buried("t", NOW + DAY)
    assert not store.is_buried("other", NOW)


def test_a_sweep_forgets_names_whose_time_is_up(store):
    store.bury_task("old", NOW)
    store.bury_task("new", NOW + DAY)
    store.sweep(NOW)

    assert not store.is_buried("old", NOW - DAY)
    assert store.is_buried("new", NOW)


def test_a_sweep_forgets_the_oldest_of_too_many_names(store, monkeypatch):
    monkeypatch.setattr(store_module, "MAX_TOMBSTONES", 3)
    store.bury_tasks("queue", [], NOW)
    for number in range(5):
        store.bury_task(f"t{number}", NOW + DAY + timedelta(seconds=number))
    store.sweep(NOW)

    assert [store.is_buried(f"t{number}", NOW) for number in range(5)] == [False, False, True, True, True]


def test_a_second_emulator_over_the_same_directory_is_refused(tmp_path):
    first = Store(tmp_path)
    with pytest.raises(StoreError, match="another emulator"):
        Store(tmp_path)
    first.close()


def test_a_directory_is_made_where_there_is_none(tmp_path):
    Store(tmp_path / "a" / "b").close()

    assert (tmp_path / "a" / "b" / FILE_NAME).exists()


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / FILE_NAME).write_bytes(b"no database at all" * 1000)

    with pytest.raises(StoreError, match=rf"{FILE_NAME}: file is not a database$"):
        Store(tmp_path)


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match="file"):
        Store(tmp_path / "file" / "directory")


WRITE_UNTIL_KILLED = """
import sys
from pathlib import Path
from gaetk_longtask.dev.tasks_emulator.store import Store
from gaetk_longtask.dev.tasks_emulator.acceptance import accept
from tests.dev.unit.tasks_emulator.messages import DEFAULT, NOW, app_engine_task

store = Store(Path(sys.argv[1]))
number = 0
while True:
    record = accept(app_engine_task(body=b"x" * 10_000), name=f"{DEFAULT}/tasks/{number}", queue=DEFAULT, now=NOW)
    store.put_task(record, str(DEFAULT))
    print(number, flush=True)
    number += 1
"""


def test_a_kill_loses_nothing_that_was_answered_for(tmp_path):
    command = [sys.executable, "-c", WRITE_UNTIL_KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) == 50:
                os.kill(writer.pid, signal.SIGKILL)
                break
        written = [50, *(int(line) for line in writer.stdout)]

    store = Store(tmp_path)
    found = {record.name for record in store.tasks(str(DEFAULT))}
    store.close()
    assert {f"{DEFAULT}/tasks/{number}" for number in range(written[-1] + 1)} <= found
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_a_task_comes_back_as_it_was(store):
    record = accept(app_engine_task(body=b"\x00\xff"), name=f"{DEFAULT}/tasks/t", queue=DEFAULT, now=NOW)
    store.put_task(record, str(DEFAULT))

    [back] = store.tasks(str(DEFAULT))
    assert (back.message, back.executions, back.previous) == (record.message, 0, None)
