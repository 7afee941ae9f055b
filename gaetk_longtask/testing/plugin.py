"""The fixtures for pytest that need a Datastore only; `gaetk_longtask.pytest_plugin` offers them."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import pytest
from flask import Flask

from gaetk_longtask.testing.faults import Faults, put_between
from gaetk_longtask.testing.runner import TEST_PROJECT, TaskRunner
from gaetk_longtask.testing.twins import InMemoryProgressStore, InMemoryQueue, ManualClock
from gaetk_longtask.web.current import current_runtime


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
    """The queue; it delivers when the test says so."""
    return InMemoryQueue()


@pytest.fixture
def longtask_progress() -> InMemoryProgressStore:
    """The progress store."""
    return InMemoryProgressStore()


@pytest.fixture
def longtask_clock() -> ManualClock:
    """The library's clock; it stands still until the test moves it."""
    return ManualClock()


@pytest.fixture
def longtask(
    longtask_datastore: str,
    app: Flask,  # the application's own fixture
    longtask_queue: InMemoryQueue,
    longtask_progress: InMemoryProgressStore,
    longtask_clock: ManualClock,
) -> Iterator[TaskRunner]:
    """A runner for the tasks of the application in your fixture ``app``."""
    runner = TaskRunner(app, queue=longtask_queue, progress=longtask_progress, clock=longtask_clock)
    with runner.opened():
        yield runner


@pytest.fixture
def longtask_faults(longtask: TaskRunner) -> Iterator[Faults]:
    """Faults between the application and Datastore."""
    with longtask.app.app_context():
        client = current_runtime().ndb_context.client()
    untroubled = client.stub
    yield put_between(client)
    client.stub = untroubled
