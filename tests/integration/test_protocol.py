"""The requests of docs/requests.md, and the hooks that they call."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from io import BytesIO
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask, Response, abort, request
from flask.testing import FlaskClient
from jinja2 import DictLoader
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import TestResponse

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager, Status, StatusPage, TaskInfo
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue, ManualClock
from tests.support import JSON, Work, id_of, job, polled, started

CROSS_SITE = {"Sec-Fetch-Site": "cross-site"}


class Report(LongRunningTaskHandler):
    title = "Making the report"
    max_attempts = 2
    fails: ClassVar[bool] = False

    def execute_task(self, parameters: dict[str, Any]) -> str:
        if self.fails:
            raise ValueError
        return f"the report for {parameters.get('month')}"


class Item(LongRunningTaskHandler):
    """A task with an argument in its URL. The result contains the parameters from `prepare_task`."""

    bookmark_parameters = ("colour", "size")

    def execute_task(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return parameters


class Personal(LongRunningTaskHandler):
    """A task that belongs to the user in a header."""

    def get_user_id(self) -> str | None:
        return request.headers.get("X-User")

    def execute_task(self, parameters: dict[str, Any]) -> str:
        return "for your eyes only"


class Value(LongRunningTaskHandler):
    """A task whose result the test chooses, with the default display."""

    value: ClassVar[Any] = None

    def execute_task(self, parameters: dict[str, Any]) -> Any:
        return self.value


@pytest.fixture(autouse=True)
def _report_works() -> None:
    Report.fails = False


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    app = make_app(Report, Personal, Value)
    app.add_url_rule("/item/<int:number>", view_func=Item.as_view("item"))
    return app


class _Form(HTMLParser):
    """The first form of a page, with the fields that a browser would send."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.method = self.action = ""
        self.fields: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "form" and not self.method:
            self.method, self.action = attributes["method"].upper(), attributes["action"]
        elif tag == "input":
            self.fields.append((attributes["name"], attributes["value"]))

    def submit(self, client: FlaskClient) -> TestResponse:
        fields: dict[str, list[str]] = {}
        for name, value in self.fields:
            fields.setdefault(name, []).append(value)
        same_origin = {"Sec-Fetch-Site": "same-origin"}
        if self.method == "GET":
            return client.get(self.action.partition("?")[0], query_string=fields, headers=same_origin)
        return client.post(self.action, data=fields, headers=same_origin)


def query_of(answer: TestResponse) -> dict[str, list[str]]:
    return parse_qs(urlsplit(answer.headers["Location"]).query, keep_blank_values=True)


def parameters_of(client: FlaskClient, queue: InMemoryQueue, answer: TestResponse) -> Any:
    """Run the task, and return its parameters, which are its result."""
    queue.deliver_all(client)
    return client.get(job(answer.headers["Location"], "showresult")).json


def failed(client: FlaskClient, queue: InMemoryQueue) -> str:
    Report.fails = True
    url = started(client, "/report")
    queue.deliver_all(client)
    Report.fails = False
    return url


# Starting.


def test_a_posted_form_starts_a_task_too(client: FlaskClient, queue: InMemoryQueue) -> None:
    answer = client.post("/item/7", data={"colour": "red"})
    assert answer.status_code == 307
    assert parameters_of(client, queue, answer) == {"colour": "red", "number": 7}


def test_the_redirect_leads_to_the_same_path_and_never_names_a_host(client: FlaskClient) -> None:
    location = urlsplit(client.get("/item/7").headers["Location"])
    assert (location.scheme, location.netloc, location.path) == ("", "", "/item/7")


def test_the_redirect_of_a_mounted_application_leads_below_its_mount_point(app: Flask, queue: InMemoryQueue) -> None:
    app.wsgi_app = DispatcherMiddleware(NotFound(), {"/shop": app.wsgi_app})
    client = app.test_client()
    url = started(client, "/shop/report?month=3")
    assert urlsplit(url).path == "/shop/report"
    queue.deliver_all(client)
    assert "the report for 3" in client.get(job(url, "showresult")).text


def test_query_parameters_stay_in_the_bookmark_with_all_their_repetitions(client: FlaskClient) -> None:
    query = query_of(client.get("/report?b=2&a=1&b=3&empty=&ä=ö+%26"))
    del query["_longtaskjob"], query["_longtaskid"]
    assert query == {"a": ["1"], "b": ["2", "3"], "empty": [""], "ä": ["ö &"]}


@pytest.mark.parametrize(("length", "kept"), [(511, True), (512, False)])
def test_a_value_of_512_characters_does_not_go_into_the_bookmark(client: FlaskClient, length: int, kept: bool) -> None:
    assert ("long" in query_of(client.get("/report", query_string={"long": "x" * length}))) is kept


def test_a_bookmark_carries_at_most_1500_characters_of_parameters(client: FlaskClient) -> None:
    query = query_of(client.get("/report", query_string={f"p{n}": "x" * 500 for n in range(4)} | {"short": "y"}))
    assert "p0" in query
    assert "p3" not in query
    assert "short" in query


def test_parameters_that_are_too_long_for_the_bookmark_reach_the_work(
    client: FlaskClient, queue: InMemoryQueue
) -> None:
    answer = client.get("/item/7", query_string={"long": "x" * 3000})
    assert parameters_of(client, queue, answer)["long"] == "x" * 3000


def test_a_form_field_is_bookmarked_only_if_the_class_lists_it(client: FlaskClient) -> None:
    query = query_of(client.post("/item/7", data={"colour": "red", "password": "secret"}))
    assert query["colour"] == ["red"]
    assert "password" not in query


