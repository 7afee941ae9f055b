"""The tools for testing handlers: repeated deliveries, crashes at named points, lost replies, and a manual clock."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from gaetk_longtask import LongTask, Status
from gaetk_longtask.testing import Crash, Faults, InMemoryQueue, ManualClock
from tests.support import Work, load

# A crash leaves ndb's generators behind half-way, and they complain when they are thrown away.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def app(make_app: Callable[..., Flask], work: type[Work]) -> Iterator[Flask]:
    yield make_app(work)
    gc.collect()


def test_what_was_delivered_can_be_delivered_again(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, work: type[Work]
) -> None:
    queue.deliver(client)
    assert queue.deliver_again(client).status_code == 200
    assert work.runs == 1


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
    work: type[Work],
) -> None:
    faults.crash(**point)
    with pytest.raises(Crash):
        queue.deliver(client)
    assert (work.runs, load(app, task).status) == (runs, found)
    clock.advance(timedelta(minutes=3))
    queue.deliver_all(client)
    assert load(app, task).status is Status.DONE


def test_a_lost_reply_does_no_harm(
    app: Flask, client: FlaskClient, faults: Faults, task: LongTask, queue: InMemoryQueue
) -> None:
    faults.lose_reply("Commit")
    assert queue.deliver(client).status_code == 200
    assert load(app, task).status is Status.DONE
