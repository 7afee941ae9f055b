"""Reads a task's parameters from a visitor's request: its fields, without the library's and the CSRF token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from flask import Request, current_app
from werkzeug.datastructures import MultiDict

from gaetk_longtask.info import PARTIAL
from gaetk_longtask.web.forms import check_type

#: The longest parameter in a bookmark (as in the original library), and the longest bookmark, both in characters.
_LONGEST_VALUE, _LONGEST_BOOKMARK = 512, 1500


def parameters_of(request: Request) -> dict[str, Any]:
    """Return the query, form and file fields of a request, files as `bytes`; raise `ProblemError` for another body."""
    check_type(request)
    body = request.form.to_dict(flat=False)
    for name, files in request.files.lists():
        body[name] = body.get(name, []) + [file.read() for file in files]
    return gather([request.args.to_dict(flat=False), body], csrf_field())


def gather(sources: Iterable[Mapping[str, list[Any]]], csrf_name: str) -> dict[str, Any]:
    """Return the parameters in all sources: a later source replaces a name, a repeated field becomes a list."""
    parameters: dict[str, Any] = {}
    for source in sources:
        for name, values in source.items():
            if is_parameter(name, csrf_name):
                parameters[name] = values[0] if len(values) == 1 else values
    return parameters


def given_in_url(request: Request) -> list[tuple[str, str]]:
    """Return the parameters in a request's URL, without the library's own fields."""
    return [item for item in request.args.items(multi=True) if is_parameter(item[0], csrf_field())]


def kept_in_url(request: Request) -> list[tuple[str, str]]:
    """Return what every URL of a task keeps: the parameters, and the mark that some are missing."""
    return given_in_url(request) + ([PARTIAL] if is_partial(request) else [])


def is_partial(request: Request) -> bool:
    """Return whether a task's URL does not have all parameters of its start, so it can't start an equal task."""
    return PARTIAL[0] in request.args


def bookmark(
    query: MultiDict[str, str], form: MultiDict[str, str], form_names: Iterable[str], csrf_name: str
) -> list[tuple[str, str]]:
    """Return the parameters for a status page's URL: short ones, and of the form only those in `form_names`."""
    named = frozenset(form_names)
    offered = [item for item in query.items(multi=True) if item[0] not in form]
    offered += [item for item in form.items(multi=True) if item[0] in named]
    chosen: list[tuple[str, str]] = []
    room = _LONGEST_BOOKMARK
    for name, value in offered:
        # The lengths are compared before anything is quoted, because a form may have a field of megabytes.
        if len(value) >= _LONGEST_VALUE or len(name) + len(value) >= room or not is_parameter(name, csrf_name):
            continue
        needed = len(urlencode([(name, value)])) + bool(chosen)  # the & between two of them
        if needed <= room:
            chosen.append((name, value))
            room -= needed
    return chosen


def is_parameter(name: str, csrf_name: str) -> bool:
    """Return whether a field is a parameter: not one of the library's fields and not the CSRF token."""
    return not name.startswith("_") and name != csrf_name


def csrf_field() -> str:
    """Return the name of the form field that holds the application's CSRF token (Flask-WTF's, for example)."""
    return str(current_app.config.get("WTF_CSRF_FIELD_NAME", "csrf_token"))
