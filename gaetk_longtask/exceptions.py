"""The library's exceptions: one root, each carrying its data as attributes."""

from __future__ import annotations

from typing import Any


class LongTaskError(Exception):
    """Base of every error that this library raises."""


class ConfigurationError(LongTaskError):
    """A setting is missing, unknown or impossible; the message says what to set where."""

    #: The setting's name in ``app.config``, if one is to blame.
    key: str | None

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class PermanentTaskFailure(LongTaskError):
    """Raise it in ``execute_task`` to give up at once: trying again would not help.

    The task becomes ``failed`` without another attempt, and the visitor is shown the message.
    """


class SerializationError(PermanentTaskFailure):
    """A value can't be stored so that it comes back equal; the message names the remedy."""

    #: Where in the value the trouble is, for instance ``result['total'][3]``.
    path: str
    #: The qualified name of the offending class.
    type_name: str

    def __init__(self, message: str, *, path: str, type_name: str) -> None:
        super().__init__(message)
        self.path = path
        self.type_name = type_name


class TooLargeError(PermanentTaskFailure):
    """Parameters or a result are larger than App Engine can send."""

    #: The largest size that is accepted, in bytes.
    limit: int

    def __init__(self, message: str, *, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class DamagedDataError(LongTaskError):
    """Stored parameters or a stored result are incomplete, altered or signed by somebody else."""


class EnqueueRefusedError(LongTaskError):
    """The queue has certainly not taken the task; what stands in its way has to be mended first."""

    #: The task that is `failed` now and can be retried; None where there is none yet.
    task_id: str | None = None
    #: What the log line about it carries.
    reference: str | None = None


class EnqueueUncertainError(LongTaskError):
    """The queue's answer was lost; the task may or may not have been taken."""


class TaskCancelled(BaseException):
    """Ends ``execute_task`` because the attempt no longer owns its task.

    Raised by ``log_progress``, ``track`` and ``checkpoint`` after the visitor has cancelled the task or a later
    attempt has taken it over. It derives from `BaseException` as `asyncio.CancelledError` does, so that an
    ``except Exception`` around a step of the work does not swallow it. Clean up with ``finally``.
    """

    #: True if a later attempt works on the task, False if it was cancelled.
    superseded: bool

    def __init__(self, message: str = "", *, superseded: bool = False) -> None:
        super().__init__(message)
        self.superseded = superseded


class HandedOver(BaseException):
    """Ends ``execute_task`` because its time is nearly up; the next attempt goes on where ``checkpoint`` was called.

    It derives from `BaseException` as `TaskCancelled` does. Clean up with ``finally``: the next attempt is not asked
    for before ``execute_task`` has ended.
    """


def describe_type(value: Any) -> str:
    """Name a value's class the way an author finds it: ``decimal.Decimal``, but plain ``dict``."""
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
