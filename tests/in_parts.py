"""A handler that does its work in parts, as a test wants it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, ClassVar

from flask import Flask
from flask.testing import FlaskClient

from gaetk_longtask import LongRunningTaskHandler, LongTask, maintenance
from gaetk_longtask.models import LongTaskPart
from gaetk_longtask.testing import InMemoryQueue, ManualClock
from tests.support import JSON, services_of


class Letters(LongRunningTaskHandler):
    """Each part is a letter; its result is the same letter as a capital. The result is all of them in order."""

    parallel = 3
    max_attempts = 3
    letters: ClassVar[Any] = "abcdefgh"
    log: ClassVar[list[str]] = []
    split: ClassVar[Callable[[Any], Any]] = lambda handler: handler.letters
    do: ClassVar[Callable[[Any, str], Any]] = lambda handler, letter: letter.upper()
    join: ClassVar[Callable[[Any, Any], Any]] = lambda handler, results: "".join(results)

    def split_task(self, parameters: Any) -> Iterator[str]:
        self.log.append("split")
        yield from type(self).split(self)

    def execute_part(self, parameters: Any, part: str) -> Any:
        self.log.append(part)
        return type(self).do(self, part)

    def join_parts(self, parameters: Any, results: Any) -> Any:
        self.log.append("join")
        return type(self).join(self, results)


def url_of(task: LongTask) -> str:
    """Return the URL of a task's page."""
    return f"/letters?_longtaskjob=query&_longtaskid={task.id}"


def parts_of(app: Flask) -> list[LongTaskPart]:
    """Return all parts that are stored, by run, lane and number."""
    with services_of(app).ndb_context():
        return LongTaskPart.query(namespace="").order(LongTaskPart.key).fetch()


def result_of(client: FlaskClient, task: LongTask) -> str:
    """Return the result of a task, as a program gets it."""
    return client.get(f"/letters?_longtaskjob=showresult&_longtaskid={task.id}", headers=JSON).text


def numbers_in(queue: InMemoryQueue) -> list[int | None]:
    """Return the numbers of the parts that a queue holds; None for a delivery of the task itself."""
    found = [each.request.uri.partition("_longtaskpart=")[2] for each in queue.tasks]
    return [int(each.partition(".")[2]) if each else None for each in found]


def sweep(app: Flask) -> None:
    """Enqueue what is due, as cron does."""
    with services_of(app).ndb_context():
        maintenance.sweep(services_of(app))


def finish(app: Flask, client: FlaskClient, queue: InMemoryQueue, clock: ManualClock) -> None:
    """Sweep and deliver, as cron and the queue do, for long enough."""
    for _ in range(5):
        queue.deliver_all(client)
        clock.advance(timedelta(minutes=16))
        sweep(app)
    queue.deliver_all(client)
