"""docs/client.md: a program starts a task, comes back to it, and signs in."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from gaetk_longtask.client import Client, ClientError
from tests.integration.test_client import World, app, client, line, site, world
from tests.pages import page_named, run
from tests.support import Work

__all__ = ["app", "client", "line", "site", "world"]  # fixtures

CLIENT = "client.md"


@pytest.fixture
def names(client: Client) -> dict[str, Any]:
    """What the page defines, with a client whose sleep delivers the tasks."""
    found = run(page_named(CLIENT))
    found["Client"] = lambda session=None: client
    return found


@pytest.mark.parametrize("month", ["2026-05", "Mai & Juni"])
@pytest.mark.calls(CLIENT, "report_of")
def test_the_report_is_fetched_and_its_progress_is_printed(
    names: dict[str, Any], site: str, app: Flask, capsys: pytest.CaptureFixture[str], month: str
) -> None:
    report: Any = type("Report", (Work,), {"do": lambda handler: f"A report for {handler.parameters['month']}."})
    with app.app_context():
        app.add_url_rule("/report", view_func=report.as_view("report"))
    assert names["report_of"](site, month) == f"A report for {month}."
    assert capsys.readouterr().out.splitlines() == ["      -  ready", "  100 %  done"]


@pytest.mark.calls(CLIENT, "cancelled")
def test_a_task_is_cancelled_by_its_url(names: dict[str, Any], site: str, client: Client) -> None:
    task = client.start(f"{site}/work")
    assert names["cancelled"](task.url) == "cancelled"


@pytest.mark.calls(CLIENT, "signed_in")
def test_a_session_is_signed_in(site: str, app: Flask, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    app.config["TOKEN"] = "Bearer secret"
    signed_in = run(page_named(CLIENT))["signed_in"]
    assert signed_in("secret").start(f"{site}/work").cancel()["status"] == "cancelled"
    with pytest.raises(ClientError, match="answered 401"):
        signed_in("wrong").start(f"{site}/work")
