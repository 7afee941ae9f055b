"""Decides whether a delivery of the queue begins an attempt, and which one."""

from __future__ import annotations

import hmac
import logging
from datetime import datetime, timedelta
from functools import partial

from gaetk_longtask import transitions
from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.execution.attempts import Attempt, ReportException
from gaetk_longtask.execution.errands import Work
from gaetk_longtask.execution.part_attempts import JoinAttempt, PartAttempt, SplitAttempt, followed
from gaetk_longtask.execution.replies import Reply, following, objecting
from gaetk_longtask.models import LongTask, LongTaskPart, WorkUnit
from gaetk_longtask.parts import tending
from gaetk_longtask.parts.following import Followed, enqueue_join
from gaetk_longtask.parts.store import PartStore
from gaetk_longtask.parts.transitions import resume
from gaetk_longtask.progress.snapshot import MISSED_BEATS, Snapshot
from gaetk_longtask.queues import Delivery, Objection
from gaetk_longtask.runtime import Runtime, TaskOptions
from gaetk_longtask.splits import Address, Split, lane_id, lane_in, number_in
from gaetk_longtask.status import Status

log = logging.getLogger(__name__)


def deliver(
    runtime: Runtime, delivery: Delivery, options: TaskOptions, work: Work, report_exception: ReportException
) -> Reply:
    """Claim the task, or a part of it, and run an attempt, if the delivery may; return the reply.

    An NDB context must be active. The reply is never 503, because App Engine then slows down the whole queue.
    """
    if delivery.healing:
        runtime = runtime.following_healing()
    try:
        if delivery.part is not None:
            return _deliver_part(runtime, delivery, delivery.part, options, work, report_exception)
        claim = runtime.store.claim(delivery, max_attempts=options.max_attempts)
        if claim.objection is Objection.BUSY and claim.task and _task_is_silent(runtime, claim.task, delivery):
            claim = runtime.store.claim(delivery, max_attempts=options.max_attempts, silent_fence=claim.task.fence)
        if claim.objection is Objection.IN_PARTS and claim.task is not None:
            return _look_after_parts(runtime, claim.task, delivery)
    except STORE_ERRORS as exc:
        log.warning("task %s not claimed, Datastore does not respond: %s", delivery.task_id[:8], exc)
        return Reply(code=500, reason="Datastore does not respond")
    if claim.objection is not None:
        return objecting(claim.objection, claim.task, delivery)
    assert claim.task is not None  # noqa: S101  # without an objection there is a task
    with runtime.ndb_context.namespace(claim.task.namespace):
        attempt = _kind_of_attempt(claim.task, options)
        return attempt(runtime, claim.task, runtime.store, claim.task, options, work, report_exception).run()


def _kind_of_attempt(task: LongTask, options: TaskOptions) -> type[Attempt[LongTask]]:
    if task.parts:
        return JoinAttempt
    return Attempt if options.parallel is None else SplitAttempt


def _look_after_parts(runtime: Runtime, task: LongTask, delivery: Delivery) -> Reply:
    """Answer a delivery of a task whose parts are at work: it enqueues the parts that no attempt works on.

    It does so if the task is due, after a retry, and when the delivery that has split the task comes again.
    """
    if task.status is not Status.STARTED:
        change = runtime.store.change(task.id, partial(resume, delivery=delivery))
    else:
        again = delivery.is_named(task.delivered_by)
        change = runtime.store.change(task.id, partial(transitions.heal, early=again))
    reason = "the parts are at work"
    if not change.applied or change.task is None:
        return Reply(code=200, reason=reason)
    if transitions.works_in_parts(change.task):
        return following(tending.tend(runtime, change.task), reason)
    # It was too old and has failed, or its join has begun. This delivery has moved `due_at`, so it enqueues the join.
    ended = change.task if change.task.status.ended else None
    return following(Followed(certain=enqueue_join(runtime, change.task), ended=ended), reason)


