"""The doctor finds no problem in the sample application, and names every check in its manual."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from google.cloud import ndb
from jinja2 import ChoiceLoader, DictLoader

from gaetk_longtask import PickleSerializer
from gaetk_longtask.operators.doctor import Outcome, examine
from gaetk_longtask.queues import CloudTasksQueue
from sample_app.main import create_app
from tests.integration.doctor import test_backends, test_deliveries, test_deployment
from tests.integration.doctor.planting import (
    QUEUE,
    ROOT,
    WAY,
    Doctor,
    Planted,
    Report,
    in_yaml,
    make,
    problems,
)
from tests.support import services_of


def test_nothing_is_wrong_with_the_sample_application(
    doctor: Doctor, memcached_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMCACHED_HOSTS", memcached_host)
    app = create_app()
    findings = doctor(app)
    services_of(app).progress._client.close()  # type: ignore[attr-defined]  # else its socket is complained about
    assert not problems(findings)
    checked = [finding.check for finding in findings if finding.outcome is Outcome.OK]
    assert checked == [
        "project",
        "location",
        "queue default",
        "datastore",
        "index",
        "progress",
        "headers of our pages",
        "delivery to import",
        "delivery to intrastat",
        "delivery to intrastat-in-parts",
        "delivery to count",
        "way through default to default",
        "entrypoint in app.yaml",
        "headers in app.yaml",
        "cron",
    ]


def test_nothing_is_left_behind(doctor: Doctor) -> None:
    app = make()
    assert not problems(doctor(app))
    queue = services_of(app).queue
    assert isinstance(queue, CloudTasksQueue)
    assert not list(queue.client().list_tasks(parent=queue.path_of("default")))
    with services_of(app).ndb_context():
        assert [key.kind() for key in ndb.Query(namespace="").fetch(keys_only=True)] == []


def pickles_without_a_secret(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    class Pickling(Report):
        serializer = PickleSerializer()

    return make(Pickling)


def no_template(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    class Waiting(Report):
        status_template = "wating.html"

    return make(Waiting)


def a_template_that_is_none(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    class Waiting(Report):
        status_template = "waiting.html"

    app = make(Waiting)
    ours = DictLoader({"waiting.html": "{% block content %}"})
    app.jinja_env.loader = ChoiceLoader([ours, app.create_global_jinja_loader()])
    return app


PLANTED: dict[str, Planted] = {
    "pickles without a secret": (pickles_without_a_secret, {"SECRET_KEY"}, "SECRET_KEY in app.config"),
    "no template": (no_template, {"waiting page of waiting"}, "Waiting.status_template"),
    "a template that is none": (a_template_that_is_none, {"waiting page of waiting"}, "Waiting.status_template"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_misconfiguration_is_found_and_nothing_else(assert_found: Callable[..., None], name: str) -> None:
    assert_found(*PLANTED[name])


def test_the_manual_names_every_check() -> None:
    manual = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`[^|]+) \|", manual, re.MULTILINE)
    named = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    patterns = [re.sub(r"\b[A-Z]{4,}\b", ".+", name) for name in named]
    planted = [PLANTED, test_backends.PLANTED, test_deliveries.PLANTED, test_deployment.PLANTED]
    checks = {check for each in planted for _, found, _ in each.values() for check in found}
    checks |= {"location", "index", "service x"}
    assert [check for check in checks if not any(re.fullmatch(pattern, check) for pattern in patterns)] == []


@pytest.mark.usefixtures("in_production")
def test_without_credentials_the_advice_is_to_log_in(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEMCACHED_HOSTS", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(directory / "missing.json"))
    findings = {finding.check: finding for finding in examine(make(), directory=directory)}
    for check in (QUEUE, "datastore", "progress", WAY, "service default", "TTL policy"):
        assert findings[check].outcome is Outcome.NOT_CHECKED
        assert "gcloud auth application-default login" in findings[check].remedy


def test_a_check_that_raises_does_not_stop_the_others(
    doctor: Doctor, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = doctor(in_yaml("app.yaml", "requests: 8", "requests: many")(monkeypatch, directory))
    assert set(problems(findings)) == {"entrypoints"}
    assert findings[-1].check == "TTL policy"