def test_a_query_parameter_that_the_form_hides_is_not_bookmarked(client: FlaskClient) -> None:
    query = query_of(client.post("/item/7?pin=1", data={"pin": "2"}))
    assert "pin" not in query


@pytest.mark.parametrize("name", ["_private", "csrf_token"])
def test_names_that_are_no_parameters_are_not_bookmarked(client: FlaskClient, name: str) -> None:
    assert name not in query_of(client.get("/report", query_string={name: "x"}))


def test_a_start_with_an_upload_is_redirected_with_303_so_that_the_file_is_not_sent_twice(client: FlaskClient) -> None:
    answer = client.post("/item/7", data={"file": (BytesIO(b"a,b"), "a.csv")})
    assert answer.status_code == 303
    assert query_of(answer)["_longtaskjob"] == ["query"]


def test_a_program_is_answered_202_with_location_retry_after_and_the_status_document(client: FlaskClient) -> None:
    answer = client.post("/report?month=3", headers=JSON)
    assert answer.status_code == 202
    assert answer.mimetype == "application/json"
    assert int(answer.headers["Retry-After"]) >= 1
    assert query_of(answer)["month"] == ["3"]
    assert query_of(answer)["_longtaskid"] == [answer.json["id"]]


def test_a_client_that_takes_anything_is_treated_as_a_browser(client: FlaskClient) -> None:
    assert client.get("/report", headers={"Accept": "*/*"}).status_code == 307


def test_a_browser_that_takes_json_as_well_gets_html(client: FlaskClient) -> None:
    answer = client.get("/report", headers={"Accept": "text/html,application/json;q=0.9,*/*;q=0.8"})
    assert answer.status_code == 307


def test_job_and_id_are_read_from_the_query_string_alone(
    client: FlaskClient, stored: Callable[[], list[LongTask]]
) -> None:
    url = started(client, "/report")
    body = {"_longtaskjob": "cancel", "_longtaskid": query_of(client.get("/report"))["_longtaskid"][0]}
    assert client.post("/report", data=body).status_code == 307
    assert {task.status for task in stored()} == {Status.READY}
    assert len(stored()) == 3
    assert client.get(url).status_code == 200


def test_head_answers_200_with_nothing_and_never_starts(
    client: FlaskClient, queue: InMemoryQueue, stored: Callable[[], list[LongTask]]
) -> None:
    answer = client.head("/report?month=3")
    assert answer.status_code == 200
    assert answer.data == b""
    assert "Location" not in answer.headers
    assert not stored()
    assert not queue.tasks


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Purpose": "prefetch"},
        {"Sec-Purpose": "prefetch;prerender"},
        {"Sec-Purpose": "prefetch;anonymous-client-ip"},
        {"Purpose": "prefetch"},
        {"Purpose": "prerender"},
    ],
)
def test_a_prefetch_is_answered_503_and_never_starts(
    client: FlaskClient, stored: Callable[[], list[LongTask]], headers: dict[str, str]
) -> None:
    assert client.get("/report", headers=headers).status_code == 503
    assert not stored()


# From another site.


def test_a_foreign_page_starts_nothing_but_is_shown_a_start_button(
    client: FlaskClient, stored: Callable[[], list[LongTask]]
) -> None:
    answer = client.get("/report?month=3", headers=CROSS_SITE)
    assert answer.status_code == 200
    assert answer.mimetype == "text/html"
    assert "<button" in answer.text
    assert not stored()


def test_the_start_button_of_a_get_starts_with_the_same_parameters(client: FlaskClient, queue: InMemoryQueue) -> None:
    form = _Form(client.get("/item/7?colour=red&b=%22%3E&b=3", headers=CROSS_SITE).text)
    assert form.method == "GET"
    answer = form.submit(client)
    assert answer.status_code == 307
    assert parameters_of(client, queue, answer) == {"colour": "red", "b": ['">', "3"], "number": 7}


def test_the_start_button_of_a_post_starts_with_the_same_parameters(client: FlaskClient, queue: InMemoryQueue) -> None:
    page = client.post("/item/7?q=%22%3E", data={"colour": "red", "b": ["<2>", "3"]}, headers=CROSS_SITE).text
    form = _Form(page)
    assert form.method == "POST"
    assert parameters_of(client, queue, form.submit(client)) == {
        "q": '">',
        "colour": "red",
        "b": ["<2>", "3"],
        "number": 7,
    }


def test_a_foreign_post_starts_nothing(client: FlaskClient, stored: Callable[[], list[LongTask]]) -> None:
    assert client.post("/report", data={"month": "3"}, headers=CROSS_SITE).status_code == 200
    assert not stored()


def test_a_foreign_program_starts_nothing(client: FlaskClient, stored: Callable[[], list[LongTask]]) -> None:
    client.post("/report", headers=CROSS_SITE | JSON)
    assert not stored()


def test_the_start_button_carries_our_csrf_token_and_not_the_foreign_one(app: Flask) -> None:
    app.jinja_env.globals["csrf_token"] = lambda: "our token"
    page = app.test_client().post("/report", data={"csrf_token": "theirs", "a": "1"}, headers=CROSS_SITE).text
    assert sorted(_Form(page).fields) == [("a", "1"), ("csrf_token", "our token")]


def test_the_csrf_field_has_the_name_that_the_application_gives_it(app: Flask) -> None:
    app.jinja_env.globals["csrf_token"] = lambda: "our token"
    app.config["WTF_CSRF_FIELD_NAME"] = "proof"
    page = app.test_client().post("/report", data={"proof": "theirs", "a": "1"}, headers=CROSS_SITE).text
    assert sorted(_Form(page).fields) == [("a", "1"), ("proof", "our token")]


