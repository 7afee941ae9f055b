"""The tools for testing handlers: repeated deliveries, crashes at named points, lost replies, and a manual clock."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from flask import Flask
from flask.testing import FlaskClient
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager, Status
from gaetk_longtask.testing import Crash, Faults, InMemoryQueue, ManualClock, put_between
from tests.integration.conftest import services_of

# A crash leaves ndb's generators behind half-way, and they complain when they are thrown away.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Work(LongRunningTaskHandler):
    runs: ClassVar[int] = 0

    def execute_task(self, parameters: dict[str, Any]) -> str:
        type(self).runs += 1
        return "result"


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Iterator[Flask]:
    Work.runs = 0
    yield make_app(Work)
    gc.collect()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def faults(app: Flask, ndb_client: ndb.Client) -> Faults:
    return put_between(ndb_client)


@pytest.fixture
def task(app: Flask) -> LongTask:
    with app.app_context():
        return LongTaskManager.start("work", {})


def status(app: Flask, task: LongTask) -> Status:
    with services_of(app).ndb_context():
        found = services_of(app).store.get(task.id)
    assert found is not None
    return found.status


def test_what_was_delivered_can_be_delivered_again(client: FlaskClient, task: LongTask, queue: InMemoryQueue) -> None:
    queue.deliver(client)
    assert queue.deliver_again(client).status_code == 200
    assert Work.runs == 1


@pytest.mark.parametrize(
    ("point", "runs", "found"),
    [
        ({"before": Status.STARTED}, 0, Status.READY),
        ({"after": Status.STARTED}, 0, Status.STARTED),
        ({"before": Status.DONE}, 1, Status.STARTED),
        ({"after": Status.DONE}, 1, Status.DONE),
    ],
    ids=str,
)
def test_a_worker_crashes_at_a_named_point_and_the_queue_goes_on(
    point: dict[str, Status],
    runs: int,
    found: Status,
    app: Flask,
    client: FlaskClient,
    faults: Faults,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
) -> None:
    faults.crash(**point)
    with pytest.raises(Crash):
        queue.deliver(client)
    assert (Work.runs, status(app, task)) == (runs, found)
    clock.advance(timedelta(minutes=3))
    queue.deliver_all(client)
    assert status(app, task) is Status.DONE


def test_a_lost_reply_does_no_harm(
    app: Flask, client: FlaskClient, faults: Faults, task: LongTask, queue: InMemoryQueue
) -> None:
    faults.lose_reply("Commit")
    assert queue.deliver(client).status_code == 200
    assert status(app, task) is Status.DONE
