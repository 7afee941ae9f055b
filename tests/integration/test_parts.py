"""A task in parts: split, worked on in lanes, joined; deliveries, retries and cancels at each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from flask import Flask
from flask.testing import FlaskClient

from gaetk_longtask import LongRunningTaskHandler, LongTask, PermanentTaskFailure, Status
from gaetk_longtask.models import LongTaskPart
from gaetk_longtask.testing import InMemoryQueue
from tests.support import JSON, load, polled, press, services_of, start


class Letters(LongRunningTaskHandler):
    """Work in parts that the test chooses: each part is a letter."""

    parallel = 3
    max_attempts = 3
    letters: ClassVar[Any] = "abcdefgh"
    log: ClassVar[list[str]] = []
    do: ClassVar[Callable[[Any, str], Any]] = lambda handler, letter: letter.upper()
    join: ClassVar[Callable[[Any, Any], Any]] = lambda handler, results: "".join(results)

    def split_task(self, parameters: Any) -> Iterator[str]:
        self.log.append("split")
        yield from self.letters

    def execute_part(self, parameters: Any, part: str) -> Any:
        self.log.append(part)
        return type(self).do(self, part)

    def join_parts(self, parameters: Any, results: Any) -> Any:
        self.log.append("join")
        return type(self).join(self, results)


@pytest.fixture
def letters() -> type[Letters]:
    class Own(Letters):
        log: ClassVar[list[str]] = []

    Own.__name__ = "Letters"
    return Own


@pytest.fixture
def app(make_app: Callable[..., Flask], letters: type[Letters]) -> Flask:
    return make_app(letters)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def task(app: Flask) -> LongTask:
    return start(app, "letters")


def url_of(task: LongTask) -> str:
    return f"/letters?_longtaskjob=query&_longtaskid={task.id}"


def result_of(client: FlaskClient, task: LongTask) -> str:
    return client.get(f"/letters?_longtaskjob=showresult&_longtaskid={task.id}", headers=JSON).text


def parts_of(app: Flask) -> list[LongTaskPart]:
    with services_of(app).ndb_context():
        return LongTaskPart.query(namespace="").order(LongTaskPart.key).fetch()


def test_the_parts_are_worked_on_and_their_results_joined_in_order(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    queue.deliver_all(client)
    assert load(app, task).status is Status.DONE
    assert result_of(client, task) == "ABCDEFGH"
    assert (letters.log[0], letters.log[-1]) == ("split", "join")
    assert sorted(letters.log[1:-1]) == list("abcdefgh")
    assert not any(part.open for part in parts_of(app))


def test_after_the_split_the_first_part_of_each_lane_is_enqueued(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue
) -> None:
    assert queue.deliver(client).status_code == 200
    found = load(app, task)
    assert (found.status, found.lease_until) == (Status.STARTED, None)
    assert polled(client, url_of(task))["progress"]["percent"] == 0
    assert [each.request.uri.partition("_longtaskpart=")[2] for each in queue.tasks] == ["1.0", "1.1", "1.2"]


def test_without_any_part_the_join_comes_at_once(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    letters.letters = ""
    queue.deliver_all(client)
    assert (load(app, task).status, letters.log) == (Status.DONE, ["split", "join"])


def test_a_part_that_fails_for_good_fails_the_task_and_a_retry_works_on_that_one_alone(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    def fail(handler: Any, letter: str) -> str:
        if letter == "d":
            raise PermanentTaskFailure("no d today")
        return letter.upper()

    letters.do = fail
    queue.deliver_all(client)
    found = load(app, task)
    assert (found.status, found.error, found.permanent) == (Status.FAILED, "no d today", True)
    before = len(letters.log)
    missing = {part.id for part in parts_of(app) if part.open}
    letters.do = Letters.do
    assert press(client, url_of(task), "retry").status_code == 200
    queue.deliver_all(client)
    assert load(app, task).status is Status.DONE
    assert result_of(client, task) == "ABCDEFGH"
    assert len(letters.log) - before == len(missing) + 1
