"""`gaetk_longtask.client` against an application that is served over HTTP. Its sleep delivers the tasks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from flask import Flask, Response, request
from flask_wtf import CSRFProtect
from flask_wtf.csrf import generate_csrf
from requests.adapters import HTTPAdapter
from werkzeug.serving import make_server

from gaetk_longtask import LongRunningTaskHandler, PermanentTaskFailure
from gaetk_longtask.client import (
    Client,
    ClientError,
    NoResultError,
    ProblemAnswerError,
    StatusDocument,
    StillRunningError,
)
from gaetk_longtask.exceptions import EnqueueRefusedError
from gaetk_longtask.testing import InMemoryQueue
from tests.support import Work, raising


class Echo(LongRunningTaskHandler):
    """A task whose result is its parameters."""

    title = "Echoing"

    def execute_task(self, parameters: Any) -> Any:
        self.log_progress("Echoing", 1, 2)
        return {name: value.decode() if isinstance(value, bytes) else value for name, value in parameters.items()}


@pytest.fixture
def app(make_app: Callable[..., Flask], work: type[Work]) -> Flask:
    app = make_app(work, Echo)
    app.config["ANSWERS"] = []

    @app.before_request
    def answer() -> Response | None:
        is_clients = "X-AppEngine-QueueName" not in request.headers
        if "TOKEN" in app.config and is_clients and request.headers.get("Authorization") != app.config["TOKEN"]:
            return Response(status=401)
        return app.config["ANSWERS"].pop(0) if app.config["ANSWERS"] and is_clients else None

    return app


@pytest.fixture
def site(app: Flask) -> Iterator[str]:
    """The address of the application."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


class World:
    """The time of a client. While it sleeps, `happens` is called, once for each sleep."""

    def __init__(self, happens: Callable[[], object]) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []
        self.happens = happens

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds
        self.happens()


@pytest.fixture
def world(app: Flask, queue: InMemoryQueue) -> World:
    return World(lambda: queue.deliver_all(app.test_client()))


class Broken(HTTPAdapter):
    """A connection on which the next requests fail."""

    times = 0

    def send(self, *arguments: Any, **more: Any) -> requests.Response:
        if self.times:
            self.times -= 1
            raise requests.ConnectionError("the connection broke")
        return super().send(*arguments, **more)


@pytest.fixture
def line() -> Broken:
    return Broken()


@pytest.fixture
def client(world: World, line: Broken) -> Iterator[Client]:
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", line)
        yield Client(session, clock=lambda: world.now, sleep=world.sleep)


def answering(app: Flask, *answers: Response | None) -> None:
    """Let the application answer the next requests of clients with these; None means as usual."""
    app.config["ANSWERS"] += answers


# From start to result.


def test_a_task_is_started_followed_and_fetched(client: Client, site: str, world: World) -> None:
    seen: list[str] = []
    task = client.start(f"{site}/echo", params={"month": "May"})
    assert task.url.startswith(f"{site}/echo?_longtaskjob=query&_longtaskid=")
    document = task.follow(lambda document: seen.append(document["status"]))
    assert document["title"] == "Echoing"
    assert seen == ["ready", "done"]
    assert world.sleeps == [1]
    assert task.result().json() == {"month": "May"}
    assert task.refresh()["status"] == "finished"


def test_fields_and_files_are_posted(client: Client, site: str) -> None:
    task = client.start(f"{site}/echo", data={"month": "Mai ü"}, files={"file": ("a.csv", b"1;2")})
    task.follow()
    assert task.result().json() == {"month": "Mai ü", "file": "1;2"}


def test_a_text_result_is_not_wrapped_in_a_page(client: Client, site: str) -> None:
    task = client.start(f"{site}/work")
    task.follow()
    answer = task.result()
    assert (answer.headers["Content-Type"], answer.text) == ("text/plain; charset=utf-8", "result")


def test_a_large_result_can_be_read_in_pieces(client: Client, site: str, work: type[Work]) -> None:
    work.do = lambda handler: b"x" * 100_000
    task = client.start(f"{site}/work")
    task.follow()
    with task.result(stream=True) as answer:
        assert sum(map(len, answer.iter_content(10_000))) == 100_000


def test_a_task_is_found_again_by_its_url(client: Client, site: str) -> None:
    url = client.start(f"{site}/work").url
    assert client.task(url).follow()["status"] == "done"
    with pytest.raises(ClientError, match="not the URL of a task's page"):
        client.task(f"{site}/work")


def test_a_task_is_cancelled_and_retried(client: Client, site: str) -> None:
    task = client.start(f"{site}/work")
    assert task.retry()["status"] == "ready"
    assert task.cancel()["status"] == "cancelled"
    assert task.cancel()["status"] == "cancelled"
    with pytest.raises(NoResultError, match="the task is cancelled"):
        task.result()
    assert task.retry()["status"] == "ready"
    assert task.follow()["status"] == "done"
    assert task.cancel()["status"] == "done"


def test_a_task_that_failed_has_no_result_but_a_reason(client: Client, site: str, work: type[Work]) -> None:
    work.do = raising(PermanentTaskFailure("There are no invoices."))
    task = client.start(f"{site}/work")
    assert task.follow()["status"] == "failed"
    with pytest.raises(NoResultError, match=r"the task is failed\. There are no invoices\.") as caught:
        task.result()
    assert caught.value.document == task.document


def test_a_session_carries_the_login_and_the_csrf_token(site: str, client: Client, app: Flask) -> None:
    CSRFProtect(app)
    app.add_url_rule("/token", view_func=generate_csrf, endpoint="token")
    with requests.Session() as session:
        session.trust_env = False
        session.headers["X-CSRFToken"] = session.get(f"{site}/token").text
        assert Client(session).start(f"{site}/work").cancel()["status"] == "cancelled"
    task = client.start(f"{site}/work")
    with pytest.raises(ProblemAnswerError) as caught:
        task.cancel()
    assert caught.value.status == 400


