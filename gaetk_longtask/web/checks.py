"""Checks a handler when its class or view is created, so that mistakes do not wait for the first request."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from gaetk_longtask.foreign import is_async

#: App Engine's limits for a request: on automatic scaling, and on basic or manual scaling (its documentation).
_LONGEST_AUTOMATIC_TIME, _LONGEST_TIME = timedelta(minutes=10), timedelta(hours=24)
_LONGEST_KEPT = timedelta(days=36_525)
#: What a handler's author may override, and the library calls without awaiting it.
HOOKS = (
    "execute_task",
    "display_result",
    "prepare_task",
    "render_status",
    "may_access",
    "get_user_id",
    "unique_key",
    "task_ended",
    "form_url",
)


def check_attributes(cls: Any) -> None:
    """Raise `TypeError` if an attribute of a handler class has an invalid type or value."""
    for problem in _problems(cls):
        raise TypeError(f"{cls.__qualname__}.{problem}")


def _problems(cls: Any) -> Iterator[str]:
    """Yield what is wrong with a class; only the first one counts, because each check relies on those before it."""
    for attribute in ("time_limit", "keep_result"):
        value = getattr(cls, attribute)
        if not isinstance(value, timedelta) or value <= timedelta(0):
            yield f"{attribute} must be a positive datetime.timedelta, not {value!r}."
    if cls.keep_result > _LONGEST_KEPT:
        yield "keep_result is more than 100 years. Choose a shorter time, such as timedelta(days=30)."
    if cls.time_limit > _LONGEST_TIME:
        yield "time_limit is more than 24 hours, App Engine's limit. Shorten it and call checkpoint()."
    if cls.time_limit > _LONGEST_AUTOMATIC_TIME and cls.service is None:
        yield (
            "time_limit is more than 10 minutes, App Engine's limit for a request on automatic scaling. "
            "Use at most 10 minutes and call checkpoint(). Or set service to a service with basic or manual scaling, "
            f"for instance {cls.__qualname__}.service = 'worker', or 'default' if it is the only one."
        )
    if type(cls.max_attempts) is not int or cls.max_attempts < 1:
        yield f"max_attempts must be an int of at least 1, not {cls.max_attempts!r}."
    serializer = cls.serializer
    if isinstance(serializer, type) or not all(
        callable(getattr(serializer, name, None)) for name in ("dumps", "loads")
    ):
        yield f"serializer must be a serializer, such as JSONSerializer(), not {serializer!r}."
    for attribute in ("start_methods", "bookmark_parameters"):
        value = getattr(cls, attribute)
        if isinstance(value, str):
            yield f"{attribute} must be a collection of names, not one string; write ({value!r},)."
    unknown = set(cls.start_methods) - {"GET", "POST"}
    if unknown or not cls.start_methods:
        yield f"start_methods must contain GET, POST or both, not {sorted(unknown)}."
    form_url = inspect.getattr_static(cls, "form_url")
    if form_url is not None and not isinstance(form_url, str) and not hasattr(form_url, "__get__"):
        yield f"form_url must be a URL, the name of an endpoint or a method, not {form_url!r}."
    blank = isinstance(cls.title, (bytes, list, tuple)) or (isinstance(cls.title, str) and not cls.title.strip())
    if not isinstance(cls.title, property) and (cls.title is None or callable(cls.title) or blank):
        yield f"title must be a text, not {cls.title!r}."
    if not cls.init_every_request:
        yield "init_every_request must stay True, because a handler is the state of one request."


def check_hooks(cls: Any) -> None:
    """Raise `TypeError` if a hook is async: its coroutine would count as the answer, and as true."""
    for name in HOOKS:
        if is_async(inspect.getattr_static(cls, name)):
            raise TypeError(
                f"{cls.__qualname__}.{name} must not be async. Write a plain function, and call asyncio.run() in it."
            )


def check_work(cls: Any, *, placeholder: Any) -> None:
    """Raise `TypeError` if ``execute_task`` is still the `placeholder`."""
    if cls.execute_task is placeholder:
        raise TypeError(f"{cls.__qualname__} has no execute_task(self, parameters). Define it to do the work.")


def takes_task(display_result: Any) -> bool:
    """Return whether ``display_result`` accepts `task`: it does in the original library, but not in the article."""
    try:
        inspect.signature(display_result).bind(None, None, None, None)
    except TypeError:
        return False
    return True
