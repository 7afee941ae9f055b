"""The examples of docs/own-page.md create the promised pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from jinja2 import DictLoader

from gaetk_longtask import LongRunningTaskHandler

MANUAL = (Path(__file__).parents[2] / "docs" / "own-page.md").read_text(encoding="utf-8")
BLOCKS, LAYOUT, DASHBOARD, OWN_MARKUP = re.findall(r"^```html\+jinja\n(.*?)^```$", MANUAL, re.DOTALL | re.MULTILINE)

OWN = {
    "layout.html": "<!doctype html><title>Example</title>{% block head %}{% endblock %}{% block main %}{% endblock %}",
    "base.html": "<p>Example Ltd</p>{% block content %}{% endblock %}",
}


@pytest.fixture
def show(make_app: Callable[..., Flask]) -> Callable[[dict[str, str]], str]:
    """Return the waiting page of an application with the given templates."""

    def show(templates: dict[str, str]) -> str:
        class Report(LongRunningTaskHandler):
            title = "Making the report"
            status_template = "waiting.html" if "waiting.html" in templates else LongRunningTaskHandler.status_template

            def execute_task(self, parameters):
                """Do nothing."""

        app = make_app(Report)
        app.jinja_loader = DictLoader(templates)
        client = app.test_client()
        return client.get(client.get("/report").headers["Location"]).text

    return show


def test_blocks_add_to_our_page(show: Callable[[dict[str, str]], str]) -> None:
    page = show({"waiting.html": BLOCKS})
    for part in ("longtask.js", "brand.css", "logo.svg", "Making the report", "http-equiv"):
        assert part in page


def test_the_fragment_goes_into_a_layout(show: Callable[[dict[str, str]], str]) -> None:
    page = show({"waiting.html": LAYOUT, "layout.html": OWN["layout.html"]})
    for part in ("<title>Example</title>", "longtask.js", "longtask.css", "Making the report", "http-equiv"):
        assert part in page


def test_a_base_of_the_applications_own_takes_the_place_of_ours(show: Callable[[dict[str, str]], str]) -> None:
    page = show({"gaetk_longtask/base.html": OWN["base.html"]})
    assert page.startswith("<p>Example Ltd</p>")
    assert "Making the report" in page


def test_markup_of_ones_own_has_the_names_that_the_script_looks_for(show: Callable[[dict[str, str]], str]) -> None:
    page = show({"waiting.html": OWN_MARKUP})
    for part in ('<main data-longtask="/report?', "longtask.js", "Making the report", "Cancel"):
        assert part in page


def test_the_dashboard_names_the_task_as_the_script_expects_it() -> None:
    assert 'data-longtask="{{ task.url }}"' in DASHBOARD
