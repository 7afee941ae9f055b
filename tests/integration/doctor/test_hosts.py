"""The doctor finds hosts that the queue can't reach, and hosts that a visitor can forge."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from gaetk_longtask import LongTaskManager
from gaetk_longtask.operators.doctor import Finding, Outcome
from gaetk_longtask.operators.doctor.admin_api import AdminApi
from gaetk_longtask.operators.doctor.deliveries import check_deliveries
from gaetk_longtask.operators.doctor.deployment import check_hosts
from gaetk_longtask.operators.doctor.subject import Subject
from gaetk_longtask.web.current import EXTENSION
from tests.integration.doctor.planting import DELIVERY, PROJECT, Report, make, problems

pytestmark = pytest.mark.usefixtures("in_production")


def subject_of(app: Flask) -> Subject:
    patience = timedelta(seconds=1)
    return Subject(app, app.extensions[EXTENSION], directory=Path(), admin=AdminApi(), patience=patience)


def hosts(**settings: Any) -> list[Finding]:
    return list(check_hosts(subject_of(make(**settings))))


def deliveries(rules: list[dict[str, Any]], server_name: str | None = None, **options: Any) -> dict[str, Finding]:
    app = Flask("tests", static_folder=None, **options)
    app.config.update(SERVER_NAME=server_name, LONGTASK_PROJECT=PROJECT)
    LongTaskManager(app)
    view = Report.as_view("report")
    for rule in rules:
        app.add_url_rule("/report", view_func=view, **rule)
    return problems(list(check_deliveries(subject_of(app))))


def test_neither_a_base_url_nor_a_list_of_hosts_is_a_problem() -> None:
    [finding] = hosts()
    assert finding.outcome is Outcome.PROBLEM
    assert "LONGTASK_BASE_URL" in finding.remedy
    assert "TRUSTED_HOSTS" in finding.remedy


@pytest.mark.parametrize(
    "settings", [{"LONGTASK_BASE_URL": "https://www.example.com"}, {"TRUSTED_HOSTS": ["www.example.com"]}]
)
def test_one_of_them_is_enough(settings: dict[str, Any]) -> None:
    [finding] = hosts(**settings)
    assert finding.outcome is Outcome.OK


def test_on_an_emulator_it_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", "127.0.0.1:1")
    assert not hosts()


def test_a_rule_for_another_host_is_a_problem() -> None:
    found = deliveries([{"host": "www.example.com"}], host_matching=True)
    assert "host_matching" in found[DELIVERY].remedy


@pytest.mark.filterwarnings("ignore:Current server name")
def test_a_rule_for_a_subdomain_is_a_problem() -> None:
    found = deliveries([{"subdomain": "www"}], "example.com", subdomain_matching=True)
    assert "subdomain_matching" in found[DELIVERY].remedy


def test_a_rule_for_any_host_is_well() -> None:
    assert not deliveries([{"host": "<tenant>"}], host_matching=True)


def test_a_second_rule_for_the_queues_host_is_well() -> None:
    assert not deliveries([{"host": "www.example.com"}, {"host": f"{PROJECT}.appspot.com"}], host_matching=True)


def test_a_list_of_trusted_hosts_does_not_stop_a_delivery() -> None:
    app = make(TRUSTED_HOSTS=["www.example.com"])
    assert not problems(list(check_deliveries(subject_of(app))))
