"""The doctor finds mistakes in the files of a deployment."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from gaetk_longtask import LongRunningTaskHandler
from gaetk_longtask.operators.doctor import Outcome
from tests.integration.doctor.planting import (
    ENTRYPOINT,
    HEADERS,
    Doctor,
    Plant,
    Planted,
    in_entrypoint,
    in_yaml,
    make,
    problems,
)


def dispatched_elsewhere(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    rules = [{"url": "*/other/*", "service": "other"}, {"url": "*/report*", "service": "reports"}]
    (directory / "dispatch.yaml").write_text(json.dumps({"dispatch": rules}))
    return make()


def a_config_file_that_limits(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    (directory / "gunicorn.conf.py").write_text("import os\nlimit_request_line = 1000\n")
    return make()


def many_parts(parallel: int, *, instances: int = 10) -> Plant:
    def split_task(handler: Any, parameters: Any) -> list[Any]:
        raise AssertionError("the doctor starts no work")

    def execute_part(handler: Any, parameters: Any, part: Any) -> None:
        raise AssertionError("the doctor starts no work")

    methods = {"split_task": split_task, "execute_part": execute_part, "parallel": parallel}
    report = type("Report", (LongRunningTaskHandler,), methods)

    def plant(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
        in_yaml("app.yaml", "max_instances: 10", f"max_instances: {instances}")(patch, directory)
        return make(report)

    return plant


PLANTED: dict[str, Planted] = {
    "no entrypoint": (in_yaml("app.yaml", "entrypoint:", "x:"), {ENTRYPOINT}, "--timeout 0"),
    "a broken file": (in_yaml("cron.yaml", "cron:", "cron: ["), {"cron.yaml"}, "Correct it"),
    "a time-out": (
        in_entrypoint("--worker-class gthread --threads 8 --timeout 0", "--workers 8"),
        {ENTRYPOINT},
        "--timeout 0",
    ),
    "one thread": (in_entrypoint("--threads 8", "--threads 1"), {ENTRYPOINT}, "--threads 8"),
    "fewer threads than requests": (
        in_entrypoint("--threads 8", "--threads 4"),
        {ENTRYPOINT},
        "max_concurrent_requests: 4",
    ),
    "more requests than threads": (
        in_yaml("app.yaml", "  max_concurrent_requests: 8\n", ""),
        {ENTRYPOINT},
        "max_concurrent_requests: 8",
    ),
    "a control socket": (in_entrypoint(" --no-control-socket", ""), {ENTRYPOINT}, "--no-control-socket"),
    "too little memory": (
        in_yaml("app.yaml", "instance_class: F2", "instance_class: F1"),
        {ENTRYPOINT},
        "larger instance_class",
    ),
    "too little memory for many workers": (
        in_entrypoint("--workers 1 --worker-class gthread --threads 8", "--workers 2 -k gthread --threads 12"),
        {ENTRYPOINT},
        "larger instance_class",
    ),
    "too little memory by default": (
        in_yaml("app.yaml", "instance_class: F2", ""),
        {ENTRYPOINT},
        "larger instance_class",
    ),
    "tasks that take all threads": (
        in_yaml("queue.yaml", "max_concurrent_requests: 40", "max_concurrent_requests: 80"),
        {ENTRYPOINT},
        "stay well below 80",
    ),
    "a queue without a limit": (
        in_yaml("queue.yaml", "    max_concurrent_requests: 40\n", ""),
        {ENTRYPOINT},
        "max_concurrent_requests",
    ),
    "more parts than the queue runs": (many_parts(41), {ENTRYPOINT}, "set parallel to at most 40"),
    "more parts than threads": (many_parts(40, instances=4), {ENTRYPOINT}, "set parallel to less than 32"),
    "few instances": (in_yaml("app.yaml", "max_instances: 10", "max_instances: 5"), {ENTRYPOINT}, "well below 40"),
    "workers that end": (in_entrypoint("--timeout 0", "--timeout 0 --max-requests 50"), {ENTRYPOINT}, "--max-requests"),
    "http in URLs": (in_entrypoint("--forwarded-allow-ips '*'", ""), {HEADERS}, "LONGTASK_BASE_URL"),
    "headers with underscores": (
        in_entrypoint("--timeout 0", "--timeout 0 --header-map dangerous"),
        {HEADERS},
        "X_AppEngine_QueueName",
    ),
    "forged headers": (
        in_entrypoint("--timeout 0", "--timeout 0 --forwarder-headers PATH_INFO,X_APPENGINE_QUEUENAME"),
        {HEADERS},
        "X_AppEngine_QueueName",
    ),
    "short request lines": (in_entrypoint("--timeout 0", "--timeout 0 --limit-request-line 512"), {HEADERS}, "2096"),
    "a configuration of gunicorn's": (a_config_file_that_limits, {HEADERS}, "2096"),
    "no sweep": (in_yaml("cron.yaml", "/_longtask/sweep", "/_longtask/swep"), {"cron"}, "gcloud app deploy cron.yaml"),
    "another service by dispatch.yaml": (dispatched_elsewhere, {"dispatch of report"}, "service = 'reports'"),
}


def test_parts_that_queue_and_instances_can_give_are_well(
    doctor: Doctor, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not problems(doctor(many_parts(40)(monkeypatch, directory)))


@pytest.mark.parametrize("name", PLANTED)
def test_a_misconfiguration_is_found_and_nothing_else(assert_found: Callable[..., None], name: str) -> None:
    assert_found(*PLANTED[name])


def test_an_application_behind_a_proxy_fix_is_well(
    doctor: Doctor, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = in_entrypoint("--forwarded-allow-ips '*'", "")(monkeypatch, directory)
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]  # Flask's documented way
    assert not problems(doctor(app))


def test_missing_files_are_not_checked(doctor: Doctor, directory: Path) -> None:
    app = make()
    (directory / "app.yaml").unlink()
    (directory / "cron.yaml").unlink()
    findings = {finding.check: finding for finding in doctor(app)}
    assert findings["entrypoint"].outcome is Outcome.NOT_CHECKED
    assert "where app.yaml is" in findings["entrypoint"].remedy
    assert findings["cron"].outcome is Outcome.NOT_CHECKED


def test_an_entrypoint_that_is_not_gunicorns_is_not_checked(
    doctor: Doctor, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = in_entrypoint("gunicorn -b :$PORT", "uwsgi --http :$PORT")(monkeypatch, directory)
    findings = {finding.check: finding for finding in doctor(app)}
    assert findings[ENTRYPOINT].outcome is Outcome.NOT_CHECKED
    assert HEADERS not in findings
