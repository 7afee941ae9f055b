"""The visitor's own list, ``/_longtask/mine``, and ``LONGTASK_USER``, which says who is asking."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from flask import Flask, Response, abort, request
from flask.testing import FlaskClient
from google.cloud import ndb
from werkzeug.test import TestResponse

from gaetk_longtask import LongRunningTaskHandler, LongTask, Status
from gaetk_longtask.info import Progress
from gaetk_longtask.models import INFO_PROPERTIES
from gaetk_longtask.testing import Faults, InMemoryQueue, ManualClock
from tests.integration.conftest import Stock
from tests.support import JSON, load, press, result_text, services_of, start, started

MINE = "/_longtask/mine"
ANNA = {"X-User": "anna"}
HTML = {"Accept": "text/html"}


def asking() -> str | None:
    """Return the user that the tests name in a header."""
    return request.headers.get("X-User")


class Report(LongRunningTaskHandler):
    title = "Making the report"

    def execute_task(self, parameters: Any) -> str:
        return "result"


class Secret(Report):
    """A handler that the tests make fail."""

    answer: Any = staticmethod(lambda task: True)

    def may_access(self, task: Any) -> bool:
        return type(self).answer(task)  # type: ignore[no-any-return]  # the test's


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app(Report, type("Secret", (Secret,), {}), LONGTASK_USER=asking)


@pytest.fixture
def secret(app: Flask) -> type[Secret]:
    """The class behind the endpoint ``secret``."""
    view: Any = app.view_functions["secret"]
    cls: type[Secret] = view.view_class
    return cls


def listed(client: FlaskClient, url: str = MINE, user: str = "anna") -> list[str]:
    """Return the ids on a user's list."""
    answer = client.get(url, headers=JSON | {"X-User": user})
    assert answer.status_code == 200, answer.text
    return [document["id"] for document in answer.json["tasks"]]


def shown(client: FlaskClient, url: str = MINE) -> TestResponse:
    answer = client.get(url, headers=HTML | ANNA)
    assert answer.status_code == 200
    return answer


# Who is asking.


def test_the_default_of_every_handler_asks_the_setting(app: Flask, client: FlaskClient) -> None:
    url = started(client, "/report", headers=ANNA)
    assert client.get(url, headers=ANNA).status_code == 200
    assert client.get(url, headers={"X-User": "ben"}).status_code == 403
    assert client.get(url).status_code == 403


def test_a_handler_may_still_say_it_itself(make_app: Callable[..., Flask]) -> None:
    own = type("Own", (Report,), {"get_user_id": lambda self: "the same for all"})
    client = make_app(own, LONGTASK_USER=asking).test_client()
    url = started(client, "/own", headers=ANNA)
    assert client.get(url).status_code == 200
    assert listed(client) == []
    assert listed(client, user="the same for all") != []


def test_without_the_setting_there_is_no_list(make_app: Callable[..., Flask]) -> None:
    assert make_app(Report).test_client().get(MINE).status_code == 404


@pytest.mark.parametrize("headers", [{}, {"X-User": ""}])
def test_without_a_user_the_list_is_unknown(client: FlaskClient, headers: dict[str, str]) -> None:
    answer = client.get(MINE, headers=headers)
    assert (answer.status_code, answer.data) == (404, client.get("/unknown").data)
    assert answer.headers["Cache-Control"] == "no-store"


async def coroutine() -> str:
    return "anna"


def raises() -> str:
    raise LookupError


def exits() -> str:
    raise SystemExit


@pytest.mark.parametrize(
    "user", [raises, exits, coroutine, lambda: 7, lambda: b"anna", lambda: "x" * 1501, lambda: "\udc00", lambda: True]
)
@pytest.mark.parametrize("headers", [HTML, JSON])
def test_a_user_that_is_no_string_sees_nothing(
    make_app: Callable[..., Flask], user: Callable[[], Any], headers: dict[str, str]
) -> None:
    app = make_app(Report, LONGTASK_USER=user)
    task = start(app, "report", created_by="anna")
    answer = app.test_client().get(MINE, headers=headers)
    assert answer.status_code == 500
    assert task.id not in answer.text
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_setting_that_refuses_the_request_answers_it(make_app: Callable[..., Flask]) -> None:
    client = make_app(Report, LONGTASK_USER=lambda: abort(401)).test_client()
    assert client.get(MINE).status_code == 401
    assert client.get("/report").status_code == 401


# What is on the list.


def test_it_has_the_users_tasks_the_youngest_first(app: Flask, client: FlaskClient, clock: ManualClock) -> None:
    ids = []
    for user in ("anna", "ben", None, "anna"):
        ids.append(start(app, "report", created_by=user).id)
        clock.advance(timedelta(seconds=1))
    assert listed(client) == [ids[3], ids[0]]
    assert listed(client, user="ben") == [ids[1]]
    assert listed(client, user="clara") == []


