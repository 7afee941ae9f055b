"""The state transitions of a task and of its parts: pure rules that change an entity in memory.

A transition takes the task, or the part, and the current time. It changes the entity and returns what follows as an
`Effect`, or changes nothing and returns None. `store` runs it inside a transaction, possibly more than once, and
commits the change. What holds for a `WorkUnit` holds for both; `parts.transitions` has what is about parts alone.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from gaetk_longtask import limits
from gaetk_longtask.events import Event
from gaetk_longtask.failures import Cause, Raised, record
from gaetk_longtask.info import Progress
from gaetk_longtask.models import LongTask, LongTaskPart, WorkUnit
from gaetk_longtask.payloads.manifests import Stored, set_stored
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.queues import Delivery, Objection
from gaetk_longtask.splits import Split, Stage
from gaetk_longtask.status import Status

Unit = TypeVar("Unit", bound=WorkUnit)

STARTING = Progress(message="Starting", initial=True).stored()  #: the progress of a task before the first attempt


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """What follows from a transition once it is committed."""

    events: tuple[Event, ...] = ()
    publishes: bool = True  #: whether the progress store gets the new state
    beats: bool = False  #: whether that state is the first sign of life of an owner
    raised: Raised | None = None  #: what ended the attempt, whose traceback is stored in the same commit


#: Changes a task or a part and returns what follows, or changes nothing and returns None.
Transition = Callable[[Unit, datetime], Effect | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """What an attempt has reached."""

    state: Stored
    pieces: Stored | None  #: of a result that is yielded
    progress: dict[str, Any]
    advanced: bool  #: whether it contains anything that the previous attempt did not have


def begin(task: LongTask, now: datetime) -> None:
    """Complete a new task: `ready`, and due soon."""
    task.created_at = task.updated_at = now
    task.requested_at = task.starts_at or now
    task.due_at = task.requested_at + limits.READY_PATIENCE
    task.progress_stored = dict(STARTING)


def refuse(task: LongTask, now: datetime, *, reference: str, raised: Raised | None = None) -> Effect | None:
    """End a `ready` task that the queue has certainly not taken."""
    if task.status is not Status.READY:
        return None
    record(task, now, Cause.REFUSED, reference=reference, raised=raised)
    end(task, Status.FAILED, now)
    return Effect(events=(Event.REFUSED,), raised=raised)


def heal(task: LongTask, now: datetime, *, early: bool = False) -> Effect | None:
    """Postpone a due task's `due_at`; the caller then enqueues the task. One that is too old becomes `failed`.

    With `early`, this also applies to a task that is not due yet, unless an attempt works on it. Of a task whose parts
    work, the caller looks after the parts.
    """
    if task.due_at is None or (task.due_at > now and (not early or limits.is_leased(task))):
        return None
    task.healings += 1
    if not task.status.ended and limits.is_too_old(task, now):
        record(task, now, Cause.GIVEN_UP)
        return _give_up(task, now)
    in_parts = parts_are_at_work(task)
    pause = limits.pause(task.heals)
    task.due_at = now + (min(pause, limits.LONGEST_TENDING) if in_parts else pause)
    task.heals += 1
    if in_parts:
        return Effect(publishes=False)
    # The last snapshot of a silent owner says more than the entity.
    return Effect(events=(Event.HEALED,), publishes=task.status is not Status.STARTED)


def objection(
    task: LongTask, now: datetime, delivery: Delivery, *, silent_fence: int | None = None
) -> Objection | None:
    """Return why a delivery must not claim the task, or None if it may."""
    if not hmac.compare_digest(task.execute_key.encode(), delivery.execute_key.encode()):
        return Objection.FORBIDDEN
    if task.status.ended and not task.is_untold:
        return Objection.ENDED
    if delivery.endpoint is not None and task.endpoint != delivery.endpoint:
        return Objection.ELSEWHERE
    if task.status.ended:
        return Objection.UNTOLD
    if works_in_parts(task):
        return Objection.IN_PARTS
    lives = limits.is_leased(task) and task.lease_until > now and task.fence != silent_fence
    return Objection.BUSY if lives else None


def claim(
    task: LongTask,
    now: datetime,
    *,
    delivery: Delivery,
    max_attempts: int,
    silent_fence: int | None = None,
    worker: dict[str, str] | None = None,
) -> Effect | None:
    """Make the delivery's attempt the owner, or end a task that has failed too often.

    `silent_fence` names an owner that has missed its beats. It is taken over at once if it still owns the task.
    """
    if objection(task, now, delivery, silent_fence=silent_fence):
        return None
    task.heals = 0
    if task.starts_at is not None:  # a delivery that comes early begins the run
        task.requested_at = min(task.requested_at, now)
    return take(task, now, delivery=delivery, max_attempts=max_attempts, worker=worker)


def take(
    task: WorkUnit, now: datetime, *, delivery: Delivery, max_attempts: int, worker: dict[str, str] | None = None
) -> Effect | None:
    """Do what a claim does, for a delivery that may."""
    task.delivered_by = delivery.task_name  # also of what this ends, so that its delivery can follow up again
    task.delivery_retries = delivery.retry_count
    if died := limits.is_leased(task):
        record(task, now, limits.cause_of_death(task, now))
        task.failures += 1
        task.progress_stored = task.progress.stored()  # without the pace, for an attempt that continues at once
    if limits.is_hopeless(task, max_attempts, now):
        if not died:
            record(task, now, Cause.GIVEN_UP)
        return _give_up(task, now)
    task.deliveries += 1
    task.worker = worker
    task.status_name = Status.STARTED.value
    task.fence += 1
    task.started_at = now
    task.lease_until = task.due_at = now + limits.lease(task)
    resumes = task.state_manifest is not None
    return Effect(events=(Event.CLAIMED, Event.RESUMED) if resumes else (Event.CLAIMED,), beats=True)


def interrupt(
    task: WorkUnit, now: datetime, *, fence: int, reference: str, raised: Raised | None = None
) -> Effect | None:
    """Release the task of an attempt that could not store its outcome. Does not count against ``max_attempts``."""
    if not works(task, fence):
        return None
    record(task, now, Cause.INTERRUPTED, reference=reference, raised=raised)
    task.forgiven += 1
    if task.forgiven >= limits.MOST_FAILURES:
        return _give_up(task, now, raised)
    _release(task, now)
    return Effect(raised=raised)


def works_in_parts(task: LongTask) -> bool:
    """Return whether the parts of a task are at work, or will be as soon as it is delivered after a retry."""
    split = Split.of(task)
    return split is not None and split.stage is Stage.WORKING and not task.status.ended


def parts_are_at_work(task: LongTask) -> bool:
    """Return whether the parts of a task are at work, and not only after the delivery of a retry."""
    return task.status is Status.STARTED and works_in_parts(task)


def owns(task: WorkUnit, fence: int) -> bool:
    """Return whether the attempt with this fence may still commit its outcome."""
    return task.status is Status.STARTED and bool(task.fence == fence)


def works(task: WorkUnit, fence: int) -> bool:
    """Return whether the attempt with this fence owns the task and has not handed it over."""
    return owns(task, fence) and task.lease_until is not None


def renew(task: WorkUnit, now: datetime, *, fence: int) -> Effect | None:
    """Renew an owner's limits.lease."""
    if not works(task, fence):
        return None
    task.lease_until = task.due_at = now + limits.lease(task)
    return Effect(publishes=False)