# The pace.


def test_the_application_sets_the_pace(client: Client, site: str, app: Flask, world: World) -> None:
    @app.after_request
    def slow(response: Response) -> Response:
        if "Retry-After" in response.headers and response.status_code == 200:
            response.headers["Retry-After"] = "17"
        return response

    deliver, world.happens = world.happens, lambda: None
    task = client.start(f"{site}/work")
    states: list[StatusDocument] = []
    for document in task.documents():
        states.append(document)
        if len(states) == 3:
            deliver()
    assert world.sleeps == [1, 17, 17]


def test_following_ends_when_the_caller_has_no_more_time(client: Client, site: str, world: World) -> None:
    world.happens = lambda: None
    task = client.start(f"{site}/work")
    with pytest.raises(StillRunningError, match="has not ended: it is ready"):
        task.follow(timeout_seconds=2.5)
    assert world.sleeps == [1, 1, 0.5]
    with pytest.raises(TimeoutError):
        task.follow(timeout_seconds=0)


# What goes wrong.


def test_temporary_problems_are_waited_out(client: Client, site: str, app: Flask, world: World) -> None:
    task = client.start(f"{site}/work")
    answering(app, Response(status=503, headers={"Retry-After": "7"}), Response("busy", status=502))
    assert task.follow()["status"] == "done"
    assert world.sleeps[:2] == [1, 7]
    assert 1 <= world.sleeps[2] <= 2


def test_lost_connections_are_waited_out_with_growing_pauses(
    client: Client, site: str, line: Broken, world: World
) -> None:
    task = client.start(f"{site}/work")
    line.times = 8
    assert task.follow(patience_seconds=1000)["status"] == "done"
    assert len(world.sleeps) == 9
    for pause, longest in zip(world.sleeps[1:], [1, 2, 4, 8, 16, 32, 60, 60], strict=True):
        assert longest / 2 <= pause <= longest


def test_a_client_gives_up_on_an_application_that_is_gone(
    client: Client, site: str, line: Broken, world: World
) -> None:
    task = client.start(f"{site}/work")
    line.times = 1000
    with pytest.raises(ClientError, match="did not answer: ConnectionError") as caught:
        task.follow(patience_seconds=60)
    assert 60 <= world.now < 200
    assert task.document["id"] not in str(caught.value)


def test_a_start_is_sent_once(client: Client, site: str, line: Broken, world: World) -> None:
    line.times = 1
    with pytest.raises(ClientError, match="did not answer"):
        client.start(f"{site}/work")
    assert line.times == 0
    assert world.sleeps == []


@pytest.mark.parametrize("url", ["", "work", "http://", "http://[", "ftp://example.com/", "http://exa mple/"])
def test_an_impossible_address_is_an_error(client: Client, url: str) -> None:
    with pytest.raises(ClientError, match="did not answer"):
        client.start(url)


def test_a_lasting_problem_ends_the_following_at_once(client: Client, site: str, app: Flask, world: World) -> None:
    task = client.start(f"{site}/work")
    answering(app, Response(status=404))
    with pytest.raises(ProblemAnswerError) as caught:
        task.follow()
    assert (caught.value.status, caught.value.detail) == (404, "NOT FOUND")
    assert world.sleeps == [1]


def test_an_unknown_task_is_a_problem_in_the_applications_words(client: Client, site: str) -> None:
    with pytest.raises(ProblemAnswerError, match="answered 404: We can't find this task") as caught:
        client.task(f"{site}/work?_longtaskjob=query&_longtaskid={'A' * 22}")
    assert "A" * 22 not in str(caught.value)


def test_a_start_that_the_queue_refused_says_how_to_retry(client: Client, site: str, queue: InMemoryQueue) -> None:
    queue.errors.append(EnqueueRefusedError("no such queue"))
    with pytest.raises(ProblemAnswerError) as caught:
        client.start(f"{site}/work")
    assert (caught.value.status, caught.value.retry_after_seconds) == (503, 60)
    assert caught.value.reference
    assert caught.value.retry_url is not None
    assert caught.value.retry_url.startswith(f"{site}/work?_longtaskjob=retry")
    task = client.task(caught.value.retry_url.replace("retry", "query"))
    task.retry()
    assert task.follow()["status"] == "done"


def test_a_login_page_is_no_status_document(client: Client, site: str, app: Flask) -> None:
    app.add_url_rule("/login", view_func=lambda: "Please sign in", endpoint="login")
    task = client.start(f"{site}/work")
    answering(app, Response(status=302, headers={"Location": "/login"}))
    with pytest.raises(
        ClientError, match=r"/login did not answer with a status document, but with text/html"
    ) as caught:
        task.follow()
    assert "Are you signed in?" in str(caught.value)


@pytest.mark.parametrize(
    "body", ["[]", "{}", "null", "7", "{", '{"links": 1}', '{"id":"x","status":"done","done":true,"links":{}}']
)
def test_other_json_is_no_status_document(client: Client, site: str, app: Flask, body: str) -> None:
    answering(app, Response(body, mimetype="application/json"))
    with pytest.raises(ClientError, match="did not answer with a status document"):
        client.start(f"{site}/work")


def test_a_login_is_not_sent_to_another_host(client: Client, site: str) -> None:
    task = client.start(f"{site}/work")
    task.document["links"]["cancel"] = "https://elsewhere.example/steal?_longtaskid=x"
    with pytest.raises(ClientError, match=r"links to another host: https://elsewhere\.example/steal"):
        task.cancel()