def _deliver_part(
    runtime: Runtime,
    delivery: Delivery,
    address: Address,
    options: TaskOptions,
    work: Work,
    report_exception: ReportException,
) -> Reply:
    task = runtime.store.get(delivery.task_id)
    if task is None:
        return objecting(Objection.ENDED, None, delivery)
    objection = _objection_to_part(task, delivery)
    if objection is not None:
        return objecting(objection, task, delivery)
    split = Split.of(task)
    if split is None or split.run != address.run or address.number >= split.count:
        return Reply(code=200, reason="the task was split again")
    store = PartStore(runtime, task, split)
    if not transitions.parts_are_at_work(task):
        part = store.get(split.name(task.id, address.number))
        return _answer_ended(runtime, task, part, delivery)
    claim = store.claim(delivery, address.number, max_attempts=options.max_attempts)
    if claim.objection is Objection.BUSY and claim.task and _part_is_silent(runtime, task, claim.task, delivery):
        claim = store.claim(delivery, address.number, max_attempts=options.max_attempts, silent_fence=claim.task.fence)
    part = claim.task
    if part is None:
        return Reply(code=200, reason="there is no such part")
    if claim.objection is Objection.BUSY:
        may_be_own = delivery.is_named(part.delivered_by) or not delivery.task_name
        comes_again = may_be_own or part.task_fence > task.fence
        return Reply(code=409 if comes_again else 200, reason="another attempt works on the part")
    if claim.objection is not None:
        return _answer_ended(runtime, task, part, delivery)
    if part.status.ended:  # it has failed too often
        return followed(runtime, task, part)
    with runtime.ndb_context.namespace(task.namespace):
        return PartAttempt(runtime, task, store, part, options, work, report_exception).run()


def _objection_to_part(task: LongTask, delivery: Delivery) -> Objection | None:
    """Return why a delivery must not work on any part of the task; the proof comes before everything else."""
    if not hmac.compare_digest(task.execute_key.encode(), delivery.execute_key.encode()):
        return Objection.FORBIDDEN
    if not task.status.ended and delivery.endpoint is not None and task.endpoint != delivery.endpoint:
        return Objection.ELSEWHERE
    return None


def _answer_ended(runtime: Runtime, task: LongTask, part: LongTaskPart | None, delivery: Delivery) -> Reply:
    """Answer a delivery of a part that has ended, or whose task waits for no part.

    Only the delivery that has worked on the part speaks for its lane; it may have ended before it followed up.
    """
    if part is None or not delivery.is_named(part.delivered_by) or part.status not in (Status.DONE, Status.FAILED):
        return Reply(code=200, reason="there is nothing left to do")
    return followed(runtime, task, part, again=True)


def _task_is_silent(runtime: Runtime, task: LongTask, delivery: Delivery) -> bool:
    snapshot = runtime.progress.read(task.id)
    own = snapshot is not None and snapshot.fence == task.fence
    old = snapshot is not None and snapshot.fence < task.fence
    return _owner_is_dead(runtime, task, delivery, snapshot if own else None, unheard=old)


def _part_is_silent(runtime: Runtime, task: LongTask, part: LongTaskPart, delivery: Delivery) -> bool:
    mine = part.task_fence, number_in(part.id), part.fence
    snapshot = runtime.progress.read(lane_id(task.id, lane_in(part.id)))
    said = None if snapshot is None else (snapshot.fence, snapshot.part or 0, snapshot.part_fence or 0)
    unheard = said is not None and said < mine
    return _owner_is_dead(runtime, part, delivery, snapshot if said == mine else None, unheard=unheard)


def _owner_is_dead(
    runtime: Runtime, unit: WorkUnit, delivery: Delivery, snapshot: Snapshot | None, *, unheard: bool
) -> bool:
    """Return whether the owner of a task or part is dead, because it has missed its beats.

    Only a later delivery of the owner's Cloud Tasks task may take over. Such a delivery comes when the earlier one has
    ended without an answer, or has passed its deadline. A duplicate has no higher retry count. `snapshot` is the
    owner's last one; `unheard` says that there is one of an earlier owner only. A missing snapshot proves nothing.
    """
    if not delivery.is_named(unit.delivered_by) or unit.delivery_retries >= delivery.retry_count:
        return False
    now: datetime = runtime.clock()
    if unheard:  # the owner has not sent a beat yet
        return bool(now - unit.started_at > timedelta(seconds=MISSED_BEATS * runtime.progress.interval_seconds))
    return snapshot is not None and snapshot.is_silent(now)
