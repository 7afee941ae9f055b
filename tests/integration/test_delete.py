"""One task is deleted at once, with all that belongs to it; and `LongTaskManager` looks after tasks from code."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from google.cloud import ndb

from gaetk_longtask import (
    EndUntoldError,
    LongRunningTaskHandler,
    LongTask,
    LongTaskError,
    LongTaskManager,
    Status,
    UnknownTaskError,
    listing,
    maintenance,
)
from gaetk_longtask.info import Progress, TaskInfo
from gaetk_longtask.models import LongTaskChunk, LongTaskProgress, LongTaskTraceback, LongTaskUnique
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.queues import Delivery
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue, ManualClock
from tests.integration.conftest import Stock
from tests.support import JSON, Work, load, services_of, start

KINDS = (LongTask, LongTaskChunk, LongTaskProgress, LongTaskTraceback, LongTaskUnique)


class Large(Work):
    """A task whose result has chunks."""

    def unique_key(self, parameters: Any) -> str | None:
        return "one"

    def title_of(self, parameters: Any) -> str | None:
        return "Invoices of Anna"

    def execute_task(self, parameters: Any) -> bytes:
        return os.urandom(2_500_000)


class Told(Work):
    """A task whose handler is told of its end."""

    ends: list[str] = []  # noqa: RUF012  # reset by the fixture

    def task_ended(self, task: LongTask) -> None:
        self.ends.append(task.status_name)


@pytest.fixture
def app(make_app: Callable[..., Flask], work: type[Work]) -> Flask:
    Told.ends.clear()
    return make_app(work, Large, Told)


@pytest.fixture
def manager(app: Flask) -> Any:
    """The manager's calls, in an application context without a request."""
    with app.app_context():
        yield LongTaskManager


def left(client: ndb.Client) -> dict[str, int]:
    """Return how many entities of our kinds are stored."""
    with client.context():
        counts = {kind.__name__: len(kind.query().fetch(keys_only=True)) for kind in KINDS}
    return {name: number for name, number in counts.items() if number}


def claim(app: Flask, task: LongTask) -> int:
    """Let an attempt begin; return its fence."""
    services = services_of(app)
    delivery = Delivery(task_id=task.id, execute_key=task.execute_key, task_name="a", retry_count=0)
    with services.ndb_context():
        claimed = services.store.claim(delivery, max_attempts=5).task
    assert claimed is not None
    return int(claimed.fence)


# Deleting.


