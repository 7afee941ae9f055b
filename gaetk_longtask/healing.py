"""Enqueues tasks again that have gone too long without news."""

from __future__ import annotations

import logging
from dataclasses import replace

from gaetk_longtask.events import Event
from gaetk_longtask.exceptions import ConfigurationError, EnqueueRefusedError, EnqueueUncertainError
from gaetk_longtask.models import LongTask
from gaetk_longtask.parts.tending import tend
from gaetk_longtask.queues import HEALING_HEADER
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.splits import Split
from gaetk_longtask.starting import enqueue_untold, request_for, send
from gaetk_longtask.status import Status
from gaetk_longtask.transitions import works_in_parts

log = logging.getLogger(__name__)


def heal(runtime: Runtime, task: LongTask) -> LongTask:
    """Enqueue a task again if it is due. Of several callers, one does so and the others see that it is not due."""
    if task.due_at is None or task.due_at > runtime.clock():
        return task
    return heal_due(runtime, task.id) or task


def heal_due(runtime: Runtime, task_id: str, *, early: bool = False) -> LongTask | None:
    """Enqueue a task again that is due, and return it; None if it is not due, or another caller was faster.

    With `early`, this also applies to a task that waits and is not due yet. If the queue refuses it, the task stays as
    it is: the queue may still have an earlier delivery, and the next healing may succeed.
    """
    healed = runtime.store.heal(task_id, early=early)
    if healed is None:
        return None
    if works_in_parts(healed) and healed.status is Status.STARTED:
        return _tend(runtime, healed, early=early)
    # At most one of these deliveries is in the queue: each replaces the one before.
    name, before = (f"heal-{task_id}-{number}" for number in (healed.healings, healed.healings - 1))
    request = replace(request_for(healed), version=None, name=name, replaces=before if healed.healings > 1 else None)
    request = replace(request, headers={**request.headers, HEALING_HEADER: str(healed.healings)})
    try:
        send(runtime, request)
        runtime.store.tell(Event.ENQUEUED, healed)
    except EnqueueUncertainError as exc:
        log.warning("enqueuing of %s is uncertain, healed when due: %s", task_id[:8], exc)
    except EnqueueRefusedError as exc:
        log.error("%s can't be enqueued again, healed when due: %s", task_id[:8], exc)
        return runtime.store.get(task_id)  # an earlier delivery may be at work
    except ConfigurationError as exc:  # another instance may have the setting, or the next version of the application
        log.error("%s can't be enqueued again: %s", task_id[:8], exc)
    return healed


def _tend(runtime: Runtime, task: LongTask, *, early: bool) -> LongTask:
    """Look after the parts of a task; return the task as it is then."""
    split = Split.of(task)
    if split is None:
        return task
    ended = tend(runtime, task, split, healing=True, early=early).ended
    enqueue_untold(runtime, ended)
    return ended or task
