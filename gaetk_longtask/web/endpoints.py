"""Finds the application's handlers by endpoint, and starts their tasks from code."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from flask import current_app, has_request_context, request, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BuildError

from gaetk_longtask import starting
from gaetk_longtask.exceptions import LongTaskError
from gaetk_longtask.models import LongTask
from gaetk_longtask.payloads.serializers import JSONSerializer, Serializer
from gaetk_longtask.starting import Origin
from gaetk_longtask.web.current import current_runtime, handler_class
from gaetk_longtask.web.hooks import Hooks, unique_key
from gaetk_longtask.web.requests import quoted_path


def handlers() -> dict[str, type[Hooks]]:
    """Return the current application's handlers by endpoint, in alphabetical order."""
    found = {name: handler_class(view) for name, view in sorted(current_app.view_functions.items())}
    return {name: cls for name, cls in found.items() if cls is not None}


def serializer(endpoint: str) -> Serializer:
    """Return a handler's serializer; `JSONSerializer` if there is no such handler in this application."""
    cls = handlers().get(endpoint)
    return cls.serializer if cls else JSONSerializer()


def converted(endpoint: str, texts: dict[str, str]) -> dict[str, Any]:
    """Convert texts as the endpoint's URL rule does in a request; return them unchanged if they do not fit it."""
    adapter = current_app.url_map.bind("localhost")
    try:
        found, values = adapter.match(unquote(urlsplit(adapter.build(endpoint, texts)).path))
    except (BuildError, HTTPException, ValueError):  # `start` raises an error for them
        return dict(texts)
    return texts | (dict(values) if found == endpoint else {})


def start(
    endpoint: str, parameters: Any, *, url_values: Mapping[str, Any] | None = None, created_by: str | None = None
) -> LongTask:
    """Start a task, as `LongTaskManager.start` documents."""
    runtime = current_runtime()
    view: Any = current_app.view_functions.get(endpoint)
    cls = handler_class(view)
    if cls is None:
        raise LongTaskError(unknown(endpoint))
    values = dict(url_values or {})
    if isinstance(parameters, dict):
        parameters = parameters | values
    try:
        path, base_url = _place(endpoint, values)
    except (BuildError, ValueError) as exc:
        message = f"The URL of {endpoint!r} can't be built. Check that url_values has all its arguments. {exc}"
        raise LongTaskError(message) from exc
    host, base_url = urlsplit(base_url).netloc, runtime.config.base_url or base_url
    origin = Origin(endpoint=endpoint, path=path, base_url=base_url, method="GET", created_by=created_by)
    with runtime.ndb_context.joining():
        key, shared = unique_key(view.make_handler(), parameters), cls.unique_key_shared
        return starting.start(
            runtime, origin, parameters, cls.options(runtime.config), key=key, shared=shared, host=host
        )


def unknown(endpoint: str) -> str:
    """Return the error message for an unknown endpoint, with the closest known one."""
    near = difflib.get_close_matches(endpoint, handlers(), n=1)
    hint = f"Did you mean {near[0]!r}?" if near else "Use the name that you passed to as_view()."
    return f"There is no long-running task at the endpoint {endpoint!r}. {hint}"


def _place(endpoint: str, values: dict[str, Any]) -> tuple[str, str]:
    """Return path and base URL of a handler, inside or outside of a request."""
    if has_request_context():
        return _path_of(url_for(endpoint, **values)), request.host_url.rstrip("/")
    server, scheme = current_app.config["SERVER_NAME"], current_app.config["PREFERRED_URL_SCHEME"]
    adapter = current_app.url_map.bind(server or "localhost", script_name=current_app.config["APPLICATION_ROOT"])
    path = _path_of(adapter.build(endpoint, values, force_external=True))
    return path, f"{scheme}://{server}" if server else ""


def _path_of(url: str) -> str:
    return quoted_path(unquote(urlsplit(url).path))