def keep(task: WorkUnit, now: datetime, *, fence: int, checkpoint: Checkpoint) -> Effect | None:
    """Store a checkpoint and renew the limits.lease. If it has advanced, the failures before it are forgiven."""
    if not works(task, fence):
        return None
    set_stored(task, "state", checkpoint.state)
    if checkpoint.pieces is not None:
        set_stored(task, "result", checkpoint.pieces)
    task.progress_stored = checkpoint.progress
    if checkpoint.advanced:
        task.forgiven, task.failures = task.forgiven + task.failures, 0
    task.lease_until = task.due_at = now + limits.lease(task)
    return Effect(publishes=False)


def hand_over(
    task: WorkUnit,
    now: datetime,
    *,
    fence: int,
    progress: dict[str, Any],
    advanced: bool,
    max_attempts: int,
    reference: str | None = None,
) -> Effect | None:
    """Release the lease, so that the next attempt continues. A hand-over without an advance counts as a failure."""
    if not works(task, fence):
        return None
    if not advanced:
        record(task, now, Cause.NO_PROGRESS, reference=reference)
        task.failures += 1
    if limits.is_hopeless(task, max_attempts, now):
        if advanced:
            record(task, now, Cause.GIVEN_UP)
        return _give_up(task, now)
    task.progress_stored = progress
    task.lease_until = None
    task.due_at = now + limits.READY_PATIENCE
    return Effect(events=(Event.HANDED_OVER,))


def finish(task: WorkUnit, now: datetime, *, fence: int, result: Stored, progress: Progress) -> Effect | None:
    """Store an attempt's result: the task is `done`."""
    if not owns(task, fence):
        return None
    end(task, Status.DONE, now)
    set_stored(task, "result", result)
    set_stored(task, "state", None)
    if isinstance(task, LongTask):
        task.run_seconds = (now - task.requested_at).total_seconds()
    task.progress_stored = (progress if progress.share is None else replace(progress, share=1.0)).stored()
    task.error = task.error_reference = None
    return Effect(events=(Event.FINISHED,))


