"""Starting from code: what is stored and enqueued, under which URL, also inside a transaction."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from flask import Blueprint, Flask
from google.cloud import ndb
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskError, LongTaskManager, Status
from gaetk_longtask.exceptions import (
    ConfigurationError,
    EnqueueRefusedError,
    EnqueueUncertainError,
    SerializationError,
    TooLargeError,
)
from gaetk_longtask.models import LongTaskChunk
from gaetk_longtask.testing import Faults, InMemoryProgressStore, InMemoryQueue, ManualClock
from tests.support import JSON, MIB, Work, job, polled, start, tasks_in


class Note(ndb.Model):
    """An entity of the application."""

    text = ndb.StringProperty()


class Report(LongRunningTaskHandler):
    def execute_task(self, parameters: Any) -> Any:
        return parameters

    def display_result(self, parameters: Any, result: Any) -> Any:
        return {"result": result}


@pytest.fixture
def app(make_app: Callable[..., Flask], work: type[Work]) -> Flask:
    app = make_app(Report, work)
    app.add_url_rule("/shop/<path:name>/<int:number>", view_func=Report.as_view("item"))
    return app


# Starting from code.


def test_a_task_that_is_started_from_code_is_stored_and_delivered(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    task = start(app, "report", {"month": "3"})
    assert isinstance(task, LongTask)
    assert [one.id for one in tasks_in(ndb_client)] == [task.id]
    client = app.test_client()
    queue.deliver_all(client)
    assert client.get(job(task.url, "showresult")).json == {"result": {"month": "3"}}


def test_a_task_that_is_started_from_code_has_its_url_and_owner(app: Flask) -> None:
    task = start(app, "report", created_by="cron")
    assert (task.endpoint, task.path, task.created_by) == ("report", "/report", "cron")
    assert (task.status, task.attempt) == (Status.READY, 1)


def test_a_task_that_is_started_from_code_is_anonymous_unless_an_owner_is_given(app: Flask) -> None:
    assert start(app, "report").created_by is None


def test_url_values_fill_the_rule_and_join_the_parameters(app: Flask, queue: InMemoryQueue) -> None:
    task = start(app, "item", {"a": 1, "number": 0}, url_values={"name": "ä/b c", "number": 7})
    assert task.path == "/shop/%C3%A4/b%20c/7"
    client = app.test_client()
    queue.deliver_all(client)
    result = client.get(job(task.url, "showresult"))
    assert result.json == {"result": {"a": 1, "name": "ä/b c", "number": 7}}


def test_url_values_do_not_change_the_callers_parameters(app: Flask) -> None:
    parameters = {"a": 1}
    start(app, "item", parameters, url_values={"name": "x", "number": 7})
    assert parameters == {"a": 1}


@pytest.mark.parametrize("parameters", [None, "text", b"bytes", [1, 2], ("tuple", {1})])
def test_parameters_from_code_may_be_anything_that_can_be_stored(
    app: Flask, queue: InMemoryQueue, parameters: Any
) -> None:
    seen: list[Any] = []

    class Seeing(LongRunningTaskHandler):
        def execute_task(self, parameters: Any) -> None:
            seen.append(parameters)

    app.add_url_rule("/seeing", view_func=Seeing.as_view("seeing"))
    start(app, "seeing", parameters)
    queue.deliver_all(app.test_client())
    assert seen == [parameters]


@pytest.mark.parametrize(
    "where", [{"name": "a%b", "number": 1}, {"name": "50%25", "number": 1}, {"name": "a?b#c", "number": 1}], ids=repr
)
def test_a_task_started_from_code_is_found_under_the_url_that_flask_builds(app: Flask, where: dict[str, Any]) -> None:
    with app.test_request_context():
        task = LongTaskManager.start("item", {}, url_values=where)
    with app.test_request_context(task.url) as visited:
        assert visited.request.view_args == where
    assert app.test_client().get(task.url).status_code == 200


def test_an_unknown_endpoint_is_an_error_that_names_it(app: Flask, ndb_client: ndb.Client) -> None:
    with app.app_context(), pytest.raises(LongTaskError, match="'reprot'"):
        LongTaskManager.start("reprot", {})
    assert not tasks_in(ndb_client)


def test_an_endpoint_of_an_ordinary_view_is_an_error_too(app: Flask) -> None:
    app.add_url_rule("/plain", endpoint="plain", view_func=lambda: "plain")
    with app.app_context(), pytest.raises(LongTaskError, match="'plain'"):
        LongTaskManager.start("plain", {})


def test_an_endpoint_is_looked_up_in_blueprints_by_its_full_name(app: Flask, queue: InMemoryQueue) -> None:
    blueprint = Blueprint("reports", __name__, url_prefix="/reports")
    blueprint.add_url_rule("/yearly", view_func=Report.as_view("yearly"))
    app.register_blueprint(blueprint)
    task = start(app, "reports.yearly", {})
    assert task.path == "/reports/yearly"
    assert queue.deliver(app.test_client()).status_code == 200


def test_an_application_without_a_manager_says_what_is_missing() -> None:
    with Flask("tests").app_context(), pytest.raises(ConfigurationError, match=r"LongTaskManager\(app\)"):
        LongTaskManager.start("report", {})


@pytest.mark.parametrize("parameters", [{"a": object()}, {"a": float("nan")}])
def test_parameters_that_do_not_serialize_raise_and_nothing_is_stored(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client, parameters: Any
) -> None:
    with app.app_context(), pytest.raises(SerializationError) as caught:
        LongTaskManager.start("report", parameters)
    assert caught.value.path == "parameters['a']"
    assert not tasks_in(ndb_client)
    assert not queue.tasks


def test_parameters_over_32_mib_raise_and_nothing_is_stored(app: Flask, ndb_client: ndb.Client) -> None:
    with app.app_context(), pytest.raises(TooLargeError):
        LongTaskManager.start("report", os.urandom(32 * MIB + 1))
    assert not tasks_in(ndb_client)
    with ndb_client.context():
        assert not LongTaskChunk.query(namespace="").fetch(1, keys_only=True)


# Base URLs.


def test_the_url_has_scheme_and_host_of_the_request_that_started_it(app: Flask) -> None:
    with app.test_request_context(base_url="https://shop.example:8443"):
        task = LongTaskManager.start("report", {})
    assert task.url == f"https://shop.example:8443/report?_longtaskjob=query&_longtaskid={task.id}"


def test_the_url_has_the_configured_base(make_app: Callable[..., Flask]) -> None:
    app = make_app(Report, LONGTASK_BASE_URL="https://www.example.com/")
    assert start(app, "report").url.startswith("https://www.example.com/report?")
    with app.test_request_context(base_url="http://internal:8080"):
        assert LongTaskManager.start("report", {}).url.startswith("https://www.example.com/report?")


def test_the_configured_base_holds_for_tasks_that_visitors_start(
    make_app: Callable[..., Flask], ndb_client: ndb.Client
) -> None:
    app = make_app(Report, LONGTASK_BASE_URL="https://www.example.com")
    app.test_client().get("/report", base_url="http://evil.example")
    [task] = tasks_in(ndb_client)
    assert task.url.startswith("https://www.example.com/report?")


def test_without_a_request_the_url_has_flasks_own_server_name(make_app: Callable[..., Flask]) -> None:
    app = make_app(Report, SERVER_NAME="shop.example", PREFERRED_URL_SCHEME="https")
    assert start(app, "report").url.startswith("https://shop.example/report?")


def test_without_a_request_and_without_any_name_the_url_is_a_path(app: Flask) -> None:
    task = start(app, "report")
    assert task.url == f"/report?_longtaskjob=query&_longtaskid={task.id}"


def test_without_a_request_the_path_begins_at_the_applications_root(
    make_app: Callable[..., Flask], queue: InMemoryQueue
) -> None:
    app = make_app(Report, APPLICATION_ROOT="/shop")
    task = start(app, "report")
    assert task.path == "/shop/report"
    browser = Client(DispatcherMiddleware(NotFound(), {"/shop": app}))
    assert browser.get(task.url).status_code == 200
    [queued] = queue.tasks
    assert browser.get(queued.request.uri, headers=queued.headers).status_code == 200


# Transactions.


def test_inside_a_transaction_the_task_is_enqueued_only_after_the_commit(
    app: Flask, queue: InMemoryQueue, progress: InMemoryProgressStore, ndb_client: ndb.Client
) -> None:
    def start() -> LongTask:
        Note(id="n", text="with the task").put()
        task = LongTaskManager.start("report", {"a": 1})
        assert not queue.tasks
        assert not progress.stored
        assert not everything_seen_from_outside()
        return task

    def everything_seen_from_outside() -> list[Any]:
        with ndb.get_context().new(transaction=None).use():
            return LongTask.query(namespace="").fetch(keys_only=True)

    with app.app_context(), ndb_client.context():
        task = ndb.transaction(start)
        assert Note.get_by_id("n").text == "with the task"
    assert len(queue.tasks) == 1
    client = app.test_client()
    assert polled(client, task.url)["status"] == "ready"
    queue.deliver_all(client)
    assert polled(client, task.url)["status"] == "done"


@pytest.mark.parametrize("parameters", [{"a": 1}, b"x", os.urandom(2 * MIB)], ids=["inline", "raw", "chunks"])
def test_after_a_rollback_there_is_no_task_anywhere(
    app: Flask, queue: InMemoryQueue, progress: InMemoryProgressStore, ndb_client: ndb.Client, parameters: Any
) -> None:
    def start() -> None:
        LongTaskManager.start("report", parameters)
        raise ndb.Rollback

    with app.app_context(), ndb_client.context(), pytest.raises(ndb.Rollback):
        ndb.transaction(start)
    assert not tasks_in(ndb_client)
    assert not queue.tasks
    assert not progress.stored


def test_parameters_of_any_size_can_be_given_inside_a_transaction(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    parameters = {"file": os.urandom(20 * MIB)}
    with app.app_context(), ndb_client.context():
        ndb.transaction(lambda: LongTaskManager.start("work", parameters))
    assert queue.deliver(app.test_client()).status_code == 200


def test_a_transaction_that_runs_twice_starts_one_task(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client, faults: Faults
) -> None:
    faults.lose_request("Commit", grpc.StatusCode.ABORTED)
    with app.app_context(), ndb_client.context():
        task = ndb.transaction(lambda: LongTaskManager.start("report", {}))
    assert [one.id for one in tasks_in(ndb_client)] == [task.id]
    assert len(queue.tasks) == 1
    assert task.id in queue.tasks[0].request.uri


def test_inside_a_transaction_of_a_visitors_request_nothing_is_different(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    @app.get("/order")
    def order() -> str:
        with ndb_client.context():
            return ndb.transaction(lambda: LongTaskManager.start("report", {})).url

    client = app.test_client()
    url = client.get("/order").text
    assert queue.deliver(client).status_code == 200
    assert polled(client, url)["status"] == "done"


def test_the_work_may_use_transactions_and_start_tasks_of_its_own(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    class Parent(LongRunningTaskHandler):
        def execute_task(self, parameters: Any) -> str:
            return ndb.transaction(lambda: LongTaskManager.start("report", {"from": "parent"})).id

    app.add_url_rule("/parent", view_func=Parent.as_view("parent"))
    start(app, "parent")
    queue.deliver_all(app.test_client())
    assert {task.status for task in tasks_in(ndb_client)} == {Status.DONE}
    assert len(tasks_in(ndb_client)) == 2


# Errors in enqueuing.


def test_a_refused_enqueuing_raises_and_leaves_a_failed_task_that_can_be_retried(
    app: Flask, queue: InMemoryQueue
) -> None:
    queue.errors.append(EnqueueRefusedError("no such queue"))
    with app.test_request_context(), pytest.raises(EnqueueRefusedError) as caught:
        LongTaskManager.start("report", {"a": 1})
    task_id = caught.value.task_id
    client = app.test_client()
    url = f"/report?_longtaskjob=query&_longtaskid={task_id}"
    document = polled(client, url)
    assert document["status"] == "failed"
    assert caught.value.reference
    assert caught.value.reference in document["error"]

    assert client.post(document["links"]["retry"]).status_code == 303
    queue.deliver_all(client)
    assert client.get(job(url, "showresult")).json == {"result": {"a": 1}}


def test_a_refused_enqueuing_after_a_transaction_raises_and_keeps_what_was_committed(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    def start() -> None:
        Note(id="n", text="kept").put()
        LongTaskManager.start("report", {})

    queue.errors.append(EnqueueRefusedError("no such queue"))
    with app.app_context(), ndb_client.context():
        with pytest.raises(EnqueueRefusedError):
            ndb.transaction(start)
        assert Note.get_by_id("n").text == "kept"
    [task] = tasks_in(ndb_client)
    assert task.status is Status.FAILED


def test_a_visitor_whose_task_the_queue_refuses_may_try_the_same_task_again(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    queue.errors.append(EnqueueRefusedError("no such queue"))
    client = app.test_client()
    answer = client.get("/report?month=3")
    [task] = tasks_in(ndb_client)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert f'action="/report?_longtaskjob=retry&amp;_longtaskid={task.id}&amp;month=3"' in answer.text
    assert "no such queue" not in answer.text

    back = client.post(f"/report?_longtaskjob=retry&_longtaskid={task.id}")
    assert back.status_code == 303
    queue.deliver_all(client)
    assert polled(client, back.headers["Location"])["status"] == "done"


def test_a_program_whose_task_the_queue_refuses_is_told_where_to_try_again(app: Flask, queue: InMemoryQueue) -> None:
    queue.errors += [EnqueueRefusedError("no such queue"), EnqueueRefusedError("no such queue")]
    client = app.test_client()
    problem = client.post("/report", headers=JSON)
    assert problem.status_code == 503
    assert problem.mimetype == "application/problem+json"
    again = client.post(problem.json["retry"], headers=JSON)
    assert again.status_code == 503
    assert client.post(again.json["retry"], headers=JSON).json["status"] == "ready"


@pytest.mark.parametrize("is_kept", [True, False])
def test_an_uncertain_enqueuing_is_no_error_and_the_task_is_delivered(
    app: Flask, queue: InMemoryQueue, clock: ManualClock, is_kept: bool
) -> None:
    queue.errors.append(EnqueueUncertainError("no answer"))
    queue.keeps_uncertain = is_kept
    with app.test_request_context():
        task = LongTaskManager.start("report", {})
    assert task.status is Status.READY
    client = app.test_client()
    clock.advance(timedelta(minutes=1, seconds=1))
    assert polled(client, task.url)["status"] == "ready"
    queue.deliver_all(client)
    assert polled(client, task.url)["status"] == "done"


def test_a_visitor_is_redirected_as_usual_when_an_enqueuing_is_uncertain(app: Flask, queue: InMemoryQueue) -> None:
    queue.errors.append(EnqueueUncertainError("no answer"))
    assert app.test_client().get("/report").status_code == 307
