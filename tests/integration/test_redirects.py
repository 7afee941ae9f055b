"""Redirects lead to the task's own path and carry no secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from threading import Thread
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from gaetk_longtask.testing import InMemoryQueue
from tests.support import JSON, Work, job, started


@pytest.fixture
def app(make_app: Callable[..., Flask], work: type[Work]) -> Flask:
    work.do = lambda handler: handler.parameters
    app = make_app(work)
    app.add_url_rule("/named/<name>", view_func=work.as_view("named"))
    return app


@pytest.fixture
def port(app: Flask, work: type[Work]) -> Iterator[int]:
    """The application behind a real HTTP server, with a handler that matches every path."""
    app.url_map.merge_slashes = False
    app.add_url_rule("/<path:name>", view_func=work.as_view("anything"))
    server = make_server("127.0.0.1", 0, app)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example/x",
        "///evil.example",
        "/%2Fevil.example",
        "/%2F%2Fevil.example",
        "/\\evil.example",
        "/%5Cevil.example",
        "/%09/evil.example",
        "http://evil.example/x",
    ],
)
def test_no_path_leads_to_another_host(port: int, target: str) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("GET", target)
    connection.endheaders()
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status == 307
    location = answer.headers["Location"]
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\", "/\t"))
    assert not urlsplit(location).netloc


@pytest.mark.parametrize("name", ["next", "url", "redirect", "starting_point", "_longtaskstart", "return_to"])
def test_no_parameter_changes_the_target_of_a_redirect(client: FlaskClient, queue: InMemoryQueue, name: str) -> None:
    url = started(client, f"/work?{name}=http://evil.example/")
    queue.deliver_all(client)
    assert urlsplit(client.get(url).headers["Location"]).path == "/work"


@pytest.mark.parametrize("path", ["50%2525", "a%252Fb", "%25", "a%20b", "ä", "a+b;c=d,e", "a%3Fb%23c", "%E4"])
def test_any_path_leads_back_to_itself(client: FlaskClient, queue: InMemoryQueue, path: str) -> None:
    answer = client.get(f"/named/{path}")
    assert answer.status_code == 307
    url = answer.headers["Location"]
    with client.application.test_request_context(f"/named/{path}") as started_by:
        given = started_by.request.view_args
    with client.application.test_request_context(url) as redirected_to:
        assert redirected_to.request.view_args == given
    queue.deliver_all(client)
    assert client.get(job(url, "showresult")).json == given


def test_a_path_that_only_unquotes_to_the_tasks_own_is_another_path(client: FlaskClient) -> None:
    url = started(client, "/named/50%25")
    other = url.replace("/named/50%25", "/named/50%2525")
    assert client.get(url).status_code == 200
    assert client.get(other).status_code == 404


# Secrets.


@pytest.mark.parametrize("headers", [{}, JSON])
def test_passwords_and_csrf_tokens_are_in_no_location(
    client: FlaskClient, queue: InMemoryQueue, headers: dict[str, str]
) -> None:
    secrets = {"password": "secret1", "csrf_token": "secret2", "_token": "secret3"}
    first = client.post("/work?month=3&csrf_token=secret4", data=secrets, headers=headers)
    url = first.headers["Location"]
    answers = [
        first,
        client.post(url, data=secrets),
        client.get(job(url, "showresult")),
        client.post(job(url, "cancel"), data=secrets),
        client.post(job(url, "retry"), data=secrets),
    ]
    queue.deliver_all(client)
    answers.append(client.get(url))
    for answer in answers:
        assert "month=3" in answer.headers["Location"]
        assert "secret" not in answer.headers["Location"]


def test_a_csrf_field_is_in_no_location_even_if_the_class_lists_it(make_app: Callable[..., Flask]) -> None:
    class Careless(Work):
        bookmark_parameters = ("csrf_token", "_token", "a")

    data = {"csrf_token": "secret", "_token": "secret", "a": "1"}
    answer = make_app(Careless).test_client().post("/careless", data=data)
    assert "secret" not in answer.headers["Location"]
    assert "a=1" in answer.headers["Location"]
