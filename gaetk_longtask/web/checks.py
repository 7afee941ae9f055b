"""Checks a handler when its class or view is created, so that mistakes do not wait for the first request.

The names of phases and facts are also checked when the work uses them.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import timedelta
from math import isfinite
from typing import Any

from gaetk_longtask.config import QUEUE_NAME, SERVICE_NAME
from gaetk_longtask.exceptions import LongTaskError
from gaetk_longtask.foreign import is_async
from gaetk_longtask.progress.facts import LONGEST_NAME, MOST_FACTS
from gaetk_longtask.web.pages.base import LONGEST_TITLE

#: App Engine's limits for a request: on automatic scaling, and on basic or manual scaling (its documentation).
_LONGEST_AUTOMATIC_TIME, _LONGEST_TIME = timedelta(minutes=10), timedelta(hours=24)
_NO_TEXTS = (bytes, bytearray, int, float, list, tuple, dict, set, frozenset)  #: what is often taken for a title
_LONGEST_KEPT = timedelta(days=36_525)
_MOST_PHASES, _LONGEST_PHASE = 20, 60
_MOST_PARALLEL = 100
_IN_PARTS = ("split_task", "execute_part", "join_parts")
#: What a handler's author may override, and the library calls without awaiting it.
HOOKS = (
    "execute_task",
    "split_task",
    "execute_part",
    "join_parts",
    "display_result",
    "prepare_task",
    "render_status",
    "may_access",
    "get_user_id",
    "unique_key",
    "title_of",
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
    for attribute, syntax in (("queue", QUEUE_NAME), ("service", SERVICE_NAME)):
        name = getattr(cls, attribute)
        if name is not None and not syntax.fits(name):
            yield f"{attribute} must be None or {syntax.needed}; not {name!r}."
    if cls.time_limit > _LONGEST_AUTOMATIC_TIME and cls.service is None:
        yield (
            "time_limit is more than 10 minutes, App Engine's limit for a request on automatic scaling. "
            "Use at most 10 minutes and call checkpoint(). Or set service to a service with basic or manual scaling, "
            f"for instance {cls.__qualname__}.service = 'worker', or 'default' if it is the only one."
        )
    if type(cls.max_attempts) is not int or cls.max_attempts < 1:
        yield f"max_attempts must be an int of at least 1, not {cls.max_attempts!r}."
    if type(cls.parallel) is not int or not 1 <= cls.parallel <= _MOST_PARALLEL:
        yield f"parallel must be an int from 1 to {_MOST_PARALLEL}, not {cls.parallel!r}."
    if not _is_property(cls, "total_steps") and not _is_number(cls.total_steps):
        yield f"total_steps must be a number of at least 0, not {cls.total_steps!r}."
    if type(cls.unique_key_shared) is not bool:
        yield f"unique_key_shared must be True or False, not {cls.unique_key_shared!r}."
    template = cls.status_template
    if not _is_property(cls, "status_template") and not (isinstance(template, str) and template.strip()):
        yield f"status_template must be the name of a template, not {template!r}."
    serializer = cls.serializer
    made = not isinstance(serializer, type) and isinstance(getattr(serializer, "name", None), str)
    if not made or not all(callable(getattr(serializer, name, None)) for name in ("dumps", "loads")):
        yield f"serializer must be a serializer, such as JSONSerializer(), not {serializer!r}."
    for attribute in ("start_methods", "bookmark_parameters"):
        value = getattr(cls, attribute)
        if isinstance(value, str):
            yield f"{attribute} must be a collection of names, not one string; write ({value!r},)."
        if not isinstance(value, Collection) or not all(isinstance(name, str) for name in value):
            yield f"{attribute} must be a collection of names, such as a tuple, not {value!r}."
    unknown = set(cls.start_methods) - {"GET", "POST"}
    if unknown or not cls.start_methods:
        yield f"start_methods must contain GET, POST or both, not {sorted(unknown)}."
    form_url = inspect.getattr_static(cls, "form_url")
    blank = isinstance(form_url, str) and not form_url.strip()
    if blank or (form_url is not None and not isinstance(form_url, str) and not hasattr(form_url, "__get__")):
        yield f"form_url must be a URL, the name of an endpoint or a method, not {form_url!r}."
    blank = isinstance(cls.title, _NO_TEXTS) or (isinstance(cls.title, str) and not cls.title.strip())
    if not isinstance(cls.title, property) and (cls.title is None or callable(cls.title) or blank):
        yield f"title must be a text, not {cls.title!r}."
    if isinstance(cls.title, str) and len(cls.title) > LONGEST_TITLE:
        yield f"title must have at most {LONGEST_TITLE} characters, not {len(cls.title)}."
    yield from _problems_of_phases(cls.phases)
    yield from _problems_of_facts(cls.facts)
    if not cls.init_every_request:
        yield "init_every_request must stay True, because a handler is the state of one request."


def _is_property(cls: Any, name: str) -> bool:
    """Return whether an attribute that is read from the handler of a request is computed there."""
    return hasattr(inspect.getattr_static(cls, name), "__get__")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value) and value >= 0


def _problems_of_phases(phases: object) -> Iterator[str]:
    if not isinstance(phases, (tuple, list)):
        yield f"phases must be a tuple of names, such as ('Reading', 'Storing'), not {phases!r}."
        return
    if len(phases) > _MOST_PHASES:
        yield f"phases must be at most {_MOST_PHASES} names, not {len(phases)}."
    for name in phases:
        if not _is_text(name) or (isinstance(name, str) and len(name) > _LONGEST_PHASE):
            yield f"phases must be texts of at most {_LONGEST_PHASE} characters. This one is not: {name!r}."
    texts = [name for name in phases if isinstance(name, str)]
    if len(set(texts)) < len(texts):
        yield f"phases must be different names, not {phases!r}."


def _problems_of_facts(facts: object) -> Iterator[str]:
    if not isinstance(facts, Mapping):
        yield f"facts must be a dict of names and labels, such as {{'imported': 'Imported'}}, not {facts!r}."
        return
    if len(facts) > MOST_FACTS:
        yield f"facts must be at most {MOST_FACTS}, not {len(facts)}."
    for name, label in facts.items():
        if not isinstance(name, str) or not name.isidentifier() or len(name) > LONGEST_NAME:
            yield f"facts must have names that are identifiers of at most {LONGEST_NAME} characters, not {name!r}."
        if not _is_text(label):
            yield f"facts must have texts as labels. The label of {name!r} is {label!r}."


def _is_text(value: object) -> bool:
    """Return whether a value is a text that is not blank, or may be a lazy one, which is no `str`."""
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None and not callable(value) and not isinstance(value, (bytes, int, float, Iterable))


def number_of_phase(handler: Any, name: object) -> int:
    """Return the number of a handler's phase, from 1; raise `LongTaskError` if it has no such phase."""
    for number, known in enumerate(handler.phases, 1):
        if known == name:
            return number
    declared = ", ".join(repr(str(each)) for each in handler.phases)
    remedy = f"The phases of the class are {declared}." if declared else "Add it to the class attribute phases."
    raise LongTaskError(f"{type(handler).__qualname__} has no phase {name!r}. {remedy}")


