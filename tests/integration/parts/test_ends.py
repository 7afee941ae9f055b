"""Ends of a task in parts that come about in two steps, and what a retry finds after them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from flask import Flask
from flask.testing import FlaskClient

from gaetk_longtask import LongRunningTaskHandler, LongTask, Status
from gaetk_longtask.models import LongTaskPart
from gaetk_longtask.testing import Crash, Faults, InMemoryQueue, ManualClock
from tests.support import JSON, load, press, services_of, start

# A crash leaves ndb's generators behind half-way, and they complain when they are thrown away.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Pair(LongRunningTaskHandler):
    """Two parts, and a join that can begin again."""

    parallel = 2
    max_attempts = 1
    resumed: ClassVar[list[Any]]  #: what each split was resumed from
    do: ClassVar[Callable[[Any, str], Any]] = lambda handler, letter: letter.upper()
    join: ClassVar[Callable[[Any, Any], Any]] = lambda handler, results: "".join(results)

    def split_task(self, parameters: Any) -> list[str]:
        self.resumed.append(self.resumed_from)
        return ["a", "b"]

    def execute_part(self, parameters: Any, part: str) -> Any:
        return type(self).do(self, part)

    def join_parts(self, parameters: Any, results: Sequence[Any]) -> Any:
        return type(self).join(self, results)


@pytest.fixture
def pair() -> type[Pair]:
    """The handler of this test at ``/pair``."""
    return type("Pair", (Pair,), {"resumed": []})


@pytest.fixture
def app(make_app: Callable[..., Flask], pair: type[Pair]) -> Flask:
    return make_app(pair)


@pytest.fixture
def task(app: Flask) -> LongTask:
    return start(app, "pair")


def url_of(task: LongTask, job: str = "query") -> str:
    return f"/pair?_longtaskjob={job}&_longtaskid={task.id}"


def damage(app: Flask, number: int, **values: Any) -> None:
    """Change a stored part as no code of ours does."""
    with services_of(app).ndb_context():
        part = LongTaskPart.query(namespace="").order(LongTaskPart.key).fetch()[number]
        for name, value in values.items():
            setattr(part, name, value)
        part.save()


def test_a_delivery_that_finds_its_part_out_of_attempts_and_dies_fails_the_task_when_it_comes_again(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
    faults: Faults,
    pair: type[Pair],
) -> None:
    def die(handler: Any, letter: str) -> str:
        raise Crash

    pair.do = die
    queue.deliver(client)
    with pytest.raises(Crash):
        queue.deliver(client)
    clock.advance(timedelta(minutes=3))
    queue.tasks[:] = [each for each in queue.tasks if each.retry_count]
    queue.tasks[0].name = "another"  # as if a healing had enqueued it
    faults.crash(after=Status.FAILED)
    with pytest.raises(Crash):
        queue.deliver(client)
    assert load(app, task).status is Status.STARTED
    assert queue.deliver(client).status_code == 200
    assert load(app, task).status is Status.FAILED


def test_after_a_join_has_met_a_part_whose_input_is_damaged_a_retry_splits_without_the_state_of_the_join(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, clock: ManualClock, pair: type[Pair]
) -> None:
    def join(handler: Any, results: Sequence[str]) -> str:
        first = results[0]
        clock.advance(timedelta(seconds=20))
        handler.checkpoint("the first one")
        return first + results[1]

    pair.join = join
    for _ in range(3):
        queue.deliver(client)
    damage(app, 1, open=True, status_name=Status.READY.value, parameters_blob=b"?")
    queue.deliver_all(client)
    assert load(app, task).status is Status.FAILED
    press(client, url_of(task), "retry")
    queue.deliver_all(client)
    assert client.get(url_of(task, "showresult"), headers=JSON).text == "AB"
    assert pair.resumed == [None, None]