def test_the_start_button_of_a_get_keeps_the_csrf_token_out_of_the_url(app: Flask) -> None:
    app.jinja_env.globals["csrf_token"] = lambda: "our token"
    assert _Form(app.test_client().get("/report?a=1", headers=CROSS_SITE).text).fields == [("a", "1")]


def test_a_file_that_a_foreign_page_sends_is_refused(client: FlaskClient, stored: Callable[[], list[LongTask]]) -> None:
    answer = client.post("/item/7", data={"file": (BytesIO(b"a,b"), "a.csv")}, headers=CROSS_SITE)
    assert answer.status_code == 403
    assert not stored()


def test_a_page_of_our_own_site_starts_at_once(client: FlaskClient) -> None:
    assert client.get("/report", headers={"Sec-Fetch-Site": "same-site"}).status_code == 307


def test_a_bookmark_works_from_a_foreign_page_for_it_changes_nothing(client: FlaskClient) -> None:
    answer = client.get(started(client, "/report"), headers=CROSS_SITE)
    assert answer.status_code == 200
    assert "Making the report" in answer.text


# Following a task.


def test_a_re_sent_post_is_redirected_to_the_same_url(
    client: FlaskClient, stored: Callable[[], list[LongTask]]
) -> None:
    url = client.post("/item/7?q=1", data={"colour": "red"}).headers["Location"]
    answer = client.post(url, data={"colour": "red"})
    assert answer.status_code == 303
    assert answer.headers["Location"] == url
    assert len(stored()) == 1


def test_a_program_that_posts_to_query_gets_the_status_document(client: FlaskClient) -> None:
    answer = client.post(started(client, "/report"), headers=JSON)
    assert answer.status_code == 200
    assert answer.json["status"] == "ready"


def test_an_id_without_a_job_is_a_query(client: FlaskClient) -> None:
    url = started(client, "/report")
    assert client.get(url.replace("_longtaskjob=query&", "")).status_code == 200


def test_a_task_that_is_done_forwards_to_its_result_with_the_bookmarks_parameters(
    client: FlaskClient, queue: InMemoryQueue
) -> None:
    url = started(client, "/report?month=3")
    queue.deliver_all(client)
    answer = client.get(url)
    assert answer.status_code == 303
    assert answer.headers["Location"] == job(url, "showresult")


def test_a_program_is_not_forwarded(client: FlaskClient, queue: InMemoryQueue) -> None:
    url = started(client, "/report")
    queue.deliver_all(client)
    answer = client.get(url, headers=JSON)
    assert answer.status_code == 200
    assert answer.json["links"]["result"] == job(answer.json["links"]["self"], "showresult")


def test_a_finished_task_links_to_its_result_instead_of_forwarding(client: FlaskClient, queue: InMemoryQueue) -> None:
    url = started(client, "/report")
    queue.deliver_all(client)
    client.get(job(url, "showresult"))
    page = client.get(url)
    assert page.status_code == 200
    assert job(url, "showresult").replace("&", "&amp;") in page.text


def test_the_status_document_says_all_that_is_known_and_nothing_that_is_not(client: FlaskClient) -> None:
    answer = client.get(started(client, "/report"), headers=JSON)
    task_id = answer.json["id"]
    assert answer.json == {
        "id": task_id,
        "status": "ready",
        "done": False,
        "title": "Making the report",
        "progress": {"message": "Starting", "step": None, "total_steps": None, "percent": None, "eta_seconds": None},
        "attempt": 1,
        "elapsed_seconds": 0.0,
        "created_at": "2026-01-01T00:00:00+00:00",
        "poll_after_seconds": 1,
        "error": None,
        "links": {
            "self": f"/report?_longtaskjob=query&_longtaskid={task_id}",
            "result": None,
            "cancel": f"/report?_longtaskjob=cancel&_longtaskid={task_id}",
            "retry": None,
        },
    }


def test_the_status_document_has_at_most_650_bytes(client: FlaskClient, queue: InMemoryQueue) -> None:
    url = failed(client, queue)
    assert len(client.get(url, headers=JSON).data) <= 650


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_what_has_ended_without_a_result_is_done_too_and_need_not_be_polled(
    client: FlaskClient, queue: InMemoryQueue, status: str
) -> None:
    url = failed(client, queue) if status == "failed" else started(client, "/report")
    if status == "cancelled":
        client.post(job(url, "cancel"))
    document = polled(client, url)
    assert (document["status"], document["done"], document["poll_after_seconds"]) == (status, True, None)
    assert document["links"]["retry"] == job(document["links"]["self"], "retry")
    assert document["links"]["cancel"] is None
    assert document["links"]["result"] is None


def test_the_page_of_a_failed_task_offers_another_try_and_a_reference(
    client: FlaskClient, queue: InMemoryQueue
) -> None:
    url = failed(client, queue)
    page = client.get(url)
    document = polled(client, url)
    assert document["error"].rpartition(" ")[2] in page.text
    assert urlsplit(_Form(page.text).action).query == urlsplit(job(url, "retry")).query


def test_the_pace_of_the_polls_slows_down(client: FlaskClient, clock: ManualClock) -> None:
    url = started(client, "/report")
    early = polled(client, url)["poll_after_seconds"]
    clock.advance(timedelta(seconds=50))
    assert polled(client, url)["poll_after_seconds"] > early


