"""Calls the `task_ended` of a handler whose task has ended: in deliveries from the queue, until it returns."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial

from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.execution.replies import Reply
from gaetk_longtask.foreign import must_pass
from gaetk_longtask.models import LongTask
from gaetk_longtask.queues import Delivery
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.transitions import Effect

log = logging.getLogger(__name__)

#: After so many healings, a delivery tells only once. Else the queue would always be busy with hooks that hang.
PATIENT_HEALINGS = 3

Hook = Callable[[LongTask], None]  #: calls the handler's `task_ended`; may raise anything


def tell(
    runtime: Runtime, reply: Reply, delivery: Delivery, hook: Hook, report_exception: Callable[[BaseException], None]
) -> Reply:
    """Call the hook if the delivery's task has ended and its handler does not know; return the reply for the queue.

    That is 500 if the hook has to be called again. Two deliveries may call it at once. An NDB context must be active.
    """
    task = reply.ended
    if task is None or not task.is_untold:
        return reply
    if delivery.retry_count and task.heals >= PATIENT_HEALINGS:
        return Reply(code=200, reason="the handler is told again when the task is due")
    try:
        with runtime.ndb_context.namespace(task.namespace):
            hook(task)
    except BaseException as exc:
        if must_pass(exc):
            raise
        report_exception(exc)
        return Reply(code=500, reason="task_ended failed, try again")
    try:
        runtime.store.change(task.id, partial(_told, fence=task.fence))
    except STORE_ERRORS as exc:
        log.warning("task_ended of %s is called again, Datastore does not respond: %s", task.id[:8], exc)
        return Reply(code=500, reason="Datastore does not respond")
    return reply


def _told(task: LongTask, now: datetime, *, fence: int) -> Effect | None:
    """Record that the handler was told of the end of the run with this fence; a transition."""
    if not task.is_untold or task.fence != fence:
        return None
    task.end_untold, task.due_at = False, None
    return Effect()  # published, so that polls do not read a task that is not due any more
