"""What a cron job does: enqueues due tasks again, deletes expired ones. Bounded, and safe to repeat.

A single task can also be deleted before it expires.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from gaetk_longtask import starting
from gaetk_longtask.exceptions import EndUntoldError, LongTaskError, UnknownTaskError
from gaetk_longtask.foreign import logging_failures
from gaetk_longtask.healing import heal_due
from gaetk_longtask.info import TaskInfo
from gaetk_longtask.models import LongTask
from gaetk_longtask.parts import store as parts
from gaetk_longtask.payloads import chunks
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.status import Status
from gaetk_longtask.transitions import Effect

log = logging.getLogger(__name__)

#: How many tasks one call handles; the next call continues. Enqueuing costs more than deleting.
SWEPT, PURGED = 100, 1000
SECONDS = 30.0  #: how long a call takes at most; less than any request limit


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a call did."""

    done: int  #: tasks enqueued again, or deleted
    left: bool  #: whether there may be more


def sweep(
    runtime: Runtime, *, limit: int = SWEPT, early: bool = False, monotonic: Callable[[], float] = time.monotonic
) -> Report:
    """Enqueue due tasks again; each one's `due_at` moves on, so the queue is not flooded.

    With `early`, all tasks that wait are enqueued, whether they are due or not: for a queue that was purged. An NDB
    context must be active.
    """

    def heal(task_id: str) -> bool:
        if heal_due(runtime, task_id, early=early) is not None:
            return True
        task = runtime.store.get(task_id)
        return task is None or task.is_known

    return _each(runtime.store.unended if early else runtime.store.due, heal, limit, monotonic)


def purge(runtime: Runtime, *, limit: int = PURGED, monotonic: Callable[[], float] = time.monotonic) -> Report:
    """Delete expired tasks. Then delete lost parts and chunks.

    An NDB context must be active.
    """

    def delete(task_id: str) -> bool:
        change = runtime.store.change(task_id, begin_purge)
        if change.applied:
            _remove(runtime, change.task)
        return change.applied

    def delete_chunks(task_id: str) -> bool:
        if (task := runtime.store.get(task_id)) is not None:  # it was retried late
            chunks.extend(task_id, runtime.chunk_expiry(timedelta(seconds=task.keep_result_seconds)))
            return True
        while chunks.delete_some(task_id):
            pass
        return True

    report = _each(runtime.store.expired, delete, limit, monotonic)
    parts.delete_expired(runtime.clock(), limit)
    _each(partial(chunks.expired, runtime.clock()), delete_chunks, limit, monotonic)
    return report


def delete(runtime: Runtime, task_id: str, *, untold: bool = False) -> TaskInfo:
    """Delete a task now, with all that belongs to it; return it as it was before. A task that works is cancelled first.

    If that is interrupted, it can be repeated, or the next purge finishes it. An NDB context must be active.

    Raises:
        UnknownTaskError: there is no such task.
        EndUntoldError: the handler of the task has to be told of its end first, and `untold` is not set. The task may
            have been cancelled.
    """
    before: list[TaskInfo] = []

    def mark(task: LongTask, now: datetime) -> Effect | None:
        before[:] = [task.info]
        return begin_delete(task, now, untold=untold)

    works = False
    change = runtime.store.change(task_id, mark)
    if change.task is not None and change.task.is_known and not change.task.status.ended:
        works = change.task.status is Status.STARTED
        starting.cancel(runtime, task_id)
        change = runtime.store.change(task_id, mark)
    if change.task is None:
        raise UnknownTaskError(f"There is no task {task_id[:8]}.")
    if change.applied:
        _remove(runtime, change.task, works=works)
        return before[0]
    if change.task.is_untold:
        message = "Its handler has not been told of its end yet. Delete it again in a minute, or delete it anyway."
        raise EndUntoldError(message)
    raise LongTaskError("It was retried at the same time, or belongs to a later version of the library.")


def _remove(runtime: Runtime, task: LongTask | None, *, works: bool = False) -> None:
    """Delete a task that is marked: its chunks first, so that no task is left with half a result."""
    if task is None:
        return
    if task.end_untold:
        log.error("%s is deleted, and task_ended has never returned for its end", task.id[:8])
    while chunks.delete_some(task.id):
        pass
    may_have_parts = task.parts or not task.status.has_result  # a split that has not ended well may have stored some
    while may_have_parts and parts.delete_some(task.id):
        pass
    runtime.store.end_purge(task.id, works=works)


def _each(
    find: Callable[[int], list[str]], handle: Callable[[str], bool], limit: int, monotonic: Callable[[], float]
) -> Report:
    """Handle what is found, up to `limit`; what can't be handled is passed over, and does not count."""
    end, done = monotonic() + SECONDS, 0
    seen: set[str] = set()
    while found := [task_id for task_id in find(limit + len(seen)) if task_id not in seen]:
        for task_id in found:
            if done == limit or monotonic() >= end:
                return Report(done=done, left=True)
            seen.add(task_id)
            with logging_failures("task %s could not be handled", str(task_id)[:8]):  # the others still can
                done += handle(task_id)
        if len(found) + done < limit or done == limit:
            break
    return Report(done=done, left=done == limit)


def begin_purge(task: LongTask, now: datetime) -> Effect | None:
    """Mark an expired task as being deleted, so that a retry can't start it when half of it is gone."""
    if not task.status.ended or task.expires_at > now:
        return None
    task.purged = True
    task.due_at = None  # it is too late to tell its handler; `end_untold` stays, for the log
    return Effect(publishes=False)


def begin_delete(task: LongTask, now: datetime, *, untold: bool = False) -> Effect | None:
    """Mark a task that has ended as being deleted before it expires, and forget what it shows.

    An end that its handler does not know prevents this, unless `untold` is set.
    """
    if task.purged:
        return Effect()  # an earlier deletion was interrupted
    if not task.status.ended or (task.is_untold and not untold):
        return None
    task.purged, task.due_at, task.expires_at = True, None, min(now, task.expires_at)
    task.title = task.error = task.progress_stored = None  # also in the progress store, which keeps it for a while
    task.status_name = Status.CANCELLED.value  # of which a progress store is never believed
    task.fence += 1
    return Effect()
