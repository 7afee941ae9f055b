"""The library among an application's own NDB contexts and namespaces."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import cached_property
from threading import Thread
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from flask import Flask
from google.cloud import ndb
from werkzeug.test import TestResponse

from gaetk_longtask import LongRunningTaskHandler, LongTaskManager, Status, TaskInfo
from gaetk_longtask.progress.memcache import MemcacheProgressStore
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue, ManualClock
from tests.support import MIB, Work, job, polled, services_of, start, tasks_in

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class Note(ndb.Model):
    """An entity of the application's."""

    text = ndb.StringProperty()


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
def app(make_app: Callable[..., Flask], work: type[Work]) -> Flask:
    return make_app(work, Spy)


def visit_everything(app: Flask, queue: InMemoryQueue, url: str = "/spy") -> None:
    """Call all hooks, like a visitor and the queue do."""
    client = app.test_client()
    status = client.get(url).headers["Location"]
    assert client.get(status).status_code == 200
    assert queue.deliver(client).status_code == 200
    result = client.get(job(status, "showresult"))
    assert result.status_code == 200


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
    assert polled(client, url)["status"] == "done"


def test_without_a_context_hooks_run_in_one_of_the_manager(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    Spy.look = lambda: ndb.get_context().client
    visit_everything(app, queue)
    assert {hook for hook, _ in Spy.seen} == set(ALL_HOOKS)
    assert all(client is ndb_client for _, client in Spy.seen)


def test_no_context_is_left_behind(app: Flask, queue: InMemoryQueue) -> None:
    visit_everything(app, queue)
    start(app)
    assert ndb.get_context(raise_context_error=False) is None


class NoContextError(Exception):
    """Raised where a context is entered."""


#: Makes an application whose progress store is memcached, with nothing of its own but a handler and what is passed.
MakePlainApp = Callable[..., Flask]


@pytest.fixture
def make_plain_app(ndb_client: ndb.Client, queue: InMemoryQueue, memcached_host: str) -> Iterator[MakePlainApp]:
    stores: list[Any] = []

    def make(handler: type[LongRunningTaskHandler], *, progress: Any = None, **settings: Any) -> Flask:
        app = Flask("tests")
        app.testing = True
        app.config.update(
            SECRET_KEY="for tests alone", LONGTASK_PROGRESS_URL=f"memcached://{memcached_host}", **settings
        )
        LongTaskManager(app, ndb_client=ndb_client, queue=queue, progress=progress)
        app.add_url_rule("/work", view_func=handler.as_view("work"))
        stores.append(services_of(app).progress)
        return app

    yield make
    for store in stores:
        if isinstance(store, MemcacheProgressStore):
            store._client.disconnect_all()


@pytest.fixture
def poll_without_contexts(monkeypatch: pytest.MonkeyPatch, ndb_client: ndb.Client) -> Callable[[Flask], TestResponse]:
    """Poll a new task, while no context can be entered."""

    def refuse() -> None:
        raise NoContextError

    def poll(app: Flask, *, known: bool = True) -> TestResponse:
        url = start(app).url if known else "/work?_longtaskjob=query&_longtaskid=AAAAAAAAAAAAAAAAAAAAAA"
        monkeypatch.setattr(ndb_client, "context", refuse)
        return app.test_client().get(url, headers={"Accept": "application/json"})

    return poll


def test_a_programs_poll_enters_no_context_if_nothing_of_the_application_needs_one(
    make_plain_app: MakePlainApp, poll_without_contexts: Callable[..., TestResponse], work: type[Work]
) -> None:
    work.phases, work.facts, work.form_url = ("Reading",), {"read": "Read"}, "work"
    answer = poll_without_contexts(make_plain_app(work))
    assert answer.status_code == 200
    assert answer.json is not None
    assert answer.json["status"] == "ready"


def yes(*_: Any) -> Any:
    return True


def anna(*_: Any) -> str:
    return "anna"


class Lazy(str):
    """A text that is translated when it is shown, like Flask-Babel's."""

    __slots__ = ()


def of_instance(handler: Any, *_: Any, **__: Any) -> None:
    handler.may_access = yes


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("may_access", yes),
        ("get_user_id", anna),
        ("title", property(anna)),
        ("title", cached_property(anna)),
        ("title", Lazy("Lazy")),
        ("phases", (Lazy("Reading"),)),
        ("facts", {"read": Lazy("Read")}),
        ("__init__", of_instance),
    ],
)
def test_a_programs_poll_enters_a_context_for_what_the_author_has_written(
    make_plain_app: MakePlainApp,
    poll_without_contexts: Callable[..., TestResponse],
    monkeypatch: pytest.MonkeyPatch,
    work: type[Work],
    name: str,
    value: Any,
) -> None:
    app = make_plain_app(work)
    monkeypatch.setattr(work, name, value)
    with pytest.raises(NoContextError):
        poll_without_contexts(app)


