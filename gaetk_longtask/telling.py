"""Tells a handler that its task has ended, in a delivery from the queue, until its `task_ended` returns."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.endings import told
from gaetk_longtask.foreign import must_pass
from gaetk_longtask.models import LongTask
from gaetk_longtask.queues import Delivery
from gaetk_longtask.replies import Reply
from gaetk_longtask.runtime import Runtime

log = logging.getLogger(__name__)

#: After so many healings, only healings tell: a queue would call a hook that hangs or always fails again and again.
PATIENT_HEALINGS = 3

Hook = Callable[[LongTask], None]  #: calls the handler's `task_ended`; may raise anything


def answer(
    runtime: Runtime,
    task: LongTask,
    delivery: Delivery,
    hook: Hook,
    report_exception: Callable[[BaseException], None],
) -> Reply:
    """Tell the handler of a task that a delivery has found ended, and return the reply."""
    if delivery.retry_count and task.heals >= PATIENT_HEALINGS:
        return Reply(code=200, reason="the handler is told again when the task is due")
    reply = Reply(code=200, reason="the handler knows that the task has ended")
    return tell(runtime, task, hook, report_exception, reply)


def tell(
    runtime: Runtime,
    task: LongTask,
    hook: Hook,
    report_exception: Callable[[BaseException], None],
    reply: Reply,
) -> Reply:
    """Call the hook for a task that has ended; return `reply`, or 500 if the hook has to be called again.

    An NDB context must be active. Two deliveries may call the hook at once.
    """
    try:
        with runtime.ndb_context.namespace(task.namespace):
            hook(task)
    except BaseException as exc:
        if must_pass(exc):
            raise
        report_exception(exc)
        return Reply(code=500, reason="task_ended failed, try again")
    try:
        runtime.store.change(task.id, partial(told, fence=task.fence))
    except STORE_ERRORS as exc:
        log.warning("task_ended of %s is called again, Datastore does not respond: %s", task.id[:8], exc)
        return Reply(code=500, reason="Datastore does not respond")
    return reply
