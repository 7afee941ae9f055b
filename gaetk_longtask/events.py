"""What happens to tasks, told once each and after the commit: a line in the log, and a signal.

The logger is ``gaetk_longtask.events``. A line names the event, the first characters of the task's id, its endpoint,
the attempt and durations; parameters, results and whole ids are never logged. Where google-cloud-logging is set up, the
same arrives as fields (``json_fields``), joined to the request's other lines by ``trace``.

A receiver of a signal is called with the endpoint as sender, ``task`` (a `TaskInfo`) and the line's fields, in the
request in which it happened:

    @events.finished.connect_via("report")
    def send_mail(endpoint, task, **fields): ...

A process that dies between commit and signal sends none, so a signal may be missing and never comes twice.
"""

from __future__ import annotations

import logging
from datetime import datetime
from enum import StrEnum
from typing import Any

import blinker

from gaetk_longtask.models import LongTask

log = logging.getLogger(__name__)

_namespace = blinker.Namespace()


class Event(StrEnum):
    """The constant name of what has happened."""

    CREATED = "created"  #: stored, `ready`
    ENQUEUED = "enqueued"  #: Cloud Tasks has taken it
    CLAIMED = "claimed"  #: an attempt begins
    RESUMED = "resumed"  #: … and goes on from a checkpoint
    HANDED_OVER = "handed_over"  #: an attempt has come near its time limit; the next one goes on
    ATTEMPT_FAILED = "attempt_failed"  #: … and there will be another one
    FINISHED = "finished"  #: there is a result
    FAILED = "failed"  #: given up
    CANCELLED = "cancelled"
    REFUSED = "refused"  #: Cloud Tasks has not taken it; the task is `failed`
    HEALED = "healed"  #: enqueued again after too long without news
    PURGED = "purged"  #: deleted, its time being over


created = _namespace.signal(Event.CREATED)
enqueued = _namespace.signal(Event.ENQUEUED)
claimed = _namespace.signal(Event.CLAIMED)
resumed = _namespace.signal(Event.RESUMED)
handed_over = _namespace.signal(Event.HANDED_OVER)
attempt_failed = _namespace.signal(Event.ATTEMPT_FAILED)
finished = _namespace.signal(Event.FINISHED)
failed = _namespace.signal(Event.FAILED)
cancelled = _namespace.signal(Event.CANCELLED)
refused = _namespace.signal(Event.REFUSED)
healed = _namespace.signal(Event.HEALED)
purged = _namespace.signal(Event.PURGED)

_LEVELS = {
    Event.ATTEMPT_FAILED: logging.WARNING,
    Event.HEALED: logging.WARNING,
    Event.FAILED: logging.ERROR,
    Event.REFUSED: logging.ERROR,
}


def emit(event: Event, task: LongTask, now: datetime, *, trace: str | None = None) -> None:
    """Tell what has happened to a task; the caller has committed it. A receiver that raises is logged.

    `trace` is what the present request belongs to, as Cloud Logging names it: ``projects/…/traces/…``.
    """
    fields = _fields(event, task, now)
    extra: dict[str, Any] = {"json_fields": fields}
    if trace is not None:
        extra["trace"] = trace
    line = " ".join(f"{name}={value}" for name, value in fields.items() if name != "event")
    log.log(_LEVELS.get(event, logging.INFO), "longtask.%s %s", event, line, extra=extra)
    for receiver in list(_namespace[event].receivers_for(task.endpoint)):
        try:
            receiver(task.endpoint, task=task.info, **fields)
        except Exception:  # a receiver's failure is not the task's
            log.exception("a receiver of %s has failed", event)


def _fields(event: Event, task: LongTask, now: datetime) -> dict[str, Any]:
    gone_wrong = event in (Event.ATTEMPT_FAILED, Event.FAILED)
    fields: dict[str, Any] = {
        "event": event.value,
        "id": task.id[:8],
        "endpoint": task.endpoint,
        "attempt": max(task.failures, 1) if gone_wrong else task.attempt,
        "seconds": _seconds(task.requested_at, now),  # since the task, or its repetition, was asked for
    }
    if event in (Event.HANDED_OVER, Event.ATTEMPT_FAILED, Event.FAILED, Event.FINISHED) and task.started_at:
        fields["attempt_seconds"] = _seconds(task.started_at, now)
    if event in (Event.ATTEMPT_FAILED, Event.FAILED, Event.REFUSED):
        fields["reference"] = task.error_reference
    return fields


def _seconds(since: datetime, now: datetime) -> float:
    return round((now - since).total_seconds(), 3)