@pytest.mark.parametrize("form_url", [None, property(anna)])
def test_a_programs_poll_enters_a_context_where_the_task_is_gone(
    make_plain_app: MakePlainApp,
    poll_without_contexts: Callable[..., TestResponse],
    work: type[Work],
    form_url: Any,
) -> None:
    work.form_url = form_url
    with pytest.raises(NoContextError):
        poll_without_contexts(make_plain_app(work), known=False)


@pytest.mark.parametrize("own", [{"LONGTASK_USER": anna}, {"progress": InMemoryProgressStore()}], ids=["user", "store"])
def test_a_programs_poll_enters_a_context_for_what_the_application_has_passed(
    make_plain_app: MakePlainApp,
    poll_without_contexts: Callable[..., TestResponse],
    work: type[Work],
    own: dict[str, Any],
) -> None:
    with pytest.raises(NoContextError):
        poll_without_contexts(make_plain_app(work, **own))


def test_a_programs_poll_enters_a_context_for_the_function_that_selects_the_language(
    make_plain_app: MakePlainApp, poll_without_contexts: Callable[..., TestResponse], work: type[Work]
) -> None:
    app = make_plain_app(work)
    app.extensions["babel"] = object()
    with pytest.raises(NoContextError):
        poll_without_contexts(app)


def test_a_program_that_polls_and_finds_nothing_in_the_progress_store_reads_the_task(
    app: Flask, progress: InMemoryProgressStore
) -> None:
    task = start(app)
    progress.is_down = True
    answer = app.test_client().get(task.url, headers={"Accept": "application/json"})
    assert answer.status_code == 200


def test_without_a_client_of_the_application_the_manager_creates_one(
    ndb_client: ndb.Client, queue: InMemoryQueue, progress: InMemoryProgressStore
) -> None:
    app = Flask("tests")
    app.config["LONGTASK_PROJECT"] = ndb_client.project
    LongTaskManager(app, queue=queue, progress=progress)
    app.add_url_rule("/spy", view_func=Spy.as_view("spy"))
    visit_everything(app, queue)
    assert len(tasks_in(ndb_client)) == 1


def test_progress_in_datastore_works_without_a_context_of_the_application(
    ndb_client: ndb.Client, queue: InMemoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMCACHED_HOSTS", raising=False)
    app = Flask("tests")
    app.config["LONGTASK_PROJECT"] = ndb_client.project
    LongTaskManager(app, queue=queue)
    app.add_url_rule("/spy", view_func=Spy.as_view("spy"))
    visit_everything(app, queue)
    [task] = tasks_in(ndb_client)
    assert task.status is Status.FINISHED


def test_a_context_that_caches_everything_does_not_hide_a_change_of_the_task(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    store = services_of(app).store
    task = start(app)
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
    assert client.get(job(url, "showresult")).status_code == 200
    assert {hook for hook, _ in Spy.seen} == set(ALL_HOOKS)
    assert {namespace for _, namespace in Spy.seen} == {"tenant"}


def test_hooks_leave_the_namespace_of_the_request_for_the_default_one_of_the_task(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    Spy.look = lambda: ndb.get_context().get_namespace()
    task = start(app, "spy")
    client = app.test_client()
    with ndb_client.context(namespace="tenant"):
        client.get(task.url)
        assert queue.deliver(client).status_code == 200
        assert client.get(job(task.url, "showresult")).status_code == 200
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
        task = LongTaskManager.start("work", {})
    assert app.test_client().get(task.url).status_code == 200
    with ndb_client.context(namespace="another"):
        assert app.test_client().get(task.url).status_code == 200
