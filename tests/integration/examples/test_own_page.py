"""docs/own-page.md: its templates show a task in every state, with a title and messages as people write them."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import pytest
from flask import render_template, render_template_string
from jinja2 import DictLoader

from gaetk_longtask import LongRunningTaskHandler, LongTaskManager, PermanentTaskFailure, StatusPage, TaskInfo
from gaetk_longtask.testing import StartedTask
from tests.integration.examples.conftest import AN_APP, Example
from tests.pages import blocks, page_named

PREPARED = f"{AN_APP}\nfrom gaetk_longtask import LongRunningTaskHandler"
BLOCKS, LAYOUT, DASHBOARD, OWN_MARKUP = blocks(page_named("own-page.md"), "html+jinja")
OWN_LAYOUT = "<!doctype html><title>Example</title>{% block head %}{% endblock %}{% block main %}{% endblock %}"
TEMPLATES = {
    "blocks": {"waiting.html": BLOCKS},
    "layout": {"waiting.html": LAYOUT, "layout.html": OWN_LAYOUT},
    "base": {
        "waiting.html": "{% extends 'gaetk_longtask/status.html' %}",
        "gaetk_longtask/base.html": "<p>Example Ltd</p>{% block content %}{% endblock %}",
    },
    "own markup": {"waiting.html": OWN_MARKUP},
}
EXPECTED = {
    "blocks": ("longtask.js", "brand.css", "logo.svg"),
    "layout": ("<title>Example</title>", "longtask.js", "longtask.css"),
    "base": ("<p>Example Ltd</p>",),
    "own markup": ('<main data-longtask="/report?', "longtask.js"),
}
TITLE = 'Umsätze <März> & "Łódź"'
STATES = ("ready", "started", "error", "failed", "cancelled", "done")
#: Shows the page of a report in a state, in an application with templates.
Show = Callable[[str, dict[str, str]], str]


@pytest.fixture
def show(example: Example) -> Show:
    """A function that returns the waiting page in a state."""

    def show(state: str, templates: dict[str, str], **attributes: Any) -> str:
        runner, names = example("own-page.md", PREPARED)
        pages: list[str] = []

        def execute_task(self: LongRunningTaskHandler, parameters: Any) -> str:
            self.log_progress(TITLE, 1, 4)
            if state == "started":
                pages.append(runner.client.get(url).text)
            if state == "failed":
                raise PermanentTaskFailure(TITLE)
            if state == "error":
                raise ValueError(TITLE)
            return TITLE

        cls = type("OwnReport", (names["Report"],), {"title": TITLE, "execute_task": execute_task} | attributes)
        runner.app.add_url_rule("/report", view_func=cls.as_view("report"))
        runner.app.jinja_loader = DictLoader(templates)
        task = runner.start("/report")
        url = f"{task.url}&_longtaskrefresh=off"
        if state == "cancelled":
            task.cancel()
        elif state != "ready":
            runner.deliver()
        answer = runner.client.get(url)
        assert (answer.status_code, task.status) == (200, "done" if state == "started" else state)
        return pages[0] if pages else answer.text

    return show


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("templates", TEMPLATES)
def test_its_templates_show_every_state(show: Show, templates: str, state: str) -> None:
    page = show(state, TEMPLATES[templates])
    assert all(part in page for part in EXPECTED[templates])
    assert "<März>" not in page
    assert "<article " in page
    if state in ("ready", "started"):
        assert "Umsätze &lt;März&gt; &amp; &#34;Łódź&#34;" in page


@pytest.mark.parametrize("state", STATES)
def test_render_status_may_render_the_template(show: Show, state: str) -> None:
    def render_status(self: LongRunningTaskHandler, display: StatusPage, task: TaskInfo) -> str:
        assert task.status.value == display.status.value
        return render_template("own.html", page=display)

    page = show(state, {"own.html": LAYOUT, "layout.html": OWN_LAYOUT}, render_status=render_status)
    assert all(part in page for part in EXPECTED["layout"])


def test_a_dashboard_leads_to_the_task(example: Example) -> None:
    runner, names = example("own-page.md", PREPARED)

    class Report(names["Report"]):  # type: ignore[misc]  # made by the page
        status_template = LongRunningTaskHandler.status_template

        def execute_task(self, parameters: Any) -> str:
            return "done"

    runner.app.add_url_rule("/report/<city>", view_func=Report.as_view("report"))
    with runner.app.test_request_context(base_url="https://shop.example.com"):
        task = LongTaskManager.start("report", {}, url_values={"city": "Łódź & Köln"})
        section = render_template_string(DASHBOARD, task=task)
    assert section.count(escape(task.url)) == 2
    assert task.url.startswith("https://shop.example.com/report/")
    page: StartedTask = runner.started(task)
    runner.deliver_all()
    assert page.status == "done"
