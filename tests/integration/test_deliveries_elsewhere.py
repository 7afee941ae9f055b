"""A delivery runs the task that it names by the handler that the task names, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from flask import Flask, redirect, request
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager
from gaetk_longtask.queues import HEALING_HEADER
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue, ManualClock
from tests.support import services_of


class Report(LongRunningTaskHandler):
    runs: ClassVar[int] = 0

    def execute_task(self, parameters: dict[str, Any]) -> str:
        Report.runs += 1
        return "the report"


class Other(LongRunningTaskHandler):
    def execute_task(self, parameters: dict[str, Any]) -> None:
        raise AssertionError("the wrong handler")


Deploy = Callable[[Callable[[Flask], None]], Flask]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Report.runs = 0


@pytest.fixture
def deploy(ndb_client: ndb.Client, queue: InMemoryQueue, progress: InMemoryProgressStore, clock: ManualClock) -> Deploy:
    """A function that creates a version of the application, with the rules that it is given."""

    def deploy(add_rules: Callable[[Flask], None]) -> Flask:
        app = Flask("tests")
        LongTaskManager(app, ndb_client=ndb_client, queue=queue, progress=progress, clock=clock)
        add_rules(app)
        return app

    return deploy


def original(app: Flask) -> None:
    app.add_url_rule("/report", view_func=Report.as_view("report"))


def swapped(app: Flask) -> None:
    app.add_url_rule("/report", view_func=Other.as_view("other"))
    app.add_url_rule("/reports", view_func=Report.as_view("report"))


def renamed(app: Flask) -> None:
    app.add_url_rule("/report", view_func=Other.as_view("report2"))


def gone(app: Flask) -> None:
    app.add_url_rule("/other", view_func=Other.as_view("other"))


def ordinary(app: Flask) -> None:
    app.add_url_rule("/report", view_func=lambda: "an ordinary page", endpoint="report")


def posted(app: Flask) -> None:
    app.add_url_rule("/report", view_func=lambda: "", endpoint="report", methods=["POST"])


def behind_a_login(app: Flask) -> None:
    app.before_request(lambda: redirect("/login"))
    app.register_error_handler(404, lambda exc: ("We are sorry.", 200))


def slashed(app: Flask) -> None:
    app.add_url_rule("/report/", view_func=Report.as_view("report"))


@pytest.fixture
def task(deploy: Deploy) -> LongTask:
    with deploy(original).app_context():
        return LongTaskManager.start("report", {})


LATER = [swapped, renamed, gone, ordinary, posted, behind_a_login, slashed]


@pytest.mark.parametrize("version", LATER)
def test_a_delivery_whose_handler_is_not_at_its_url_is_not_run_and_the_log_says_so(
    deploy: Deploy,
    task: LongTask,
    queue: InMemoryQueue,
    caplog: pytest.LogCaptureFixture,
    version: Callable[[Flask], None],
) -> None:
    app = deploy(version)
    assert queue.deliver(app.test_client()).status_code == 404
    assert Report.runs == 0
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert task.id[:8] in record.getMessage()
    assert "/report" in record.getMessage()
    assert task.id not in caplog.text
    assert queue.deliver(deploy(original).test_client()).status_code == 200
    assert Report.runs == 1


@pytest.mark.parametrize("version", LATER)
def test_a_delivery_by_healing_ends_because_there_will_be_another_one(
    deploy: Deploy, task: LongTask, queue: InMemoryQueue, version: Callable[[Flask], None]
) -> None:
    [queued] = queue.tasks
    headers = queued.headers | {HEALING_HEADER: "1"}
    assert deploy(version).test_client().get(queued.request.uri, headers=headers).status_code == 200
    assert Report.runs == 0


@pytest.mark.parametrize("version", LATER)
def test_a_delivery_of_a_task_that_has_ended_is_not_repeated(
    deploy: Deploy, task: LongTask, queue: InMemoryQueue, version: Callable[[Flask], None]
) -> None:
    app = deploy(version)
    runtime = services_of(app)
    with runtime.ndb_context():
        runtime.store.cancel(task.id)
    assert queue.deliver(app.test_client()).status_code == 200


def test_without_the_tasks_key_the_application_itself_answers(
    deploy: Deploy, task: LongTask, queue: InMemoryQueue
) -> None:
    app = deploy(ordinary)
    [queued] = queue.tasks
    client = app.test_client()
    forged = queued.headers | {"X-Longtask-Execute-Key": "A" * 22}
    without_queue = {name: value for name, value in queued.headers.items() if name != "X-AppEngine-QueueName"}
    for headers in ({}, forged, without_queue):
        assert client.get(queued.request.uri, headers=headers).text == "an ordinary page"
    assert client.get("/report?_longtaskjob=execute&_longtaskid=x", headers=queued.headers).status_code == 200
    assert client.get("/report?_longtaskjob=query", headers=queued.headers).text == "an ordinary page"


def test_a_task_started_for_one_endpoint_is_not_run_by_another_one_at_a_url_of_both(
    deploy: Deploy, queue: InMemoryQueue
) -> None:
    def by_argument(app: Flask) -> None:
        app.add_url_rule("/report/<name>", view_func=Report.as_view("report"))
        app.add_url_rule("/report/new", view_func=Other.as_view("other"))

    def before(app: Flask) -> None:
        app.add_url_rule("/report/<name>", view_func=Report.as_view("report"))

    with deploy(before).app_context():
        LongTaskManager.start("report", {}, url_values={"name": "new"})
    assert queue.deliver(deploy(by_argument).test_client()).status_code == 404


def test_the_handler_does_not_run_what_its_own_url_delivers_for_another_endpoint(
    deploy: Deploy, queue: InMemoryQueue
) -> None:
    def two(app: Flask) -> None:
        original(app)
        app.add_url_rule("/other", view_func=Other.as_view("other"))

    app = deploy(two)
    with app.app_context():
        LongTaskManager.start("report", {})
    [queued] = queue.tasks
    moved = queued.request.uri.replace("/report", "/other")
    assert app.test_client().get(moved, headers=queued.headers).status_code == 404


def test_a_request_to_an_unknown_url_costs_nothing(deploy: Deploy) -> None:
    app = deploy(original)
    with app.test_request_context("/unknown?_longtaskjob=execute"):
        assert app.preprocess_request() is None
        assert request.endpoint is None
