"""The usual duration of an endpoint's tasks, and the low cost of determining it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import grpc
import pytest
from flask import Flask
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler
from gaetk_longtask.dev.pieces import Piece
from gaetk_longtask.progress.durations import REMEMBERED
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue, ManualClock, put_between
from tests.support import services_of, start


@pytest.fixture
def app(make_app: Callable[..., Flask], clock: ManualClock) -> Flask:
    class Report(LongRunningTaskHandler):
        def execute_task(self, parameters):
            clock.advance(timedelta(seconds=int(parameters["seconds"])))
            if parameters.get("fails"):
                raise ValueError
            return "result"

    class Other(Report):
        pass

    return make_app(Report, Other)


@pytest.fixture
def progress() -> InMemoryProgressStore:
    """A store with such a long interval that no beat happens when a test advances the clock."""
    return InMemoryProgressStore(interval_seconds=3600)


@pytest.fixture
def services(app: Flask) -> Runtime:
    return services_of(app)


@pytest.fixture
def run(app: Flask, queue: InMemoryQueue) -> Callable[..., None]:
    def run(*seconds: float, endpoint: str = "report", **more: bool) -> None:
        for each in seconds:
            start(app, endpoint, {"seconds": each, **more})
            queue.deliver(app.test_client())
            queue.tasks.clear()

    return run


def typical(services: Runtime, endpoint: str = "report") -> float | None:
    with services.ndb_context():
        return services.durations.typical_seconds(endpoint)


def test_it_is_the_median_of_the_endpoints_own_runs(services: Runtime, run: Callable[..., None]) -> None:
    run(30, 40, 200)
    run(1, 2, 3, endpoint="other")
    assert typical(services) == 40


def test_too_few_runs_make_nothing_usual(services: Runtime, run: Callable[..., None]) -> None:
    run(30, 40)
    assert typical(services) is None


def test_what_failed_does_not_count(services: Runtime, run: Callable[..., None]) -> None:
    run(30, 40, 200)
    run(1, 1, 1, 1, fails=True)
    assert typical(services) == 40


def test_only_the_last_runs_count(services: Runtime, run: Callable[..., None]) -> None:
    run(500, 500, 10, 11, 12)
    with services.ndb_context():
        assert sorted(services.store.last_runs("report", 3)) == [10, 11, 12]


def test_an_answer_is_remembered_and_then_asked_for_again(
    services: Runtime, run: Callable[..., None], clock: ManualClock
) -> None:
    run(30, 40, 50)
    assert typical(services) == 40
    run(100, 100, 100, 100)
    assert typical(services) == 40
    clock.advance(REMEMBERED)
    assert typical(services) == 100


def test_a_datastore_that_does_not_answer_is_not_asked_again_for_a_while(
    services: Runtime, run: Callable[..., None], ndb_client: ndb.Client, datastore_piece: Piece
) -> None:
    run(30, 40, 50)
    faults = put_between(ndb_client)
    faults.lose_request("RunQuery", grpc.StatusCode.PERMISSION_DENIED)
    assert typical(services) is None
    assert typical(services) is None
    assert faults.calls == ["RunQuery"]
