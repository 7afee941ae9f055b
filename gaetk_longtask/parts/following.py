"""What follows after a part has ended: the next part of its lane, the join, or the failure of the task."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

from gaetk_longtask.failures import Cause, last_failure, raised_in
from gaetk_longtask.info import PART_FIELD
from gaetk_longtask.models import LongTask, LongTaskPart
from gaetk_longtask.parts import transitions
from gaetk_longtask.parts.store import PartStore
from gaetk_longtask.queues import QueueRequest
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.splits import Address, Split, Stage, lane_in, number_in, run_in
from gaetk_longtask.starting import hand_on, request_for, send_certainly
from gaetk_longtask.status import Status


@dataclass(frozen=True, kw_only=True, slots=True)
class Followed:
    """What has followed after a part has ended, or after a look at the parts."""

    certain: bool = True  #: False if the delivery has to be repeated, because it is not certain what is enqueued
    ended: LongTask | None = None  #: the task, if it has failed by that


def follow_up(runtime: Runtime, task_id: str, part: LongTaskPart, *, again: bool) -> Followed:
    """Do what follows after a part has ended. `again` says that an earlier delivery may have begun with it."""
    task = runtime.store.get(task_id)
    split = Split.of(task) if task is not None else None
    if task is None or split is None or split.run != run_in(part.id):
        return Followed()  # deleted, or split again
    if part.status is Status.FAILED:
        return fail_by(runtime, task, split, part)
    if task.status is not Status.STARTED:  # it has ended, or was retried: its own delivery looks after the lanes
        return Followed()
    if split.stage is Stage.JOINING:
        return Followed(certain=enqueue_join(runtime, task)) if again else Followed()
    store = PartStore(runtime, task, split)
    if following := store.first_open(lane_in(part.id)):
        return Followed(certain=enqueue_parts(runtime, task, split, [following]))
    if store.first_open() is not None:  # another lane still works
        return Followed()
    return Followed(certain=begin_join(runtime, task, split, again=again))


def begin_join(runtime: Runtime, task: LongTask, split: Split, *, again: bool = True) -> bool:
    """Let the join begin, because no part is open; return whether that is certain.

    Of several callers, only one enqueues the task, and those that come `again`.
    """
    change = runtime.store.change(task.id, partial(transitions.join, run=split.run, fence=task.fence))
    if change.task is None or not (change.applied or again):
        return True
    return enqueue_join(runtime, change.task)


def enqueue_join(runtime: Runtime, task: LongTask) -> bool:
    """Enqueue a task whose join no attempt works on; return whether that is certain, or not needed."""
    found = Split.of(task)
    waits = task.status is Status.STARTED and task.lease_until is None
    if found is None or found.stage is not Stage.JOINING or not waits:
        return True
    return hand_on(runtime, task)


def fail_by(runtime: Runtime, task: LongTask, split: Split, part: LongTaskPart) -> Followed:
    """Fail the task, if the part has failed in its present run."""
    if task.status.ended:
        return Followed(ended=task if _is_of(task, part) else None)
    if part.task_fence != task.fence:
        return Followed()
    failure = last_failure(part)
    fail = partial(
        transitions.fail_by_part,
        part=part,
        fence=task.fence,
        forget_parts=failure is not None and failure.cause == Cause.DAMAGED_INPUT,
        raised=raised_in(part),
        progress=PartStore(runtime, task, split).progress.latest(),
    )
    change = runtime.store.change(task.id, fail)
    return Followed(ended=change.task if change.applied else None)


def _is_of(task: LongTask, part: LongTaskPart) -> bool:
    """Return whether it was this part that has failed the task."""
    return task.status is Status.FAILED and bool(task.error_reference == part.error_reference)


def enqueue_parts(runtime: Runtime, task: LongTask, split: Split, names: Iterable[str]) -> bool:
    """Enqueue parts, up to the first one that is not certain; return whether all are."""
    return all(send_certainly(runtime, request_for_part(task, split, number_in(name))) for name in names)


def request_for_part(task: LongTask, split: Split, number: int) -> QueueRequest:
    """Return the request that delivers a part of a task."""
    request = request_for(task)
    return replace(request, uri=f"{request.uri}&{PART_FIELD}={Address(run=split.run, number=number)}")
