"""docs/progress.md: a progress store of your own, written as the page and the docstrings say."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from gaetk_longtask import LongRunningTaskHandler, LongTaskManager, ProgressStore, Snapshot, Written
from gaetk_longtask.testing import InMemoryProgressStore, TaskRunner
from tests.support import result_text


class SqliteStore(ProgressStore):
    """Keeps snapshots in a file, which several processes may share."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._connected() as database:
            database.execute("CREATE TABLE snapshots (id TEXT PRIMARY KEY, data BLOB, expires_at REAL)")

    def _connected(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(self._path, isolation_level=None, timeout=0.5))

    def read(self, task_id: str) -> Snapshot | None:
        try:
            with self._connected() as database:
                query = "SELECT data FROM snapshots WHERE id = ? AND expires_at > ?"
                row = database.execute(query, [task_id, time.time()]).fetchone()
        except sqlite3.Error:
            return None
        return row and Snapshot.from_json(row[0], task_id)  # type: ignore[no-any-return]  # of sqlite3

    def write(self, snapshot: Snapshot) -> Written:
        try:
            with self._connected() as database:
                database.execute("BEGIN IMMEDIATE")
                stored = self.read(snapshot.info.id)
                if stored is not None and stored.order > snapshot.order:
                    return Written.OUTDATED
                values = [snapshot.info.id, snapshot.to_json(), time.time() + 3600]
                database.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?)", values)
                database.execute("COMMIT")
        except sqlite3.Error:
            return Written.LOST
        return Written.YES


class Report(LongRunningTaskHandler):
    def execute_task(self, parameters: dict[str, Any]) -> str:
        for city in self.track(["Köln", "Łódź", "日本"]):
            self.log_progress(f"Reading {city}")
        return "done"


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "progress.sqlite")


@pytest.fixture
def runner(longtask_datastore: str, store: SqliteStore) -> Iterator[TaskRunner]:
    """A runner for an application with the store."""
    with running(store) as runner:
        yield runner


def running(store: Any) -> Any:
    app = Flask("tests")
    app.config["LONGTASK_ADMIN"] = lambda: True
    LongTaskManager(app, progress=store)
    app.add_url_rule("/report", view_func=Report.as_view("report"))
    return TaskRunner(app, progress=store).opened()


def test_a_store_keeps_what_the_work_reports(runner: TaskRunner, store: SqliteStore) -> None:
    task = runner.start("/report")
    runner.deliver_all()
    snapshot = store.read(task.document["id"])
    assert snapshot is not None
    assert (snapshot.info.status.value, snapshot.info.progress.message) == ("done", "Reading 日本")
    assert task.document["progress"]["percent"] == 100
    assert result_text(task.result()) == "done"


def test_the_overview_reads_a_store(runner: TaskRunner, store: SqliteStore) -> None:
    task = runner.start("/report")
    runner.deliver_all()
    task_id = task.document["id"]
    assert task_id in runner.client.get("/_longtask/tasks").text
    assert store.read_many([task_id, "unknown"]).keys() == {task_id}


def test_a_task_runs_without_its_store(runner: TaskRunner, tmp_path: Path) -> None:
    (tmp_path / "progress.sqlite").write_bytes(b"not a database" * 1000)
    assert result_text(runner.run("/report")) == "done"


def test_an_earlier_attempt_can_not_overwrite_a_later_one(runner: TaskRunner, store: SqliteStore) -> None:
    task = runner.start("/report")
    first = store.read(task.document["id"])
    assert first is not None
    task.cancel()
    assert store.write(first) is Written.OUTDATED
    assert task.status == "cancelled"


@pytest.mark.usefixtures("longtask_datastore")
def test_the_shortest_example_is_a_store() -> None:
    with running(InMemoryProgressStore()) as runner:
        assert result_text(runner.run("/report")) == "done"