def test_the_visitor_sees_how_far_the_work_is_while_it_runs(
    make_app: Callable[..., Flask], queue: InMemoryQueue
) -> None:
    seen: list[Any] = []

    class Watched(LongRunningTaskHandler):
        total_steps = 8

        def execute_task(self, parameters: dict[str, Any]) -> None:
            self.log_progress("Reading", 2)
            assert self._reporter is not None
            self._reporter.beat()  # as its thread does twice a second
            assert isinstance(self.task, LongTask)
            seen.append(polled(app.test_client(), self.task.url))

    app = make_app(Watched)
    client = app.test_client()
    started(client, "/watched")
    assert queue.deliver(client).status_code == 200
    assert seen[0]["status"] == "started"
    assert seen[0]["progress"]["message"] == "Reading"
    assert seen[0]["progress"]["percent"] == 25


# Collecting.


def test_the_result_before_the_end_leads_a_browser_back_to_the_page(client: FlaskClient) -> None:
    url = started(client, "/report?month=3")
    answer = client.get(job(url, "showresult"))
    assert answer.status_code == 303
    assert answer.headers["Location"] == url


def test_the_result_before_the_end_is_a_conflict_for_a_program(client: FlaskClient) -> None:
    answer = client.get(job(started(client, "/report"), "showresult"), headers=JSON)
    assert answer.status_code == 409
    assert answer.mimetype == "application/problem+json"
    assert answer.json["status"] == 409
    assert answer.json["title"]


def test_a_failed_task_has_no_result_to_show(client: FlaskClient, queue: InMemoryQueue) -> None:
    url = failed(client, queue)
    assert client.get(job(url, "showresult"), headers=JSON).status_code == 409
    assert client.get(job(url, "showresult")).headers["Location"] == url


def test_the_first_display_finishes_the_task(
    client: FlaskClient, queue: InMemoryQueue, stored: Callable[[], list[LongTask]]
) -> None:
    url = started(client, "/report")
    queue.deliver_all(client)
    assert polled(client, url)["status"] == "done"
    client.get(job(url, "showresult"))
    assert polled(client, url)["status"] == "finished"
    assert stored()[0].status is Status.FINISHED


def test_head_of_the_result_does_not_finish_the_task(client: FlaskClient, queue: InMemoryQueue) -> None:
    url = started(client, "/report")
    queue.deliver_all(client)
    answer = client.head(job(url, "showresult"))
    assert answer.status_code == 200
    assert answer.data == b""
    assert polled(client, url)["status"] == "done"


def test_a_result_can_be_shown_again_and_again(client: FlaskClient, queue: InMemoryQueue) -> None:
    url = started(client, "/report?month=3")
    queue.deliver_all(client)
    assert all("the report for 3" in client.get(job(url, "showresult")).text for _ in range(3))


# Cancel and retry.


def test_cancel_ends_a_task_and_leads_back_to_its_page(client: FlaskClient) -> None:
    url = started(client, "/report?month=3")
    answer = client.post(job(url, "cancel"))
    assert answer.status_code == 303
    assert answer.headers["Location"] == url
    assert polled(client, url)["status"] == "cancelled"


def test_cancel_answers_a_program_with_the_status_document(client: FlaskClient) -> None:
    answer = client.post(job(started(client, "/report"), "cancel"), headers=JSON)
    assert answer.status_code == 200
    assert answer.json["status"] == "cancelled"


def test_a_cancelled_task_is_not_executed_any_more(client: FlaskClient, queue: InMemoryQueue) -> None:
    url = started(client, "/report")
    client.post(job(url, "cancel"))
    assert queue.deliver(client).status_code == 200
    assert polled(client, url)["status"] == "cancelled"


def test_cancelling_what_is_done_changes_nothing(client: FlaskClient, queue: InMemoryQueue) -> None:
    url = started(client, "/report")
    queue.deliver_all(client)
    answer = client.post(job(url, "cancel"), headers=JSON)
    assert answer.json["status"] == "done"


def test_delete_on_the_address_of_the_page_cancels(client: FlaskClient) -> None:
    url = started(client, "/report")
    answer = client.delete(url, headers=JSON)
    assert (answer.status_code, answer.json["status"]) == (200, "cancelled")
    assert client.delete(url, headers=JSON).json["status"] == "cancelled"
    assert client.delete(url).headers["Location"] == url


def test_delete_without_a_job_means_the_task_too(client: FlaskClient) -> None:
    url = started(client, "/report")
    assert client.delete(url.replace("_longtaskjob=query&", ""), headers=JSON).json["status"] == "cancelled"


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}])
def test_delete_is_refused_unless_it_comes_from_our_own_pages(client: FlaskClient, headers: dict[str, str]) -> None:
    url = started(client, "/report")
    assert client.delete(url, headers=headers).status_code == 403
    assert polled(client, url)["status"] == "ready"


@pytest.mark.parametrize(("name", "allow"), [("showresult", "GET, HEAD, POST"), ("cancel", "POST"), ("retry", "POST")])
def test_delete_on_any_other_address_of_a_task_is_refused(client: FlaskClient, name: str, allow: str) -> None:
    url = started(client, "/report")
    answer = client.delete(job(url, name), headers=JSON)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allow)
    assert polled(client, url)["status"] == "ready"


def test_delete_starts_nothing(client: FlaskClient, queue: InMemoryQueue) -> None:
    answer = client.delete("/report", headers=JSON)
    assert (answer.status_code, set(answer.headers["Allow"].split(", "))) == (405, {"GET", "POST"})
    assert not queue.tasks


