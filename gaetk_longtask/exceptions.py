"""The library's exceptions: they have one base class, and carry their data as attributes."""

from __future__ import annotations

from typing import Any


class LongTaskError(Exception):
    """Base of every error that this library raises."""


class ConfigurationError(LongTaskError):
    """A setting is missing, unknown or has an impossible value; the message says what to set."""

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key  #: the setting's name in ``app.config``, if it is about one setting


class PermanentTaskFailure(LongTaskError):
    """Raise it in ``execute_task`` when another attempt would not help.

    The task becomes ``failed`` at once, and the visitor sees the message.
    """


class SerializationError(PermanentTaskFailure):
    """A value can't be stored so that it comes back equal; the message says what to do."""

    def __init__(self, message: str, *, path: str, type_name: str) -> None:
        super().__init__(message)
        self.path = path  #: the place in the value, for instance ``result['total'][3]``
        self.type_name = type_name  #: the qualified name of the offending class


class TooLargeError(PermanentTaskFailure):
    """Parameters, a state or a result are larger than App Engine can send."""

    def __init__(self, message: str, *, limit: int) -> None:
        super().__init__(message)
        self.limit = limit  #: the largest accepted size, in bytes


class DamagedDataError(LongTaskError):
    """Stored parameters, a state or a result are incomplete, changed or signed with another key."""


class UnknownTaskError(LongTaskError):
    """There is no task with this id: there never was, or it has been deleted."""


class EndUntoldError(LongTaskError):
    """The task has ended, but is not deleted, because its handler's ``task_ended`` has not returned yet."""


class EnqueueRefusedError(LongTaskError):
    """The queue has certainly not taken the task. Fix the reason, then retry."""

    task_id: str | None = None  #: the task, which is `failed` now and can be retried; None if none was stored
    reference: str | None = None  #: the reference that the log line about it has


class EnqueueUncertainError(LongTaskError):
    """The queue's answer was lost. It may or may not have taken the task."""


class TaskCancelled(BaseException):
    """Ends ``execute_task`` because the attempt no longer owns its task.

    ``log_progress``, ``track`` and ``checkpoint`` raise it after the visitor has cancelled the task, or a later attempt
    has taken it over. It derives from `BaseException`, as `asyncio.CancelledError` does, so that an
    ``except Exception`` around a step of the work does not swallow it. Clean up with ``finally``.
    """

    def __init__(self, message: str = "", *, superseded: bool = False) -> None:
        super().__init__(message)
        self.superseded = superseded  #: True if a later attempt has taken the task over, False if it was cancelled


class HandedOver(BaseException):
    """Ends ``execute_task`` because its time is nearly up; the next attempt continues from the last checkpoint.

    It derives from `BaseException`, as `TaskCancelled` does. Clean up with ``finally``: the next attempt begins after
    ``execute_task`` has ended.
    """


class Crash(BaseException):
    """Simulates in a test that the process dies: no handler and no boundary stops it."""


def describe_type(value: Any) -> str:
    """Return the name of a value's class as an author writes it: ``decimal.Decimal``, but plain ``dict``."""
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
