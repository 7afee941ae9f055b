"""Attempts that ended badly, for operators: a summary in the task, each traceback in an entity of its own.

A claim reads the task, and so the summaries, but no traceback. The name of a traceback has one of `MOST_KEPT` numbers,
so that a later one replaces the oldest.
"""

from __future__ import annotations

import os
import secrets
import traceback
import zlib
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Self

from google.cloud import ndb

from gaetk_longtask.exceptions import describe_type
from gaetk_longtask.foreign import must_pass, text_of
from gaetk_longtask.models import LongTask, LongTaskPart, LongTaskTraceback, WorkUnit

MOST_KEPT = 10  #: how many attempts a task remembers
MOST_REFERENCES = 100  #: how many references lead to a task
LONGEST_MESSAGE = 500  #: of an exception, in characters
TRACEBACK_BYTES = 8 * 1024  #: the end of a traceback, in UTF-8 before it is compressed
_LONGEST_NAME = 200  #: of a class or a place, in characters


class Cause(StrEnum):
    """What ended an attempt, or a task without an attempt, badly."""

    EXCEPTION = "exception"  #: the author's code raised it
    PERMANENT = "permanent"  #: the author's code raised `PermanentTaskFailure`
    SERIALIZATION = "serialization"  #: the result can't be stored
    DAMAGED = "damaged"  #: the parameters or the state to resume from can't be read
    DAMAGED_INPUT = "damaged_input"  #: what ``split_task`` has returned for the part can't be read
    DIED = "died"  #: no sign of life; known when the next attempt begins
    DEADLINE = "deadline"  #: as `DIED`, but it had used up its time
    NO_PROGRESS = "no_progress"  #: it was handed over without anything new
    INTERRUPTED = "interrupted"  #: its outcome could not be stored
    REFUSED = "refused"  #: the queue did not take the task
    GIVEN_UP = "given_up"  #: the task is too old, or has no attempts left


_SILENT = (Cause.DIED, Cause.DEADLINE, Cause.INTERRUPTED)
_WITHOUT_ATTEMPT = (Cause.REFUSED, Cause.GIVEN_UP)


