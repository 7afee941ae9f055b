"""Enqueues tasks again that have gone too long without news."""

from __future__ import annotations

import logging

from gaetk_longtask.events import Event
from gaetk_longtask.exceptions import ConfigurationError, EnqueueRefusedError, EnqueueUncertainError
from gaetk_longtask.models import LongTask
from gaetk_longtask.parts.tending import tend
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.starting import enqueue_untold, request_again, request_for, send
from gaetk_longtask.transitions import parts_are_at_work

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
    following = runtime.following_healing()
    try:
        if parts_are_at_work(healed):
            ended = tend(following, healed, healing=True, early=early).ended
            enqueue_untold(runtime, ended)
            return ended or healed
        send(following, request_again(request_for(healed), healed))  # at most one of these is in the queue
        runtime.store.tell(Event.ENQUEUED, healed)
    except EnqueueUncertainError as exc:
        log.warning("enqueuing of %s is uncertain, healed when due: %s", task_id[:8], exc)
    except EnqueueRefusedError as exc:
        log.error("%s can't be enqueued again, healed when due: %s", task_id[:8], exc)
        return runtime.store.get(task_id)  # an earlier delivery may be at work
    except ConfigurationError as exc:  # another instance may have the setting, or the next version of the application
        log.error("%s can't be enqueued again: %s", task_id[:8], exc)
    return healed
