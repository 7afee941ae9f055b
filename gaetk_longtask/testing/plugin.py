"""Fixtures for pytest: ``pytest_plugins = ["gaetk_longtask.pytest_plugin"]`` in the top ``conftest.py`` brings them."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from flask import Flask

from gaetk_longtask.testing.faults import Faults, put_between
from gaetk_longtask.testing.programs import Program
from gaetk_longtask.testing.runner import TEST_PROJECT, TaskRunner
from gaetk_longtask.testing.twins import InMemoryProgressStore, InMemoryQueue, ManualClock
from gaetk_longtask.web.current import services_of_current_app


@pytest.fixture(scope="session")
def longtask_datastore_host() -> Iterator[str]:
    """``host:port`` of a Datastore emulator that tests may empty: the embedded one.

    Override it to use another one. ``DATASTORE_EMULATOR_HOST`` does not matter: that may be the one you work with.
    """
    program = Program("gaetk_longtask.dev.datastore_emulator", "--port", "0")
    yield program.address
    program.stop()


@pytest.fixture
def longtask_datastore(longtask_datastore_host: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """``host:port`` of an empty Datastore; NDB clients that are made from now on find it."""
    empty = urllib.request.Request(f"http://{longtask_datastore_host}/reset", data=b"")
    urllib.request.urlopen(empty, timeout=30).close()  # noqa: S310  # http, written above
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", longtask_datastore_host)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", TEST_PROJECT)
    return longtask_datastore_host


@pytest.fixture
def longtask_queue() -> InMemoryQueue:
    """The queue: delivers when it is told to."""
    return InMemoryQueue()


@pytest.fixture
def longtask_progress() -> InMemoryProgressStore:
    """The progress store."""
    return InMemoryProgressStore()


@pytest.fixture
def longtask_clock() -> ManualClock:
    """The library's clock: stands still until it is told to advance."""
    return ManualClock()


@pytest.fixture
def longtask(
    longtask_datastore: str,
    app: Flask,  # the application's own fixture
    longtask_queue: InMemoryQueue,
    longtask_progress: InMemoryProgressStore,
    longtask_clock: ManualClock,
) -> Iterator[TaskRunner]:
    """Run the tasks of the application that your fixture ``app`` gives."""
    runner = TaskRunner(app, queue=longtask_queue, progress=longtask_progress, clock=longtask_clock)
    with runner.opened():
        yield runner


@pytest.fixture
def longtask_faults(longtask: TaskRunner) -> Iterator[Faults]:
    """Lose calls to Datastore, or crash at them."""
    with longtask.app.app_context():
        client = services_of_current_app().ndb_context.client()
    untroubled = client.stub
    yield put_between(client)
    client.stub = untroubled


#: Where a client finds what the local stack has started.
_VARIABLES = {
    "datastore": "DATASTORE_EMULATOR_HOST",
    "memcached": "MEMCACHED_HOSTS",
    "tasks": "CLOUD_TASKS_EMULATOR_HOST",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalStack:
    """A local stack that runs."""

    url: str  #: the application's
    environment: dict[str, str]  #: the variables by which the application finds its services


@pytest.fixture(scope="session")
def longtask_stack() -> Iterator[Callable[..., LocalStack]]:
    """Start the local stack for an application: ``longtask_stack("main:app").url``.

    Further arguments are options of ``python -m gaetk_longtask.dev``. Everything ends with the test run.
    """
    programs: list[Program] = []

    def start(app: str, *options: str) -> LocalStack:
        program = Program("gaetk_longtask.dev", app, *options, "--port", "0", "--project", TEST_PROJECT)
        programs.append(program)
        environment = {"GOOGLE_CLOUD_PROJECT": TEST_PROJECT}
        for line in program.lines:
            name, _, rest = line.partition(" ")
            if name in _VARIABLES and not rest.lstrip().startswith("stand-in"):
                environment[_VARIABLES[name]] = rest.strip().partition("  ")[0]
        return LocalStack(url=program.address, environment=environment)

    yield start
    for program in programs:
        program.stop()
