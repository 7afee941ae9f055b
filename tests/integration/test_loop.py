"""The main case: a click starts a task, the page follows it, and the result is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask

from gaetk_longtask import LongRunningTaskHandler
from gaetk_longtask.testing import InMemoryQueue
from tests.support import JSON, job, polled


class Report(LongRunningTaskHandler):
    title = "Making the report"

    def execute_task(self, parameters: dict[str, Any]) -> str:
        for _ in self.track(range(3), "Reading"):
            pass
        self.log_progress("Formatting")
        return f"<h1>{parameters['month']}</h1>"


class Yielding(LongRunningTaskHandler):
    def execute_task(self, parameters: dict[str, Any]) -> Iterator[bytes]:
        yield b"\x00\x01"
        self.log_progress("Half-way", 1, 2)
        yield b"\x02"


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app(Report, Yielding)


def test_a_click_is_redirected_to_a_page_that_can_be_bookmarked(app: Flask) -> None:
    answer = app.test_client().get("/report?month=2010-12")
    assert answer.status_code == 307
    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert query["_longtaskjob"] == ["query"]
    assert query["month"] == ["2010-12"]
    assert len(query["_longtaskid"][0]) >= 22


def test_the_page_shows_the_title_and_refreshes_itself_until_the_result_is_there(
    app: Flask, queue: InMemoryQueue
) -> None:
    client = app.test_client()
    url = client.get("/report?month=2010-12").headers["Location"]
    page = client.get(url)
    assert page.status_code == 200
    assert "Making the report" in page.text
    assert '<meta http-equiv="refresh"' in page.text

    assert queue.deliver(client).status_code == 200

    forwarded = client.get(url)
    assert forwarded.status_code == 303
    result = client.get(forwarded.headers["Location"])
    assert result.text == "<h1>2010-12</h1>"
    assert result.headers["Content-Security-Policy"] == "sandbox"


def test_going_back_after_the_result_does_not_forward_again(app: Flask, queue: InMemoryQueue) -> None:
    client = app.test_client()
    url = client.get("/report?month=2010-12").headers["Location"]
    queue.deliver_all(client)
    client.get(client.get(url).headers["Location"])
    page = client.get(url)
    assert page.status_code == 200
    assert "showresult" in page.text
    assert "http-equiv" not in page.text


def test_a_program_starts_a_task_and_follows_its_status_document(app: Flask, queue: InMemoryQueue) -> None:
    client = app.test_client()
    started = client.post("/report", data={"month": "2010-12"}, headers=JSON)
    assert started.status_code == 202
    assert started.headers["Retry-After"] == str(started.json["poll_after_seconds"])
    assert started.json["status"] == "ready"
    assert started.json["progress"]["percent"] is None
    queue.deliver_all(client)
    document = polled(client, started.headers["Location"])
    assert document["status"] == "done"
    assert document["done"] is True
    assert document["progress"] == {
        "message": "Formatting",
        "step": 3,
        "total_steps": 3,
        "percent": 100,
        "eta_seconds": None,
    }
    assert client.get(document["links"]["result"], headers=JSON).text == "<h1>2010-12</h1>"


def test_pieces_that_are_yielded_become_the_result(app: Flask, queue: InMemoryQueue) -> None:
    client = app.test_client()
    started = client.get("/yielding", headers=JSON)
    queue.deliver_all(client)
    result = client.get(job(started.json["links"]["self"], "showresult"))
    assert result.data == b"\x00\x01\x02"
    assert result.headers["Content-Disposition"] == "attachment"
