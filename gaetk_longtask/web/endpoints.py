"""Finds the application's handlers by endpoint, and starts their tasks from code."""

from __future__ import annotations

import difflib
import logging
import reprlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from flask import current_app

from gaetk_longtask import starting
from gaetk_longtask.exceptions import LongTaskError
from gaetk_longtask.models import LongTask
from gaetk_longtask.payloads.serializers import JSONSerializer, Serializer
from gaetk_longtask.queues import LONGEST_DELAY
from gaetk_longtask.starting import Origin, is_user_id
from gaetk_longtask.web.current import current_runtime, handler_class
from gaetk_longtask.web.hooks import Hooks, title_of, unique_key
from gaetk_longtask.web.places import place_for

log = logging.getLogger(__name__)


def handlers() -> dict[str, type[Hooks]]:
    """Return the current application's handlers by endpoint, in alphabetical order."""
    found = {name: handler_class(view) for name, view in sorted(current_app.view_functions.items())}
    return {name: cls for name, cls in found.items() if cls is not None}


def serializer(endpoint: str) -> Serializer:
    """Return a handler's serializer; `JSONSerializer` if there is no such handler in this application."""
    cls = handlers().get(endpoint)
    return cls.serializer if cls else JSONSerializer()


def start(
    endpoint: str,
    parameters: Any,
    *,
    url_values: Mapping[str, Any] | None = None,
    created_by: str | None = None,
    delay: timedelta | None = None,
) -> LongTask:
    """Start a task, as `LongTaskManager.start` documents."""
    runtime = current_runtime()
    _check(endpoint, url_values, created_by)
    _check_delay(delay)
    view: Any = current_app.view_functions.get(endpoint)
    cls = handler_class(view)
    if cls is None:
        raise LongTaskError(unknown(endpoint))
    given = dict(url_values or {})
    options = cls.options(runtime.config)
    place, values = place_for(endpoint, given, in_parts=options.parallel is not None)
    if isinstance(parameters, dict):
        parameters = parameters | given | values
    base_url = runtime.config.base_url or place.base_url
    if not base_url:
        log.warning("the task for %r has no absolute URL, set LONGTASK_BASE_URL or SERVER_NAME", endpoint)
    origin = Origin(
        endpoint=endpoint,
        path=place.path,
        queue_path=place.queue_path,
        base_url=base_url,
        method="GET",
        created_by=created_by,
    )
    host = urlsplit(place.base_url).netloc
    with runtime.ndb_context.joining():
        handler = view.make_handler()
        title, key = title_of(handler, parameters), unique_key(handler, parameters)
        return starting.start(
            runtime,
            origin,
            parameters,
            options,
            title=title,
            key=key,
            shared=cls.unique_key_shared,
            host=host,
            delay=delay or timedelta(0),
        )


def _check(endpoint: object, url_values: object, created_by: object) -> None:
    """Raise `LongTaskError` if an argument has an impossible value."""
    if not is_user_id(created_by) or created_by == "":  # such a task would be everyone's who is not known
        message = f"created_by must be None or a str of 1 to 1,500 bytes, not {reprlib.repr(created_by)}."
        raise LongTaskError(message)
    if not isinstance(endpoint, str) or not isinstance(url_values, Mapping | None):
        shown = f"{reprlib.repr(endpoint)} and {reprlib.repr(url_values)}"
        raise LongTaskError(f"endpoint must be a str and url_values a dict, not {shown}.")
    if options := [name for name in url_values or () if str(name).startswith("_")]:  # Flask's url_for would obey them
        raise LongTaskError(f"url_values must have only the arguments of the URL rule, not {', '.join(options)}.")


def _check_delay(delay: object) -> None:
    """Raise `TypeError` or `ValueError` unless a start can be delayed by this."""
    if delay is None:
        return
    if not isinstance(delay, timedelta):
        raise TypeError(f"delay must be a datetime.timedelta or None, not {reprlib.repr(delay)}.")
    if not timedelta(0) <= delay <= LONGEST_DELAY:
        raise ValueError(f"delay must be between 0 and {LONGEST_DELAY.days} days, Cloud Tasks' limit, not {delay}.")


def unknown(endpoint: str) -> str:
    """Return the error message for an unknown endpoint, with the closest known one."""
    near = difflib.get_close_matches(endpoint, handlers(), n=1)
    hint = f"Did you mean {near[0]!r}?" if near else "Use the name that you passed to as_view()."
    return f"There is no long-running task at the endpoint {endpoint!r}. {hint}"
