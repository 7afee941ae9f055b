"""docs/login.md: visitors with a session, visitors without one, the queue and cron."""

from __future__ import annotations

import re

import pytest
from flask_wtf.csrf import generate_csrf

from gaetk_longtask import Status
from gaetk_longtask.queues import KEY_HEADER
from gaetk_longtask.testing import TaskRunner
from tests.integration.examples.conftest import Example
from tests.support import result_text

LOGIN = "login.md"


@pytest.fixture
def reports(example: Example) -> TaskRunner:
    """A runner for the page's application with both handlers."""
    runner, _ = example(LOGIN, shared="SharedReport")
    runner.app.add_url_rule("/token", view_func=generate_csrf)
    return runner


def log_in(runner: TaskRunner, **session: str) -> None:
    with runner.client.session_transaction() as kept:
        kept.clear()
        kept.update(session)


@pytest.mark.parametrize("user", ["anna", "Jürgen Müller", "łukasz@example.com", "0"])
@pytest.mark.calls(
    LOGIN, "login_required", "login_required.<locals>.guarded", "Report.get_user_id", "Report.execute_task"
)
def test_a_user_gets_a_report_of_their_own(reports: TaskRunner, user: str) -> None:
    log_in(reports, user=user)
    assert result_text(reports.run("/report")) == f"A report for {user}."


@pytest.mark.calls(LOGIN, "SharedReport.may_access")
def test_every_user_has_their_own_tasks_and_accountants_see_the_shared_ones(reports: TaskRunner) -> None:
    log_in(reports, user="anna")
    own, shared = reports.start("/report"), reports.start("/shared")
    assert [reports.deliver().status_code for _ in range(2)] == [200, 200]
    log_in(reports, user="ben")
    assert [reports.client.get(task.url).status_code for task in (own, shared)] == [403, 403]
    log_in(reports, user="ben", role="accountant")
    assert [reports.client.get(task.url).status_code for task in (own, shared)] == [403, 303]


@pytest.mark.calls(LOGIN, "require_login")
def test_a_visitor_who_is_not_logged_in_is_sent_to_the_login(reports: TaskRunner) -> None:
    log_in(reports, user="anna")
    task = reports.start("/report")
    log_in(reports)
    for url in ("/report", task.url, "/_longtask/static/longtask.css", "/elsewhere"):
        assert reports.client.get(url).headers["Location"] == "/login"
    assert reports.client.get("/login").status_code == 404  # the page leaves it out
    assert len(reports.queue.tasks) == 1


@pytest.mark.parametrize("url", ["/_longtask/sweep", "/_longtask/purge"])
def test_cron_needs_no_login(reports: TaskRunner, url: str) -> None:
    assert reports.client.get(url, headers={"X-Appengine-Cron": "true"}).status_code == 200
    assert reports.client.get(url).status_code == 403


def test_forged_deliveries_run_nothing(reports: TaskRunner) -> None:
    log_in(reports, user="anna")
    url = reports.start("/report").url.replace("query", "execute")
    log_in(reports)
    forged = {"X-AppEngine-QueueName": "default", "X-AppEngine-TaskName": "1"}
    assert reports.client.get(url, headers=forged).headers["Location"] == "/login"
    assert reports.client.get(url, headers=forged | {KEY_HEADER: "guessed"}).status_code == 403


def test_forms_send_the_csrf_token(reports: TaskRunner) -> None:
    log_in(reports, user="anna")
    assert reports.client.post("/report").status_code == 400
    token = reports.client.get("/token").text
    task = reports.start("/report", method="POST", data={"csrf_token": token, "year": "2026"})
    assert "csrf_token" not in task.url
    form = next(form for form in task.page().text.split("<form") if "job=cancel" in form)
    url = re.findall(r'action="([^"]+)"', form)[0].replace("&amp;", "&")
    assert reports.client.post(url, follow_redirects=True).status_code == 405  # the button again, nothing is cancelled
    token = re.findall(r'name="csrf_token" value="([^"]+)"', form)[0]
    assert reports.client.post(url, data={"csrf_token": token}).status_code == 303
    assert task.status is Status.CANCELLED


def test_a_program_sends_the_csrf_token_in_a_header(reports: TaskRunner) -> None:
    log_in(reports, user="anna")
    task = reports.start("/report")
    token = reports.client.get("/token").text
    headers = {"Accept": "application/json", "X-CSRFToken": token}
    assert reports.client.post(task.document["links"]["cancel"], headers=headers).json["status"] == "cancelled"


@pytest.mark.calls(LOGIN, "form_expired")
def test_the_button_of_a_page_that_was_open_for_too_long_is_shown_again(reports: TaskRunner) -> None:
    reports.app.config["WTF_CSRF_TIME_LIMIT"] = -1
    log_in(reports, user="anna")
    url = reports.start("/report").url
    for name in ("cancel", "retry"):
        page = reports.client.post(url.replace("=query", f"={name}"), follow_redirects=True)
        assert page.status_code == 405
        assert "Press the button again." in page.text
    assert reports.client.post("/report").text == "This form has expired. Please load it again."
