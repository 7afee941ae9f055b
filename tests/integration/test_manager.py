"""Starting tasks from code, and the application's own NDB: contexts, transactions and namespaces."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable
from datetime import timedelta
from threading import Thread
from typing import TYPE_CHECKING, Any, ClassVar

import grpc
import pytest
from flask import Blueprint, Flask
from google.cloud import ndb
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskError, LongTaskManager, Status, TaskInfo
from gaetk_longtask.dev.pieces import Piece
from gaetk_longtask.exceptions import (
    ConfigurationError,
    EnqueueRefusedError,
    EnqueueUncertainError,
    SerializationError,
    TooLargeError,
)
from gaetk_longtask.models import LongTaskChunk
from gaetk_longtask.testing import Faults, InMemoryProgressStore, InMemoryQueue, ManualClock, put_between
from tests.integration.conftest import services_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

JSON = {"Accept": "application/json"}
MIB = 1024 * 1024


class Note(ndb.Model):
    """An entity of the application."""

    text = ndb.StringProperty()


class Report(LongRunningTaskHandler):
    def execute_task(self, parameters: Any) -> Any:
        return parameters

    def display_result(self, parameters: Any, result: Any) -> Any:
        return {"result": result}


class Spy(LongRunningTaskHandler):
    """Records the context in which each hook is called."""

    seen: ClassVar[list[tuple[str, Any]]] = []
    look: ClassVar[Callable[[], Any]]

    def prepare_task(self, **kwargs: Any) -> dict[str, Any]:
        Spy.seen.append(("prepare_task", Spy.look()))
        return {}

    def may_access(self, task: TaskInfo) -> bool:
        Spy.seen.append(("may_access", Spy.look()))
        return True

    def render_status(self, display: Any, task: TaskInfo) -> str:
        Spy.seen.append(("render_status", Spy.look()))
        return "waiting"

    def execute_task(self, parameters: dict[str, Any]) -> Iterable[str]:
        Spy.seen.append(("execute_task", Spy.look()))
        yield "result"
        Spy.seen.append(("execute_task, later", Spy.look()))

    def display_result(self, parameters: dict[str, Any], result: str) -> str:
        Spy.seen.append(("display_result", Spy.look()))
        return result


ALL_HOOKS = ["prepare_task", "may_access", "render_status", "execute_task", "execute_task, later", "display_result"]


@pytest.fixture(autouse=True)
def _spy() -> None:
    Spy.seen.clear()
    Spy.look = lambda: None


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    app = make_app(Report, Spy)
    app.add_url_rule("/shop/<path:name>/<int:number>", view_func=Report.as_view("item"))
    return app


@pytest.fixture
def faults(ndb_client: ndb.Client, datastore_piece: Piece) -> Faults:
    return put_between(ndb_client)


def everything(client: ndb.Client) -> list[LongTask]:
    with client.context():
        return LongTask.query(namespace="").fetch()


def visit_everything(app: Flask, queue: InMemoryQueue, url: str = "/spy") -> None:
    """Call all hooks, like a visitor and the queue do."""
    client = app.test_client()
    status = client.get(url).headers["Location"]
    assert client.get(status).status_code == 200
    assert queue.deliver(client).status_code == 200
    result = client.get(status.replace("=query", "=showresult"))
    assert result.status_code == 200


# Starting from code.


def test_a_task_that_is_started_from_code_is_stored_and_delivered(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    with app.app_context():
        task = LongTaskManager.start("report", {"month": "3"})
    assert isinstance(task, LongTask)
    assert [one.id for one in everything(ndb_client)] == [task.id]
    client = app.test_client()
    queue.deliver_all(client)
    assert client.get(task.url.replace("=query", "=showresult")).json == {"result": {"month": "3"}}


def test_a_task_that_is_started_from_code_has_its_url_and_owner(app: Flask) -> None:
    with app.app_context():
        task = LongTaskManager.start("report", {}, created_by="cron")
    assert (task.endpoint, task.path, task.created_by) == ("report", "/report", "cron")
    assert (task.status, task.attempt) == (Status.READY, 1)


def test_a_task_that_is_started_from_code_is_anonymous_unless_an_owner_is_given(app: Flask) -> None:
    with app.app_context():
        assert LongTaskManager.start("report", {}).created_by is None


def test_url_values_fill_the_rule_and_join_the_parameters(app: Flask, queue: InMemoryQueue) -> None:
    with app.app_context():
        task = LongTaskManager.start("item", {"a": 1, "number": 0}, url_values={"name": "ä/b c", "number": 7})
    assert task.path == "/shop/%C3%A4/b%20c/7"
    client = app.test_client()
    queue.deliver_all(client)
    result = client.get(task.url.replace("=query", "=showresult"))
    assert result.json == {"result": {"a": 1, "name": "ä/b c", "number": 7}}


def test_url_values_do_not_change_the_callers_parameters(app: Flask) -> None:
    parameters = {"a": 1}
    with app.app_context():
        LongTaskManager.start("item", parameters, url_values={"name": "x", "number": 7})
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
    with app.app_context():
        LongTaskManager.start("seeing", parameters)
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
    assert not everything(ndb_client)


def test_an_endpoint_of_an_ordinary_view_is_an_error_too(app: Flask) -> None:
    app.add_url_rule("/plain", endpoint="plain", view_func=lambda: "plain")
    with app.app_context(), pytest.raises(LongTaskError, match="'plain'"):
        LongTaskManager.start("plain", {})


def test_an_endpoint_is_looked_up_in_blueprints_by_its_full_name(app: Flask, queue: InMemoryQueue) -> None:
    blueprint = Blueprint("reports", __name__, url_prefix="/reports")
    blueprint.add_url_rule("/yearly", view_func=Report.as_view("yearly"))
    app.register_blueprint(blueprint)
    with app.app_context():
        task = LongTaskManager.start("reports.yearly", {})
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
    assert not everything(ndb_client)
    assert not queue.tasks


def test_parameters_over_32_mib_raise_and_nothing_is_stored(app: Flask, ndb_client: ndb.Client) -> None:
    with app.app_context(), pytest.raises(TooLargeError):
        LongTaskManager.start("report", os.urandom(32 * MIB + 1))
    assert not everything(ndb_client)
    with ndb_client.context():
        assert not LongTaskChunk.query(namespace="").fetch(1, keys_only=True)


# Base URLs.


def test_the_url_has_scheme_and_host_of_the_request_that_started_it(app: Flask) -> None:
    with app.test_request_context(base_url="https://shop.example:8443"):
        task = LongTaskManager.start("report", {})
    assert task.url == f"https://shop.example:8443/report?_longtaskjob=query&_longtaskid={task.id}"


def test_the_url_has_the_configured_base(make_app: Callable[..., Flask]) -> None:
    app = make_app(Report, LONGTASK_BASE_URL="https://www.example.com/")
    with app.app_context():
        assert LongTaskManager.start("report", {}).url.startswith("https://www.example.com/report?")
    with app.test_request_context(base_url="http://internal:8080"):
        assert LongTaskManager.start("report", {}).url.startswith("https://www.example.com/report?")


def test_the_configured_base_holds_for_tasks_that_visitors_start(
    make_app: Callable[..., Flask], ndb_client: ndb.Client
) -> None:
    app = make_app(Report, LONGTASK_BASE_URL="https://www.example.com")
    app.test_client().get("/report", base_url="http://evil.example")
    [task] = everything(ndb_client)
    assert task.url.startswith("https://www.example.com/report?")


def test_without_a_request_the_url_has_flasks_own_server_name(make_app: Callable[..., Flask]) -> None:
    app = make_app(Report, SERVER_NAME="shop.example", PREFERRED_URL_SCHEME="https")
    with app.app_context():
        assert LongTaskManager.start("report", {}).url.startswith("https://shop.example/report?")


def test_without_a_request_and_without_any_name_the_url_is_a_path(app: Flask) -> None:
    with app.app_context():
        task = LongTaskManager.start("report", {})
    assert task.url == f"/report?_longtaskjob=query&_longtaskid={task.id}"


def test_without_a_request_the_path_begins_at_the_applications_root(
    make_app: Callable[..., Flask], queue: InMemoryQueue
) -> None:
    app = make_app(Report, APPLICATION_ROOT="/shop")
    with app.app_context():
        task = LongTaskManager.start("report", {})
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
    assert client.get(task.url, headers=JSON).json["status"] == "ready"
    queue.deliver_all(client)
    assert client.get(task.url, headers=JSON).json["status"] == "done"


@pytest.mark.parametrize("parameters", [{"a": 1}, b"x", os.urandom(2 * MIB)], ids=["inline", "raw", "chunks"])
def test_after_a_rollback_there_is_no_task_anywhere(
    app: Flask, queue: InMemoryQueue, progress: InMemoryProgressStore, ndb_client: ndb.Client, parameters: Any
) -> None:
    def start() -> None:
        LongTaskManager.start("report", parameters)
        raise ndb.Rollback

    with app.app_context(), ndb_client.context(), pytest.raises(ndb.Rollback):
        ndb.transaction(start)
    assert not everything(ndb_client)
    assert not queue.tasks
    assert not progress.stored


def test_parameters_of_any_size_can_be_given_inside_a_transaction(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    parameters = {"file": os.urandom(20 * MIB)}
    with app.app_context(), ndb_client.context():
        ndb.transaction(lambda: LongTaskManager.start("spy", parameters))
    assert queue.deliver(app.test_client()).status_code == 200


def test_a_transaction_that_runs_twice_starts_one_task(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ndb._retry, "_DEFAULT_INITIAL_DELAY", 0.01)
    faults.lose_request("Commit", grpc.StatusCode.ABORTED)
    with app.app_context(), ndb_client.context():
        task = ndb.transaction(lambda: LongTaskManager.start("report", {}))
    assert [one.id for one in everything(ndb_client)] == [task.id]
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
    assert client.get(url, headers=JSON).json["status"] == "done"


def test_the_work_may_use_transactions_and_start_tasks_of_its_own(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    class Parent(LongRunningTaskHandler):
        def execute_task(self, parameters: Any) -> str:
            return ndb.transaction(lambda: LongTaskManager.start("report", {"from": "parent"})).id

    app.add_url_rule("/parent", view_func=Parent.as_view("parent"))
    with app.app_context():
        LongTaskManager.start("parent", {})
    queue.deliver_all(app.test_client())
    assert {task.status for task in everything(ndb_client)} == {Status.DONE}
    assert len(everything(ndb_client)) == 2


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
    document = client.get(url, headers=JSON).json
    assert document["status"] == "failed"
    assert caught.value.reference
    assert caught.value.reference in document["error"]

    assert client.post(document["links"]["retry"]).status_code == 303
    queue.deliver_all(client)
    assert client.get(url.replace("=query", "=showresult")).json == {"result": {"a": 1}}


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
    [task] = everything(ndb_client)
    assert task.status is Status.FAILED


def test_a_visitor_whose_task_the_queue_refuses_may_try_the_same_task_again(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    queue.errors.append(EnqueueRefusedError("no such queue"))
    client = app.test_client()
    answer = client.get("/report?month=3")
    [task] = everything(ndb_client)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert f'action="/report?_longtaskjob=retry&amp;_longtaskid={task.id}&amp;month=3"' in answer.text
    assert "no such queue" not in answer.text

    back = client.post(f"/report?_longtaskjob=retry&_longtaskid={task.id}")
    assert back.status_code == 303
    queue.deliver_all(client)
    assert client.get(back.headers["Location"], headers=JSON).json["status"] == "done"


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
    assert client.get(task.url, headers=JSON).json["status"] == "ready"
    queue.deliver_all(client)
    assert client.get(task.url, headers=JSON).json["status"] == "done"


def test_a_visitor_is_redirected_as_usual_when_an_enqueuing_is_uncertain(app: Flask, queue: InMemoryQueue) -> None:
    queue.errors.append(EnqueueUncertainError("no answer"))
    assert app.test_client().get("/report").status_code == 307


# Applications.


def test_init_app_does_what_the_constructor_does(
    ndb_client: ndb.Client, queue: InMemoryQueue, progress: InMemoryProgressStore, clock: ManualClock
) -> None:
    manager = LongTaskManager(ndb_client=ndb_client, queue=queue, progress=progress, clock=clock)
    app = Flask("tests")
    manager.init_app(app)
    app.add_url_rule("/report", view_func=Report.as_view("report"))
    visit = app.test_client()
    url = visit.get("/report").headers["Location"]
    queue.deliver_all(visit)
    assert visit.get(url).status_code == 303


def test_one_manager_serves_several_independent_applications(
    ndb_client: ndb.Client, queue: InMemoryQueue, progress: InMemoryProgressStore, clock: ManualClock
) -> None:
    manager = LongTaskManager(ndb_client=ndb_client, queue=queue, progress=progress, clock=clock)
    apps = [Flask(f"tests{number}") for number in range(2)]
    for number, app in enumerate(apps):
        app.config["LONGTASK_QUEUE"] = f"queue-{number}"
        manager.init_app(app)
        app.add_url_rule(f"/report{number}", view_func=Report.as_view("report"))
    tasks = []
    for app in apps:
        with app.app_context():
            tasks.append(LongTaskManager.start("report", {}))
    assert [task.request.queue for task in queue.tasks] == ["queue-0", "queue-1"]
    assert [task.path for task in tasks] == ["/report0", "/report1"]


def test_the_same_handler_works_in_applications_with_databases_of_their_own(
    ndb_client: ndb.Client, clock: ManualClock
) -> None:
    other_client = ndb.Client(project=f"test-{secrets.token_hex(6)}")
    apps = []
    for client in (ndb_client, other_client):
        app = Flask("tests")
        LongTaskManager(app, ndb_client=client, queue=InMemoryQueue(), progress=InMemoryProgressStore(), clock=clock)
        app.add_url_rule("/report", view_func=Report.as_view("report"))
        apps.append(app)
    url = apps[0].test_client().get("/report").headers["Location"]
    assert apps[0].test_client().get(url).status_code == 200
    assert apps[1].test_client().get(url).status_code == 404
    assert (len(everything(ndb_client)), len(everything(other_client))) == (1, 0)


def test_the_page_finds_its_style_sheet(app: Flask) -> None:
    client = app.test_client()
    page = client.get(client.get("/report").headers["Location"])
    assert 'href="/_longtask/static/longtask.css"' in page.text
    answer = client.get("/_longtask/static/longtask.css")
    assert answer.status_code == 200
    assert answer.mimetype == "text/css"
    answer.close()


# Contexts.


def in_context(client: ndb.Client, wsgi_app: WSGIApplication) -> WSGIApplication:
    """Wrap an application like the documentation of NDB shows it."""

    def middleware(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with client.context():
            return wsgi_app(environ, start_response)

    return middleware


def test_hooks_run_in_the_context_of_the_applications_own_middleware(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    own = ndb.Client(project=ndb_client.project)
    app.wsgi_app = in_context(own, app.wsgi_app)
    Spy.look = lambda: ndb.get_context().client
    visit_everything(app, queue)
    assert {hook for hook, _ in Spy.seen} == set(ALL_HOOKS)
    assert all(client is own for _, client in Spy.seen)


def test_an_attempt_keeps_its_lease_in_the_database_of_the_applications_own_middleware(
    ndb_client: ndb.Client, queue: InMemoryQueue, progress: InMemoryProgressStore, clock: ManualClock
) -> None:
    """The reporter's thread has no context, and the manager does not know the application's client."""

    class Long(LongRunningTaskHandler):
        def execute_task(self, parameters: Any) -> str:
            clock.advance(timedelta(seconds=90))
            assert self._reporter is not None
            thread = Thread(target=self._reporter.beat)
            thread.start()
            thread.join()
            self.log_progress("still mine")
            return "result"

    app = Flask("tests")
    app.config["LONGTASK_PROJECT"] = f"test-{secrets.token_hex(6)}"
    LongTaskManager(app, queue=queue, progress=progress, clock=clock)
    app.add_url_rule("/long", view_func=Long.as_view("long"))
    app.wsgi_app = in_context(ndb_client, app.wsgi_app)
    client = app.test_client()
    url = client.get("/long").headers["Location"]
    assert queue.deliver(client).status_code == 200
    assert client.get(url, headers=JSON).json["status"] == "done"


def test_without_a_context_hooks_run_in_one_of_the_manager(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    Spy.look = lambda: ndb.get_context().client
    visit_everything(app, queue)
    assert {hook for hook, _ in Spy.seen} == set(ALL_HOOKS)
    assert all(client is ndb_client for _, client in Spy.seen)


def test_no_context_is_left_behind(app: Flask, queue: InMemoryQueue) -> None:
    visit_everything(app, queue)
    with app.app_context():
        LongTaskManager.start("report", {})
    assert ndb.get_context(raise_context_error=False) is None


def test_without_a_client_of_the_application_the_manager_creates_one(
    ndb_client: ndb.Client, queue: InMemoryQueue, progress: InMemoryProgressStore
) -> None:
    app = Flask("tests")
    app.config["LONGTASK_PROJECT"] = ndb_client.project
    LongTaskManager(app, queue=queue, progress=progress)
    app.add_url_rule("/spy", view_func=Spy.as_view("spy"))
    visit_everything(app, queue)
    assert len(everything(ndb_client)) == 1


def test_progress_in_datastore_works_without_a_context_of_the_application(
    ndb_client: ndb.Client, queue: InMemoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMCACHED_HOSTS", raising=False)
    app = Flask("tests")
    app.config["LONGTASK_PROJECT"] = ndb_client.project
    LongTaskManager(app, queue=queue)
    app.add_url_rule("/spy", view_func=Spy.as_view("spy"))
    visit_everything(app, queue)
    [task] = everything(ndb_client)
    assert task.status is Status.FINISHED


def test_a_context_that_caches_everything_does_not_hide_a_change_of_the_task(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    store = services_of(app).store
    with app.app_context():
        task = LongTaskManager.start("report", {})
    with ndb_client.context(cache_policy=lambda key: True):
        before = store.get(task.id)
        thread = Thread(target=queue.deliver, args=[app.test_client()])  # a context belongs to its thread
        thread.start()
        thread.join()
        after = store.get(task.id)
    assert before is not None
    assert after is not None
    assert (before.status, after.status) == (Status.READY, Status.DONE)


# Namespaces.


def test_hooks_run_in_the_namespace_in_which_the_task_was_started(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    Spy.look = lambda: ndb.get_context().get_namespace()
    client = app.test_client()
    with ndb_client.context(namespace="tenant"):
        url = client.get("/spy").headers["Location"]
    client.get(url)
    assert queue.deliver(client).status_code == 200
    assert client.get(url.replace("=query", "=showresult")).status_code == 200
    assert {hook for hook, _ in Spy.seen} == set(ALL_HOOKS)
    assert {namespace for _, namespace in Spy.seen} == {"tenant"}


def test_hooks_leave_the_namespace_of_the_request_for_the_default_one_of_the_task(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    Spy.look = lambda: ndb.get_context().get_namespace()
    with app.app_context():
        task = LongTaskManager.start("spy", {})
    client = app.test_client()
    with ndb_client.context(namespace="tenant"):
        client.get(task.url)
        assert queue.deliver(client).status_code == 200
        assert client.get(task.url.replace("=query", "=showresult")).status_code == 200
    assert {hook for hook, _ in Spy.seen} == set(ALL_HOOKS) - {"prepare_task"}
    assert {namespace or None for _, namespace in Spy.seen} == {None}


def test_entities_of_the_work_are_stored_in_the_namespace_of_the_start(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    class Storing(LongRunningTaskHandler):
        def execute_task(self, parameters: Any) -> None:
            Note(id="n", text="here").put()

    app.add_url_rule("/storing", view_func=Storing.as_view("storing"))
    with ndb_client.context(namespace="tenant"), app.app_context():
        LongTaskManager.start("storing", {})
    queue.deliver_all(app.test_client())
    with ndb_client.context():
        assert Note.get_by_id("n", namespace="tenant").text == "here"
        assert Note.get_by_id("n") is None


@pytest.mark.parametrize("how", ["context", "client"])
def test_our_own_kinds_stay_in_the_default_namespace(
    queue: InMemoryQueue, ndb_client: ndb.Client, clock: ManualClock, how: str
) -> None:
    own = ndb.Client(project=ndb_client.project, namespace="tenant" if how == "client" else None)
    app = Flask("tests")
    app.config["LONGTASK_PROJECT"] = ndb_client.project
    LongTaskManager(app, ndb_client=own, queue=queue, clock=clock)
    app.add_url_rule("/spy", view_func=Spy.as_view("spy"))
    Spy.look = lambda: ndb.get_context().get_namespace()
    with own.context(**({"namespace": "tenant"} if how == "context" else {})), app.app_context():
        LongTaskManager.start("spy", {"file": os.urandom(2 * MIB)})
    assert queue.deliver(app.test_client()).status_code == 200
    with ndb_client.context():
        kinds = {"LongTask", "LongTaskChunk", "LongTaskProgress"}
        for kind in kinds:
            assert ndb.Query(kind=kind, namespace="").fetch(keys_only=True)
            assert not ndb.Query(kind=kind, namespace="tenant").fetch(keys_only=True)
    assert {namespace for hook, namespace in Spy.seen if hook.startswith("execute")} == {"tenant"}


def test_a_task_of_another_namespace_is_found_by_its_url(app: Flask, ndb_client: ndb.Client) -> None:
    with ndb_client.context(namespace="tenant"), app.test_request_context():
        task = LongTaskManager.start("report", {})
    assert app.test_client().get(task.url).status_code == 200
    with ndb_client.context(namespace="another"):
        assert app.test_client().get(task.url).status_code == 200
