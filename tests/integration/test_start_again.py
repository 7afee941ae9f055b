"""Links that start again: only where they lead to an equal task; and where the visitor begins again otherwise."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask, request
from flask.testing import FlaskClient

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager, PermanentTaskFailure
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue, ManualClock
from tests.support import links
from tests.support import start as start_from_code

UNKNOWN = "_longtaskid=AAAAAAAAAAAAAAAAAAAAAAAA"
PARTIAL = "_longtaskpartial=1"


class Report(LongRunningTaskHandler):
    title = "Making the report"
    bookmark_parameters = ("month",)

    def execute_task(self, parameters: Any) -> Any:
        raise PermanentTaskFailure("The file has no header.")


class Own(Report):
    def prepare_task(self, **kwargs: Any) -> Any:
        return request.get_json() if request.is_json else dict(request.form)


class Text(LongRunningTaskHandler):
    title = "Making the text"

    def execute_task(self, parameters: Any) -> Any:
        return "1 < 2\n  indented"


class Marked(Text):
    def execute_task(self, parameters: Any) -> Any:
        return " <script>alert(1)</script>"


class Yielded(Text):
    def execute_task(self, parameters: Any) -> Any:
        yield " \n"
        yield "1 < 2"


class YieldedMarkup(Text):
    def execute_task(self, parameters: Any) -> Any:
        yield " \n"
        yield "<p>"
        yield "text"


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    app = make_app(Report, Own, Text, Marked, Yielded, YieldedMarkup)
    app.add_url_rule("/form", "form", lambda: "the form")
    return app


def failed(client: FlaskClient, queue: InMemoryQueue, url: str, **request: Any) -> str:
    """Return the URL of the page of a task that has failed."""
    location = client.open(url, **request).headers["Location"]
    queue.deliver_all(client)
    return str(location)


STARTS: list[tuple[str, dict[str, Any], str | None]] = [
    ("/report", {}, "/report"),
    ("/report?month=3&month=4", {}, "/report?month=3&month=4"),
    ("/report", {"method": "POST", "data": {"month": "3"}}, "/report?month=3"),
    ("/report?month=3", {"method": "POST", "data": {"month": "4"}}, "/report?month=4"),
    ("/report", {"method": "POST", "data": {"month": "3", "csrf_token": "x", "_hidden": "y"}}, "/report?month=3"),
    ("/report", {"method": "POST", "data": {"customer": "5"}}, None),
    ("/report?month=3", {"method": "POST", "data": {"customer": "5"}}, None),
    ("/report?customer=4", {"method": "POST", "data": {"customer": "5"}}, None),
    ("/report", {"method": "POST", "data": {"month": ["3", "x" * 512]}}, None),
    ("/report?month=" + "x" * 512, {}, None),
    ("/report?" + "&".join(f"m{number}={'x' * 400}" for number in range(5)), {}, None),
    ("/report", {"method": "POST", "data": {"month": "3", "file": (io.BytesIO(b"x"), "x.csv")}}, None),
]


@pytest.mark.parametrize(("url", "start", "again"), STARTS)
def test_a_page_repeats_the_request_only_where_it_has_all_of_it(
    client: FlaskClient, queue: InMemoryQueue, url: str, start: dict[str, Any], again: str | None
) -> None:
    if "file" in start.get("data", {}):
        start = start | {"data": start["data"] | {"file": (io.BytesIO(b"x"), "x.csv")}}
    page = failed(client, queue, url, **start)
    assert (PARTIAL in page) is (again is None)
    assert links(client.get(page).text).get("Start again") == again


@pytest.mark.parametrize("job", ["cancel", "retry"])
def test_what_is_missing_stays_missing_after_a_job(client: FlaskClient, queue: InMemoryQueue, job: str) -> None:
    page = client.post("/report", data={"customer": "5"}).headers["Location"]
    if job == "retry":
        queue.deliver_all(client)
    answer = client.post(page.replace("=query", f"={job}"))
    assert PARTIAL in answer.headers["Location"]
    queue.deliver_all(client)
    assert "Start again" not in links(client.get(answer.headers["Location"]).text)


def test_every_address_of_a_page_knows_that_something_is_missing(client: FlaskClient) -> None:
    page = client.post("/report", data={"customer": "5"}).headers["Location"]
    addresses = re.findall(r'(?:href|action|data-longtask)="([^"]*_longtaskid[^"]*)"', client.get(page).text)
    assert addresses
    assert all(PARTIAL in address for address in addresses)


def test_a_link_in_a_mail_has_no_parameters_and_repeats_nothing(
    app: Flask, client: FlaskClient, queue: InMemoryQueue
) -> None:
    with app.test_request_context():
        urls = [LongTaskManager.start("report", parameters).url for parameters in ({"customer": "5"}, {})]
    queue.deliver_all(client)
    assert [links(client.get(url).text).get("Start again") for url in urls] == [None, "/report"]


@pytest.mark.parametrize(
    ("query", "again"),
    [("", "/report"), ("&month=3", "/report?month=3"), (f"&month=3&{PARTIAL}", None)],
)
@pytest.mark.parametrize("form", [None, "/form", "form"])
def test_an_unknown_task_leads_to_the_form_else_to_the_same_url(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, query: str, again: str | None, form: str | None
) -> None:
    monkeypatch.setattr(Report, "form_url", form)
    answer = client.get(f"/report?_longtaskjob=query&{UNKNOWN}{query}")
    expected = {"Back to the form": "/form"} if form else {"Start again": again} if again else {}
    assert answer.status_code == 404
    assert links(answer.text) == expected


def test_a_method_gets_the_parameters_and_is_not_asked_where_they_are_gone(
    client: FlaskClient, queue: InMemoryQueue, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def form_url(self: Report, parameters: Any) -> str:
        asked.append(parameters)
        return f"/form?customer={parameters['customer']}"

    monkeypatch.setattr(Report, "form_url", form_url)
    page = failed(client, queue, "/report", method="POST", data={"customer": "5"})
    assert links(client.get(page).text)["Back to the form"] == "/form?customer=5"
    assert asked == [{"customer": "5"}]
    clock.advance(timedelta(days=31))
    expired = client.get(page)
    assert expired.status_code == 410
    assert links(expired.text) == links(client.get(f"/report?_longtaskjob=query&{UNKNOWN}&{PARTIAL}").text) == {}
    assert len(asked) == 1


@pytest.mark.parametrize("form", ["javascript:alert(1)//", "java\nscript:/x", "data:text/html,/", "nowhere"])
def test_a_form_url_that_leads_nowhere_is_an_error_in_the_log(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    monkeypatch.setattr(Report, "form_url", form)
    assert "Back to the form" not in client.get(f"/report?_longtaskjob=query&{UNKNOWN}").text
    assert "no link to a form: Report.form_url is " in caplog.text


def test_after_a_permanent_failure_the_form_is_the_first_way(
    client: FlaskClient, queue: InMemoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = failed(client, queue, "/report", method="POST", data={"file": (io.BytesIO(b"x"), "x.csv")})
    assert '<button class="lt-calm">Try again</button>' in client.get(page).text
    monkeypatch.setattr(Report, "form_url", "form")
    actions = client.get(page).text.split('<div class="lt-actions">')[1]
    assert '<a class="lt-button" href="/form">Back to the form</a>' in actions
    assert actions.index("Back to the form") < actions.index("Try again")
    assert '<button class="lt-calm">Try again</button>' in actions


# The title, on each page.


def test_the_title_stays_on_every_page(client: FlaskClient, queue: InMemoryQueue, clock: ManualClock) -> None:
    page = failed(client, queue, "/report")
    pages = [client.get(page), client.get(f"/report?_longtaskjob=query&{UNKNOWN}")]
    pages.append(client.get("/report?month=3", headers={"Sec-Fetch-Site": "cross-site"}))
    clock.advance(timedelta(days=31))
    pages.append(client.get(page))
    titles = [re.findall(r"<title>(.*)</title>", page.text)[0] for page in pages]
    assert [title.split(" – ") for title in titles] == [
        [first, "Making the report"]
        for first in ("The task failed", "Task not found", "Start this task?", "Result expired")
    ]
    assert all(page.text.count("Making the report") >= 2 for page in pages)


def test_the_start_button_says_what_it_sends(client: FlaskClient) -> None:
    data = {"month": "3", "password": "secret", "pin": "1", "csrf_token": "x"}
    page = client.post("/report?year=2026", data=data, headers={"Sec-Fetch-Site": "cross-site"}).text
    assert re.findall(r"<dt[^>]*>(.*)</dt>\n<dd[^>]*>(.*)</dd>", page) == [("year", "2026"), ("month", "3")]
    assert "2 other fields are sent, too." in page
    assert page.count("secret") == 1  # in the form itself


# Text.


def test_plain_text_is_shown_in_our_page(client: FlaskClient, queue: InMemoryQueue) -> None:
    page = client.get("/text?month=3").headers["Location"]
    queue.deliver_all(client)
    answer = client.get(page, follow_redirects=True)
    assert "1 &lt; 2\n  indented</div>" in answer.text
    assert "<title>Making the text</title>" in answer.text
    result = page.replace("=query", "=showresult")
    assert links(answer.text) == {"Download": f"{result}&_longtaskdownload=1", "Start again": "/text?month=3"}
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    program = client.get(page.replace("=query", "=showresult"), headers={"Accept": "application/json"})
    assert (program.mimetype, program.text) == ("text/plain", "1 < 2\n  indented")


@pytest.mark.parametrize(
    ("url", "mimetype", "text", "policies"),
    [
        ("/marked", "text/html", " <script>alert(1)</script>", ["default-src 'self'", "sandbox"]),
        ("/yieldedmarkup", "text/html", " \n<p>text", ["default-src 'self'", "sandbox"]),
        ("/yielded", "text/plain", " \n1 < 2", ["default-src 'self'"]),
    ],
)
def test_markup_is_a_document_of_its_own_and_yielded_text_is_streamed(
    app: Flask, client: FlaskClient, queue: InMemoryQueue, url: str, mimetype: str, text: str, policies: list[str]
) -> None:
    @app.after_request
    def talisman(response: Any) -> Any:
        response.headers["Content-Security-Policy"] = "default-src 'self'"
        return response

    page = client.get(url).headers["Location"]
    queue.deliver_all(client)
    answer = client.get(page, follow_redirects=True)
    assert (answer.mimetype, answer.text) == (mimetype, text)
    assert answer.headers.getlist("Content-Security-Policy") == policies


def test_the_link_in_a_mail_starts_nothing_without_the_parameters(app: Flask, queue: InMemoryQueue) -> None:
    client = app.test_client()
    with app.app_context():
        url = LongTaskManager.start("report", {"customer": "5"}).url
    queue.deliver_all(client)
    assert 'href="/report"' not in client.get(url).text


# Links in mails: `task.url`, without the parameters.


def mail_link(stored: Callable[[], list[LongTask]]) -> str:
    """Return the URL that a mail about the only task has, without the host."""
    [task] = stored()
    return task.url.removeprefix(task.base_url)


#: How a visitor starts a task, and whether the link in a mail says that it lacks parameters.
MAILED: list[tuple[str, dict[str, Any], bool]] = [
    ("/report", {"method": "POST", "data": {"customer": "5"}}, True),
    ("/report", {"method": "POST", "data": {"month": "3"}}, True),  # the link lacks what a bookmark keeps, too
    ("/report?month=3", {"method": "POST"}, True),
    ("/report", {"method": "POST", "data": {"file": (io.BytesIO(b"x"), "x.csv")}}, True),
    ("/own", {"method": "POST", "json": {"customer": "5"}}, True),
    ("/own", {"method": "POST", "data": {"customer": "5"}}, True),
    ("/report", {"method": "POST", "data": {"csrf_token": "x", "_hidden": "y"}}, False),
    ("/report", {"method": "POST"}, False),
    ("/report", {}, False),
    ("/report?month=3", {}, False),
    ("/report?month=" + "x" * 512, {}, False),
]


@pytest.mark.parametrize(("url", "start", "marked"), MAILED)
def test_a_link_in_a_mail_says_that_it_lacks_the_parameters_of_a_form(
    client: FlaskClient, stored: Callable[[], list[LongTask]], url: str, start: dict[str, Any], marked: bool
) -> None:
    if "file" in start.get("data", {}):
        start = start | {"data": {"file": (io.BytesIO(b"x"), "x.csv")}}
    client.open(url, **start)
    [task] = stored()
    expected = f"{url.partition('?')[0]}?_longtaskjob=query&_longtaskid={task.id}" + f"&{PARTIAL}" * marked
    assert mail_link(stored) == expected
    assert client.get(task.url).status_code == 200


@pytest.mark.parametrize("purged", [False, True], ids=["expired", "purged"])
@pytest.mark.parametrize(("url", "start", "marked"), [each for each in MAILED if each[2]])
def test_a_link_in_a_mail_about_a_form_starts_nothing_when_the_task_is_gone(
    app: Flask,
    client: FlaskClient,
    queue: InMemoryQueue,
    clock: ManualClock,
    stored: Callable[[], list[LongTask]],
    url: str,
    start: dict[str, Any],
    marked: bool,
    purged: bool,
) -> None:
    if "file" in start.get("data", {}):
        start = start | {"data": {"file": (io.BytesIO(b"x"), "x.csv")}}
    failed(client, queue, url, **start)
    link = mail_link(stored)
    clock.advance(timedelta(days=31))
    if purged:
        app.test_client().get("/_longtask/purge", headers={"X-Appengine-Cron": "true"})
    answer = client.get(link)
    assert answer.status_code == (404 if purged else 410)
    assert "Start again" not in links(answer.text)


@pytest.mark.parametrize("unpublished", [False, True])
@pytest.mark.parametrize(
    ("parameters", "query", "again"),
    [
        ({"customer": "5"}, "", None),
        ({"month": "3"}, "", None),
        ({"month": "3"}, "&month=4", None),
        ({"month": "3"}, "&month=3", "/report?month=3"),
        ({"month": "3"}, f"&month=3&{PARTIAL}", None),
        ({}, "", "/report"),
        ("no fields", "", None),
    ],
)
def test_an_expired_task_that_is_still_stored_is_compared_with_the_url(
    app: Flask,
    client: FlaskClient,
    queue: InMemoryQueue,
    progress: InMemoryProgressStore,
    clock: ManualClock,
    parameters: Any,
    query: str,
    again: str | None,
    unpublished: bool,
) -> None:
    task = start_from_code(app, "report", parameters)
    queue.deliver_all(client)
    if unpublished:
        progress.stored.clear()
    clock.advance(timedelta(days=31))
    answer = client.get(task.url + query)
    assert answer.status_code == 410
    assert links(answer.text).get("Start again") == again


def test_a_retry_keeps_that_the_link_lacks_parameters(
    client: FlaskClient, queue: InMemoryQueue, stored: Callable[[], list[LongTask]]
) -> None:
    page = failed(client, queue, "/report", method="POST", data={"customer": "5"})
    client.post(page.replace("=query", "=retry"))
    assert mail_link(stored).endswith(PARTIAL)


def test_who_joins_a_task_gets_the_link_of_its_start(
    client: FlaskClient, stored: Callable[[], list[LongTask]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Report, "unique_key", lambda self, parameters: "always")
    client.get("/report")
    client.post("/report", data={"customer": "5"})
    assert PARTIAL not in mail_link(stored)


def test_a_hook_that_serves_the_visitor_gets_the_same_link_as_the_work(
    client: FlaskClient, stored: Callable[[], list[LongTask]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(Report, "may_access", lambda self, task: asked.append(task.url) or True)
    client.get(client.post("/report", data={"customer": "5"}).headers["Location"])
    assert set(asked) == {stored()[0].url}