@dataclass(frozen=True, kw_only=True, slots=True)
class Raised:
    """An exception as it is kept."""

    exception: str  #: the name of its class
    message: str
    place: str  #: where it was raised: file, line and function
    traceback: bytes  #: the end of its traceback, compressed

    @classmethod
    def of(cls, exc: BaseException) -> Self:
        """Describe an exception. Its class is not ours and may raise anything; this never does."""
        return cls(
            exception=_cut(describe_type(exc), _LONGEST_NAME),
            message=_cut(text_of(exc), LONGEST_MESSAGE),
            place=_place_of(exc)[-_LONGEST_NAME:],
            traceback=zlib.compress(_lines_of(exc)[-TRACEBACK_BYTES:]),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """The summary of an attempt that ended badly. A field that is added later has a default."""

    number: int  #: counts from 1, over all runs of the task
    at: datetime  #: when it ended, or when that was noticed
    cause: str  #: a `Cause`, or one that only a later version knows
    reference: str
    attempt: int | None = None  #: None if there was none
    delivery: int | None = None  #: the claim that began it; None if there was none
    seconds: float | None = None  #: how long it took
    exception: str | None = None
    message: str | None = None
    place: str | None = None
    has_traceback: bool = False
    part: int | None = None  #: the part whose failure has failed the task, from 0
    instance: str | None = None
    version: str | None = None
    trace: str | None = None  #: of the delivery's request

    @property
    def reason(self) -> str:
        """The exception, or what ended the attempt, in one line."""
        if self.exception is None:
            return self.cause
        return f"{self.exception}: {self.message}" if self.message else self.exception

    @property
    def is_silent(self) -> bool:
        """Whether no event was about it when it happened."""
        return self.cause in _SILENT

    @property
    def brief(self) -> str:
        """The attempt, what ended it and its reference, in one word for a log line."""
        return f"{self.attempt or '-'}:{self.exception or self.cause}:{self.reference}"


_NAMES = [field.name for field in fields(Failure)]


def new_reference() -> str:
    """Return a random reference that links a visitor's page to a log line; short enough to read out on the phone."""
    return secrets.token_hex(4)


def worker(trace: str | None) -> dict[str, str]:
    """Return what a claim keeps about who works: the App Engine instance, its version, and the request's trace."""
    known = {"instance": os.environ.get("GAE_INSTANCE"), "version": os.environ.get("GAE_VERSION"), "trace": trace}
    return {name: value for name, value in known.items() if value}


def record(
    task: WorkUnit, now: datetime, cause: Cause, *, reference: str | None = None, raised: Raised | None = None
) -> None:
    """Add to a task in memory that its attempt ended badly, before its failures are counted."""
    stored = task.failed_attempts or []
    tried = cause not in _WITHOUT_ATTEMPT
    failure = Failure(
        number=stored[-1]["number"] + 1 if stored else 1,
        at=now,
        cause=cause.value,
        reference=reference or new_reference(),
        attempt=task.attempt if tried else None,
        delivery=task.deliveries if tried else None,
        seconds=round((now - task.started_at).total_seconds(), 3) if tried and task.started_at else None,
        exception=raised.exception if raised else None,
        message=raised.message if raised else None,
        place=raised.place if raised else None,
        has_traceback=raised is not None,
        **(task.worker or {}) if tried else {},
    )
    kept = {name: value for name, value in asdict(failure).items() if value is not None}
    task.failed_attempts = [*stored, kept | {"at": now.isoformat()}][-MOST_KEPT:]
    task.references = [*task.references, failure.reference][-MOST_REFERENCES:]
    task.error_reference = failure.reference


def adopt(task: LongTask, part: LongTaskPart, number: int) -> None:
    """Add to a task in memory that one of its parts has failed for good, with what the part keeps about it."""
    stored, failed = task.failed_attempts or [], (part.failed_attempts or [])[-1:]
    for failure in failed:
        numbered = failure | {"number": stored[-1]["number"] + 1 if stored else 1, "part": number}
        task.failed_attempts = [*stored, numbered][-MOST_KEPT:]
        task.references = [*task.references, failure["reference"]][-MOST_REFERENCES:]
    task.error_reference, task.error, task.permanent = part.error_reference, part.error, part.permanent
    task.failures = part.failures


def failures_of(task: WorkUnit) -> list[Failure]:
    """Return the summaries in a task, the oldest first."""
    found = []
    for stored in task.failed_attempts or []:
        known = {name: stored[name] for name in _NAMES if name in stored}
        found.append(Failure(**known | {"at": datetime.fromisoformat(stored["at"])}))
    return found


def last_failure(task: WorkUnit) -> Failure | None:
    """Return the latest summary in a task."""
    return next(reversed(failures_of(task)), None)


def traceback_of(task: WorkUnit, raised: Raised, expires_at: datetime) -> LongTaskTraceback:
    """Return the entity for the traceback of the failure that was recorded last."""
    latest = failures_of(task)[-1]
    key = LongTaskTraceback.key_of(_name(task, latest.number))
    return LongTaskTraceback(key=key, reference=latest.reference, data=raised.traceback, expires_at=expires_at)


def raised_in(part: LongTaskPart) -> Raised | None:
    """Load what the last failure of a part has raised; None if it was nothing, or if it is gone. One read."""
    latest = last_failure(part)
    if latest is None or not latest.has_traceback:
        return None
    stored = LongTaskTraceback.load(_name(part, latest.number))
    if stored is None or stored.reference != latest.reference:
        return None
    exception, message, place = latest.exception or "", latest.message or "", latest.place or ""
    return Raised(exception=exception, message=message, place=place, traceback=stored.data)


def tracebacks(task: WorkUnit) -> dict[str, str]:
    """Load the tracebacks of a task's failures; return each by its reference. One request, none if there are none."""
    names = [_name(task, failure.number) for failure in failures_of(task) if failure.has_traceback]
    found = [each for each in LongTaskTraceback.load_all(names) if each is not None] if names else []
    return {each.reference: zlib.decompress(each.data).decode(errors="replace") for each in found}


def traceback_keys(task: WorkUnit) -> list[ndb.Key]:
    """Return the keys of all tracebacks that a task may have."""
    latest = last_failure(task)
    numbers = range(1, min(latest.number, MOST_KEPT) + 1) if latest else []
    return [LongTaskTraceback.key_of(_name(task, number)) for number in numbers]


def _name(task: WorkUnit, number: int) -> str:
    return f"{task.id}.{number % MOST_KEPT}"


def _place_of(exc: BaseException) -> str:
    last = exc.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return ""
    code = last.tb_frame.f_code
    return f"{code.co_filename}:{last.tb_lineno} in {code.co_name}"


def _lines_of(exc: BaseException) -> bytes:
    try:
        text = "".join(traceback.format_exception(exc))
    except BaseException as raised:  # by a property of its class
        if must_pass(raised):
            raise
        text = "".join(traceback.format_tb(exc.__traceback__)) + describe_type(exc)
    return text.encode(errors="replace")


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
