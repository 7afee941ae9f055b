"""The boundary to code that is not ours: it may raise anything, and this module decides what passes."""

from __future__ import annotations

import functools
import inspect
import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from gaetk_longtask.exceptions import Crash, HandedOver, PermanentTaskFailure, TaskCancelled, describe_type

log = logging.getLogger(__name__)


def must_pass(exc: BaseException) -> bool:
    """Return whether an exception must end the process: Ctrl-C in the main thread, or a crash that a test simulates."""
    if isinstance(exc, BaseExceptionGroup):
        return any(must_pass(each) for each in exc.exceptions)
    if isinstance(exc, KeyboardInterrupt):
        return threading.current_thread() is threading.main_thread()
    return isinstance(exc, Crash)


def stands_for(exc: BaseException) -> BaseException:
    """Return the exception that an exception group counts as; any other exception counts as itself.

    A group counts as the `TaskCancelled` or `HandedOver` that it contains, because a task group wraps what its tasks
    raise. A group of nothing but `PermanentTaskFailure` counts as the first one.
    """
    if not isinstance(exc, BaseExceptionGroup):
        return exc
    try:
        for control in (TaskCancelled, HandedOver):
            if found := exc.split(control)[0]:
                return _first(found)
        permanent, other = exc.split(PermanentTaskFailure)
    except BaseException as raised:  # by a `derive` of its own
        if must_pass(raised):
            raise
        return exc
    return _first(permanent) if permanent is not None and other is None else exc


def text_of(value: object) -> str:
    """Return a value as text that every page and store accepts, or the name of its class if it has no text."""
    try:
        text = str(value)
    except BaseException as exc:  # an author's class may raise anything
        if must_pass(exc):
            raise
        text = type(value).__name__
    return text.encode(errors="replace").decode()


@contextmanager
def logging_failures(message: str, *values: object) -> Iterator[None]:
    """Log whatever the block raises, and continue after it."""
    try:
        yield
    except BaseException as exc:
        if must_pass(exc):
            raise
        log.exception(message, *values)  # the caller's placeholders


class ForeignPieces(Iterator[Any]):
    """Iterates over pieces of a response that foreign code makes while they are sent.

    What is no `Exception` would end the server's process, with all other requests in it. It becomes one here.
    """

    def __init__(self, pieces: Iterable[Any]) -> None:
        self._pieces = pieces
        self._iterator: Iterator[Any] | None = None

    def __next__(self) -> Any:
        with _only_exceptions():
            if self._iterator is None:
                self._iterator = iter(self._pieces)
            return next(self._iterator)

    def close(self) -> None:
        """Close the pieces, as a server does when it has sent them or its client is gone."""
        with _only_exceptions():
            getattr(self._pieces, "close", lambda: None)()


@contextmanager
def _only_exceptions() -> Iterator[None]:
    try:
        yield
    except Exception:
        raise  # the server ends this response
    except BaseException as exc:
        if must_pass(exc):
            raise
        raise RuntimeError(f"the code that sends a response raised {type(exc).__name__}") from exc


def says_yes(answer: object, *, hook: str) -> bool:
    """Return whether a hook that decides about access has returned True, and nothing that only counts as true.

    False and None mean no. Anything else means no as well, and is an error in the log: the coroutine of an async
    function, for instance, counts as true.
    """
    if answer is not True and answer is not False and answer is not None:
        log.error("access refused: %s must return True or False, not %s", hook, describe_type(answer))
        if inspect.iscoroutine(answer):
            answer.close()  # else Python warns that it was never awaited
    return answer is True


def _first(exc: BaseException) -> BaseException:
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc


def is_async(hook: Any) -> bool:
    """Return whether a function is async, or stands in front of one that is."""
    while True:
        if inspect.iscoroutinefunction(hook) or inspect.isasyncgenfunction(hook):
            return True
        match hook:
            case staticmethod() | classmethod():
                hook = hook.__func__
            case functools.partial() | functools.partialmethod():
                hook = hook.func
            case property():
                hook = hook.fget
            case _ if inspect.isroutine(hook) and hasattr(hook, "__wrapped__"):
                hook = hook.__wrapped__
            case _:
                # An object that wraps a function, such as asgiref's AsyncToSync, is judged by its own call.
                call = inspect.getattr_static(type(hook), "__call__", None)
                return inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)