def test_programs_get_status_documents(app: Flask, client: FlaskClient) -> None:
    task = start(app, "report", created_by="anna")
    answer = client.get(MINE, headers=JSON | ANNA)
    own = client.get(f"/report?_longtaskjob=query&_longtaskid={task.id}", headers=JSON | ANNA)
    assert answer.json == {"tasks": [own.json], "older": None}


def test_the_page_has_title_state_progress_and_links(app: Flask, client: FlaskClient, queue: InMemoryQueue) -> None:
    ready = start(app, "report", created_by="anna")
    page = shown(client).text
    assert "<h1>Your tasks</h1>" in page
    assert "Making the report" in page
    assert "Waiting to start" in page
    assert f"_longtaskjob=cancel&amp;_longtaskid={ready.id}" in page
    queue.deliver_all(client)
    page = shown(client).text
    assert "Finished" in page
    assert f"_longtaskjob=showresult&amp;_longtaskid={ready.id}" in page
    assert "_longtaskjob=cancel" not in page


def test_the_progress_is_the_latest(
    app: Flask, client: FlaskClient, queue: InMemoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    views: list[Any] = []

    def look(self: Any, parameters: Any) -> str:
        self.log_progress("Reading line 3", 3, 4)
        snapshot = services_of(app).progress.read(self.task.id)
        services_of(app).progress.write(
            snapshot.beating(Progress(message="Reading line 3", step=3, total_steps=4), services_of(app).clock())
        )
        views.append(client.get(MINE, headers=JSON | ANNA).json["tasks"][0]["progress"])
        views.append(shown(client).text)
        return "result"

    view: Any = app.view_functions["report"]
    monkeypatch.setattr(view.view_class, "execute_task", look)
    start(app, "report", created_by="anna")
    queue.deliver_all(app.test_client())
    assert (views[0]["message"], views[0]["percent"]) == ("Reading line 3", 75)
    assert "Reading line 3" in views[1]
    assert "75" in views[1]


def test_buttons_of_the_list_cancel_and_retry(app: Flask, client: FlaskClient) -> None:
    task = start(app, "report", created_by="anna")
    for status in (Status.CANCELLED, Status.READY):
        [action] = re.findall(r'<form method="post" action="([^"]+)">', shown(client).text)
        answer = client.post(action.replace("&amp;", "&"), headers=ANNA | {"Sec-Fetch-Site": "same-origin"})
        assert answer.status_code == 303
        assert load(app, task).status is status


def test_a_task_with_a_title_of_its_own_is_shown_escaped(app: Flask, client: FlaskClient, stock: Stock) -> None:
    stock(created_by="anna", title="<b>March & April</b>")
    assert "<bdi>&lt;b&gt;March &amp; April&lt;/b&gt;</bdi>" in shown(client).text


def test_a_class_without_a_title_has_words_for_it(make_app: Callable[..., Flask], stock: Stock) -> None:
    untitled = type("Report", (LongRunningTaskHandler,), {"execute_task": lambda self, parameters: None})
    client = make_app(untitled, LONGTASK_USER=asking).test_client()
    stock(created_by="anna")
    assert "Untitled task" in shown(client).text


def test_a_link_says_if_it_lacks_parameters(app: Flask, client: FlaskClient, stock: Stock) -> None:
    stock(created_by="anna", partial=True)
    assert client.get(MINE, headers=JSON | ANNA).json["tasks"][0]["links"]["self"].endswith("&_longtaskpartial=1")


def test_what_is_read_is_all_that_a_task_needs(app: Flask, stock: Stock) -> None:
    task_id = stock(created_by="anna", title="March", failures=2)
    with services_of(app).ndb_context():
        [part] = LongTask.load_all([task_id], properties=INFO_PROPERTIES)
        whole = LongTask.load(task_id)
    assert part.info == whole.info
    assert {name for name in INFO_PROPERTIES if name not in {"attempt", "id"}} <= {
        prop._name for prop in LongTask._properties.values()
    }


def test_expired_tasks_and_those_of_unknown_handlers_are_left_out(
    client: FlaskClient, stock: Stock, clock: ManualClock
) -> None:
    stock(created_by="anna", endpoint="gone")
    kept = stock(created_by="anna", status=Status.FINISHED)
    assert listed(client) == [kept]
    clock.advance(timedelta(days=1))
    assert listed(client) == []
    assert "No tasks found." in shown(client).text


def abort_403(task: Any) -> bool:
    abort(403)


def fail(task: Any) -> bool:
    raise LookupError(task)


def leave(task: Any) -> bool:
    raise SystemExit


async def later(task: Any) -> bool:
    return True


@pytest.mark.parametrize("answer", [lambda task: False, lambda task: 1, abort_403, fail, leave, later])
def test_a_handler_that_does_not_say_true_hides_its_task_alone(
    app: Flask, client: FlaskClient, secret: type[Secret], stock: Stock, caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    hidden = stock(created_by="anna", endpoint="secret", path="/secret")
    ordinary = stock(created_by="anna")
    assert set(listed(client)) == {hidden, ordinary}
    secret.answer = staticmethod(answer)
    assert listed(client) == [ordinary]
    assert hidden not in shown(client).text
    assert bool(caplog.records) == (answer.__name__ != "<lambda>" or answer(None) == 1)


def test_a_handler_that_can_not_be_made_hides_its_task(
    app: Flask, client: FlaskClient, secret: type[Secret], stock: Stock
) -> None:
    stock(created_by="anna", endpoint="secret", path="/secret")

    def fail(self: Any) -> None:
        raise LookupError

    secret.__init__ = fail  # type: ignore[method-assign]  # as an author's may
    assert listed(client) == []


def test_may_access_is_asked_in_the_tasks_namespace_with_the_task(
    client: FlaskClient, secret: type[Secret], stock: Stock
) -> None:
    asked: list[Any] = []
    task_id = stock(created_by="anna", endpoint="secret", path="/secret", namespace="shop")
    secret.answer = staticmethod(lambda task: not asked.append((task.id, ndb.get_context().get_namespace())))
    assert listed(client) == [task_id]
    assert asked == [(task_id, "shop")]


# Pages, and answers.


def test_a_long_list_has_pages(client: FlaskClient, stock: Stock) -> None:
    for age in range(60):
        stock(created_by="anna", age=timedelta(minutes=age))
    seen, url = [], MINE
    for number in (25, 25, 10):
        answer = client.get(url, headers=JSON | ANNA)
        seen += [document["id"] for document in answer.json["tasks"]]
        assert len(answer.json["tasks"]) == number
        url = answer.json["older"]
    assert url is None
    assert len(set(seen)) == 60
    assert "Older tasks" in shown(client).text


@pytest.mark.parametrize("cursor", ["", "x", "ü", "%ff", "a" * 5000, "AAAA"])
@pytest.mark.parametrize("headers", [HTML, JSON])
def test_an_invalid_cursor_is_an_invalid_address(client: FlaskClient, cursor: str, headers: dict[str, str]) -> None:
    answer = client.get(f"{MINE}?cursor={cursor}", headers=headers | ANNA)
    assert answer.status_code == 400
    assert "Open your list of tasks again." in answer.text


def test_the_cursor_of_another_user_shows_nothing_of_theirs(client: FlaskClient, stock: Stock) -> None:
    for age in range(30):
        stock(created_by="ben", age=timedelta(minutes=age))
    mine = stock(created_by="anna", age=timedelta(hours=1))
    older = client.get(MINE, headers=JSON | {"X-User": "ben"}).json["older"]
    answer = client.get(older, headers=JSON | ANNA)
    assert answer.status_code in (200, 400)
    assert answer.status_code == 400 or [each["id"] for each in answer.json["tasks"]] in ([], [mine])


@pytest.mark.parametrize("headers", [HTML, JSON])
def test_every_answer_is_private(client: FlaskClient, stock: Stock, headers: dict[str, str]) -> None:
    stock(created_by="anna")
    answer = client.get(MINE, headers=headers | ANNA)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Robots-Tag"] == "noindex"
    assert "Accept" in answer.headers["Vary"]
    assert ("X-Frame-Options" in answer.headers) == (headers is HTML)


def test_only_get_is_accepted(client: FlaskClient) -> None:
    assert client.post(MINE, headers=ANNA).status_code == 405


def test_a_datastore_that_does_not_respond_is_a_503(client: FlaskClient, stock: Stock, faults: Faults) -> None:
    stock(created_by="anna")
    faults.lose_request("RunQuery", grpc.StatusCode.PERMISSION_DENIED)
    answer = client.get(MINE, headers=JSON | ANNA)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


def test_it_speaks_the_visitors_language(client: FlaskClient, stock: Stock) -> None:
    stock(created_by="anna")
    page = client.get(MINE, headers=HTML | ANNA | {"Accept-Language": "de"}).text
    assert "<h1>Ihre Aufgaben</h1>" in page
    assert 'lang="de"' in page


def test_the_list_follows_a_task_from_start_to_result(client: FlaskClient, queue: InMemoryQueue) -> None:
    url = started(client, "/report", headers=ANNA)
    queue.deliver_all(client)
    [document] = client.get(MINE, headers=JSON | ANNA).json["tasks"]
    assert document["links"]["self"] == url
    assert result_text(client.get(document["links"]["result"], headers=HTML | ANNA)) == "result"
    assert client.get(MINE, headers=JSON | ANNA).json["tasks"][0]["status"] == "finished"


def test_a_response_hook_of_the_application_still_runs(app: Flask, client: FlaskClient) -> None:
    @app.after_request
    def mark(response: Response) -> Response:
        response.headers["X-Mark"] = "yes"
        return response

    assert client.get(MINE, headers=ANNA).headers["X-Mark"] == "yes"


def test_cancelling_from_the_list_needs_the_owner(client: FlaskClient) -> None:
    url = started(client, "/report", headers=ANNA)
    assert press(client, url, "cancel").status_code == 403
