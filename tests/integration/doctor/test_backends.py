"""The doctor finds mistakes in project, location, queues, Datastore and progress store."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import grpc
import pytest
from flask import Flask

from gaetk_longtask import LongTaskManager
from gaetk_longtask.dev.tasks_emulator import Emulator
from gaetk_longtask.operators.doctor import Outcome, examine
from gaetk_longtask.queues import CloudTasksQueue
from gaetk_longtask.testing import put_between
from tests.integration.doctor.planting import (
    LOCATION,
    NOWHERE,
    QUEUE,
    WAY,
    Doctor,
    Plant,
    Planted,
    Report,
    in_yaml,
    make,
    problems,
)
from tests.support import services_of


def no_project(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    patch.delenv("GOOGLE_CLOUD_PROJECT")
    return make()


def no_memcached(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    patch.setenv("MEMCACHED_HOSTS", NOWHERE)
    return make()


def no_datastore(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    patch.setenv("DATASTORE_EMULATOR_HOST", NOWHERE)
    return make()


def a_queue_that_does_not_exist(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    return make(LONGTASK_QUEUE="reports")


def a_handlers_queue_that_does_not_exist(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    class Slow(Report):
        queue = "reports"

    return make(Report, Slow)


def in_retries(line: str) -> Plant:
    return in_yaml("queue.yaml", "retry_parameters:\n", f"retry_parameters:\n      {line}\n")


PLANTED: dict[str, Planted] = {
    "no project": (no_project, {"project"}, "GOOGLE_CLOUD_PROJECT"),
    "no Datastore": (no_datastore, {"datastore", "progress", WAY}, "DATASTORE_EMULATOR_HOST"),
    "no memcached": (no_memcached, {"progress"}, "MEMCACHED_HOSTS"),
    "no queue": (a_queue_that_does_not_exist, {"queue reports"}, "gcloud app deploy queue.yaml"),
    "no queue of a handler": (a_handlers_queue_that_does_not_exist, {"queue reports"}, "queue = 'reports'"),
    "a queue that gives up": (in_retries("task_retry_limit: 9"), {QUEUE}, "--max-attempts=-1"),
    "a queue that loses patience": (in_retries("task_age_limit: 1h"), {QUEUE}, "--max-retry-duration=0s"),
    "a queue that takes breaks": (
        in_yaml("queue.yaml", "max_backoff_seconds: 60", "max_backoff_seconds: 3600"),
        {QUEUE},
        "max_backoff_seconds: 60",
    ),
    "a queue that rests": (in_yaml("queue.yaml", "rate: 100/s", "rate: 0/s"), {QUEUE}, "gcloud tasks queues resume"),
    "a queue with a target": (
        in_yaml("queue.yaml", "rate: 100/s", "rate: 100/s\n    target: v1.worker"),
        {QUEUE},
        "--clear-routing-override",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_misconfiguration_is_found_and_nothing_else(assert_found: Callable[..., None], name: str) -> None:
    assert_found(*PLANTED[name])


def test_an_unknown_location_is_found(environment: None, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLOUD_TASKS_EMULATOR_HOST", raising=False)
    found = problems(list(examine(make(LONGTASK_LOCATION=None), directory=directory)))
    assert set(found) == {"location"}
    assert "LONGTASK_LOCATION" in found["location"].remedy


def test_a_queue_that_was_paused_is_found(
    doctor: Doctor, start_queue: Callable[[], Emulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make()
    emulator = start_queue()
    queue = services_of(app).queue
    assert isinstance(queue, CloudTasksQueue)
    queue.client().pause_queue(name=queue.path_of("default"))
    findings = list(examine(app, directory=Path("nowhere")))
    assert emulator.host
    assert set(problems(findings)) == {QUEUE}


def test_a_queue_of_the_applications_own_is_not_checked(environment: None, directory: Path, queue: Any) -> None:
    app = Flask("tests")
    app.config.update(LONGTASK_LOCATION=LOCATION)
    LongTaskManager(app, queue=queue)
    app.add_url_rule("/report", view_func=Report.as_view("report"))
    findings = {finding.check: finding for finding in examine(app, directory=directory)}
    assert findings[QUEUE].outcome is findings[WAY].outcome is Outcome.NOT_CHECKED


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, "--role=roles/datastore.user"),
        (grpc.StatusCode.NOT_FOUND, "--type=datastore-mode"),
        (grpc.StatusCode.FAILED_PRECONDITION, "--type=datastore-mode"),
    ],
    ids=str,
)
def test_the_advice_depends_on_datastores_error(doctor: Doctor, code: grpc.StatusCode, remedy: str) -> None:
    app = make()
    put_between(services_of(app).ndb_context.client()).lose_request("BeginTransaction", code)
    [found] = problems(doctor(app, deployed=make())).values()
    assert (found.check, remedy in found.remedy) == ("datastore", True)


def test_a_missing_index_is_found(doctor: Doctor) -> None:
    app = make()
    faults = put_between(services_of(app).ndb_context.client())
    faults.lose_request("RunQuery", grpc.StatusCode.FAILED_PRECONDITION)
    [found] = problems(doctor(app, deployed=make())).values()
    assert found.check == "index"


def test_the_password_of_the_progress_store_is_not_shown(doctor: Doctor) -> None:
    app = make(LONGTASK_PROGRESS_URL="redis://user:secret@127.0.0.1:1?socket_timeout=1")
    said = [asdict(finding) for finding in doctor(app)]
    assert "127.0.0.1:1" in json.dumps(said)
    assert "secret" not in json.dumps(said)


def test_a_memcached_in_a_vpc_is_not_checked_from_outside(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMCACHED_HOSTS", "cache.invalid:11211")
    findings = {finding.check: finding for finding in doctor(make())}
    assert findings["progress"].outcome is Outcome.NOT_CHECKED
