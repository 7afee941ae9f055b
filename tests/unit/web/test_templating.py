"""Our pages look the same under every option of the application's Jinja environment."""

from __future__ import annotations

import gettext
import html
from typing import Any

import jinja2
import pytest
from flask import Flask, template_rendered
from markupsafe import escape

from gaetk_longtask import LongTaskManager
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue
from gaetk_longtask.web.languages.language import Language
from gaetk_longtask.web.pages.base import StartPage
from gaetk_longtask.web.templating import environment, render
from tests.unit.conftest import NOW, snapshot_of
from tests.unit.web.pages.test_status_page import page_of


def app_with(**options: Any) -> Flask:
    class OwnFlask(Flask):
        jinja_options = options

    app = OwnFlask("tests")
    LongTaskManager(app, queue=InMemoryQueue(), progress=InMemoryProgressStore())
    return app


def start_page(app: Flask) -> str:
    fields = [("a", "<b>")]
    page = StartPage(title="<Report>", method="post", action="/report", fields=fields, shown=fields, hidden=1)
    with app.test_request_context("/report"):
        return render("gaetk_longtask/start.html", page=page)


@pytest.mark.parametrize(
    "options",
    [
        {"block_start_string": "<%", "block_end_string": "%>"},
        {"variable_start_string": "[[", "variable_end_string": "]]"},
        {"comment_start_string": "<!", "comment_end_string": ">"},
        {"line_statement_prefix": "<p", "line_comment_prefix": "<d"},
        {"trim_blocks": True, "lstrip_blocks": True, "newline_sequence": "\r\n", "keep_trailing_newline": True},
        {"autoescape": False},
        {"autoescape": lambda name: False},
        {"undefined": jinja2.StrictUndefined},
        {"finalize": lambda value: f"!{value}"},
        {"enable_async": True},
        {"loader": jinja2.DictLoader({})},
        {"bytecode_cache": jinja2.FileSystemBytecodeCache()},
    ],
    ids="+".join,
)
def test_the_applications_options_do_not_change_our_pages(options: dict[str, Any]) -> None:
    page = start_page(app_with(**options))
    assert page == start_page(app_with())
    assert 'value="&lt;b&gt;"' in page


def test_a_template_of_the_application_replaces_ours() -> None:
    app = app_with(
        loader=jinja2.DictLoader({"gaetk_longtask/base.html": "{{ 'own' }} {% block content %}{% endblock %}"})
    )
    assert start_page(app).startswith("own ")


def test_a_template_of_the_application_extends_ours_with_the_applications_filters_and_globals() -> None:
    source = """{% extends "gaetk_longtask/status.html" %}
{% block header %}{{ shout("x"|twice) }} {{ brand }} {{ config.BRAND }} {{ request.path }} {{ g.user }}{% endblock %}"""
    app = app_with(loader=jinja2.DictLoader({"waiting.html": source}))
    app.config["BRAND"] = "<Ltd>"
    app.jinja_env.globals["shout"] = str.upper

    @app.context_processor
    def brand() -> dict[str, str]:
        return {"brand": "<brand>"}

    with app.test_request_context("/here"):
        environment(app, Language())  # what is added later counts as well
        app.jinja_env.filters["twice"] = lambda text: text * 2
        page = render("waiting.html", page=page_of(snapshot_of(requested_at=NOW)))
    assert "XX &lt;brand&gt; &lt;Ltd&gt; /here" in page
    assert "Making the report" in page


@pytest.mark.parametrize("token", ["to<ken", lambda: "to<ken"], ids=["text", "function"])
@pytest.mark.parametrize("where", ["globals", "context processor"])
def test_a_csrf_token_may_be_a_text_or_a_function(token: Any, where: str) -> None:
    app = app_with()
    if where == "globals":
        app.jinja_env.globals["csrf_token"] = token
    else:
        app.context_processor(lambda: {"csrf_token": token})
    assert 'name="csrf_token" value="to&lt;ken"' in start_page(app)


def test_rendering_sends_flasks_signal() -> None:
    app = app_with()
    names: list[str] = []

    def remember(sender: Flask, template: Any, context: Any, **extra: Any) -> None:
        names.append(template.name)

    with template_rendered.connected_to(remember, app):
        start_page(app)
    assert names == ["gaetk_longtask/start.html"]


# Languages.


class Odd(gettext.NullTranslations):
    """Texts with everything that means something in HTML or to Jinja."""

    def gettext(self, message: str) -> str:
        return message + ODD


ODD = """ "{{ 6 * 7 }}" '{% x %}' {# y #} \\n \\ <é😀>
"""


def waiting_page(app: Flask, language: Language) -> str:
    with app.test_request_context("/here"):
        return render("gaetk_longtask/status.html", page=page_of(snapshot_of(requested_at=NOW), language=language))


def test_each_language_has_its_own_texts_whichever_is_asked_for_first() -> None:
    app, german = app_with(), Language.best_of(["de"])
    for _ in range(2):
        assert "Stop refreshing" in waiting_page(app, Language())
        page = waiting_page(app, german)
        assert "Stop refreshing" not in page
        assert '<html lang="de"' in page


def test_two_catalogues_of_one_language_are_kept_apart() -> None:
    app = app_with()
    assert ODD not in html.unescape(waiting_page(app, Language()))
    assert "Stop refreshing" + ODD in html.unescape(waiting_page(app, Language(_catalogue=Odd())))


def test_a_translation_is_a_text_and_never_markup_or_a_part_of_the_template() -> None:
    page = waiting_page(app_with(), Language(_catalogue=Odd()))
    assert str(escape("This page refreshes automatically." + ODD)) in page
    assert "<é" not in page


def test_texts_in_a_template_of_the_application_are_translated_for_each_page() -> None:
    source = '{% set page = {"gettext": "".join} %}{{ page.gettext("ab") }}'
    app = app_with(loader=jinja2.DictLoader({"own.html": source}))
    with app.test_request_context("/here"):
        assert render("own.html", page=page_of(snapshot_of())) == "ab"
