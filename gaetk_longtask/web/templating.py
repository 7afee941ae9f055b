"""Renders the library's pages in a Jinja environment of their own, which the application's options do not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
from flask import Flask, before_render_template, current_app, template_rendered
from jinja2 import defaults

_ENVIRONMENT = "gaetk_longtask.templates"  #: the key of the environment in ``app.extensions``
_TEMPLATES = Path(__file__).parents[1] / "templates"


def render(name: str, **context: Any) -> str:
    """Render a template as Flask does, with the application's context processors, but in our environment."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001  # Flask's documented way
    app.update_template_context(context)
    template = environment(app).get_template(name)
    before_render_template.send(app, _async_wrapper=app.ensure_sync, template=template, context=context)
    text = template.render(context)
    template_rendered.send(app, _async_wrapper=app.ensure_sync, template=template, context=context)
    return text


def environment(app: Flask) -> jinja2.Environment:
    """Return the application's environment for our pages.

    It shares the filters, tests, globals, extensions and templates of the application's own environment, so a template
    of the application can replace or extend one of ours. It has Jinja's usual syntax and always escapes.
    """
    found = app.extensions.get(_ENVIRONMENT)
    if found is None:
        found = app.extensions[_ENVIRONMENT] = _overlay(app.jinja_env)
    return found


def _overlay(env: jinja2.Environment) -> jinja2.Environment:
    ours = jinja2.FileSystemLoader(_TEMPLATES)
    return env.overlay(
        block_start_string=defaults.BLOCK_START_STRING,
        block_end_string=defaults.BLOCK_END_STRING,
        variable_start_string=defaults.VARIABLE_START_STRING,
        variable_end_string=defaults.VARIABLE_END_STRING,
        comment_start_string=defaults.COMMENT_START_STRING,
        comment_end_string=defaults.COMMENT_END_STRING,
        line_statement_prefix=defaults.LINE_STATEMENT_PREFIX,
        line_comment_prefix=defaults.LINE_COMMENT_PREFIX,
        trim_blocks=defaults.TRIM_BLOCKS,
        lstrip_blocks=defaults.LSTRIP_BLOCKS,
        newline_sequence=defaults.NEWLINE_SEQUENCE,
        keep_trailing_newline=defaults.KEEP_TRAILING_NEWLINE,
        undefined=jinja2.Undefined,
        finalize=None,
        autoescape=True,
        loader=jinja2.ChoiceLoader([env.loader, ours]) if env.loader else ours,
        bytecode_cache=None,  # the application's is for another syntax
        enable_async=False,
    )
