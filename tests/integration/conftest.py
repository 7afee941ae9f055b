"""Fixtures: an application with a real Datastore, and with a queue and a progress store that tests control."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager, Status
from gaetk_longtask.datastore import calls as datastore_calls
from gaetk_longtask.dev.pieces import DatastoreKind, Piece, start_datastore
from gaetk_longtask.dev.processes import MissingPieceError
from gaetk_longtask.testing import Faults, InMemoryProgressStore, InMemoryQueue, ManualClock, put_between
from tests.cloud_tasks import CloudTasks
from tests.support import Work, start, tasks_in

Invoke = Callable[..., Result]


@pytest.fixture
def ndb_client(datastore_piece: Piece, monkeypatch: pytest.MonkeyPatch) -> ndb.Client:
    """An NDB client with a separate project for each test."""
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", datastore_piece.host)
    return ndb.Client(project=f"test-{secrets.token_hex(6)}")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def queue(clock: ManualClock) -> InMemoryQueue:
    return InMemoryQueue(clock)


@pytest.fixture
def cloud_tasks(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudTasks]:
    server = CloudTasks()
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", server.host)
    yield server
    server.stop()


@pytest.fixture
def progress() -> InMemoryProgressStore:
    return InMemoryProgressStore()


@pytest.fixture
def make_app(
    ndb_client: ndb.Client, queue: InMemoryQueue, progress: InMemoryProgressStore, clock: ManualClock
) -> Callable[..., Flask]:
    """A function that creates an application with handlers. The URL of Report is ``/report``."""

    def make(*handlers: type[LongRunningTaskHandler], **settings: Any) -> Flask:
        app = Flask("tests")
        app.config.update(SECRET_KEY="for tests alone", **settings)
        LongTaskManager(app, ndb_client=ndb_client, queue=queue, progress=progress, clock=clock)
        for handler in handlers:
            name = handler.__name__.lower()
            app.add_url_rule(f"/{name}", view_func=handler.as_view(name))
        return app

    return make


@pytest.fixture(scope="module", params=DatastoreKind)
def each_datastore_host(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each local Datastore in turn."""
    try:
        piece = start_datastore(request.param)
    except MissingPieceError as exc:
        pytest.skip(str(exc))
    with piece:
        yield piece.host


@pytest.fixture(autouse=True)
def _brief_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat calls to Datastore that have failed almost at once."""
    for module, first, longest in (
        (ndb._retry, "_DEFAULT_INITIAL_DELAY", "_DEFAULT_MAXIMUM_DELAY"),
        (datastore_calls, "_FIRST_PAUSE_SECONDS", "_LONGEST_PAUSE_SECONDS"),
    ):
        monkeypatch.setattr(module, first, 0.01)
        monkeypatch.setattr(module, longest, 0.02)


@pytest.fixture
def work() -> type[Work]:
    """The handler of this test at ``/work``. Its work is `work.do`."""
    return type("Work", (Work,), {})


@pytest.fixture
def app(make_app: Callable[..., Flask], work: type[Work]) -> Flask:
    """An application with `work`; many test modules override it."""
    return make_app(work)


@pytest.fixture
def task(app: Flask) -> LongTask:
    """A task of `work` that was just started."""
    return start(app)


@pytest.fixture
def faults(ndb_client: ndb.Client) -> Faults:
    """Faults between the application and Datastore."""
    return put_between(ndb_client)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def stored(ndb_client: ndb.Client) -> Callable[[], list[LongTask]]:
    """A function that returns all stored tasks."""
    return lambda: tasks_in(ndb_client)


@pytest.fixture
def invoke(app: Flask) -> Invoke:
    """Call ``flask longtask`` in a terminal with an encoding. Unexpected exceptions fail the test."""

    def invoke(*arguments: str, encoding: str = "utf-8", **more: Any) -> Result:
        result = app.test_cli_runner(charset=encoding).invoke(args=["longtask", *arguments], **more)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


class Stock:
    """Stores tasks in any state, as if they had been started some time ago."""

    def __init__(self, client: ndb.Client, clock: ManualClock) -> None:
        self._client = client
        self._clock = clock

    def __call__(self, **values: Any) -> str:
        """Store one task, and return its id."""
        [task_id] = self.many(1, **values)
        return task_id

    def many(self, number: int, *, age: timedelta = timedelta(0), **values: Any) -> list[str]:
        """Store tasks of the given age, and return their ids."""
        with self._client.context():
            tasks = [self._task(age, dict(values)) for _ in range(number)]
            ndb.put_multi(tasks)
            return [task.id for task in tasks]

    def _task(self, age: timedelta, values: dict[str, Any]) -> LongTask:
        status = values.pop("status", Status.READY)
        started = self._clock() - age
        ordinary = {
            "endpoint": "report",
            "path": "/report",
            "base_url": "",
            "execute_key": "secret",
            "queue": "default",
            "time_limit_seconds": 600.0,
            "keep_result_seconds": 86_400.0,
            "status_name": status.value,
            "created_at": started,
            "requested_at": started,
            "ended_at": started if status.ended else None,
            "expires_at": started + timedelta(days=1) if status.ended else None,
            "parameters_manifest": {"layout": {"kind": "text"}, "fence": 0, "chunks": 0, "pieces": []},
        }
        key = LongTask.key_of(values.pop("id", None) or secrets.token_urlsafe(16))
        return LongTask(key=key, **ordinary | values)


@pytest.fixture
def stock(ndb_client: ndb.Client, clock: ManualClock) -> Stock:
    return Stock(ndb_client, clock)
