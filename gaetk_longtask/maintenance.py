"""What a cron job does: enqueues due tasks again, deletes expired ones. Bounded, and safe to repeat."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from gaetk_longtask import starting
from gaetk_longtask.payloads import chunks
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.transitions import begin_purge

#: How many tasks one call handles; the next call continues. Enqueuing costs more than deleting.
SWEPT, PURGED = 100, 1000
SECONDS = 30.0  #: how long a call takes at most; less than any request limit


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a call did."""

    done: int  #: tasks enqueued again, or deleted
    left: bool  #: whether there may be more


def sweep(runtime: Runtime, *, limit: int = SWEPT, monotonic: Callable[[], float] = time.monotonic) -> Report:
    """Enqueue due tasks again; each one's `due_at` moves on, so the queue is not flooded.

    An NDB context must be active.
    """
    return _each(runtime.store.due(limit), lambda task_id: starting.heal_due(runtime, task_id), limit, monotonic)


def purge(runtime: Runtime, *, limit: int = PURGED, monotonic: Callable[[], float] = time.monotonic) -> Report:
    """Delete expired tasks: the chunks first, so that no task is left with half a result.

    An NDB context must be active.
    """

    def delete(task_id: str) -> None:
        if runtime.store.change(task_id, begin_purge).applied:
            while chunks.delete_some(task_id):
                pass
            runtime.store.end_purge(task_id)

    return _each(runtime.store.expired(limit), delete, limit, monotonic)


def _each(task_ids: list[str], handle: Callable[[str], object], limit: int, monotonic: Callable[[], float]) -> Report:
    end, done = monotonic() + SECONDS, 0
    for task_id in task_ids:
        if monotonic() >= end:
            break
        handle(task_id)
        done += 1
    return Report(done=done, left=done == limit or done < len(task_ids))
