"""The operators' pages: who may see them, what they show, and what can be done on them."""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from flask import Flask, abort, request
from flask.testing import FlaskClient
from flask_wtf.csrf import CSRFProtect
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager, PickleSerializer, Status
from gaetk_longtask.datastore.calls import UNCACHED
from gaetk_longtask.exceptions import EnqueueRefusedError
from gaetk_longtask.info import Progress
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.testing import Faults, InMemoryProgressStore, InMemoryQueue, ManualClock, put_between
from tests.integration.conftest import Stock
from tests.support import Work, id_of, load, started

MANUAL = Path(__file__).parents[2] / "docs" / "operations.md"
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
#: Every address of the overview, and its method.
ADDRESSES = [
    ("GET", "/_longtask/tasks"),
    ("GET", "/_longtask/tasks/{id}"),
    ("GET", "/_longtask/tasks/{id}?parameters=show"),
    ("POST", "/_longtask/tasks/{id}/cancel"),
    ("POST", "/_longtask/tasks/{id}/retry"),
    ("GET", "/_longtask/many?action=delete&id={id}"),
    ("GET", "/_longtask/statistics"),
]


class Report(LongRunningTaskHandler):
    max_attempts = 3

    def execute_task(self, parameters: Any) -> str:
        if parameters.get("fails"):
            raise ValueError
        return "result"


class Secretive(Report):
    serializer = PickleSerializer()


def is_operator() -> bool:
    return request.headers.get("X-Operator") == "yes"


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app(Report, Secretive, LONGTASK_ADMIN=is_operator)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """An operator's browser."""
    client = app.test_client()
    client.environ_base["HTTP_X_OPERATOR"] = "yes"
    client.environ_base["HTTP_ACCEPT"] = "text/html"
    return client


@pytest.fixture
def start(app: Flask) -> Callable[..., LongTask]:
    def start(endpoint: str = "report", parameters: Any = None, **more: Any) -> LongTask:
        with app.app_context():
            return LongTaskManager.start(endpoint, parameters or {}, **more)

    return start


