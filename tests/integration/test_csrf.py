"""A button whose CSRF token has expired is shown again, with a fresh token, if the application lets us answer."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable

import pytest
from flask import Flask, redirect, request
from flask.testing import FlaskClient
from flask_wtf import CSRFProtect
from flask_wtf.csrf import CSRFError
from itsdangerous import TimestampSigner
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from gaetk_longtask import LongRunningTaskHandler

JSON = {"Accept": "application/json"}
HEADING = '<h1 tabindex="-1">Nothing has changed yet</h1>'


class Report(LongRunningTaskHandler):
    def execute_task(self, parameters):
        """Do nothing."""


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    app = make_app(Report, LONGTASK_ADMIN=lambda: True)
    CSRFProtect(app)
    app.add_url_rule("/other", view_func=lambda: "other", methods=["POST"])
    return app


@pytest.fixture
def pass_an_hour(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let an hour pass for Flask-WTF."""

    def later(self: TimestampSigner) -> int:
        return int(time.time()) + 3_700

    return lambda: monkeypatch.setattr(TimestampSigner, "get_timestamp", later)


def started(client: FlaskClient, query: str = "") -> str:
    return client.get(f"/report{query}").headers["Location"]


def job(url: str, name: str) -> str:
    return url.replace("_longtaskjob=query", f"_longtaskjob={name}")


def form(page: TestResponse) -> tuple[str, dict[str, str]]:
    """Return the action of the page's form, and its fields."""
    [action] = re.findall(r'<form method="post" action="([^"]*)"', page.text)
    return html.unescape(action), dict(re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', page.text))


def press(client: FlaskClient, page: TestResponse, **headers: str) -> TestResponse:
    action, fields = form(page)
    return client.post(action, data=fields, headers=headers)


@pytest.mark.parametrize("query", ["", "?month=3&name=M%C3%BCller&month=4"])
def test_a_button_with_an_old_token_is_shown_again(
    client: FlaskClient, pass_an_hour: Callable[[], None], query: str
) -> None:
    url = started(client, query)
    page = client.get(url)
    pass_an_hour()
    again = press(client, page)
    assert again.status_code == 400
    assert HEADING in again.text
    assert html.escape(url) in again.text
    assert again.headers["Cache-Control"] == "no-store"
    assert client.get(url, headers=JSON).json["status"] == "ready"
    done = press(client, again)
    assert (done.status_code, done.headers["Location"]) == (303, url)
    assert client.get(url, headers=JSON).json["status"] == "cancelled"


@pytest.mark.parametrize("token", [None, "", "nonsense"])
def test_a_button_without_a_valid_token_is_shown_again(client: FlaskClient, token: str | None) -> None:
    url = started(client)
    again = client.post(job(url, "cancel"), data={} if token is None else {"csrf_token": token})
    assert (again.status_code, HEADING in again.text) == (400, True)
    assert client.get(url, headers=JSON).json["status"] == "ready"


def test_a_visitor_whose_session_has_ended_gets_a_button_of_a_new_session(app: Flask, client: FlaskClient) -> None:
    url = started(client)
    page = client.get(url)
    stranger = app.test_client()
    again = press(stranger, page)
    assert press(stranger, again).status_code == 303
    assert client.get(url, headers=JSON).json["status"] == "cancelled"


def test_an_operators_button_with_an_old_token_is_shown_again(
    client: FlaskClient, pass_an_hour: Callable[[], None]
) -> None:
    task_id = started(client).partition("_longtaskid=")[2]
    page = client.get(f"/_longtask/tasks/{task_id}")
    pass_an_hour()
    again = press(client, page)
    assert (again.status_code, HEADING in again.text) == (400, True)
    done = press(client, again)
    assert done.headers["Location"] == f"/_longtask/tasks/{task_id}"
    assert "Cancelled" in client.get(f"/_longtask/tasks/{task_id}").text


def test_a_visitor_who_comes_by_get_is_shown_the_button(client: FlaskClient) -> None:
    url = started(client, "?month=3")
    page = client.get(job(url, "cancel"))
    assert (page.status_code, page.headers["Allow"], HEADING in page.text) == (405, "POST", True)
    assert press(client, page).headers["Location"] == url
    assert client.get(url, headers=JSON).json["status"] == "cancelled"
    assert press(client, client.get(job(url, "retry"))).status_code == 303
    assert client.get(url, headers=JSON).json["status"] == "ready"


def test_an_operator_who_comes_by_get_is_shown_the_button(client: FlaskClient) -> None:
    task_id = started(client).partition("_longtaskid=")[2]
    page = client.get(f"/_longtask/tasks/{task_id}/cancel")
    assert (page.status_code, page.headers["Allow"], HEADING in page.text) == (405, "POST", True)
    assert press(client, page).status_code == 303


def test_another_site_is_not_answered_with_a_button(client: FlaskClient) -> None:
    answer = client.post(job(started(client), "cancel"), headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, HEADING in answer.text) == (400, False)


def test_a_program_gets_the_answer_of_the_csrf_protection(client: FlaskClient) -> None:
    answer = client.post(job(started(client), "cancel"), headers=JSON)
    assert (answer.status_code, "The CSRF token is missing." in answer.text) == (400, True)


@pytest.mark.parametrize(
    "address", ["/other", "/report", "/report?_longtaskjob=query", "/other?_longtaskjob=cancel", "/none"]
)
def test_other_answers_stay_as_they_are(client: FlaskClient, address: str) -> None:
    answer = client.post(address)
    assert answer.status_code == (404 if address == "/none" else 400)
    assert HEADING not in answer.text


@pytest.mark.parametrize("handled", [CSRFError, HTTPException, 400, Exception])
def test_an_error_handler_of_the_application_has_the_last_word(
    app: Flask, client: FlaskClient, handled: type[Exception] | int
) -> None:
    app.register_error_handler(handled, lambda error: ("We are sorry.", 400))
    assert client.post(job(started(client), "cancel")).text == "We are sorry."


def test_an_error_handler_may_lead_to_the_button(app: Flask, client: FlaskClient) -> None:
    app.register_error_handler(CSRFError, lambda error: redirect(request.url, 303))
    page = client.post(job(started(client), "cancel"), follow_redirects=True)
    assert HEADING in page.text
    assert press(client, page).status_code == 303


def test_without_csrf_protection_a_400_stays_a_400(make_app: Callable[..., Flask]) -> None:
    app = make_app(Report)
    app.extensions["csrf"] = object()  # another extension
    app.before_request(lambda: ("no", 400) if request.method == "POST" else None)
    client = app.test_client()
    assert client.post(job(started(client), "cancel")).text == "no"
