"""Renders the library's pages in a Jinja environment of their own, which the application's options do not change."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
from flask import Flask, before_render_template, current_app, template_rendered
from jinja2 import defaults

from gaetk_longtask.web.languages.language import Language

_ENVIRONMENTS = "gaetk_longtask.templates"  #: the key of the environments by language in ``app.extensions``
_PLACEHOLDER = r'"{}"|page\.language\.percent\("{}"\)'  #: what `longtask.js` replaces with a value
#: An expression in our templates that depends on the language alone.
_CONSTANT = re.compile(
    rf'page\.gettext\("([^"]*)"(?:, (\w+)=({_PLACEHOLDER}))?\)'
    r'|page\.language\.(?:code|direction|percent\("{}"\)|units\.(?:seconds|minutes|hours))'
)
_TEMPLATES = Path(__file__).parents[1] / "templates"


def render(name: str, **context: Any) -> str:
    """Render a template as Flask does, with the application's context processors, but in our environment.

    The context has a `Page` as ``page``.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001  # Flask's documented way
    app.update_template_context(context)
    template = environment(app, context["page"].language).get_template(name)
    before_render_template.send(app, _async_wrapper=app.ensure_sync, template=template, context=context)
    text = template.render(context)
    template_rendered.send(app, _async_wrapper=app.ensure_sync, template=template, context=context)
    return text


def environment(app: Flask, language: Language) -> jinja2.Environment:
    """Return the application's environment for our pages in a language.

    It shares the filters, tests, globals, extensions and templates of the application's own environment, so a template
    of the application can replace or extend one of ours. It has Jinja's usual syntax and always escapes.
    """
    environments: dict[Any, jinja2.Environment] = app.extensions.setdefault(_ENVIRONMENTS, {})
    found = environments.get(language.key)
    if found is None:
        found = environments[language.key] = _overlay(app.jinja_env, language)
    return found


class _InOneLanguage(jinja2.BaseLoader):
    """Puts what depends on the language alone into our templates, once, before a template is compiled.

    Templates of the application stay as they are.
    """

    def __init__(self, loader: jinja2.BaseLoader, language: Language) -> None:
        self._loader = loader
        self._language = language
        self._known = {
            '"{}"': "{}",
            "page.language.code": language.code,
            "page.language.direction": language.direction,
            'page.language.percent("{}")': language.percent("{}"),
            **{f"page.language.units.{name}": forms for name, forms in language.units.items()},
        }

    def get_source(self, environment: jinja2.Environment, template: str) -> Any:
        source, path, is_current = self._loader.get_source(environment, template)
        if path and _TEMPLATES in Path(path).parents:
            source = _CONSTANT.sub(self._literal, source)
        return source, path, is_current

    def _literal(self, found: re.Match[str]) -> str:
        message, name, value = found.groups()
        if message is None:
            text = self._known[found[0]]
        else:
            text = self._language.gettext(message, **({name: self._known[value]} if name else {}))
        return '"' + text.replace("\\", r"\\").replace('"', r"\"") + '"'


def _overlay(env: jinja2.Environment, language: Language) -> jinja2.Environment:
    ours = jinja2.FileSystemLoader(_TEMPLATES)
    loader = jinja2.ChoiceLoader([env.loader, ours]) if env.loader else ours
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
        loader=_InOneLanguage(loader, language),
        bytecode_cache=None,  # the application's is for another syntax
        enable_async=False,
    )