def test_a_rule_with_methods_of_its_own_does_not_accept_delete(make_app: Callable[..., Flask]) -> None:
    app = make_app()
    app.add_url_rule("/own", view_func=Report.as_view("own"), methods=["GET", "POST"])
    client = app.test_client()
    url = started(client, "/own")
    assert client.delete(url).status_code == 405
    assert polled(client, url)["status"] == "ready"


def test_an_answer_to_a_program_says_when_to_ask_again(client: FlaskClient, queue: InMemoryQueue) -> None:
    url = started(client, "/report")
    answer = client.get(url, headers=JSON)
    assert answer.headers["Retry-After"] == str(answer.json["poll_after_seconds"]) == "1"
    queue.deliver_all(client)
    assert "Retry-After" not in client.get(url, headers=JSON).headers


def test_retry_starts_a_failed_task_again_under_the_same_url(client: FlaskClient, queue: InMemoryQueue) -> None:
    url = failed(client, queue)
    answer = client.post(job(url, "retry"))
    assert answer.status_code == 303
    assert answer.headers["Location"] == url
    queue.deliver_all(client)
    assert polled(client, url)["status"] == "done"


def test_retry_starts_a_cancelled_task_again(client: FlaskClient, queue: InMemoryQueue) -> None:
    url = started(client, "/report")
    client.post(job(url, "cancel"))
    answer = client.post(job(url, "retry"), headers=JSON)
    assert (answer.status_code, answer.json["status"]) == (200, "ready")
    queue.deliver_all(client)
    assert polled(client, url)["status"] == "done"


def test_retrying_what_is_not_over_changes_nothing(client: FlaskClient, queue: InMemoryQueue) -> None:
    url = started(client, "/report")
    assert client.post(job(url, "retry"), headers=JSON).json["status"] == "ready"
    assert len(queue.tasks) == 1


@pytest.mark.parametrize("method", ["get", "head"])
@pytest.mark.parametrize("name", ["cancel", "retry"])
def test_cancel_and_retry_take_post_alone(client: FlaskClient, name: str, method: str) -> None:
    url = started(client, "/report")
    answer = getattr(client, method)(job(url, name))
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "POST"
    assert polled(client, url)["status"] == "ready"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "http://localhost:8080"},
        {"Origin": "null"},
        {"Origin": ""},
    ],
)
def test_cancel_is_refused_unless_it_comes_from_our_own_pages(client: FlaskClient, headers: dict[str, str]) -> None:
    url = started(client, "/report")
    assert client.post(job(url, "cancel"), headers=headers).status_code == 403
    assert polled(client, url)["status"] == "ready"


def test_retry_is_refused_unless_it_comes_from_our_own_pages(client: FlaskClient, queue: InMemoryQueue) -> None:
    url = failed(client, queue)
    assert client.post(job(url, "retry"), headers=CROSS_SITE).status_code == 403
    assert polled(client, url)["status"] == "failed"


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://localhost"}, {"Origin": "https://localhost"}, {}]
)
def test_cancel_works_from_our_own_pages_and_for_programs(client: FlaskClient, headers: dict[str, str]) -> None:
    url = started(client, "/report")
    assert client.post(job(url, "cancel"), headers=headers).status_code == 303
    assert polled(client, url)["status"] == "cancelled"


# Headers of every response.


def _answers(client: FlaskClient, queue: InMemoryQueue) -> dict[str, TestResponse]:
    url = started(client, "/report")
    answers = {
        "start": client.get("/report"),
        "start, JSON": client.get("/report", headers=JSON),
        "start, HEAD": client.head("/report"),
        "start, prefetch": client.get("/report", headers={"Sec-Purpose": "prefetch"}),
        "start button": client.get("/report", headers=CROSS_SITE),
        "query": client.get(url),
        "query, JSON": client.get(url, headers=JSON),
        "query, POST": client.post(url),
        "early": client.get(job(url, "showresult")),
        "early, JSON": client.get(job(url, "showresult"), headers=JSON),
        "cancel by GET": client.get(job(url, "cancel")),
        "cancel, foreign": client.post(job(url, "cancel"), headers=CROSS_SITE),
        "cancel": client.post(job(url, "cancel")),
        "retry": client.post(job(url, "retry")),
        "unknown": client.get("/report?_longtaskjob=query&_longtaskid=" + "x" * 22),
        "unknown, JSON": client.get("/report?_longtaskjob=query&_longtaskid=" + "x" * 22, headers=JSON),
        "unknown job": client.get(job(url, "dance")),
        "execute": client.get(job(url, "execute")),
        "delivery": queue.deliver(client),
    }
    queue.deliver_all(client)
    return answers | {
        "forward": client.get(url),
        "result": client.get(job(url, "showresult")),
        "finished": client.get(url),
    }


def test_every_answer_about_a_task_is_private_and_not_kept(client: FlaskClient, queue: InMemoryQueue) -> None:
    for name, answer in _answers(client, queue).items():
        assert answer.headers["Cache-Control"] == "no-store", name
        assert "Accept" in answer.headers["Vary"], name
        assert answer.headers["Referrer-Policy"] == "same-origin", name
        assert answer.headers["X-Content-Type-Options"] == "nosniff", name
        assert answer.headers["X-Robots-Tag"] == "noindex", name


