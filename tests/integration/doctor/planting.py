"""Applications for the doctor, correct or with one mistake, and a check of its findings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, redirect

from gaetk_longtask import LongRunningTaskHandler, LongTaskManager
from gaetk_longtask.operators.doctor import Finding, Outcome

ROOT = Path(__file__).parents[3]
PROJECT, LOCATION = "doctor-test", "europe-west1"
NOWHERE = "127.0.0.1:1"
DELIVERY, WAY, QUEUE = "delivery to report", "way through default to default", "queue default"
ENTRYPOINT, HEADERS = "entrypoint in app.yaml", "headers in app.yaml"
Doctor = Callable[..., list[Finding]]
Plant = Callable[[pytest.MonkeyPatch, Path], Flask]
#: A function that causes a mistake, the checks that find it, and a part of the remedy.
Planted = tuple[Plant, set[str], str]


class Report(LongRunningTaskHandler):
    def execute_task(self, parameters: dict[str, Any]) -> str:
        raise AssertionError("the doctor starts no work")


def make(*handlers: type[LongRunningTaskHandler], **settings: Any) -> Flask:
    app = Flask("tests")
    app.config.update({"LONGTASK_LOCATION": LOCATION} | settings)
    LongTaskManager(app)
    for handler in handlers or (Report,):
        name = handler.__name__.lower()
        app.add_url_rule(f"/{name}", view_func=handler.as_view(name))
    return app


def problems(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings if finding.outcome is Outcome.PROBLEM}


def in_yaml(file: str, old: str, new: str) -> Plant:
    def plant(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
        text = (directory / file).read_text()
        assert old in text
        (directory / file).write_text(text.replace(old, new))
        return make()

    return plant


def in_entrypoint(old: str, new: str) -> Plant:
    return in_yaml("app.yaml", old, new)


def before(answer: Callable[[], Any]) -> Plant:
    def plant(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
        app = make()
        app.before_request(answer)
        return app

    return plant


def login() -> Any:
    return redirect("/login")


def broken() -> Any:
    raise KeyError("user")
