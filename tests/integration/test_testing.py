"""The tools for testing handlers: repeated deliveries, crashes at named points, lost replies, and a manual clock."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import repeat

import pytest
from flask import Flask, request
from flask.testing import FlaskClient

from gaetk_longtask import LongTask, Status
from gaetk_longtask.queues import QueueRequest
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


def names_of(queue: InMemoryQueue) -> list[str]:
    """Return the names of all deliveries."""
    return [each.name for each in queue.delivered]


def test_a_repeated_delivery_has_the_same_name(client: FlaskClient, task: LongTask, queue: InMemoryQueue) -> None:
    queue.deliver(client)
    queue.deliver_again(client)
    first, second = names_of(queue)
    assert first == second


def test_a_renamed_delivery_has_another_name_each_time(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, work: type[Work]
) -> None:
    queue.deliver(client)
    assert queue.deliver_again(client, renamed=True).status_code == 200
    assert queue.deliver_again(client, renamed=True).status_code == 200
    assert len(set(names_of(queue))) == 3
    assert len({each.request.uri for each in queue.delivered}) == 1
    assert work.runs == 1


def answering(answers: Iterator[int]) -> tuple[FlaskClient, list[str | None]]:
    """Return a client of an application that gives these answers, and the names of the tasks that it was sent."""
    app, names = Flask("tests"), []

    @app.route("/work")
    def work() -> tuple[str, int]:
        names.append(request.headers.get("X-AppEngine-TaskName"))
        return "", next(answers)

    return app.test_client(), names


def a_queue_of(count: int) -> InMemoryQueue:
    queue = InMemoryQueue()
    for number in range(count):
        queue.enqueue(QueueRequest(queue="default", uri="/work", name=f"task-{number}"))
    return queue


def test_more_than_a_hundred_deliveries_are_fine_as_long_as_they_succeed() -> None:
    queue = a_queue_of(250)
    client, names = answering(repeat(200))
    queue.deliver_all(client)
    assert len(names) == 250
    assert not queue.tasks


def test_a_hundred_deliveries_in_a_row_that_fail_are_too_many() -> None:
    queue = a_queue_of(2)
    client, names = answering(repeat(500))
    with pytest.raises(AssertionError, match="still holds 2 tasks after 100 deliveries that have failed"):
        queue.deliver_all(client)
    assert len(names) == 100


def test_how_many_deliveries_in_a_row_may_fail_can_be_said() -> None:
    client, names = answering(repeat(500))
    with pytest.raises(AssertionError, match="after 3 deliveries"):
        a_queue_of(1).deliver_all(client, at_most=3)
    assert len(names) == 3


def test_a_delivery_that_succeeds_resets_the_count_of_failures() -> None:
    queue = a_queue_of(3)
    client, names = answering(iter([500, 500, 200] * 3))
    queue.deliver_all(client, at_most=3)
    assert len(names) == 9
    assert not queue.tasks


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