@pytest.mark.parametrize("hook", ["prepare_task", "may_access", "display_result"])
def test_an_answer_by_which_a_hook_aborts_is_private_and_not_kept_either(
    make_app: Callable[..., Flask], queue: InMemoryQueue, hook: str
) -> None:
    class Aborting(LongRunningTaskHandler):
        def execute_task(self, parameters: dict[str, Any]) -> str:
            return "result"

    def abort_it(self: LongRunningTaskHandler, *args: Any, **kwargs: Any) -> Any:
        abort(404)

    client = make_app(Aborting).test_client()
    url = started(client, "/aborting")
    queue.deliver_all(client)
    setattr(Aborting, hook, abort_it)
    answer = client.get("/aborting" if hook == "prepare_task" else job(url, "showresult"))
    assert answer.status_code == 404
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "same-origin"


def test_an_answer_by_which_a_hook_fails_is_private_and_not_kept_either(
    make_app: Callable[..., Flask], queue: InMemoryQueue
) -> None:
    class Failing(Work):
        def display_result(self, parameters: dict[str, Any], result: str) -> str:
            raise ValueError

    client = make_app(Failing).test_client()
    url = started(client, "/failing")
    queue.deliver_all(client)
    answer = client.get(job(url, "showresult"))
    assert answer.status_code == 500
    assert answer.headers["Cache-Control"] == "no-store"


def test_what_a_result_adds_to_vary_is_kept(make_app: Callable[..., Flask], queue: InMemoryQueue) -> None:
    class Varying(Work):
        def display_result(self, parameters: dict[str, Any], result: str) -> Response:
            return Response(result, headers={"Vary": "Cookie"})

    client = make_app(Varying).test_client()
    url = started(client, "/varying")
    queue.deliver_all(client)
    assert set(client.get(job(url, "showresult")).vary) == {"Cookie", "Accept"}


# prepare_task.


@pytest.mark.parametrize(
    ("url", "form", "expected"),
    [
        ("/item/7?_secret=1&a=1", {"_other": "2"}, {"a": "1"}),
        ("/item/7?csrf_token=1", {"csrf_token": "2", "a": "1"}, {"a": "1"}),
        ("/item/7?a=1&b=2", {"a": "3"}, {"a": "3", "b": "2"}),
        ("/item/7?a=1&a=2", {"a": "3"}, {"a": "3"}),
        ("/item/7?a=1", {"b": ["2", "3"]}, {"a": "1", "b": ["2", "3"]}),
        ("/item/7?a=1&a=2", {"b": "3"}, {"a": ["1", "2"], "b": "3"}),
        ("/item/7?number=1", {"number": "2"}, {}),
        ("/item/7?a=", {}, {"a": ""}),
    ],
    ids=[
        "names with an underscore are ours",
        "nor is the CSRF token a parameter",
        "the body hides the query",
        "the body hides all of a name in the query",
        "repetition in the body becomes a list",
        "repetition in the query becomes a list",
        "the URL's own arguments come last",
        "an empty field is an empty string",
    ],
)
def test_the_request_becomes_the_parameters(
    client: FlaskClient, queue: InMemoryQueue, url: str, form: dict[str, Any], expected: dict[str, Any]
) -> None:
    answer = client.post(url, data=form)
    assert parameters_of(client, queue, answer) == expected | {"number": 7}


def test_an_uploaded_file_arrives_as_its_bytes(make_app: Callable[..., Flask], queue: InMemoryQueue) -> None:
    seen: list[Any] = []

    class Upload(LongRunningTaskHandler):
        def execute_task(self, parameters: dict[str, Any]) -> None:
            seen.append(parameters)

    client = make_app(Upload).test_client()
    files = [(BytesIO(b"\x00\xff"), "a.bin"), (BytesIO(b""), "b.bin")]
    client.post("/upload?one=1", data={"one": (BytesIO(b"alone"), "c.bin"), "two": files, "note": "text"})
    queue.deliver_all(client)
    assert seen == [{"one": b"alone", "two": [b"\x00\xff", b""], "note": "text"}]


def test_the_csrf_token_is_no_parameter_under_any_name(app: Flask, queue: InMemoryQueue) -> None:
    app.config["WTF_CSRF_FIELD_NAME"] = "proof"
    client = app.test_client()
    answer = client.post("/item/7", data={"proof": "1", "csrf_token": "2"})
    assert parameters_of(client, queue, answer) == {"csrf_token": "2", "number": 7}


@pytest.mark.parametrize("mimetype", ["application/json", "application/json; charset=utf-8"])
def test_a_json_body_is_refused_rather_than_ignored(
    client: FlaskClient, stored: Callable[[], list[LongTask]], mimetype: str
) -> None:
    answer = client.post("/report", data='{"month": 3}', content_type=mimetype, headers=JSON)
    assert answer.status_code == 415
    assert "prepare_task" in answer.json["detail"]
    assert not stored()


def test_a_handler_may_take_a_json_body_itself(make_app: Callable[..., Flask], queue: InMemoryQueue) -> None:
    class Api(LongRunningTaskHandler):
        def prepare_task(self, **kwargs: Any) -> Any:
            return request.get_json()

        def execute_task(self, parameters: Any) -> Any:
            return parameters

    client = make_app(Api).test_client()
    answer = client.post("/api", json=[1, {"a": None}])
    assert parameters_of(client, queue, answer) == [1, {"a": None}]


# Hooks that serve a visitor.


