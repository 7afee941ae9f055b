"""Helpers that several test modules share: requests of clients, a task whose work the test chooses, stored tasks."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from flask import Flask, got_request_exception
from flask.testing import FlaskClient
from google.cloud import ndb
from werkzeug.test import TestResponse

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.testing import InMemoryQueue
from gaetk_longtask.web.current import EXTENSION

#: What a program sends.
JSON = {"Accept": "application/json"}
#: An id that no task has.
UNKNOWN = "A" * 22
#: The headers that make a request look like a delivery.
FORGED = {"X-AppEngine-QueueName": "default", "X-Longtask-Execute-Key": "A" * 22}
MIB = 1024 * 1024


class Work(LongRunningTaskHandler):
    """A task whose work the test chooses. It counts its runs. The fixture `work` is a subclass for a single test."""

    max_attempts = 3
    runs: ClassVar[int] = 0
    do: ClassVar[Callable[[Any], Any]] = lambda handler: "result"

    def execute_task(self, parameters: Any) -> Any:
        type(self).runs += 1
        self.parameters = parameters
        return type(self).do(self)


def raising(error: BaseException) -> Callable[[Any], Any]:
    """Return something to do that raises the error."""

    def do(handler: Any) -> Any:
        raise error

    return do


def services_of(app: Flask) -> Runtime:
    services = app.extensions[EXTENSION]
    assert isinstance(services, Runtime)
    return services


# From code.


def start(app: Flask, endpoint: str = "work", *parameters: Any, **more: Any) -> LongTask:
    """Start a task as cron or a webhook does, without parameters unless they are given."""
    with app.app_context():
        return LongTaskManager.start(endpoint, *(parameters or ({},)), **more)


def load(app: Flask, task: LongTask | str) -> LongTask:
    """Return a task as it is stored."""
    with services_of(app).ndb_context():
        found = services_of(app).store.get(task if isinstance(task, str) else task.id)
    assert found is not None
    return found


def tasks_in(client: ndb.Client) -> list[LongTask]:
    """Return all tasks that a client's database has."""
    with client.context():
        return LongTask.query(namespace="").fetch()


def deliver(app: Flask, queue: InMemoryQueue) -> int:
    """Deliver the oldest task of the queue, and return the status of the answer."""
    return queue.deliver(app.test_client()).status_code


# Over HTTP.


def started(client: FlaskClient, url: str = "/work", **request: Any) -> str:
    """Start a task as a browser does, and return the URL of its waiting page."""
    answer = client.get(url, **request)
    assert answer.status_code == 307
    return answer.headers["Location"]


def id_of(url: str) -> str:
    """Return the id of the task that a URL is about."""
    return parse_qs(urlsplit(url).query)["_longtaskid"][0]


def job(url: str, name: str) -> str:
    """Return the URL of another job for the task of a waiting page."""
    return url.replace("_longtaskjob=query", f"_longtaskjob={name}")


def press(client: FlaskClient, url: str, name: str) -> TestResponse:
    """Cancel or retry the task of a waiting page, as a program does."""
    return client.post(job(url, name), headers=JSON)


def polled(client: FlaskClient, url: str) -> Any:
    """Return the status document, as a program gets it."""
    return client.get(url, headers=JSON).json


def exceptions_of(app: Flask, call: Callable[[], TestResponse]) -> tuple[TestResponse, list[Exception]]:
    """Return the answer, and what the application's error reporting gets meanwhile."""
    reported: list[Exception] = []

    def report(sender: Flask, exception: Exception, **more: Any) -> None:
        reported.append(exception)

    with got_request_exception.connected_to(report, app):
        return call(), reported


def links(html: str) -> dict[str, str]:
    """Return the addresses of the links of a page by their texts."""
    found = re.findall(r"<a [^>]*?href=\"([^\"]*)\"[^>]*>([^<]*)</a>", html)
    return {text: url.replace("&amp;", "&") for url, text in found}


def result_text(answer: TestResponse) -> str:
    """Return the text that a page with a result shows."""
    found = re.search(r'<div class="lt-text" dir="auto">(.*?)</div>\n<div class="lt-actions">', answer.text, re.DOTALL)
    assert found is not None, answer.text
    return html.unescape(found[1])
