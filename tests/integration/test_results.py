"""Results in the library's page and as downloads, without a `display_result` of the author's."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from gaetk_longtask import LongRunningTaskHandler
from gaetk_longtask.testing import InMemoryQueue, ManualClock
from tests.support import JSON, job, polled, result_text

KIB = 1024
MIXED = "1 < 2\n  ünï\r\n"


class Text(LongRunningTaskHandler):
    title = "Notes: März/April"

    def execute_task(self, parameters: Any) -> Any:
        return MIXED


class Untitled(LongRunningTaskHandler):
    def execute_task(self, parameters: Any) -> Any:
        return {"a": 1}


class Markup(Text):
    def execute_task(self, parameters: Any) -> Any:
        return "<p>text"


class Binary(Text):
    def execute_task(self, parameters: Any) -> Any:
        return b"\x00\xff"


class Yielded(Text):
    def execute_task(self, parameters: Any) -> Any:
        yield "1"
        yield "2"


class Sized(Text):
    keep_result = timedelta(days=2)

    def execute_task(self, parameters: Any) -> Any:
        return str(parameters["character"]) * int(parameters["count"])


class Own(Text):
    def display_result(self, parameters: Any, result: Any, task: Any = None) -> Any:
        return Response(result, mimetype="text/csv")


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app(Text, Untitled, Markup, Binary, Yielded, Sized, Own)


@pytest.fixture
def result_of(client: FlaskClient, queue: InMemoryQueue) -> Callable[..., str]:
    """Returns a function that runs a task and returns the URL of its result."""

    def run(url: str, **query: Any) -> str:
        page = client.get(url, query_string=query).headers["Location"]
        queue.deliver_all(client)
        return job(page, "showresult")

    return run


def download(client: FlaskClient, url: str, **request: Any) -> TestResponse:
    return client.get(f"{url}&_longtaskdownload=1", **request)


def test_the_page_has_the_text_a_download_and_how_long_the_result_is_kept(
    client: FlaskClient, result_of: Callable[..., str]
) -> None:
    url = result_of("/text", month="3")
    page = client.get(url)
    assert result_text(page) == MIXED
    assert "Available until " in page.text
    [link] = re.findall(r'href="([^"]*)">Download</a>', page.text)
    answer = client.get(html.unescape(link))
    assert answer.content_type == "text/plain; charset=utf-8"
    assert answer.data == MIXED.encode()
    assert client.get(url, headers={"Accept-Language": "de"}).text.count("Verfügbar bis ") == 1


def test_the_date_is_that_of_keep_result(
    client: FlaskClient, result_of: Callable[..., str], clock: ManualClock
) -> None:
    day = clock() + timedelta(days=2)
    assert f"Available until {day.day} {day:%B %Y}." in client.get(result_of("/sized", character="a", count=1)).text


@pytest.mark.parametrize(
    ("url", "mimetype", "name", "data"),
    [
        ("/text", "text/plain", "Notes Marz April.txt", MIXED.encode()),
        ("/markup", "text/html", "Notes Marz April.html", b"<p>text"),
        ("/binary", "application/octet-stream", "Notes Marz April.bin", b"\x00\xff"),
        ("/yielded", "text/plain", "Notes Marz April.txt", b"12"),
        ("/untitled", "application/json", "untitled.json", b'{"a":1}\n'),
    ],
)
@pytest.mark.parametrize("headers", [{}, JSON], ids=["browser", "program"])
def test_every_default_result_can_be_downloaded_under_a_name(
    client: FlaskClient,
    result_of: Callable[..., str],
    headers: dict[str, str],
    url: str,
    mimetype: str,
    name: str,
    data: bytes,
) -> None:
    answer = download(client, result_of(url), headers=headers)
    assert (answer.mimetype, answer.data) == (mimetype, data)
    disposition = answer.headers["Content-Disposition"]
    assert disposition.startswith("attachment; ")
    assert disposition.isascii()
    assert name in disposition
    assert ("filename*=UTF-8''Notes%20M%C3%A4rz%20April" in disposition) is (url != "/untitled")


def test_a_downloaded_document_keeps_its_sandbox(client: FlaskClient, result_of: Callable[..., str]) -> None:
    assert download(client, result_of("/markup")).headers["Content-Security-Policy"] == "sandbox"


def test_a_display_result_of_the_author_is_never_changed(client: FlaskClient, result_of: Callable[..., str]) -> None:
    answer = download(client, result_of("/own"))
    assert (answer.mimetype, answer.headers.get("Content-Disposition")) == ("text/csv", None)


def test_only_the_result_is_downloaded(client: FlaskClient, queue: InMemoryQueue) -> None:
    page = client.get("/text?month=3").headers["Location"]
    assert client.get(f"{page}&_longtaskdownload=1").mimetype == "text/html"
    assert polled(client, f"{page}&_longtaskdownload=1")["status"] == "ready"
    queue.deliver_all(client)
    assert "_longtaskdownload" not in client.get(f"{page}&_longtaskdownload=1").headers["Location"]
    assert "Content-Disposition" not in client.get(f"{job(page, 'showresult')}&_longtaskdownload=yes").headers


@pytest.mark.parametrize(
    ("character", "count", "mimetype"),
    [
        ("a", 256 * KIB, "text/html"),
        ("a", 256 * KIB + 1, "text/plain"),
        ("ü", 128 * KIB, "text/html"),
        ("ü", 128 * KIB + 1, "text/plain"),
        ("\U0001f600", 64 * KIB, "text/html"),
        ("\U0001f600", 64 * KIB + 1, "text/plain"),
    ],
)
def test_text_over_256_kib_is_sent_as_plain_text(
    client: FlaskClient, result_of: Callable[..., str], character: str, count: int, mimetype: str
) -> None:
    url = result_of("/sized", character=character, count=count)
    answer = client.get(url)
    assert answer.mimetype == mimetype
    assert (result_text(answer) if mimetype == "text/html" else answer.text) == character * count
    assert "Content-Disposition" not in answer.headers
    program = client.get(url, headers=JSON)
    assert (program.mimetype, program.text) == ("text/plain", character * count)


def test_long_text_is_sent_in_pieces(client: FlaskClient, result_of: Callable[..., str]) -> None:
    url = result_of("/sized", character="a", count=1000 * KIB)
    with client.get(url, buffered=False) as answer:
        assert answer.content_length is None
        sizes = [len(piece) for piece in answer.response]
    assert len(sizes) > 10
    assert sum(sizes) == 1000 * KIB


def test_an_empty_text_says_so_and_has_no_download(client: FlaskClient, result_of: Callable[..., str]) -> None:
    page = client.get(result_of("/sized", character="a", count=0)).text
    assert "The result is empty." in page
    assert "Available until" in page
    assert "Download" not in page
