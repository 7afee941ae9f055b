"""What visitors and authors write is text on every page, and adds no header to an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from gaetk_longtask import LongRunningTaskHandler, PermanentTaskFailure
from gaetk_longtask.testing import InMemoryQueue
from tests.support import UNKNOWN, Work, id_of, polled, raising, started


@pytest.fixture
def app(make_app: Callable[..., Flask], work: type[Work]) -> Flask:
    work.bookmark_parameters = ("note",)
    app = make_app(work)
    app.add_url_rule("/named/<name>", view_func=work.as_view("named"))
    return app


HOSTILE = "<img src=x onerror=alert(1)>'\"&"


def assert_harmless(page: TestResponse) -> None:
    assert "<img" not in page.text
    assert "&lt;img" in page.text


def test_a_progress_message_is_text_on_the_page(client: FlaskClient, queue: InMemoryQueue, work: type[Work]) -> None:
    def do(handler: LongRunningTaskHandler) -> Any:
        handler.log_progress(HOSTILE)
        raise ValueError

    work.do = do
    url = started(client)
    queue.deliver(client)
    assert_harmless(client.get(url))
    assert polled(client, url)["progress"]["message"] == HOSTILE


def test_a_progress_message_is_text_in_what_the_originals_hook_gets(
    make_app: Callable[..., Flask], queue: InMemoryQueue
) -> None:
    class Old(LongRunningTaskHandler):
        def execute_task(self, parameters: dict[str, Any]) -> None:
            self.log_progress(HOSTILE)
            raise ValueError

        def render_status(self, display: Any, task: Any) -> Any:
            return display["info"]

    client = make_app(Old).test_client()
    url = started(client, "/old")
    queue.deliver(client)
    assert_harmless(client.get(url))


def test_a_title_is_text_on_the_page(make_app: Callable[..., Flask]) -> None:
    class Titled(Work):
        title = HOSTILE

    client = make_app(Titled).test_client()
    assert_harmless(client.get(started(client, "/titled")))


def test_the_message_of_a_permanent_failure_is_text_on_the_page(
    client: FlaskClient, queue: InMemoryQueue, work: type[Work]
) -> None:
    work.do = raising(PermanentTaskFailure(HOSTILE))
    url = started(client)
    queue.deliver_all(client)
    assert_harmless(client.get(url))


@pytest.mark.parametrize("method", ["get", "post"])
def test_parameters_are_text_on_the_start_button_page(client: FlaskClient, method: str) -> None:
    fields = {HOSTILE: HOSTILE}
    kwargs: dict[str, Any] = {"query_string": fields} if method == "get" else {"data": fields}
    assert_harmless(getattr(client, method)("/work", headers={"Sec-Fetch-Site": "cross-site"}, **kwargs))


def test_a_query_that_is_no_utf8_is_a_bad_request(client: FlaskClient) -> None:
    environ = {"QUERY_STRING": "a=\xff", "HTTP_SEC_FETCH_SITE": "cross-site"}
    assert client.post("/work", environ_overrides=environ).status_code == 400


def test_parameters_are_text_on_the_page_of_an_unknown_task(client: FlaskClient) -> None:
    query = {"_longtaskjob": "query", "_longtaskid": UNKNOWN, HOSTILE: HOSTILE}
    page = client.get("/work", query_string=query).text
    assert "<img" not in page
    assert "alert(1)>" not in page


def test_a_path_is_text_on_every_page(client: FlaskClient) -> None:
    url = started(client, f"/named/{quote(HOSTILE)}")
    for page in (client.get(url), client.get(url.replace(id_of(url), UNKNOWN))):
        assert "<img" not in page.text
        assert "onerror=alert(1)>" not in page.text


@pytest.mark.parametrize("where", ["/work?a={}", "/work?{}=a", "/named/{}"])
def test_line_breaks_in_a_request_add_no_header_to_the_answer(client: FlaskClient, where: str) -> None:
    answer = client.get(where.format("%0d%0aSet-Cookie:%20evil=1"))
    assert answer.status_code == 307
    assert "\r" not in answer.headers["Location"]
    assert "\n" not in answer.headers["Location"]
    assert "Set-Cookie" not in answer.headers


def test_line_breaks_in_a_form_field_add_no_header_to_the_answer(client: FlaskClient) -> None:
    answer = client.post("/named/x", data={"note": "a\r\nSet-Cookie: evil=1"})
    assert answer.status_code == 307
    assert "Set-Cookie" not in answer.headers
    assert parse_qs(urlsplit(answer.headers["Location"]).query)["note"] == ["a\r\nSet-Cookie: evil=1"]
