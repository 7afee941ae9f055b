"""The parameters of a task in a visitor's request: its fields, without ours and without the CSRF token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from flask import Request, current_app
from werkzeug.datastructures import MultiDict

from gaetk_longtask.web.problems import ProblemError

#: The original's limit for a parameter that goes into a bookmark, in characters, and ours for all of them.
_LONGEST_VALUE, _LONGEST_BOOKMARK = 512, 1500


def parameters_of(request: Request) -> dict[str, Any]:
    """Return the query, form and file fields of a request, a file as `bytes`; raise `ProblemError` for a JSON body."""
    if request.mimetype == "application/json":
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "This URL accepts form fields, not JSON. To accept JSON, override prepare_task.",
        )
    body = request.form.to_dict(flat=False)
    for name, files in request.files.lists():
        body[name] = body.get(name, []) + [file.read() for file in files]
    return gather([request.args.to_dict(flat=False), body], csrf_field())


def gather(sources: Iterable[Mapping[str, list[Any]]], csrf_name: str) -> dict[str, Any]:
    """Make parameters of fields: a later source hides a name of an earlier one, repetition becomes a list."""
    parameters: dict[str, Any] = {}
    for source in sources:
        for name, values in source.items():
            if is_parameter(name, csrf_name):
                parameters[name] = values[0] if len(values) == 1 else values
    return parameters


def given_in_url(request: Request) -> list[tuple[str, str]]:
    """Return the parameters that a request's URL carries besides our own fields."""
    return [item for item in request.args.items(multi=True) if is_parameter(item[0], csrf_field())]


def bookmark(
    query: MultiDict[str, str], form: MultiDict[str, str], form_names: Iterable[str], csrf_name: str
) -> list[tuple[str, str]]:
    """Choose the parameters that make a status page's URL meaningful: short ones, and of the form those named."""
    named = frozenset(form_names)
    offered = [item for item in query.items(multi=True) if item[0] not in form]
    offered += [item for item in form.items(multi=True) if item[0] in named]
    chosen: list[tuple[str, str]] = []
    for name, value in offered:
        fits = len(value) < _LONGEST_VALUE and len(urlencode([*chosen, (name, value)])) <= _LONGEST_BOOKMARK
        if fits and is_parameter(name, csrf_name):
            chosen.append((name, value))
    return chosen


def is_parameter(name: str, csrf_name: str) -> bool:
    """Return whether a field is the visitor's own: neither one of ours nor the application's CSRF token."""
    return not name.startswith("_") and name != csrf_name


def csrf_field() -> str:
    """Return the name of the form field that holds the application's CSRF token (Flask-WTF's, for example)."""
    return str(current_app.config.get("WTF_CSRF_FIELD_NAME", "csrf_token"))
