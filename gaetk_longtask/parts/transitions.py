"""What becomes of a task by its parts, and of a part by its task: pure rules, as in the main `transitions`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from gaetk_longtask import limits
from gaetk_longtask.events import Event
from gaetk_longtask.failures import Raised, adopt
from gaetk_longtask.info import Parts, Progress
from gaetk_longtask.models import LongTask, LongTaskPart
from gaetk_longtask.payloads.manifests import set_stored
from gaetk_longtask.queues import Delivery, Objection
from gaetk_longtask.splits import Split, Stage, number_in
from gaetk_longtask.status import Status
from gaetk_longtask.transitions import Effect, end, owns, take, works, works_in_parts


def split(task: LongTask, now: datetime, *, fence: int, split: Split, progress: Progress) -> Effect | None:
    """Make a split real: its parts are stored, and become the task's. Without parts, the join comes next."""
    if not works(task, fence):
        return None
    task.failures = task.forgiven = task.heals = 0
    set_stored(task, "state", None)
    set_stored(task, "result", None)
    _wait(task, now, split, replace(progress, step=0, total_steps=0), done=0)
    return Effect(events=(Event.SPLIT, *((Event.JOINING,) if split.stage is Stage.JOINING else ())))


def resume(task: LongTask, now: datetime, *, delivery: Delivery) -> Effect | None:
    """Let the parts of a task be worked on again. The caller then looks after them.

    The task was retried, or a version of the library that knows no parts has tried to work on it.
    """
    if task.status is Status.STARTED or not works_in_parts(task):
        return None
    if task.status is Status.ERROR:
        task.fence += 1  # news with the same fence would count as earlier than those of the failure
    task.status_name = Status.STARTED.value
    task.started_at = now
    task.delivered_by, task.delivery_retries = delivery.task_name, delivery.retry_count
    task.deliveries += 1
    task.lease_until = None
    task.due_at = now + limits.READY_PATIENCE
    return Effect(events=(Event.CLAIMED, Event.RESUMED))


def note(task: LongTask, now: datetime, *, run: int, fence: int, open_parts: int) -> Effect | None:
    """Remember how many parts are open. If there are fewer than before, the task is looked after sooner again."""
    found = Split.of(task)
    if found is None or found.run != run or found.stage is not Stage.WORKING or not owns(task, fence):
        return None  # another look may have let the join begin meanwhile
    if found.open_at_last_tend == open_parts:
        return None
    if open_parts < found.open_at_last_tend:
        task.heals = 0
        task.due_at = min(task.due_at, now + limits.pause(0))  # this look has still made the pause longer
    found = replace(found, open_at_last_tend=open_parts)
    task.parts = found.stored()
    task.progress_stored = with_parts(task.progress, found, found.count - open_parts).stored()
    return Effect(publishes=False)


def hasten(task: LongTask, now: datetime, *, fence: int) -> Effect | None:
    """Have the parts looked after again in a minute. This look has run out of time."""
    soon = now + limits.pause(0)
    if not owns(task, fence) or not works_in_parts(task) or task.due_at <= soon:
        return None
    task.due_at = soon
    return Effect(publishes=False)


def join(task: LongTask, now: datetime, *, run: int, fence: int) -> Effect | None:
    """Let the join begin: all parts are done. The caller enqueues the task."""
    found = Split.of(task)
    if found is None or found.run != run or found.stage is not Stage.WORKING or not owns(task, fence):
        return None
    task.heals = task.failures = 0
    _wait(task, now, replace(found.with_stage(Stage.JOINING), open_at_last_tend=0), task.progress, done=found.count)
    return Effect(events=(Event.JOINING,))


def reopen(task: LongTask, now: datetime, *, fence: int) -> Effect | None:
    """End a join that has met a part which is not done. It does not count against ``max_attempts``."""
    found = Split.of(task)
    if found is None or not works(task, fence):
        return None
    task.parts = found.with_stage(Stage.WORKING).stored()
    task.forgiven += 1  # a part that no query finds would have this go on for ever
    task.lease_until = None
    task.due_at = now
    return Effect()


def fail_by_part(
    task: LongTask,
    now: datetime,
    *,
    part: LongTaskPart,
    fence: int,
    forget_parts: bool,
    raised: Raised | None,
    progress: Progress,
) -> Effect | None:
    """Fail a task one of whose parts has failed for good. With `forget_parts`, a retry splits it again."""
    if not owns(task, fence) or not works_in_parts(task):
        return None
    task.progress_stored = progress.stored()
    adopt(task, part, number_in(part.id))
    if forget_parts:
        task.parts = None
        set_stored(task, "state", None)  # of a join that has met an open part
        set_stored(task, "result", None)
    end(task, Status.FAILED, now)
    return Effect(events=(Event.FAILED,), raised=raised)


def objection(
    part: LongTaskPart, now: datetime, *, task: LongTask, delivery: Delivery, silent_fence: int | None = None
) -> Objection | None:
    """Return why a delivery must not claim a part of the task as it was read, or None if it may."""
    if part.status is Status.DONE:
        return Objection.ENDED
    if part.task_fence > task.fence:
        return Objection.BUSY  # the task was read before a retry
    if part.task_fence < task.fence:
        return None
    if part.status.ended:
        return Objection.ENDED
    lives = limits.is_leased(part) and part.lease_until > now and part.fence != silent_fence
    return Objection.BUSY if lives else None


def claim(
    part: LongTaskPart,
    now: datetime,
    *,
    task: LongTask,
    delivery: Delivery,
    max_attempts: int,
    silent_fence: int | None = None,
    worker: dict[str, str] | None = None,
) -> Effect | None:
    """Make the delivery's attempt the owner of a part, or end a part that has failed too often.

    What was begun under a lower fence of the task is taken over at once, whatever its lease, and does not count.
    """
    if objection(part, now, task=task, delivery=delivery, silent_fence=silent_fence):
        return None
    if part.task_fence < task.fence:
        part.task_fence = task.fence
        part.status_name = Status.READY.value
        part.failures = part.forgiven = 0
        part.error = part.error_reference = None
        part.permanent = False
        part.lease_until = part.ended_at = None
        part.requested_at = task.requested_at
    return take(part, now, delivery=delivery, max_attempts=max_attempts, worker=worker)


def with_parts(progress: Progress, split: Split, done: int) -> Progress:
    """Return the progress of the task when so many parts are done. The join is one more step."""
    share = max(progress.share or 0.0, done / (split.count + 1))
    return replace(progress, share=share, parts=Parts(done=done, total=split.count))


def _wait(task: LongTask, now: datetime, split: Split, progress: Progress, *, done: int) -> None:
    task.parts = split.stored()
    task.progress_stored = with_parts(progress, split, done).stored()
    task.lease_until = None
    task.due_at = now + limits.READY_PATIENCE
