"""Parameters and results that can't be stored: what is said about them, and where the limit is."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, ClassVar

import pytest
from flask import Flask
from flask.testing import FlaskClient
from google.cloud import ndb
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from gaetk_longtask import LongRunningTaskHandler, LongTask
from gaetk_longtask.models import LongTaskChunk
from gaetk_longtask.testing import InMemoryQueue
from tests.support import JSON, MIB, Work, exceptions_of, job, polled, started


class Point:
    """A class that JSON does not support."""


@dataclass
class Row:
    """Another class that JSON does not support. The message suggests a conversion."""

    total: int = 1


class Asking(Work):
    """A task whose parameters the test chooses."""

    make: ClassVar[Callable[[], Any]]

    def prepare_task(self, **kwargs: Any) -> Any:
        return Asking.make()


@pytest.fixture
def app(make_app: Callable[..., Flask], work: type[Work]) -> Flask:
    return make_app(work, Asking)


UNSTORABLE = [
    (Point(), "Point", "PickleSerializer"),
    (Row(), "Row", "dataclasses.asdict"),
    (bytearray(b"x"), "bytearray", "bytes("),
    (float("nan"), "float", "None"),
    ("\ud800", "str", "fsencode"),
    ({"a": [1, {"b": Point()}]}, "Point", "['a'][1]['b']"),
    (range(3), "range", "list("),
]


@pytest.mark.parametrize(("value", "type_name", "remedy"), UNSTORABLE, ids=lambda value: str(value)[:30])
def test_parameters_that_do_not_serialize_are_an_error_that_names_class_and_remedy(
    app: Flask, stored: Callable[[], list[LongTask]], queue: InMemoryQueue, value: Any, type_name: str, remedy: str
) -> None:
    Asking.make = lambda: {"given": value}
    answer, reported = exceptions_of(app, lambda: app.test_client().post("/asking", headers=JSON))
    assert answer.status_code == 500
    assert answer.mimetype == "application/problem+json"
    assert type_name in answer.json["detail"]
    assert remedy in answer.json["detail"]
    assert [str(exc) for exc in reported] == [answer.json["detail"]]
    assert not stored()
    assert not queue.tasks


def test_a_browser_gets_a_page_about_parameters_that_do_not_serialize(client: FlaskClient) -> None:
    Asking.make = Point
    answer = client.post("/asking")
    assert answer.status_code == 500
    assert answer.mimetype == "text/html"
    assert "Point" in answer.text


@pytest.mark.parametrize(("value", "type_name", "remedy"), UNSTORABLE, ids=lambda value: str(value)[:30])
def test_a_result_that_does_not_serialize_fails_the_task_at_once(
    client: FlaskClient, queue: InMemoryQueue, value: Any, type_name: str, remedy: str, work: type[Work]
) -> None:
    work.do = lambda handler: {"given": value}
    url = started(client)
    assert queue.deliver(client).status_code == 200
    assert not queue.tasks
    assert work.runs == 1
    document = polled(client, url)
    assert document["status"] == "failed"
    assert type_name in document["error"]
    assert remedy in document["error"]


def test_pieces_of_two_kinds_fail_the_task_at_once(client: FlaskClient, queue: InMemoryQueue, work: type[Work]) -> None:
    def pieces(handler: LongRunningTaskHandler) -> Any:
        yield "text"
        yield b"bytes"

    work.do = pieces
    url = started(client)
    assert queue.deliver(client).status_code == 200
    document = polled(client, url)
    assert document["status"] == "failed"
    assert "bytes" in document["error"]


def test_a_result_of_32_mib_is_stored_and_shown(client: FlaskClient, queue: InMemoryQueue, work: type[Work]) -> None:
    work.do = lambda handler: b"x" * (32 * MIB)
    url = started(client)
    queue.deliver_all(client)
    assert polled(client, url)["status"] == "done"
    assert client.get(job(url, "showresult")).data == b"x" * (32 * MIB)


@pytest.mark.parametrize("kind", ["bytes", "str", "pieces"])
def test_a_result_over_32_mib_fails_the_task_and_says_so(
    client: FlaskClient, queue: InMemoryQueue, kind: str, work: type[Work]
) -> None:
    size = 32 * MIB + 1
    results: dict[str, Any] = {"bytes": b"x" * size, "str": "x" * size}
    work.do = lambda handler: results.get(kind) or (b"x" * MIB for _ in range(33))
    url = started(client)
    assert queue.deliver(client).status_code == 200
    assert work.runs == 1
    document = polled(client, url)
    assert document["status"] == "failed"
    assert "33,554,432 bytes" in document["error"]


def test_an_upload_over_32_mib_is_refused_and_nothing_is_stored(
    client: FlaskClient, stored: Callable[[], list[LongTask]], ndb_client: ndb.Client
) -> None:
    upload = FileStorage(BytesIO(os.urandom(32 * MIB + 1)), "big.zip")
    boundary, body = encode_multipart({"file": upload})  # otherwise, the client leaves a file open
    answer = client.post("/work", data=body, content_type=f"multipart/form-data; boundary={boundary}", headers=JSON)
    assert answer.status_code == 413
    assert answer.mimetype == "application/problem+json"
    assert "33,554,432 bytes" in answer.json["detail"]
    assert not stored()
    with ndb_client.context():
        assert LongTaskChunk.query().count(1, keys_only=True) == 0
