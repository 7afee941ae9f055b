"""docs/identity.md: visitors with a session, behind Identity-Aware Proxy and on a developer's machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from gaetk_longtask import LongTaskManager
from gaetk_longtask.identity import HEADER, IdentityAwareProxy
from gaetk_longtask.testing import TaskRunner
from tests.integration.test_identity import AUDIENCE, KeyServer, Proxy
from tests.pages import page_named, run
from tests.support import JSON, result_text

IDENTITY = "identity.md"
SESSION, USER, PROXY, ADMIN, DEVELOPER = 1, 2, 3, 4, 5
PREPARED = """
from flask import Flask
app = Flask(__name__)
app.secret_key = "for tests alone"
"""
#: Runs blocks of the page and returns a runner for an application with its handler.
Reports = Callable[..., TaskRunner]


@pytest.fixture
def server() -> Iterator[KeyServer]:
    server = KeyServer()
    yield server
    server.stop()


@pytest.fixture
def proxy(server: KeyServer) -> Proxy:
    return Proxy(server)


@pytest.fixture
def reports(longtask_datastore: str, server: KeyServer) -> Iterator[Reports]:
    runners: list[Any] = []

    def make(*only: int) -> TaskRunner:
        names = run(page_named(IDENTITY), PREPARED, only=only)
        if "iap" in names:
            names["iap"] = IdentityAwareProxy(AUDIENCE, keys_url=server.url)
        app: Flask = names["app"]
        LongTaskManager(app)

        class Report(names["Report"]):  # type: ignore[misc]  # made by the page
            def execute_task(self, parameters: Any) -> str:
                return f"A report for {self.task.created_by}."

        app.add_url_rule("/report", view_func=Report.as_view("report"))
        runner = TaskRunner(app).opened()
        runners.append(runner)
        return runner.__enter__()

    yield make
    for runner in runners:
        runner.__exit__(None, None, None)


@pytest.mark.parametrize("user", ["anna", "Jürgen Müller", "łukasz@example.com"])
@pytest.mark.calls(IDENTITY, "Report.get_user_id")
def test_a_user_of_the_session_owns_their_tasks(reports: Reports, user: str) -> None:
    runner = reports(SESSION)
    with runner.client.session_transaction() as session:
        session["user"] = user
    task = runner.start("/report")
    runner.deliver_all()
    assert result_text(task.result()) == f"A report for {user}."
    with runner.client.session_transaction() as session:
        session["user"] = "ben"
    assert runner.client.get(task.url).status_code == 403
    with runner.client.session_transaction() as session:
        session.clear()
    assert runner.client.get(task.url).status_code == 403


@pytest.mark.parametrize("user", [None, ""])
def test_a_visitor_without_a_user_starts_nothing(reports: Reports, user: str | None) -> None:
    runner = reports(SESSION)
    with runner.client.session_transaction() as session:
        session["user"] = user
    assert runner.client.get("/report").status_code == 403
    assert not runner.queue.tasks


@pytest.mark.parametrize("user", ["anna", "Jürgen Müller"])
@pytest.mark.calls(IDENTITY, "<lambda>")
def test_one_function_says_it_for_all_handlers_and_gives_each_user_a_list(reports: Reports, user: str) -> None:
    runner = reports(SESSION, USER)
    assert runner.client.get("/_longtask/mine").status_code == 404
    with runner.client.session_transaction() as session:
        session["user"] = user
    task = runner.start("/report")
    [listed] = runner.client.get("/_longtask/mine", headers=JSON).json["tasks"]
    assert listed["links"]["self"] == task.url
    with runner.client.session_transaction() as session:
        session["user"] = "ben"
    assert runner.client.get("/_longtask/mine", headers=JSON).json["tasks"] == []


@pytest.mark.calls(IDENTITY, "Report.get_user_id (2)")
def test_a_visitor_behind_the_proxy_owns_their_tasks(reports: Reports, proxy: Proxy) -> None:
    runner = reports(PROXY)
    anna, ben = ({HEADER: proxy.assertion(sub=f"accounts.google.com:{number}")} for number in (42, 43))
    task = runner.start("/report", headers=anna)
    runner.deliver_all()
    result = task.url.replace("query", "showresult")
    assert result_text(runner.client.get(result, headers=anna)) == "A report for accounts.google.com:42."
    assert runner.client.get(result, headers=ben).status_code == 403
    assert runner.client.get(result).status_code == 403


@pytest.mark.parametrize("header", ["", "nonsense", "a.b.c", "ü"])
def test_a_visitor_who_gets_around_the_proxy_starts_nothing(reports: Reports, header: str) -> None:
    runner = reports(PROXY)
    assert runner.client.get("/report", headers={HEADER: header}).status_code == 403
    assert not runner.queue.tasks


@pytest.mark.parametrize(
    ("email", "status"),
    [("anna@example.com", 200), ("ben@example.com", 200), ("clara@example.com", 404), ("jürgen@example.com", 404)],
)
@pytest.mark.calls(IDENTITY, "<lambda> (2)")
def test_operators_are_known_by_their_address(reports: Reports, proxy: Proxy, email: str, status: int) -> None:
    runner = reports(PROXY, ADMIN)
    headers = {HEADER: proxy.assertion(email=email)}
    assert runner.client.get("/_longtask/tasks", headers=headers).status_code == status


def test_there_is_no_overview_without_the_proxy(reports: Reports) -> None:
    assert reports(PROXY, ADMIN).client.get("/_longtask/tasks").status_code == 404


@pytest.mark.calls(IDENTITY, "Report.get_user_id (3)")
def test_a_developer_is_known_on_their_own_machine_only(
    reports: Reports, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = reports(PROXY, DEVELOPER)
    monkeypatch.delenv("GAE_ENV", raising=False)
    assert result_text(runner.run("/report")) == "A report for developer."
    monkeypatch.setenv("GAE_ENV", "localdev")
    assert result_text(runner.run("/report")) == "A report for developer."
    monkeypatch.setenv("GAE_ENV", "standard")
    assert runner.client.get("/report").status_code == 403
    assert runner.start("/report", headers={HEADER: proxy.assertion()})
