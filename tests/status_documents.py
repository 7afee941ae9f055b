"""Checks every status document that a test's applications send against the published schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask, Response, request, request_finished
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

import gaetk_longtask
from gaetk_longtask.web.current import handler_class

SCHEMA: dict[str, Any] = json.loads(
    Path(gaetk_longtask.__file__).with_name("static").joinpath("status.schema.json").read_text(encoding="utf-8")
)
_VALIDATOR = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)


def trouble_with(document: Any) -> str | None:
    """Return what is wrong with a status document, or None."""
    error = best_match(_VALIDATOR.iter_errors(document))
    return None if error is None else f"{error.json_path}: {error.message} in {document}"


@contextmanager
def watched() -> Iterator[list[str]]:
    """Collect what is wrong with the status documents that this process's applications send."""
    found: list[str] = []

    def check(sender: Flask, response: Response, **more: Any) -> None:
        found.extend(filter(None, map(trouble_with, documents_in(sender, response))))

    with request_finished.connected_to(check):
        yield found


def documents_in(app: Flask, response: Response) -> list[Any]:
    """Return the status documents of an answer to the current request, unless the application itself has answered."""
    is_ours = response.headers.get("X-Robots-Tag") == "noindex"
    is_json = response.status_code in (200, 202) and response.mimetype == "application/json"
    if not is_ours or not is_json or request.method == "HEAD":
        return []
    if request.endpoint == "longtask.mine":
        return list(response.json["tasks"])
    is_handlers = handler_class(app.view_functions.get(request.endpoint or "")) is not None
    is_result = request.args.get("_longtaskjob") == "showresult"
    return [response.json] if is_handlers and not is_result else []
