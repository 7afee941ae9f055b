"""The contract of all queues: an accepted request is delivered until it is answered with 2xx."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask, request
from werkzeug.serving import WSGIRequestHandler, make_server

from gaetk_longtask import TaskQueue
from gaetk_longtask.dev.tasks_emulator import serve
from gaetk_longtask.exceptions import EnqueueRefusedError, EnqueueUncertainError
from gaetk_longtask.queues import CloudTasksQueue, QueueRequest
from gaetk_longtask.testing import InMemoryQueue

#: The timeout for operations that normally take a moment.
PATIENCE_SECONDS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivered:
    """A request as the application received it."""

    method: str
    url: str
    headers: dict[str, str]


class Application:
    """Records every request, and answers with the statuses in `answers`, then with 200."""

    def __init__(self) -> None:
        self.flask = Flask("tests")
        self.flask.add_url_rule("/<path:path>", view_func=self._answer)
        self.answers: list[int] = []
        self.delivered: list[Delivered] = []
        self._news = threading.Condition()

    def _answer(self, path: str) -> tuple[str, int]:
        with self._news:
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.delivered.append(Delivered(method=request.method, url=request.full_path.rstrip("?"), headers=headers))
            self._news.notify_all()
            return "", self.answers.pop(0) if self.answers else 200

    def wait_for(self, count: int) -> None:
        with self._news:
            assert self._news.wait_for(lambda: len(self.delivered) >= count, PATIENCE_SECONDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A queue, and the application to which it delivers."""

    queue: TaskQueue
    application: Application
    go_on: Callable[[int], Any]  #: lets the queue deliver until the application has received this many requests
    refused: Callable[[], QueueRequest]  #: returns a request that the queue definitely refuses
    die: Callable[[], object]  #: stops the service behind the queue

    def deliver(self, request: QueueRequest, *, times: int = 1) -> list[Delivered]:
        """Enqueue a request, wait for the given number of deliveries, and return all deliveries so far."""
        self.queue.enqueue(request)
        self.go_on(times)
        return self.application.delivered