def text_of(page: str) -> str:
    """Return the visible text of a page."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def rows_of(page: str) -> list[str]:
    return [text_of(each) for each in re.findall(r'<li class="lt-row".*?</li>', page, re.DOTALL)]


def link(page: str, text: str) -> str:
    """Return the address of the link with this text."""
    [found] = [address for address, words in re.findall(r'<a href="([^"]*)"[^>]*>(.*?)</a>', page) if text in words]
    return html.unescape(found)


# Access.


def raises() -> bool:
    raise LookupError


DENIALS: dict[str, Any] = {
    "missing": None,
    "says no": lambda: False,
    "raises": raises,
    "aborts": lambda: abort(403),
    "says nothing": lambda: None,
    "is truthy by accident": lambda: "no",
    "is async": type("Awaitable", (), {"__await__": None}),
}


@pytest.mark.parametrize("admin", DENIALS.values(), ids=DENIALS)
def test_without_access_every_address_is_unknown_for_every_method(
    make_app: Callable[..., Flask], queue: InMemoryQueue, admin: Any
) -> None:
    app = make_app(Report, LONGTASK_ADMIN=admin)
    client = app.test_client()
    with app.app_context():
        task = LongTaskManager.start("report", {})
    unknown = client.get("/unknown")
    for _, address in ADDRESSES:
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            answer = client.open(address.format(id=task.id), method=method, headers=SAME_ORIGIN)
            assert answer.status_code == 404, (method, address)
            assert answer.data == (b"" if method == "HEAD" else unknown.data)
            assert dict(answer.headers) == dict(unknown.headers)
    assert load(app, task.id).status is Status.READY


@pytest.mark.parametrize(
    ("name", "level"),
    [("raises", "ERROR"), ("is truthy by accident", "ERROR"), ("says no", None)],
)
def test_the_log_says_why_access_is_denied(
    make_app: Callable[..., Flask], caplog: pytest.LogCaptureFixture, name: str, level: str | None
) -> None:
    caplog.set_level(logging.INFO, "gaetk_longtask")
    make_app(Report, LONGTASK_ADMIN=DENIALS[name]).test_client().get("/_longtask/tasks")
    found = [record.levelname for record in caplog.records if "LONGTASK_ADMIN" in record.message]
    assert found == ([level] if level else [])


@pytest.mark.parametrize(("method", "address"), ADDRESSES)
def test_every_answer_to_an_operator_is_private(
    client: FlaskClient, start: Callable[..., LongTask], method: str, address: str
) -> None:
    answer = client.open(address.format(id=start().id), method=method, headers=SAME_ORIGIN)
    assert answer.status_code in (200, 303)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Robots-Tag"] == "noindex"
    assert answer.headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    ("method", "address", "allow"),
    [
        ("POST", "/_longtask/tasks", "GET, HEAD"),
        ("OPTIONS", "/_longtask/statistics", "GET, HEAD"),
        ("GET", "/_longtask/tasks/x/cancel", "POST"),
        ("HEAD", "/_longtask/tasks/x/retry", "POST"),
    ],
)
def test_an_operator_is_told_the_right_method(client: FlaskClient, method: str, address: str, allow: str) -> None:
    answer = client.open(address, method=method)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allow)


def test_no_page_contains_the_execute_key(client: FlaskClient, start: Callable[..., LongTask]) -> None:
    task = start()
    for method, address in ADDRESSES:
        answer = client.open(address.format(id=task.id), method=method, headers=SAME_ORIGIN, follow_redirects=True)
        assert task.execute_key not in answer.text


def test_the_example_of_the_manual_lets_operators_in(ndb_client: ndb.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", ndb_client.project)
    [block] = re.findall(r"^```python\n(.*?)^```$", MANUAL.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(block, MANUAL, "exec"), names)
    names["app"].config.update(SECRET_KEY="for tests alone")
    client = names["app"].test_client()
    assert client.get("/_longtask/statistics").status_code == 404
    with client.session_transaction() as session:
        session["role"] = "operator"
    assert client.get("/_longtask/statistics").status_code == 200


# The list.


def test_the_list_shows_tasks_with_state_age_attempts_and_progress(
    app: Flask, client: FlaskClient, stock: Stock, progress: InMemoryProgressStore, clock: ManualClock
) -> None:
    stock(id="waiting-in-vain", age=timedelta(days=3))
    stock(id="unlucky-", status=Status.ERROR, failures=2, age=timedelta(hours=3))
    task = load(app, stock(status=Status.STARTED))
    said = Progress(message="Reading <b>", step=1, total_steps=4, eta_seconds=90)
    progress.write(Snapshot.of(task, now=clock(), beat_seconds=1).beating(said, clock()))
    clock.advance(timedelta(seconds=5))
    assert rows_of(client.get("/_longtask/tasks").text) == [
        f"Working report {task.id[:8]} 5 seconds ago Reading <b> 25% about 2 minutes left",
        "Trying again report unlucky- 3 hours ago · 3 attempts",
        "Waiting report waiting- 3 days ago",
    ]


def test_the_list_speaks_german(client: FlaskClient, stock: Stock) -> None:
    stock(status=Status.FAILED, id="abcdefgh", failures=3)
    page = client.get("/_longtask/tasks", headers={"Accept-Language": "de"}).text
    assert rows_of(page) == ["Fehlgeschlagen report abcdefgh 0 Sekunden her · 3 Versuche"]
    assert '<html lang="de"' in page


def test_each_state_is_a_link_with_the_number_of_its_tasks(client: FlaskClient, stock: Stock) -> None:
    stock.many(2, status=Status.FAILED)
    stock.many(100, status=Status.FINISHED)
    page = client.get("/_longtask/tasks").text
    states = re.search(r'<ul class="lt-states"[^>]*>(.*?)</ul>', page, re.DOTALL)
    assert states is not None
    assert text_of(states[1]) == (
        "All Waiting 0 Working 0 Trying again 0 Finished, not viewed yet 0 Finished 100+ Failed 2 Cancelled 0"
    )
    assert len(rows_of(client.get(link(page, "Failed")).text)) == 2


def test_the_form_filters(client: FlaskClient, stock: Stock) -> None:
    stock(id="a" * 8, endpoint="report", age=timedelta(hours=2))
    stock(id="b" * 8, endpoint="other", age=timedelta(hours=2))
    stock(id="c" * 8, endpoint="report")
    answer = client.get("/_longtask/tasks?status=ready&endpoint=report&older=1h&younger=1d&id=")
    assert rows_of(answer.text) == ["Waiting report aaaaaaaa 2 hours ago"]
    assert '<option value="1h" selected>' in answer.text
    assert "<option selected>report</option>" in answer.text
    assert '<input type="hidden" name="status" value="ready">' in answer.text


def test_the_next_page_of_the_list_has_the_same_filter(client: FlaskClient, stock: Stock, clock: ManualClock) -> None:
    stock.many(60, endpoint="a&b", status=Status.FAILED, age=timedelta(hours=2))
    stock.many(5, endpoint="a&b", status=Status.READY)
    lengths, address = [], "/_longtask/tasks?endpoint=a%26b&older=1h"
    for more in (True, True, False):
        page = client.get(address).text
        lengths.append(len(rows_of(page)))
        assert ("Older tasks" in page) is more
        clock.advance(timedelta(hours=1))
        address = link(page, "Older tasks") if more else ""
    assert lengths == [25, 25, 10]


def test_a_filter_that_finds_nothing_says_so(client: FlaskClient) -> None:
    assert "No tasks found." in client.get("/_longtask/tasks?status=failed").text


@pytest.mark.parametrize(
    "query", ["status=broken", "older=soon", "younger=9999999d", "cursor=x", "cursor=1.AAAA", "endpoint=" + "x" * 2000]
)
def test_an_invalid_filter_is_a_bad_request(client: FlaskClient, query: str) -> None:
    answer = client.get(f"/_longtask/tasks?{query}")
    assert answer.status_code == 400
    assert "Choose from the form." in answer.text


def test_the_beginning_of_an_id_leads_to_its_task(client: FlaskClient, start: Callable[..., LongTask]) -> None:
    task = start()
    answer = client.get(f"/_longtask/tasks?id=+{task.id[:8]}+")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/_longtask/tasks/{task.id}")
    assert client.get("/_longtask/tasks?id=nothing").status_code == 404


def test_the_reference_on_the_visitors_page_leads_to_the_task_and_why_it_failed(
    app: Flask, client: FlaskClient, work: type[Work], queue: InMemoryQueue
) -> None:
    app.add_url_rule("/work", view_func=work.as_view("work"))
    work.max_attempts = 5
    work.do = lambda handler: 1 / 0
    url = started(client)
    queue.deliver_all(client)
    reference = re.search(r"<code>([0-9a-f]{8})</code>", client.get(url).text)
    assert reference is not None
    page = client.get(f"/_longtask/tasks?id={reference[1].upper()}", follow_redirects=True)
    assert page.request.path == f"/_longtask/tasks/{id_of(url)}"
    text = text_of(page.text)
    assert [int(number) for number in re.findall(r"raised an exception · attempt ([0-9])", text)] == [5, 4, 3, 2, 1]
    assert text.count("ZeroDivisionError: division by zero Ended") == 5
    assert f"Reference in the log {reference[1]} Place {__file__}:" in text
    assert page.text.count("<details") == 5
    assert "work.do = lambda handler: 1 / 0" in html.unescape(page.text)


def test_the_list_shows_who_started_a_task_and_why_it_failed(
    app: Flask, client: FlaskClient, start: Callable[..., LongTask], queue: InMemoryQueue
) -> None:
    start(parameters={"fails": True}, created_by="anna")
    start(created_by="otto")
    queue.deliver_all(client)
    [failed] = rows_of(client.get("/_longtask/tasks?user=anna").text)
    assert failed.endswith("3 attempts · anna ValueError")
    [done] = rows_of(client.get("/_longtask/tasks?user=otto").text)
    assert done.endswith("0 seconds ago · otto")


def test_the_list_costs_one_query_and_one_for_each_state(
    client: FlaskClient, stock: Stock, ndb_client: ndb.Client
) -> None:
    stock.many(60, status=Status.STARTED)
    faults = put_between(ndb_client)
    client.get("/_longtask/tasks")
    assert faults.calls == ["RunQuery", "Lookup", *["RunQuery"] * len(Status)]
    faults.calls.clear()
    client.get("/_longtask/tasks?endpoint=report&status=started")
    assert faults.calls == ["RunQuery", "Lookup"]


# A task's page.


def test_a_running_task_shows_its_progress(
    client: FlaskClient, start: Callable[..., LongTask], progress: InMemoryProgressStore, clock: ManualClock
) -> None:
    task = start(created_by="anna")
    said = Progress(message="Reading", step=1, total_steps=4)
    progress.write(Snapshot.of(task, now=clock(), beat_seconds=1).beating(said, clock()))
    page = client.get(f"/_longtask/tasks/{task.id}").text
    text = text_of(page)
    assert "Waiting report Reading 25%" in text
    assert f"ID {task.id} Attempts 1 of at most 3 Started by anna Started 2026-01-01 00:00:00 UTC 0 seconds ago" in text
    assert "Overdue from 2026-01-01 00:01:00 UTC in 1 minute" in text
    assert link(page, "visitor") == f"/report?_longtaskjob=query&_longtaskid={task.id}&_longtaskrefresh=off"


def test_a_failed_task_says_why_and_what_to_look_for(
    app: Flask, client: FlaskClient, start: Callable[..., LongTask], queue: InMemoryQueue, clock: ManualClock
) -> None:
    task = start(parameters={"fails": True})
    clock.advance(timedelta(minutes=5))
    queue.deliver_all(client)
    reference = load(app, task.id).error_reference
    text = text_of(client.get(f"/_longtask/tasks/{task.id}").text)
    assert f"Failed report Reference in the log {reference}" in text
    assert "Attempts 3 of at most 3" in text
    assert "Duration 5 minutes" in text
    assert "Kept until 2026-01-31 00:05:00 UTC in 30 days" in text


def test_a_task_of_another_applications_endpoint_is_shown_too(client: FlaskClient, stock: Stock) -> None:
    task_id = stock(endpoint="elsewhere.report")
    text = text_of(client.get(f"/_longtask/tasks/{task_id}").text)
    assert "Waiting elsewhere.report" in text
    assert "Attempts 1 Started" in text


@pytest.mark.parametrize("task_id", ["A" * 22, "x", "__x__"])
def test_an_unknown_task_is_not_found(client: FlaskClient, task_id: str) -> None:
    answer = client.get(f"/_longtask/tasks/{task_id}")
    assert answer.status_code == 404
    assert "We can&#39;t find this task" in answer.text


def test_parameters_are_loaded_on_demand_alone(client: FlaskClient, start: Callable[..., LongTask]) -> None:
    page = client.get(f"/_longtask/tasks/{start(parameters={'month': '<March>'}).id}").text
    assert "March" not in page
    page = client.get(link(page, "Show the parameters")).text
    assert "Parameters month '<March>'" in text_of(page)
    assert "<March>" not in page


def test_a_task_without_parameters_says_so(client: FlaskClient, start: Callable[..., LongTask]) -> None:
    assert "None." in client.get(f"/_longtask/tasks/{start().id}?parameters=show").text


def test_a_task_with_unreadable_parameters_is_shown(
    app: Flask, client: FlaskClient, start: Callable[..., LongTask], ndb_client: ndb.Client
) -> None:
    task = start("secretive", {1: 2})
    assert "Parameters 1 2" in text_of(client.get(f"/_longtask/tasks/{task.id}?parameters=show").text)
    with ndb_client.context():
        task = load(app, task.id)
        task.parameters_blob = b"nonsense"
        task.put(**UNCACHED)
    answer = client.get(f"/_longtask/tasks/{task.id}?parameters=show")
    assert answer.status_code == 200
    assert "is not what was stored" in answer.text


# Cancel and retry.


def test_an_operator_can_cancel_the_task_of_any_user(
    app: Flask, client: FlaskClient, start: Callable[..., LongTask]
) -> None:
    task = start(created_by="anna")
    page = client.get(f"/_longtask/tasks/{task.id}").text
    assert f'action="/_longtask/tasks/{task.id}/cancel"' in page
    assert "Try again" not in page
    answer = client.post(f"/_longtask/tasks/{task.id}/cancel", headers=SAME_ORIGIN, follow_redirects=True)
    assert answer.request.path == f"/_longtask/tasks/{task.id}"
    assert "Cancelled report" in text_of(answer.text)
    assert load(app, task.id).status is Status.CANCELLED


def test_an_operator_can_retry_a_failed_task(
    app: Flask, client: FlaskClient, start: Callable[..., LongTask], queue: InMemoryQueue
) -> None:
    task = start(parameters={"fails": True})
    queue.deliver_all(client)
    assert f'action="/_longtask/tasks/{task.id}/retry"' in client.get(f"/_longtask/tasks/{task.id}").text
    answer = client.post(f"/_longtask/tasks/{task.id}/retry", headers=SAME_ORIGIN)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/_longtask/tasks/{task.id}")
    assert load(app, task.id).status is Status.READY
    assert len(queue.tasks) == 1


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}]
)
@pytest.mark.parametrize("job", ["cancel", "retry"])
def test_another_site_can_neither_cancel_nor_retry(
    app: Flask, client: FlaskClient, start: Callable[..., LongTask], headers: dict[str, str], job: str
) -> None:
    task = start()
    assert client.post(f"/_longtask/tasks/{task.id}/{job}", headers=headers).status_code == 403
    assert load(app, task.id).status is Status.READY


def test_a_retry_that_the_queue_refuses_can_be_repeated(
    client: FlaskClient, stock: Stock, queue: InMemoryQueue
) -> None:
    task_id = stock(status=Status.FAILED, failures=3)
    queue.errors.append(EnqueueRefusedError("no such queue"))
    answer = client.post(f"/_longtask/tasks/{task_id}/retry", headers=SAME_ORIGIN)
    assert answer.status_code == 503
    assert f'action="/_longtask/tasks/{task_id}/retry"' in answer.text
    assert re.search(r"Reference for support: <code>[0-9a-f]{8}</code>", answer.text)


def test_the_buttons_carry_the_token_of_the_applications_csrf_protection(
    app: Flask, client: FlaskClient, start: Callable[..., LongTask]
) -> None:
    CSRFProtect(app)
    task = start()
    page = client.get(f"/_longtask/tasks/{task.id}").text
    token = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert token is not None
    address = f"/_longtask/tasks/{task.id}/cancel"
    assert client.post(address, headers=SAME_ORIGIN).status_code == 400
    assert client.post(address, headers=SAME_ORIGIN, data={"csrf_token": token[1]}).status_code == 303


# Statistics.


def test_statistics_show_every_handler(client: FlaskClient, stock: Stock) -> None:
    stock.many(99, endpoint="report", status=Status.FINISHED, run_seconds=90.0)
    stock(endpoint="report", status=Status.FAILED)
    page = client.get("/_longtask/statistics").text
    rows = [text_of(row) for row in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)]
    assert rows == [
        "Endpoint Tasks Successful Failed Cancelled Median 95 % within",
        "report 100 99% 1 0 2 minutes 2 minutes",
        "secretive 0 – 0 0 – –",
    ]


def test_an_application_without_handlers_has_no_statistics(make_app: Callable[..., Flask]) -> None:
    answer = make_app(LONGTASK_ADMIN=lambda: True).test_client().get("/_longtask/statistics")
    assert "This application has no long-running tasks." in answer.text


# A Datastore that does not answer.


@pytest.fixture
def faults(ndb_client: ndb.Client, client: FlaskClient) -> Faults:
    return put_between(ndb_client)


@pytest.mark.parametrize("address", ["/_longtask/tasks", "/_longtask/statistics"])
def test_the_page_says_that_datastore_does_not_answer(client: FlaskClient, faults: Faults, address: str) -> None:
    faults.lose_request("RunQuery", grpc.StatusCode.PERMISSION_DENIED, times=20)
    answer = client.get(address)
    assert answer.status_code == 503
    assert "The database is not responding." in answer.text


@pytest.mark.parametrize("address", ["/_longtask/tasks", "/_longtask/statistics"])
def test_a_missing_index_is_named(client: FlaskClient, faults: Faults, address: str) -> None:
    faults.lose_request("RunQuery", grpc.StatusCode.FAILED_PRECONDITION, times=20)
    answer = client.get(address)
    assert answer.status_code == 503
    assert "gcloud app deploy index.yaml" in answer.text