def test_render_status_makes_the_page_as_in_the_original(make_app: Callable[..., Flask]) -> None:
    class Original(Work):
        title = "Old and good"

        def render_status(self, display: StatusPage, task: TaskInfo) -> str:
            assert isinstance(task, TaskInfo)
            refresh, message = display["refresh"], display["statusinfo"]["message"]
            return f"{display['info']}|{refresh}|{message}|{display.title}|{task.id}|{self.task == task}"

    client = make_app(Original).test_client()
    url = started(client, "/original")
    info, refresh, message, title, task_id, same = client.get(url).text.split("|")
    assert "<progress" in info
    assert "Starting" in info
    assert int(refresh) > 0
    assert (message, title, same) == ("Starting", "Old and good", "True")
    assert parse_qs(urlsplit(url).query)["_longtaskid"] == [task_id]


def test_a_name_that_the_status_page_does_not_have_is_a_key_error(make_app: Callable[..., Flask]) -> None:
    class Misspelt(Work):
        def render_status(self, display: StatusPage, task: TaskInfo) -> str:
            with pytest.raises(KeyError):
                display["inof"]
            with pytest.raises(KeyError):
                display["__class__"]
            return "checked"

    client = make_app(Misspelt).test_client()
    assert client.get(started(client, "/misspelt")).text == "checked"


def test_a_status_template_of_the_applications_gets_the_page(make_app: Callable[..., Flask]) -> None:
    class Styled(Work):
        title = "Ours"
        status_template = "waiting.html"

    app = make_app(Styled)
    app.jinja_loader = DictLoader({"waiting.html": "{{ page.title }}: {{ page.message }} {{ page['status'].value }}"})
    client = app.test_client()
    assert client.get(started(client, "/styled")).text == "Ours: Starting ready"


def test_who_asked_is_kept_with_the_task(client: FlaskClient, stored: Callable[[], list[LongTask]]) -> None:
    started(client, "/personal", headers={"X-User": "anna"})
    assert stored()[0].created_by == "anna"


def test_a_user_id_that_is_no_text_is_not_mistaken_for_a_database_that_is_silent(
    make_app: Callable[..., Flask],
) -> None:
    class Numbered(Work):
        def get_user_id(self) -> Any:
            return 7

    assert make_app(Numbered).test_client().get("/numbered").status_code != 503


@pytest.mark.parametrize("headers", [{}, {"X-User": "bob"}])
@pytest.mark.parametrize("name", ["query", "showresult", "cancel", "retry"])
def test_a_task_with_an_owner_is_only_for_the_owner(
    client: FlaskClient, queue: InMemoryQueue, name: str, headers: dict[str, str]
) -> None:
    anna = {"X-User": "anna"}
    url = started(client, "/personal", headers=anna)
    if name == "retry":
        client.post(job(url, "cancel"), headers=anna)
    if name == "showresult":
        queue.deliver_all(client)
    before = client.get(url, headers=anna | JSON).json["status"]

    answer = client.post(job(url, name), headers=headers)
    assert answer.status_code == 403
    assert "for your eyes only" not in answer.text
    assert client.post(job(url, name), headers=headers | JSON).mimetype == "application/problem+json"
    assert client.get(url, headers=anna | JSON).json["status"] == before


@pytest.mark.parametrize("owner", ["bob", None])
def test_a_forged_snapshot_does_not_give_access_to_the_result(
    client: FlaskClient, queue: InMemoryQueue, progress: InMemoryProgressStore, owner: str | None
) -> None:
    url = started(client, "/personal", headers={"X-User": "anna"})
    queue.deliver_all(client)
    known = progress.read(id_of(url))
    assert known is not None
    progress.write(replace(known, info=replace(known.info, created_by=owner)))
    for method in (client.get, client.post, client.head):
        assert method(job(url, "showresult"), headers={"X-User": "bob"}).status_code == 403
    assert "for your eyes only" not in client.get(job(url, "showresult"), headers={"X-User": "bob"}).text


def test_the_owner_sees_their_task(client: FlaskClient, queue: InMemoryQueue) -> None:
    anna = {"X-User": "anna"}
    url = started(client, "/personal", headers=anna)
    queue.deliver_all(client)
    assert "for your eyes only" in client.get(job(url, "showresult"), headers=anna).text


def test_an_anonymous_task_is_for_everyone_with_its_url(client: FlaskClient) -> None:
    url = started(client, "/personal")
    assert client.get(url, headers={"X-User": "bob"}).status_code == 200


def test_may_access_decides_with_what_is_known_of_the_task(make_app: Callable[..., Flask]) -> None:
    class Guarded(Work):
        def may_access(self, task: TaskInfo) -> bool:
            assert isinstance(task, TaskInfo)
            assert self.task == task
            return request.headers.get("X-Key") == task.id[:4]

    client = make_app(Guarded).test_client()
    document = client.get("/guarded", headers=JSON).json
    url = document["links"]["self"]
    assert client.get(url).status_code == 403
    assert client.get(url, headers={"X-Key": document["id"][:4]}).status_code == 200


