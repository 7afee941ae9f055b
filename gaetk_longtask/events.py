"""Events: what happens to tasks, as a log line and a signal, each sent once and after the commit.

The logger is ``gaetk_longtask.events``. A line names the event, the first characters of the task's id, its endpoint,
the attempt and durations. It never contains parameters, results or whole ids. With google-cloud-logging, the line also
has these as fields (``json_fields``), and ``trace`` joins it to the request's other lines.

A receiver of a signal is called in the request in which the event happened, with the endpoint as sender, ``task`` (a
`TaskInfo`) and the line's fields:

    @events.finished.connect_via("report")
    def send_mail(endpoint, task, **fields): ...

The first argument is the endpoint, unless the first parameter has the name of another field. A receiver may leave out
what it does not need.

A process that dies between commit and signal sends none. So a signal may be missing, but is never sent twice.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from inspect import Parameter
from logging import ERROR, INFO, WARNING
from typing import Any, TypeVar

import blinker

from gaetk_longtask.failures import failures_of, last_failure
from gaetk_longtask.foreign import is_async, logging_failures
from gaetk_longtask.models import LongTask, LongTaskPart
from gaetk_longtask.splits import number_in

log = logging.getLogger(__name__)

_Receiver = TypeVar("_Receiver", bound=Callable[..., Any])


class Event(StrEnum):
    """The constant name of an event."""

    CREATED = "created"  #: stored, `ready`
    ENQUEUED = "enqueued"  #: Cloud Tasks has accepted it
    CLAIMED = "claimed"  #: an attempt begins
    RESUMED = "resumed"  #: … and continues from a checkpoint
    HANDED_OVER = "handed_over"  #: an attempt came near its time limit; the next one continues
    ATTEMPT_FAILED = "attempt_failed"  #: an attempt failed, and another one follows
    FINISHED = "finished"  #: there is a result
    FAILED = "failed"  #: given up
    CANCELLED = "cancelled"
    REFUSED = "refused"  #: Cloud Tasks has refused it; the task is `failed`
    HEALED = "healed"  #: enqueued again after too long without news
    PURGED = "purged"  #: deleted, because it had expired
    SPLIT = "split"  #: cut into parts, which are at work from now on
    PART_FINISHED = "part_finished"  #: a part has a result
    PART_FAILED = "part_failed"  #: an attempt at a part failed; another one follows, or the task fails
    JOINING = "joining"  #: all parts have a result; the join begins


#: What a receiver may ask for; some events lack some of them.
_FIELDS = {
    *("task", "event", "id", "endpoint", "attempt", "delivery", "seconds", "attempt_seconds", "click_trace"),
    *("reference", "cause", "exception", "permanent", "attempts", "part", "parts"),
}


def _check_parameters(receiver: Any) -> None:
    """Raise `TypeError` if no event has what a receiver needs: it would fail at each event."""
    try:
        parameters = list(inspect.signature(receiver).parameters.values())
    except (TypeError, ValueError) as exc:
        raise TypeError(f"A receiver must be a function whose parameters are known, and not {receiver!r}.") from exc
    takes_endpoint = bool(parameters) and parameters[0].kind is not Parameter.KEYWORD_ONLY
    for each in parameters[takes_endpoint:]:
        lacks = each.kind is Parameter.POSITIONAL_ONLY or each.name not in _FIELDS
        is_rest = each.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        if lacks and not is_rest and each.default is Parameter.empty:
            fields = ", ".join(sorted(_FIELDS))
            raise TypeError(f"{receiver!r} needs {each.name!r}, which no event has. The fields are {fields}.")


class _Signal(blinker.NamedSignal):
    """A signal that keeps its receivers, also those that are defined in a function such as ``create_app``."""

    def connect(self, receiver: _Receiver, sender: Any = blinker.ANY, weak: bool = False) -> _Receiver:  # noqa: FBT001, FBT002  # as in blinker
        """Call `receiver` for the events of the endpoint `sender`, by default of all endpoints.

        Raises:
            TypeError: the receiver is async, or the sender is no endpoint. It would never receive anything.
        """
        if is_async(receiver):
            raise TypeError(f"A receiver can't be async, because it is called and not awaited: {receiver!r}.")
        if sender is not blinker.ANY and not isinstance(sender, str):
            raise TypeError(f'The sender is the endpoint of a handler, such as "report", and not {sender!r}.')
        _check_parameters(receiver)
        return super().connect(receiver, sender, weak)


_signals = {event: _Signal(event) for event in Event}

created = _signals[Event.CREATED]
enqueued = _signals[Event.ENQUEUED]
claimed = _signals[Event.CLAIMED]
resumed = _signals[Event.RESUMED]
handed_over = _signals[Event.HANDED_OVER]
attempt_failed = _signals[Event.ATTEMPT_FAILED]
finished = _signals[Event.FINISHED]
failed = _signals[Event.FAILED]
cancelled = _signals[Event.CANCELLED]
refused = _signals[Event.REFUSED]
healed = _signals[Event.HEALED]
purged = _signals[Event.PURGED]
split = _signals[Event.SPLIT]
part_finished = _signals[Event.PART_FINISHED]
part_failed = _signals[Event.PART_FAILED]
joining = _signals[Event.JOINING]

_LEVELS = {
    Event.ATTEMPT_FAILED: WARNING,
    Event.PART_FAILED: WARNING,
    Event.HEALED: WARNING,
    Event.FAILED: ERROR,
    Event.REFUSED: ERROR,
}


def emit(
    event: Event, task: LongTask, now: datetime, *, trace: str | None = None, part: LongTaskPart | None = None
) -> None:
    """Log an event that the caller has committed, and send its signal. A receiver that raises is logged.

    `part` is the part of the task that the event is about, if it is about one.

    `trace` is the current request's, as Cloud Logging names it: ``projects/…/traces/…``.
    """
    fields = _fields(event, task, now) if part is None else _fields_of_part(event, task, part, now)
    extra = {"json_fields": fields} | ({} if trace is None else {"trace": trace})
    line = " ".join(f"{name}={value}" for name, value in fields.items() if name != "event")
    level = WARNING if fields.get("permanent") else _LEVELS.get(event, INFO)
    log.log(level, "longtask.%s %s", event, line, extra=extra)
    signal = _signals[event]
    for receiver in [] if signal.is_muted else list(signal.receivers_for(task.endpoint)):
        with logging_failures("a receiver of the event %s failed", event):
            _call(receiver, task.endpoint, {"task": task.info, **fields})


def _call(receiver: Callable[..., Any], endpoint: str, values: dict[str, Any]) -> None:
    """Call a receiver with the values that its parameters name. Its first argument is the endpoint.

    The endpoint is one of the values, too. So a first parameter with the name of a value gets that value instead.
    """
    parameters = list(inspect.signature(receiver).parameters.values())
    if not any(each.kind is each.VAR_KEYWORD for each in parameters):
        names = {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
        values = {name: value for name, value in values.items() if name in names}
    match parameters:
        case [Parameter(kind=Parameter.POSITIONAL_OR_KEYWORD, name=name), *_] if name in values:
            receiver(**values)
        case [Parameter(kind=Parameter.VAR_KEYWORD | Parameter.KEYWORD_ONLY), *_] | []:
            receiver(**values)
        case _:
            receiver(endpoint, **values)


def _fields(event: Event, task: LongTask, now: datetime) -> dict[str, Any]:
    gone_wrong = event in (Event.ATTEMPT_FAILED, Event.FAILED)
    fields: dict[str, Any] = {
        "event": event.value,
        "id": task.id[:8],
        "endpoint": task.endpoint,
        "attempt": max(task.failures, 1) if gone_wrong else task.attempt,
        **({"delivery": task.deliveries} if task.deliveries else {}),
        "seconds": _seconds(task.requested_at, now),  # since the start or the last retry
    }
    if event in (Event.HANDED_OVER, Event.ATTEMPT_FAILED, Event.FAILED, Event.FINISHED) and task.started_at:
        fields["attempt_seconds"] = _seconds(task.started_at, now)
    if task.trace and event not in (Event.CREATED, Event.ENQUEUED):
        fields["click_trace"] = task.trace
    fields |= _of_failures(event, task)
    if event is Event.FAILED:
        fields["permanent"] = task.permanent
    if event in (Event.SPLIT, Event.JOINING) and task.progress.parts is not None:
        fields["parts"] = task.progress.parts.total
    return fields


def _fields_of_part(event: Event, task: LongTask, part: LongTaskPart, now: datetime) -> dict[str, Any]:
    failed = event is Event.PART_FAILED
    fields: dict[str, Any] = {
        "event": event.value,
        "id": task.id[:8],
        "endpoint": task.endpoint,
        "part": number_in(part.id),
        "attempt": max(part.failures, 1) if failed else part.attempt,
        "delivery": part.deliveries,
        "seconds": _seconds(task.requested_at, now),
        "attempt_seconds": _seconds(part.started_at, now),
    }
    if task.trace:
        fields["click_trace"] = task.trace
    if failed and (failure := last_failure(part)) is not None:
        fields |= {"reference": failure.reference, "cause": failure.cause, "permanent": part.permanent}
        if failure.exception:
            fields["exception"] = failure.exception
    return fields


def _of_failures(event: Event, task: LongTask) -> dict[str, Any]:
    """Return what an event says about attempts that ended badly."""
    failures = failures_of(task)
    match event:
        case Event.CLAIMED:  # a dead attempt can't say so; the next one does
            concerned = bool(failures) and failures[-1].is_silent and failures[-1].delivery == task.deliveries - 1
        case Event.HANDED_OVER:
            concerned = bool(failures) and failures[-1].delivery == task.deliveries
        case _:
            concerned = event in (Event.ATTEMPT_FAILED, Event.FAILED, Event.REFUSED)
    if not concerned:
        return {}
    fields: dict[str, Any] = {"reference": task.error_reference}
    if failures:
        fields["cause"] = failures[-1].cause
        if failures[-1].exception:
            fields["exception"] = failures[-1].exception
    if event is Event.FAILED and failures:
        fields["attempts"] = ",".join(failure.brief for failure in failures)
    return fields


def _seconds(since: datetime, now: datetime) -> float:
    return max(0.0, round((now - since).total_seconds(), 3))  # a delayed task has not begun yet