def fail(
    task: WorkUnit,
    now: datetime,
    *,
    fence: int,
    permanent: bool,
    error: str | None,
    reference: str,
    progress: Progress,
    max_attempts: int,
    forget: bool = False,
    forget_parts: bool = False,
    cause: Cause = Cause.EXCEPTION,
    raised: Raised | None = None,
) -> Effect | None:
    """Record that an attempt failed: `error`, or `failed` for good.

    With `forget`, nothing is left to resume; with `forget_parts`, a retry splits the task again.
    """
    if not owns(task, fence):
        return None
    record(task, now, cause, reference=reference, raised=raised)
    task.failures += 1
    task.progress_stored = progress.stored()
    if forget:
        set_stored(task, "state", None)
        set_stored(task, "result", None)
    if forget_parts and isinstance(task, LongTask):
        task.parts = None
    if permanent or limits.is_hopeless(task, max_attempts, now):
        end(task, Status.FAILED, now)
        task.error, task.permanent = error, error is not None
        return Effect(events=(Event.FAILED,), raised=raised)
    _release(task, now)
    return Effect(events=(Event.ATTEMPT_FAILED,), raised=raised)


def show(task: LongTask, now: datetime) -> Effect | None:
    """Make a `done` task `finished`: its result is about to be shown for the first time."""
    if task.status is not Status.DONE:
        return None
    task.status_name = Status.FINISHED.value
    task.last_accessed_at = now
    return Effect()


def cancel(task: LongTask, now: datetime, *, latest: Snapshot | None = None) -> Effect | None:
    """End a task that has not ended, even if an attempt works on it. Keep the progress of its `latest` snapshot."""
    if task.status.ended:
        return None
    if latest is not None and owns(task, latest.fence):
        task.progress_stored = latest.info.progress.stored()
    end(task, Status.CANCELLED, now)
    task.fence += 1
    return Effect(events=(Event.CANCELLED,))


def retry(
    task: LongTask, now: datetime, *, damaged_fence: int | None = None, trace: str | None = None
) -> Effect | None:
    """Make a failed or cancelled task `ready` again, for the caller to enqueue.

    `damaged_fence` names a run whose result can't be read any more; that run may be repeated as well.
    """
    may = task.status.may_retry or (task.status.has_result and task.fence == damaged_fence)
    if not may or task.purged or task.expires_at <= now:
        return None
    task.status_name = Status.READY.value
    task.fence += 1
    task.failures = task.forgiven = task.heals = 0
    task.requested_at, task.trace = now, trace
    task.due_at = now + limits.READY_PATIENCE
    task.starts_at = task.ended_at = task.expires_at = task.lease_until = None
    task.end_untold = False  # the handler is told of the new run's end
    task.error = task.error_reference = None
    task.permanent = False
    task.progress_stored = replace(task.progress, facts={}).stored()
    if task.parts and now - task.created_at > limits.LATE_RETRY:  # the parts might expire before the join
        task.parts = None
        set_stored(task, "state", None)  # that of the join
    if task.state_manifest is None:  # else the next attempt resumes from it
        if not task.parts:  # else those that are done stay done
            task.progress_stored = dict(STARTING)
        task.run_seconds = None
        set_stored(task, "result", None)
    return Effect()


def _release(task: WorkUnit, now: datetime) -> None:
    """Leave the task to the next attempt, after a failure."""
    task.status_name = Status.ERROR.value
    task.lease_until = None
    task.due_at = now + limits.ERROR_PATIENCE


def _give_up(task: WorkUnit, now: datetime, raised: Raised | None = None) -> Effect:
    """End a task or a part for good, after the reason was recorded."""
    end(task, Status.FAILED, now)
    task.error = None
    return Effect(events=(Event.FAILED,), raised=raised)


def end(task: WorkUnit, status: Status, now: datetime) -> None:
    """End a task or a part."""
    task.progress_stored = task.progress.stored()
    task.status_name = status.value
    task.ended_at = now
    task.lease_until = task.due_at = None
    match task:
        case LongTask():
            task.end_untold, task.heals = task.tells_end, 0
            task.due_at = now + limits.READY_PATIENCE if task.tells_end else None  # the handler is told within seconds
            task.expires_at = now + timedelta(seconds=task.keep_result_seconds)
        case LongTaskPart():
            task.open = status is not Status.DONE