@pytest.mark.parametrize("kind", ["two", "three", "optional", "renamed", "variable", "inherited", "mixed in"])
def test_display_result_has_either_signature_of_the_original(
    make_app: Callable[..., Flask], queue: InMemoryQueue, kind: str
) -> None:
    class Base(LongRunningTaskHandler):
        def execute_task(self, parameters: dict[str, Any]) -> str:
            return "result"

    class Two(Base):
        def display_result(self, parameters: dict[str, Any], result: str) -> str:
            return f"{parameters['a']} {result}"

    class Three(Base):
        def display_result(self, parameters: dict[str, Any], result: str, task: LongTask) -> str:
            assert isinstance(task, LongTask)
            assert self.task is task
            return f"{parameters['a']} {result}"

    class Optional(Base):
        def display_result(self, parameters: dict[str, Any], result: str, task: LongTask | None = None) -> str:
            assert task is not None
            return f"{parameters['a']} {result}"

    class Renamed(Base):
        def display_result(self, given: dict[str, Any], made: str) -> str:
            return f"{given['a']} {made}"

    class Variable(Base):
        def display_result(self, *args: Any) -> str:
            assert len(args) == 3
            return f"{args[0]['a']} {args[1]}"

    class Inherited(Two):
        title = "As its parent"

    class Showing:
        def display_result(self, parameters: dict[str, Any], result: str) -> str:
            return f"{parameters['a']} {result}"

    class Mixed(Showing, Base):  # type: ignore[misc]  # an author's own, untyped, mixin
        pass

    handlers: dict[str, type[LongRunningTaskHandler]] = {
        "two": Two,
        "three": Three,
        "optional": Optional,
        "renamed": Renamed,
        "variable": Variable,
        "inherited": Inherited,
        "mixed in": Mixed,
    }
    app = make_app()
    app.add_url_rule("/show", view_func=handlers[kind].as_view("show"))
    client = app.test_client()
    url = started(client, "/show?a=1")
    queue.deliver_all(client)
    assert client.get(job(url, "showresult")).text == "1 result"


def shown(client: FlaskClient, queue: InMemoryQueue, value: Any) -> TestResponse:
    Value.value = value
    url = started(client, "/value")
    queue.deliver_all(client)
    return client.get(job(url, "showresult"))


def test_text_is_shown_as_html_in_which_nothing_can_run(client: FlaskClient, queue: InMemoryQueue) -> None:
    answer = shown(client, queue, "<script>alert(1)</script>ä")
    assert answer.mimetype == "text/html"
    assert answer.text == "<script>alert(1)</script>ä"
    assert answer.headers["Content-Security-Policy"] == "sandbox"


def test_bytes_are_a_download(client: FlaskClient, queue: InMemoryQueue) -> None:
    answer = shown(client, queue, b"\x00<script>")
    assert answer.data == b"\x00<script>"
    assert answer.mimetype == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment")


def _no_constant(name: str) -> Any:
    raise ValueError(name)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        ([1, 2.5, "ä"], [1, 2.5, "ä"]),
        ((1, (2,)), [1, [2]]),
        ({1}, [1]),
        (frozenset({"a"}), ["a"]),
        ({"a": {1}}, {"a": [1]}),
        ({1: "a"}, {"1": "a"}),
        ({1: "a", "b": 2}, {"1": "a", "b": 2}),
        ({None: 1, "b": 2, True: 3}, {"null": 1, "b": 2, "true": 3}),
        ({(1, 2): "a"}, {"[1, 2]": "a"}),
        ({date(2026, 1, 2): 1, "b": 2}, {"2026-01-02": 1, "b": 2}),
        ({b"k": b"\x00\x01"}, {"aw==": "AAE="}),
        (Decimal("1.10"), "1.10"),
        ({"d": [Decimal("0.1")]}, {"d": ["0.1"]}),
        (float("inf"), None),
    ],
    ids=repr,
)
def test_everything_else_is_shown_as_json_that_any_program_reads(
    client: FlaskClient, queue: InMemoryQueue, value: Any, expected: Any
) -> None:
    answer = shown(client, queue, value)
    assert answer.status_code == 200
    assert answer.mimetype == "application/json"
    document = json.loads(answer.text, parse_constant=_no_constant)
    if expected is not None:
        assert document == expected


@pytest.mark.parametrize(
    "value",
    [
        date(2026, 1, 2),
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001  # results may be naive
        time(3, 4, 5),
        timedelta(days=1, seconds=5),
        [{"when": date(2026, 1, 2)}],
        {"how_long": timedelta(seconds=5)},
        UTC,
    ],
    ids=repr,
)
def test_dates_and_times_are_shown_as_json_too(client: FlaskClient, queue: InMemoryQueue, value: Any) -> None:
    answer = shown(client, queue, value)
    assert answer.status_code == 200
    assert answer.mimetype == "application/json"


def test_hooks_know_the_task_by_the_names_that_design_promises(
    make_app: Callable[..., Flask], queue: InMemoryQueue
) -> None:
    seen: list[Any] = []

    def look(task: Any) -> None:
        seen.append(
            (task.id, task.endpoint, task.path, task.url, task.status, task.attempt, task.created_at, task.created_by)
        )

    class Curious(LongRunningTaskHandler):
        def get_user_id(self) -> str:
            assert self.task is None
            return "anna"

        def may_access(self, task: TaskInfo) -> bool:
            look(task)
            return True

        def execute_task(self, parameters: dict[str, Any]) -> str:
            look(self.task)
            return "result"

        def display_result(self, parameters: dict[str, Any], result: str) -> str:
            look(self.task)
            return result

    client = make_app(Curious).test_client()
    document = client.get("/curious", headers=JSON).json
    task_id, url = document["id"], document["links"]["self"]
    client.get(url)
    queue.deliver_all(client)
    client.get(job(url, "showresult"))
    created_at = datetime(2026, 1, 1, tzinfo=UTC)
    common = (task_id, "curious", "/curious", f"http://localhost{url}")
    statuses = [Status.READY, Status.STARTED, Status.DONE, Status.FINISHED]
    assert seen == [(*common, status, 1, created_at, "anna") for status in statuses]


def test_the_task_is_reachable_from_code_by_its_url(app: Flask, client: FlaskClient) -> None:
    with app.test_request_context():
        task = LongTaskManager.start("report", {"month": "3"})
    assert client.get(task.url).status_code == 200
