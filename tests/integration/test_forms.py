"""A form that can't be read completely starts nothing, instead of a task without its fields."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Any, ClassVar

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from flask_wtf import CSRFProtect
from werkzeug.serving import make_server

from gaetk_longtask import LongRunningTaskHandler, LongTask
from gaetk_longtask.testing import InMemoryQueue
from tests.support import Work

URLENCODED, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"
JSON = {"Accept": "application/json"}
Stored = Callable[[], list[LongTask]]


class Report(LongRunningTaskHandler):
    def execute_task(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return parameters


class Own(LongRunningTaskHandler):
    """A handler that reads the body in its own way, or not at all."""

    reads: ClassVar[str] = ""

    def prepare_task(self, **kwargs: Any) -> Any:
        match Own.reads:
            case "stream":
                return request.stream.read()
            case "json":
                return request.get_json()
        return {}

    def execute_task(self, parameters: Any) -> Any:
        return parameters


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app(Report, Own)


def part(name: bytes, value: bytes, more: bytes = b"") -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="' + name + b'"' + more + b"\r\n\r\n" + value + b"\r\n"


BAD: list[tuple[str | None, bytes, int]] = [
    (URLENCODED, b"customer=M\xfcller&year=2025", 400),
    (URLENCODED, b"customer=M%FCller&year=2025", 400),
    (URLENCODED, b"M%FCller=1", 400),
    (URLENCODED + "; charset=iso-8859-1", b"customer=M\xfcller", 400),
    (URLENCODED, b"\x1f\x8b\x08\x00compressed", 400),
    (MULTIPART, part(b"customer", b"M\xfcller") + b"--b--\r\n", 400),
    (MULTIPART, part(b"M\xfcller", b"x") + b"--b--\r\n", 400),
    (MULTIPART, part(b"customer", b"x"), 400),
    (MULTIPART, part(b"customer", b"x")[:-4], 400),
    (MULTIPART, part(b"file", b"x" * 70_000, b'; filename="x"'), 400),
    (MULTIPART, b"customer=x", 400),
    (MULTIPART, part(b"file", b"x", b'; filename="M\xfcller"') + b"--b--\r\n", 400),
    ("multipart/form-data", part(b"customer", b"x") + b"--b--\r\n", 400),
    ("multipart/form-data; boundary=other", part(b"customer", b"x") + b"--b--\r\n", 400),
    ("application/json", b'{"customer": 5}', 415),
    ("text/plain", b"customer=5", 415),
    ("application/xml", b"<customer/>", 415),
    ("application/octet-stream", b"\x00", 415),
    ("multipart/mixed; boundary=b", b"--b--", 415),
    ("nonsense", b"customer=5", 415),
    (None, b"customer=5", 415),
]


@pytest.mark.parametrize(("content_type", "body", "code"), BAD)
@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("path", ["/report", "/report?year=2025"])
def test_a_body_that_can_not_be_read_completely_starts_nothing(
    client: FlaskClient, stored: Stored, content_type: str | None, body: bytes, code: int, method: str, path: str
) -> None:
    answer = getattr(client, method)(path, data=body, content_type=content_type, headers=JSON)
    assert answer.status_code == code
    assert answer.mimetype == "application/problem+json"
    page = getattr(client, method)(path, data=body, content_type=content_type)
    assert page.status_code == code
    assert page.mimetype == "text/html"
    assert not stored()


@pytest.mark.parametrize(("content_type", "body", "code"), [bad for bad in BAD if bad[2] == 400])
def test_the_same_where_other_code_has_read_the_form_before(
    app: Flask, client: FlaskClient, stored: Stored, content_type: str, body: bytes, code: int
) -> None:
    @app.before_request
    def curious() -> None:
        with suppress(Exception):  # a careless hook
            assert not request.form

    assert client.post("/report", data=body, content_type=content_type).status_code == code
    assert not stored()


def test_the_same_under_csrf_protection(app: Flask, client: FlaskClient, stored: Stored) -> None:
    CSRFProtect(app)
    answer = client.post("/report", data=b"customer=M\xfcller", content_type=URLENCODED)
    assert answer.status_code == 400
    assert not stored()


@pytest.mark.parametrize(("content_type", "body", "code"), [bad for bad in BAD if bad[2] == 400])
def test_the_same_where_prepare_task_does_not_read_the_form(
    client: FlaskClient, stored: Stored, content_type: str, body: bytes, code: int
) -> None:
    Own.reads = ""
    assert client.post("/own", data=body, content_type=content_type).status_code == code
    assert not stored()


def test_an_author_may_read_the_body_in_another_way(client: FlaskClient, stored: Stored) -> None:
    Own.reads = "stream"
    assert client.post("/own", data=b"a=\xfc", content_type=MULTIPART).status_code in (303, 307)
    Own.reads = "json"
    assert client.post("/own", json={"a": 1}).status_code == 307
    assert len(stored()) == 2


@pytest.mark.parametrize(
    ("content_type", "body", "parameters"),
    [
        (URLENCODED, b"", {}),
        (URLENCODED, b"&&", {}),
        (URLENCODED, b"a", {"a": ""}),
        (URLENCODED, "a=M%C3%BCller&b=\ufffd".encode(), {"a": "Müller", "b": "\ufffd"}),
        (URLENCODED, b"a=100%", {"a": "100%"}),
        (MULTIPART, b"--b--\r\n", {}),
        (MULTIPART, b"", {}),
        (MULTIPART, part(b"a", "Müller".encode()) + b"--b--\r\n", {"a": "Müller"}),
        (MULTIPART, part(b"a", b"\x00\xff", b'; filename="x"') + b"--b--\r\n", {"a": b"\x00\xff"}),
        ("application/json", b"", {}),
        ("text/plain", b"", {}),
        (None, b"", {}),
    ],
)
def test_what_is_complete_starts_a_task(
    client: FlaskClient,
    queue: InMemoryQueue,
    app: Flask,
    content_type: str | None,
    body: bytes,
    parameters: dict[str, Any],
) -> None:
    url = client.post("/report", data=body, content_type=content_type).location
    queue.deliver_all(client)
    document = client.get(url, headers=JSON).get_json()
    assert document["status"] == "done"
    if not any(isinstance(value, bytes) for value in parameters.values()):
        assert client.get(document["links"]["result"]).get_json() == parameters


@pytest.mark.parametrize(
    ("setting", "data"),
    [
        ({"MAX_FORM_PARTS": 2}, {"a": "1", "b": "2", "c": (BytesIO(b"x"), "x")}),
        ({"MAX_FORM_MEMORY_SIZE": 10}, {"a": "x" * 11, "c": (BytesIO(b"x"), "x")}),
        ({"MAX_CONTENT_LENGTH": 10}, {"a": "x" * 11}),
    ],
)
def test_a_form_over_a_limit_of_flask_starts_nothing(
    app: Flask, client: FlaskClient, stored: Stored, setting: dict[str, int], data: dict[str, Any]
) -> None:
    app.config.update(setting)
    answer = client.post("/report", data=data, headers=JSON)
    assert answer.status_code == 413
    assert answer.mimetype == "application/problem+json"
    assert not stored()


@pytest.mark.parametrize("content_type", [URLENCODED, MULTIPART])
def test_a_body_that_was_cut_off_starts_nothing(app: Flask, stored: Stored, content_type: str) -> None:
    server = make_server("127.0.0.1", 0, app)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
        head = (
            f"POST /report HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: 500\r\n\r\n"
        )
        connection.sendall(head.encode() + (part(b"a", b"1") if content_type is MULTIPART else b"a=1"))
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(1000)
    thread.join()
    server.server_close()
    assert b" 400 " in answer.splitlines()[0]
    assert not stored()


@pytest.mark.parametrize(
    ("query", "form"),
    [("&".join(["a"] * 2_000), None), (None, "&".join(["a"] * 249_000)), (None, "a=" + "x" * 498_000)],
)
def test_a_request_with_very_many_fields_takes_little_time(
    make_app: Callable[..., Flask], query: str | None, form: str | None
) -> None:
    class Marked(LongRunningTaskHandler):
        bookmark_parameters = ("a",)

        def execute_task(self, parameters: dict[str, Any]) -> None: ...

    client = make_app(Marked).test_client()
    began = time.process_time()
    if form is None:
        answer = client.get("/marked", query_string=query)
    else:
        answer = client.post("/marked", data=form, content_type=URLENCODED)
    assert answer.status_code == 307
    assert len(answer.location) < 1_700
    assert time.process_time() - began < 15  # a quadratic algorithm takes 41 s


def test_a_part_without_a_name_is_refused(make_app: Callable[..., Flask], stored: Callable[[], list[LongTask]]) -> None:
    body = b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n"
    answer = make_app(Work).test_client().post("/work", data=body, content_type="multipart/form-data; boundary=x")
    assert answer.status_code == 400
    assert not stored()


def test_a_body_whose_end_the_server_does_not_show_is_refused(
    make_app: Callable[..., Flask], stored: Callable[[], list[LongTask]]
) -> None:
    headers = {"Transfer-Encoding": "chunked"}
    answer = (
        make_app(Work)
        .test_client()
        .post("/work", input_stream=BytesIO(b"customer=5"), content_type=URLENCODED, headers=headers)
    )
    assert answer.status_code == 411
    assert not stored()
