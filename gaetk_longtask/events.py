"""Events: what happens to tasks, as a log line and a signal, each sent once and after the commit.

The logger is ``gaetk_longtask.events``. A line names the event, the first characters of the task's id, its endpoint,
the attempt and durations. It never contains parameters, results or whole ids. With google-cloud-logging, the line also
has these as fields (``json_fields``), and ``trace`` joins it to the request's other lines.

A receiver of a signal is called in the request in which the event happened, with the endpoint as sender, ``task`` (a
`TaskInfo`) and the line's fields:

    @events.finished.connect_via("report")
    def send_mail(endpoint, task, **fields): ...

A process that dies between commit and signal sends none. So a signal may be missing, but is never sent twice.
"""

from __future__ import annotations

import logging
from datetime import datetime
from enum import StrEnum
from logging import ERROR, INFO, WARNING
from typing import Any

import blinker

from gaetk_longtask.models import LongTask

log = logging.getLogger(__name__)

_namespace = blinker.Namespace()


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

_LEVELS = {Event.ATTEMPT_FAILED: WARNING, Event.HEALED: WARNING, Event.FAILED: ERROR, Event.REFUSED: ERROR}


def emit(event: Event, task: LongTask, now: datetime, *, trace: str | None = None) -> None:
    """Log an event that the caller has committed, and send its signal. A receiver that raises is logged.

    `trace` is the current request's, as Cloud Logging names it: ``projects/…/traces/…``.
    """
    fields = _fields(event, task, now)
    extra = {"json_fields": fields} | ({} if trace is None else {"trace": trace})
    line = " ".join(f"{name}={value}" for name, value in fields.items() if name != "event")
    log.log(_LEVELS.get(event, INFO), "longtask.%s %s", event, line, extra=extra)
    for receiver in list(_namespace[event].receivers_for(task.endpoint)):
        try:
            receiver(task.endpoint, task=task.info, **fields)
        except Exception:  # a receiver's failure is not the task's
            log.exception("a receiver of the event %s failed", event)


def _fields(event: Event, task: LongTask, now: datetime) -> dict[str, Any]:
    gone_wrong = event in (Event.ATTEMPT_FAILED, Event.FAILED)
    fields: dict[str, Any] = {
        "event": event.value,
        "id": task.id[:8],
        "endpoint": task.endpoint,
        "attempt": max(task.failures, 1) if gone_wrong else task.attempt,
        "seconds": _seconds(task.requested_at, now),  # since the start or the last retry
    }
    if event in (Event.HANDED_OVER, Event.ATTEMPT_FAILED, Event.FAILED, Event.FINISHED) and task.started_at:
        fields["attempt_seconds"] = _seconds(task.started_at, now)
    if event in (Event.ATTEMPT_FAILED, Event.FAILED, Event.REFUSED):
        fields["reference"] = task.error_reference
    return fields


def _seconds(since: datetime, now: datetime) -> float:
    return round((now - since).total_seconds(), 3)
