"""Decides whether a delivery of the queue begins an attempt."""

from __future__ import annotations

import logging
from datetime import timedelta

from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.execution.attempts import Attempt, ReportException, Work
from gaetk_longtask.execution.replies import Reply, objecting
from gaetk_longtask.models import LongTask
from gaetk_longtask.progress.snapshot import MISSED_BEATS
from gaetk_longtask.queues import Delivery, Objection
from gaetk_longtask.runtime import Runtime, TaskOptions

log = logging.getLogger(__name__)


def deliver(
    runtime: Runtime, delivery: Delivery, options: TaskOptions, work: Work, report_exception: ReportException
) -> Reply:
    """Claim the task and run an attempt, if the delivery may; return the reply.

    An NDB context must be active. The reply is never 503, because App Engine then slows down the whole queue.
    """
    try:
        claim = runtime.store.claim(delivery, max_attempts=options.max_attempts)
        if claim.objection is Objection.BUSY and claim.task and _owner_is_dead(runtime, claim.task, delivery):
            claim = runtime.store.claim(delivery, max_attempts=options.max_attempts, silent_fence=claim.task.fence)
    except STORE_ERRORS as exc:
        log.warning("task %s not claimed, Datastore does not respond: %s", delivery.task_id[:8], exc)
        return Reply(code=500, reason="Datastore does not respond")
    if claim.objection is not None:
        return objecting(claim.objection, claim.task, delivery)
    assert claim.task is not None  # noqa: S101  # without an objection there is a task
    with runtime.ndb_context.namespace(claim.task.namespace):
        return Attempt(runtime, claim.task, options, work, report_exception).run()


def _owner_is_dead(runtime: Runtime, task: LongTask, delivery: Delivery) -> bool:
    """Return whether the owner of a task is dead, because it has missed its beats.

    Only a later delivery of the owner's Cloud Tasks task may take over. Such a delivery comes when the earlier one has
    ended without an answer, or has passed its deadline. A duplicate has no higher retry count. A missing snapshot
    proves nothing.
    """
    if task.delivered_by != delivery.task_name or task.delivery_retries >= delivery.retry_count:
        return False
    snapshot = runtime.progress.read(task.id)
    if snapshot is None:
        return False
    now = runtime.clock()
    if snapshot.fence < task.fence:  # the owner has not sent a beat yet
        return bool(now - task.started_at > timedelta(seconds=MISSED_BEATS * runtime.progress.interval_seconds))
    return snapshot.fence == task.fence and snapshot.is_silent(now)
