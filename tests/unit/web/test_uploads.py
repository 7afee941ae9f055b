"""The attributes of a form with a progress bar: the limit of the application, and texts in the visitor's language."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest
from flask import Flask, render_template_string

from gaetk_longtask import LongTaskManager
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue

ROOT = Path(__file__).parents[3]
APP_ENGINE = 32 * 1024 * 1024


@pytest.fixture
def app() -> Flask:
    app = Flask("tests")
    LongTaskManager(app, queue=InMemoryQueue(), progress=InMemoryProgressStore())
    return app


def attributes(app: Flask, language: str = "en") -> dict[str, str]:
    """Return the attributes that a template of the application gets."""
    with app.test_request_context("/", headers={"Accept-Language": language}):
        tag = render_template_string("<form {{ longtask_upload() }}>")
    assert tag.startswith("<form data-longtask-upload ")
    return {name: unescape(value) for name, value in re.findall(r'(data-[a-z-]+)="([^"]*)"', tag)}


@pytest.mark.parametrize(
    ("setting", "limit"), [(None, APP_ENGINE), (1000, 1000), (APP_ENGINE, APP_ENGINE), (2 * APP_ENGINE, APP_ENGINE)]
)
def test_the_limit_is_that_of_the_application_but_at_most_that_of_app_engine(
    app: Flask, setting: int | None, limit: int
) -> None:
    app.config["MAX_CONTENT_LENGTH"] = setting
    assert attributes(app)["data-longtask-limit"] == str(limit)


def test_the_texts_are_in_the_visitors_language(app: Flask) -> None:
    assert attributes(app)["data-longtask-cancel"] == "Cancel the upload"
    german = attributes(app, "de-AT")
    assert german["data-longtask-cancel"] == "Hochladen abbrechen"
    assert german["data-longtask-lang"] == "de"
    assert german["data-longtask-uploading"] == "Wird hochgeladen: {}"


def test_a_form_without_the_function_gets_the_same_texts_in_english(app: Flask) -> None:
    script = (ROOT / "gaetk_longtask" / "static" / "longtask-upload.js").read_text(encoding="utf-8")
    english = script.split("const ENGLISH = {")[1].split("};")[0]
    texts = {f"data-longtask-{name}": text for name, text in re.findall(r'"?([a-z-]+)"?: "(.*)",', english)}
    numbers = {"data-longtask-limit", "data-longtask-lang"}
    assert texts == {name: text for name, text in attributes(app).items() if name not in numbers}


def test_the_manual_lists_exactly_these_attributes(app: Flask) -> None:
    manual = (ROOT / "docs" / "upload.md").read_text(encoding="utf-8")
    listed = re.findall(r"`(data-longtask-[a-z-]+)`", manual)
    assert sorted(listed) == sorted(["data-longtask-upload", *attributes(app)])