def check_facts(handler: Any, names: Iterable[str]) -> None:
    """Raise `LongTaskError` if a handler lacks one of these facts."""
    for name in names:
        if name not in handler.facts:
            declared = ", ".join(map(repr, handler.facts))
            remedy = f"The facts of the class are {declared}." if declared else "Add it to the class attribute facts."
            raise LongTaskError(f"{type(handler).__qualname__} has no fact {name!r}. {remedy}")


def check_hooks(cls: Any) -> None:
    """Raise `TypeError` if a hook is async: its coroutine would count as the answer, and as true."""
    for name in HOOKS:
        if is_async(inspect.getattr_static(cls, name)):
            raise TypeError(
                f"{cls.__qualname__}.{name} must not be async. Write a plain function, and call asyncio.run() in it."
            )


def check_work(cls: Any, *, base: Any) -> None:
    """Raise `TypeError` unless a class says how its work is done: in one piece, or in parts.

    `base` is the class whose methods are only placeholders.
    """
    name = cls.__qualname__
    own = {hook for hook in ("execute_task", *_IN_PARTS) if getattr(cls, hook) is not getattr(base, hook)}
    in_parts = sorted(own & set(_IN_PARTS), key=_IN_PARTS.index)
    if not own:
        raise TypeError(
            f"{name} has no execute_task(self, parameters). Define it to do the work, or define split_task and "
            "execute_part to do it in parts."
        )
    if "execute_task" in own and in_parts:
        raise TypeError(
            f"{name} has both execute_task and {in_parts[0]}. Define execute_task for work in one piece, or split_task "
            "and execute_part for work in parts."
        )
    for needed, arguments in (("split_task", "self, parameters"), ("execute_part", "self, parameters, part")):
        if in_parts and needed not in own:
            raise TypeError(f"{name} has {in_parts[0]}, but no {needed}({arguments}). Work in parts needs both.")
    if in_parts and cls.phases:
        raise TypeError(
            f"{name}.phases must be empty, because the work is done in parts, and the page shows how many are done."
        )


def takes_task(display_result: Any) -> bool:
    """Return whether ``display_result`` accepts `task`: it does in the original library, but not in the article."""
    try:
        inspect.signature(display_result).bind(None, None, None, None)
    except TypeError:
        return False
    return True