@pytest.fixture
def application() -> Application:
    return Application()


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Suppress the log."""


@pytest.fixture
def app_url(application: Application) -> Iterator[str]:
    """The URL of the application, which is served over HTTP."""
    server = make_server("127.0.0.1", 0, application.flask, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def in_memory(application: Application) -> Line:
    queue = InMemoryQueue()
    client = application.flask.test_client()

    def deliver(count: int) -> None:
        while len(application.delivered) < count:
            queue.deliver(client)

    def refuse() -> QueueRequest:
        queue.errors.append(EnqueueRefusedError("There is no such queue."))
        return QueueRequest(queue="nowhere", uri="/report")

    def die() -> None:
        queue.errors.append(EnqueueUncertainError("No answer."))

    return Line(queue=queue, application=application, go_on=deliver, refused=refuse, die=die)


@pytest.fixture(params=["in memory", "Cloud Tasks emulator"])
def line(request: pytest.FixtureRequest, application: Application, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    if request.param == "in memory":
        yield in_memory(application)
        return
    with serve(app_url=request.getfixturevalue("app_url")) as emulator:
        monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", emulator.host)
        yield Line(
            queue=CloudTasksQueue(project=lambda: "shop", location=lambda: "europe-west3"),
            application=application,
            go_on=application.wait_for,
            refused=lambda: QueueRequest(queue="nowhere", uri="/report"),
            die=emulator.stop,
        )


def request_to(uri: str = "/report", **values: Any) -> QueueRequest:
    return QueueRequest(**{"queue": "default", "uri": uri} | values)


def test_a_request_is_not_sent_before_its_time(line: Line) -> None:
    line.queue.enqueue(request_to("/later", not_before=datetime.now(UTC) + timedelta(hours=1)))
    line.queue.enqueue(request_to("/past", not_before=datetime.now(UTC) - timedelta(hours=1)))
    line.queue.enqueue(request_to("/now"))
    line.go_on(2)
    assert sorted(delivered.url for delivered in line.application.delivered) == ["/now", "/past"]


def test_a_request_is_sent_when_its_time_has_come(line: Line) -> None:
    line.queue.enqueue(request_to("/soon", not_before=datetime.now(UTC) + timedelta(seconds=0.3)))
    began = time.monotonic()
    while not line.application.delivered:
        with suppress(AssertionError):  # the twin has nothing that is due
            line.go_on(1)
        assert time.monotonic() - began < PATIENCE_SECONDS
    assert time.monotonic() - began >= 0.2


def test_the_check_of_an_existing_queue_finds_no_problem(line: Line) -> None:
    line.queue.check()


def test_a_request_arrives_as_a_get(line: Line) -> None:
    (delivered,) = line.deliver(request_to())
    assert delivered.method == "GET"


@pytest.mark.parametrize(
    "uri",
    [
        "/report?_longtaskjob=execute&_longtaskid=Ym9va21hcmtlZC1ieS1hbm",
        "/shop/m%C3%BCnchen/a%20b?x=%26%3D%C3%A9",
        "/report/50%25",
    ],
)
def test_path_and_query_arrive_unchanged(line: Line, application: Application, uri: str) -> None:
    (delivered,) = line.deliver(request_to(uri))
    with application.flask.test_request_context(uri) as context:
        assert delivered.url == context.request.full_path.rstrip("?")


def test_headers_arrive(line: Line) -> None:
    (delivered,) = line.deliver(request_to(headers={"X-Longtask-Execute-Key": "s3cret-_"}))
    assert delivered.headers["x-longtask-execute-key"] == "s3cret-_"


def test_a_delivery_names_its_queue_and_has_retry_count_0(line: Line) -> None:
    (delivered,) = line.deliver(request_to())
    assert delivered.headers["x-appengine-queuename"] == "default"
    assert delivered.headers["x-appengine-taskname"]
    assert delivered.headers["x-appengine-taskretrycount"] == "0"


@pytest.mark.parametrize("status", [301, 404, 409, 500])
def test_a_request_that_is_not_answered_with_2xx_is_delivered_again(line: Line, status: int) -> None:
    line.application.answers = [status]
    first, second = line.deliver(request_to(), times=2)
    assert second.url == first.url


def test_deliveries_of_one_task_have_one_name_and_count_up(line: Line) -> None:
    line.application.answers = [500, 409]
    deliveries = line.deliver(request_to(headers={"X-Longtask-Execute-Key": "key"}), times=3)
    assert [delivered.headers["x-appengine-taskretrycount"] for delivered in deliveries] == ["0", "1", "2"]
    assert len({delivered.headers["x-appengine-taskname"] for delivered in deliveries}) == 1
    assert {delivered.headers["x-longtask-execute-key"] for delivered in deliveries} == {"key"}


@pytest.mark.parametrize("status", [200, 204])
def test_a_request_that_is_answered_with_2xx_is_not_delivered_again(line: Line, status: int) -> None:
    line.application.answers = [status]
    line.deliver(request_to("/first"))
    deliveries = line.deliver(request_to("/second"), times=2)
    assert [delivered.url for delivered in deliveries] == ["/first", "/second"]


def test_equal_requests_are_two_tasks(line: Line) -> None:
    line.queue.enqueue(request_to())
    deliveries = line.deliver(request_to(), times=2)
    assert len({delivered.headers["x-appengine-taskname"] for delivered in deliveries}) == 2


def test_a_request_that_fails_does_not_hold_up_the_next(line: Line) -> None:
    line.application.answers = [500]
    line.queue.enqueue(request_to("/first"))
    deliveries = line.deliver(request_to("/second"), times=3)
    assert sorted(delivered.url for delivered in deliveries) == ["/first", "/first", "/second"]


def test_a_definite_failure_is_a_refusal(line: Line) -> None:
    refused = line.refused()
    with pytest.raises(EnqueueRefusedError):
        line.queue.enqueue(refused)


def test_a_refused_request_is_not_delivered(line: Line) -> None:
    refused = line.refused()
    with pytest.raises(EnqueueRefusedError):
        line.queue.enqueue(refused)
    (delivered,) = line.deliver(request_to("/next"))
    assert delivered.url == "/next"


def test_without_an_answer_enqueuing_is_uncertain(line: Line) -> None:
    line.die()
    with pytest.raises(EnqueueUncertainError):
        line.queue.enqueue(request_to())


def test_without_a_service_enqueuing_is_uncertain_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", f"127.0.0.1:{server.getsockname()[1]}")
    with pytest.raises(EnqueueUncertainError):
        CloudTasksQueue(project=lambda: "shop", location=lambda: "europe-west3").enqueue(request_to())


def test_the_in_memory_queue_can_accept_a_request_and_lose_the_answer(application: Application) -> None:
    queue = InMemoryQueue()
    queue.errors, queue.keeps_uncertain = [EnqueueUncertainError("No answer.")], True
    with pytest.raises(EnqueueUncertainError):
        queue.enqueue(request_to())
    queue.deliver_all(application.flask.test_client())
    assert len(application.delivered) == 1


def test_the_in_memory_queue_does_not_deliver_for_ever(application: Application) -> None:
    queue = InMemoryQueue()
    application.answers = [500] * 10
    queue.enqueue(request_to())
    with pytest.raises(AssertionError, match="still holds 1 tasks after 10 deliveries"):
        queue.deliver_all(application.flask.test_client(), at_most=10)
