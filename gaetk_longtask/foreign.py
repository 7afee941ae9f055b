"""The boundary to code that is not ours: it may raise anything, and this module decides what passes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from gaetk_longtask.exceptions import Crash, HandedOver, PermanentTaskFailure, TaskCancelled

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
    for control in (TaskCancelled, HandedOver):
        if found := exc.split(control)[0]:
            return _first(found)
    permanent, other = exc.split(PermanentTaskFailure)
    return _first(permanent) if permanent is not None and other is None else exc


@contextmanager
def logging_failures(message: str, *values: object) -> Iterator[None]:
    """Log whatever the block raises, and continue after it."""
    try:
        yield
    except BaseException as exc:
        if must_pass(exc):
            raise
        log.exception(message, *values)  # the caller's placeholders


def _first(exc: BaseException) -> BaseException:
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc
