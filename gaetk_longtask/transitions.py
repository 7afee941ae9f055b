"""The state transitions of a task: pure rules that change an entity in memory and return what follows.

A transition takes the task and the current time. It changes the task and returns an `Effect`, or changes nothing and
returns None. `store` runs it inside a transaction, possibly more than once, and commits the change.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gaetk_longtask.events import Event, new_reference
from gaetk_longtask.info import Progress
from gaetk_longtask.models import LongTask
from gaetk_longtask.payloads.manifests import Stored, set_stored
from gaetk_longtask.queues import Delivery, Objection
from gaetk_longtask.status import Status

#: How long an owner may work without a write to Datastore. Its reporter renews the lease.
LEASE = timedelta(seconds=120)
#: A `ready` task is delivered within seconds. After this long, it is doubtful that it was enqueued.
READY_PATIENCE = timedelta(minutes=1)
ERROR_PATIENCE = timedelta(seconds=120)  #: twice the longest back-off in our queue.yaml
#: Healing waits 1, 2, 4 … minutes, up to `LONGEST_HEALING`. After `HEALED_HOURLY` times it waits for a day, because
#: each healing leaves one more Cloud Tasks task that retries on its own.
LONGEST_HEALING = timedelta(minutes=60)
HEALED_HOURLY, SELDOM_HEALING = 30, timedelta(days=1)

#: The most failures of one run, even with progress in between: a state that contains the time always looks new.
MOST_FAILURES = 100
LONGEST_RUN = timedelta(days=30)  #: a task that has not ended by then never will

STARTING = {"message": "Starting", "step": 0, "total_steps": 0}  #: the progress of a task before the first attempt


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """What follows from a transition once it is committed."""

    events: tuple[Event, ...] = ()
    publishes: bool = True  #: whether the progress store gets the new state
    beats: bool = False  #: whether that state is the first sign of life of an owner


#: Changes the task and returns what follows, or changes nothing and returns None.
Transition = Callable[[LongTask, datetime], Effect | None]


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
    task.due_at = task.requested_at + READY_PATIENCE
    task.progress_stored = dict(STARTING)


def refuse(task: LongTask, now: datetime, *, reference: str) -> Effect | None:
    """End a `ready` task that the queue has certainly not taken."""
    if task.status is not Status.READY:
        return None
    _end(task, Status.FAILED, now)
    task.error_reference = reference
    return Effect(events=(Event.REFUSED,))


def heal(task: LongTask, now: datetime, *, early: bool = False) -> Effect | None:
    """Postpone a due task's `due_at`; the caller then enqueues the task. One that is too old becomes `failed`.

    With `early`, this also applies to a task that is not due yet, unless an attempt works on it.
    """
    if task.due_at is None or (task.due_at > now and (not early or _is_leased(task))):
        return None
    task.healings += 1
    if not task.status.ended and _is_too_old(task, now):
        return _give_up(task, now)
    pause = min(timedelta(minutes=2 ** min(task.heals, 6)), LONGEST_HEALING)
    task.due_at = now + (pause if task.heals < HEALED_HOURLY else SELDOM_HEALING)
    task.heals += 1
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
    lives = _is_leased(task) and task.lease_until > now and task.fence != silent_fence
    return Objection.BUSY if lives else None


def claim(
    task: LongTask, now: datetime, *, delivery: Delivery, max_attempts: int, silent_fence: int | None = None
) -> Effect | None:
    """Make the delivery's attempt the owner, or end a task that has failed too often.

    `silent_fence` names an owner that has missed its beats. It is taken over at once if it still owns the task.
    """
    if objection(task, now, delivery, silent_fence=silent_fence):
        return None
    if _is_leased(task):  # the owner died
        task.failures += 1
        task.progress_stored = task.progress.stored()  # without the pace, for an attempt that continues at once
    if _is_hopeless(task, max_attempts, now):
        return _give_up(task, now)
    task.status_name = Status.STARTED.value
    task.fence += 1
    task.heals = 0
    task.started_at = now
    if task.starts_at is not None:  # a delivery that comes early begins the run
        task.requested_at = min(task.requested_at, now)
    task.lease_until = task.due_at = now + _lease(task)
    task.delivered_by = delivery.task_name
    task.delivery_retries = delivery.retry_count
    resumes = task.state_manifest is not None
    return Effect(events=(Event.CLAIMED, Event.RESUMED) if resumes else (Event.CLAIMED,), beats=True)


def interrupt(task: LongTask, now: datetime, *, fence: int) -> Effect | None:
    """Release the task of an attempt that could not store its outcome. Does not count against ``max_attempts``."""
    if not works(task, fence):
        return None
    task.forgiven += 1
    if task.forgiven >= MOST_FAILURES:
        return _give_up(task, now)
    task.status_name = Status.ERROR.value
    task.lease_until = None
    task.due_at = now + ERROR_PATIENCE
    return Effect()


def owns(task: LongTask, fence: int) -> bool:
    """Return whether the attempt with this fence may still commit its outcome."""
    return task.status is Status.STARTED and bool(task.fence == fence)


def works(task: LongTask, fence: int) -> bool:
    """Return whether the attempt with this fence owns the task and has not handed it over."""
    return owns(task, fence) and task.lease_until is not None


def renew(task: LongTask, now: datetime, *, fence: int) -> Effect | None:
    """Renew an owner's lease."""
    if not works(task, fence):
        return None
    task.lease_until = task.due_at = now + _lease(task)
    return Effect(publishes=False)


def keep(task: LongTask, now: datetime, *, fence: int, checkpoint: Checkpoint) -> Effect | None:
    """Store a checkpoint and renew the lease. If it has advanced, the failures before it are forgiven."""
    if not works(task, fence):
        return None
    set_stored(task, "state", checkpoint.state)
    if checkpoint.pieces is not None:
        set_stored(task, "result", checkpoint.pieces)
    task.progress_stored = checkpoint.progress
    if checkpoint.advanced:
        task.forgiven, task.failures = task.forgiven + task.failures, 0
    task.lease_until = task.due_at = now + _lease(task)
    return Effect(publishes=False)


def hand_over(
    task: LongTask, now: datetime, *, fence: int, progress: dict[str, Any], advanced: bool, max_attempts: int
) -> Effect | None:
    """Release the lease, so that the next attempt continues. A hand-over without an advance counts as a failure."""
    if not works(task, fence):
        return None
    if not advanced:
        task.failures += 1
    if _is_hopeless(task, max_attempts, now):
        return _give_up(task, now)
    task.progress_stored = progress
    task.lease_until = None
    task.due_at = now + READY_PATIENCE
    return Effect(events=(Event.HANDED_OVER,))


def finish(task: LongTask, now: datetime, *, fence: int, result: Stored, progress: Progress) -> Effect | None:
    """Store an attempt's result: the task is `done`."""
    if not owns(task, fence):
        return None
    _end(task, Status.DONE, now)
    set_stored(task, "result", result)
    set_stored(task, "state", None)
    task.run_seconds = (now - task.requested_at).total_seconds()
    task.progress_stored = progress.stored()
    task.error = task.error_reference = None
    return Effect(events=(Event.FINISHED,))


def fail(
    task: LongTask,
    now: datetime,
    *,
    fence: int,
    permanent: bool,
    error: str | None,
    reference: str,
    progress: Progress,
    max_attempts: int,
    forget: bool = False,
) -> Effect | None:
    """Record that an attempt failed: `error`, or `failed` for good. With `forget`, nothing is left to resume."""
    if not owns(task, fence):
        return None
    task.failures += 1
    task.progress_stored = progress.stored()
    task.error_reference = reference
    if forget:
        set_stored(task, "state", None)
        set_stored(task, "result", None)
    if permanent or _is_hopeless(task, max_attempts, now):
        _end(task, Status.FAILED, now)
        task.error, task.permanent = error, error is not None
        return Effect(events=(Event.FAILED,))
    task.status_name = Status.ERROR.value
    task.lease_until = None
    task.due_at = now + ERROR_PATIENCE
    return Effect(events=(Event.ATTEMPT_FAILED,))


def show(task: LongTask, now: datetime) -> Effect | None:
    """Make a `done` task `finished`: its result is about to be shown for the first time."""
    if task.status is not Status.DONE:
        return None
    task.status_name = Status.FINISHED.value
    task.last_accessed_at = now
    return Effect()


def cancel(task: LongTask, now: datetime) -> Effect | None:
    """End a task that has not ended, even if an attempt works on it."""
    if task.status.ended:
        return None
    _end(task, Status.CANCELLED, now)
    task.fence += 1
    return Effect(events=(Event.CANCELLED,))


def retry(task: LongTask, now: datetime, *, damaged_fence: int | None = None) -> Effect | None:
    """Make a failed or cancelled task `ready` again, for the caller to enqueue.

    `damaged_fence` names a run whose result can't be read any more; that run may be repeated as well.
    """
    may = task.status.may_retry or (task.status.has_result and task.fence == damaged_fence)
    if not may or task.purged or task.expires_at <= now:
        return None
    task.status_name = Status.READY.value
    task.fence += 1
    task.failures = task.forgiven = task.heals = 0
    task.requested_at = now
    task.due_at = now + READY_PATIENCE
    task.starts_at = task.ended_at = task.expires_at = task.lease_until = None
    task.end_untold = False  # the handler is told of the new run's end
    task.error = task.error_reference = None
    task.permanent = False
    if task.state_manifest is None:  # else the next attempt resumes from it
        task.progress_stored = dict(STARTING)
        task.run_seconds = None
        set_stored(task, "result", None)
    return Effect()


def begin_purge(task: LongTask, now: datetime) -> Effect | None:
    """Mark an expired task as being deleted, so that a retry can't start it when half of it is gone."""
    if not task.status.ended or task.expires_at > now:
        return None
    task.purged = True
    task.due_at = None  # it is too late to tell its handler; `end_untold` stays, for the log
    return Effect(publishes=False)


def _lease(task: LongTask) -> timedelta:
    """Return a lease that is longer after each failure, for work that can't renew it because it holds the GIL."""
    return LEASE * int(2 ** min(task.failures, 3))


def _is_leased(task: LongTask) -> bool:
    return task.status is Status.STARTED and task.lease_until is not None


def _is_hopeless(task: LongTask, max_attempts: int, now: datetime) -> bool:
    """Return whether a task has failed too often, in a row or in total, or has taken too long."""
    most = max(MOST_FAILURES, max_attempts)
    return task.failures >= max_attempts or task.failures + task.forgiven >= most or _is_too_old(task, now)


def _is_too_old(task: LongTask, now: datetime) -> bool:
    return bool(now - task.requested_at >= LONGEST_RUN)


def _give_up(task: LongTask, now: datetime) -> Effect:
    _end(task, Status.FAILED, now)
    task.error, task.error_reference = None, new_reference()
    return Effect(events=(Event.FAILED,))


def _end(task: LongTask, status: Status, now: datetime) -> None:
    task.progress_stored = task.progress.stored()
    task.status_name = status.value
    task.ended_at = now
    task.lease_until = None
    task.end_untold, task.heals = task.tells_end, 0
    task.due_at = now + READY_PATIENCE if task.tells_end else None  # the handler is told within seconds
    task.expires_at = now + timedelta(seconds=task.keep_result_seconds)