def test_a_task_is_deleted_with_its_chunks_and_all_that_belongs_to_it(
    app: Flask, manager: Any, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    task = start(app, "large")
    queue.deliver_all(app.test_client())
    assert left(ndb_client) == {"LongTask": 1, "LongTaskChunk": 3, "LongTaskUnique": 1}
    deleted = manager.delete(task.id)
    assert (deleted.id, deleted.status, deleted.title) == (task.id, Status.DONE, "Invoices of Anna")
    assert left(ndb_client) == {}


def test_the_tracebacks_of_failed_attempts_are_deleted_too(
    app: Flask, manager: Any, work: type[Work], queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    work.do = lambda handler: 1 / 0
    task = start(app)
    queue.deliver_all(app.test_client())
    assert left(ndb_client)["LongTaskTraceback"] == work.max_attempts
    manager.delete(task.id)
    assert left(ndb_client) == {}


def test_visitors_do_not_find_a_deleted_task_though_the_progress_store_knew_it(
    app: Flask, manager: Any, queue: InMemoryQueue, progress: InMemoryProgressStore
) -> None:
    task = start(app, "large")
    queue.deliver_all(app.test_client())
    url = task.url
    assert app.test_client().get(url, headers=JSON).json["status"] == "done"
    manager.delete(task.id)
    assert app.test_client().get(url, headers=JSON).status_code == 404
    news = progress.read(task.id)
    assert news is not None
    assert "Anna" not in news.to_json().decode()


def test_the_attempt_of_a_deleted_task_loses(
    app: Flask, manager: Any, work: type[Work], queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    task = start(app)

    def do(handler: LongRunningTaskHandler) -> str:
        manager.delete(task.id)
        return "the result"

    work.do = do
    answer = queue.deliver(app.test_client())
    assert answer.status_code == 200  # there is nothing left to deliver
    assert left(ndb_client) == {}
    queue.deliver_all(app.test_client())
    assert left(ndb_client) == {}


def test_a_late_beat_does_not_bring_a_deleted_task_back(
    app: Flask, manager: Any, progress: InMemoryProgressStore, clock: ManualClock
) -> None:
    task = start(app)
    claim(app, task)
    beating = Snapshot.of(load(app, task), now=clock(), beat_seconds=0.5)
    manager.delete(task.id)
    progress.write(beating)
    assert app.test_client().get(task.url, headers=JSON).status_code == 404


def test_deleting_what_is_missing_says_so(manager: Any) -> None:
    for missing in ("A" * 22, "../../etc", "", None):
        with pytest.raises(UnknownTaskError):
            manager.delete(missing)


def test_an_interrupted_deletion_is_finished_by_the_next_one_or_by_the_purge(
    app: Flask, manager: Any, queue: InMemoryQueue, ndb_client: ndb.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(task_id: str) -> bool:
        raise InterruptedError

    for finish in (manager.delete, lambda task_id: maintenance.purge(services_of(app))):
        task = start(app, "large")
        queue.deliver_all(app.test_client())
        with monkeypatch.context() as patch:
            patch.setattr(maintenance.chunks, "delete_some", interrupt)
            with pytest.raises(InterruptedError):
                manager.delete(task.id)
        assert app.test_client().get(task.url, headers=JSON).status_code in (404, 410)
        assert manager.retry(task.id).status is not Status.READY
        with services_of(app).ndb_context():
            finish(task.id)
        assert left(ndb_client) == {}


def test_a_handler_is_told_of_the_end_before_its_task_is_deleted(
    app: Flask, manager: Any, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    task = start(app, "told")
    claim(app, task)
    with pytest.raises(EndUntoldError):
        manager.delete(task.id)
    assert load(app, task).status is Status.CANCELLED
    queue.deliver_all(app.test_client())
    assert Told.ends == ["cancelled"]
    manager.delete(task.id)
    assert left(ndb_client) == {}


def test_a_task_is_deleted_although_its_handler_was_not_told_if_that_is_wanted(
    app: Flask, manager: Any, queue: InMemoryQueue, ndb_client: ndb.Client, caplog: pytest.LogCaptureFixture
) -> None:
    task = start(app, "told")
    manager.delete(task.id, untold=True)
    assert left(ndb_client) == {}
    assert "task_ended has never returned" in caplog.text
    queue.deliver_all(app.test_client())
    assert Told.ends == []


# From code.


def test_a_task_has_its_latest_progress(
    app: Flask, manager: Any, progress: InMemoryProgressStore, clock: ManualClock
) -> None:
    task = start(app)
    claim(app, task)
    said = services_of(app).progress.read(task.id)
    assert said is not None
    progress.write(said.beating(Progress(message="Reading", step=1, total_steps=4), clock()))
    found = manager.task(task.id)
    assert isinstance(found, TaskInfo)
    assert (found.status, found.progress.message, found.progress.percent) == (Status.STARTED, "Reading", 25)
    [listed] = manager.tasks()
    assert listed == found


def test_tasks_are_found_by_user_endpoint_and_state_newest_first(manager: Any, stock: Stock) -> None:
    hour = timedelta(hours=1)
    stock(id="a", created_by="anna", age=3 * hour)
    stock(id="b", created_by="anna", age=2 * hour, endpoint="other", status=Status.FAILED)
    stock(id="c", created_by="anna", age=hour)
    stock(id="d", created_by="otto")

    def ids(**wanted: Any) -> list[str]:
        return [task.id for task in manager.tasks(**wanted)]

    assert ids() == ["d", "c", "b", "a"]
    assert ids(created_by="anna") == ["c", "b", "a"]
    assert ids(created_by="anna", limit=1) == ["c"]
    assert ids(endpoint="other") == ids(status="failed") == ids(status=Status.FAILED) == ["b"]
    assert ids(created_by="anna", endpoint="report", status=Status.READY) == ["c", "a"]


def test_a_listed_task_is_told_by_the_properties_that_a_list_reads(app: Flask, manager: Any, stock: Stock) -> None:
    """Else a field of `TaskInfo` would silently have its default."""
    task = start(app, "large")
    with services_of(app).ndb_context():
        [part] = LongTask.load_all([task.id], properties=listing._TOLD)
    assert part.info == load(app, task).info


@pytest.mark.parametrize(
    "wanted",
    [
        {"created_by": ""},
        {"created_by": 7},
        {"endpoint": ""},
        {"created_by": "x" * 1501},
        {"created_by": "\ud800"},
        {"status": "running"},
        {"limit": 0},
        {"limit": 1001},
        {"limit": True},
        {"limit": "5"},
    ],
)
def test_an_impossible_argument_is_an_error(manager: Any, wanted: dict[str, Any]) -> None:
    with pytest.raises(LongTaskError):
        manager.tasks(**wanted)


def test_a_task_is_cancelled_and_retried(app: Flask, manager: Any, queue: InMemoryQueue) -> None:
    task = start(app)
    assert manager.cancel(task.id).status is Status.CANCELLED
    assert manager.cancel(task.id).status is Status.CANCELLED
    queue.tasks.clear()
    assert manager.retry(task.id).status is Status.READY
    assert len(queue.tasks) == 1
    queue.deliver_all(app.test_client())
    assert manager.cancel(task.id).status is Status.DONE
    assert manager.retry(task.id).status is Status.DONE


@pytest.mark.parametrize("call", ["task", "cancel", "retry", "delete"])
def test_an_unknown_task_is_an_error(manager: Any, call: str) -> None:
    with pytest.raises(UnknownTaskError):
        getattr(manager, call)("A" * 22)


def test_the_calls_need_no_ndb_context_and_accept_the_applications_own(
    app: Flask, manager: Any, ndb_client: ndb.Client
) -> None:
    task = start(app)
    assert manager.task(task.id).status is Status.READY
    with ndb_client.context(namespace="other"):
        assert [each.id for each in manager.tasks()] == [task.id]
        ndb.transaction(lambda: manager.cancel(task.id))
        assert manager.delete(task.id).status is Status.CANCELLED
