"""What a cron job does: enqueues due tasks again, deletes expired ones. Bounded, and safe to repeat."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from gaetk_longtask import starting
from gaetk_longtask.payloads import chunks
from gaetk_longtask.runtime import Runtime

T = TypeVar("T")

#: How many tasks one call handles; the next call continues. Enqueuing costs more than deleting.
SWEPT, PURGED = 100, 1000
#: How long a call takes at most; less than any request limit.
SECONDS = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a call did."""

    done: int  #: tasks enqueued again, or deleted
    left: bool  #: whether there may be more


def sweep(runtime: Runtime, *, limit: int = SWEPT, monotonic: Callable[[], float] = time.monotonic) -> Report:
    """Enqueue due tasks again; each one's `due_at` moves on, so the queue is not flooded.

    An NDB context must be active.
    """
    task_ids = runtime.store.due(limit)
    done = 0
    for task_id in _in_time(task_ids, monotonic):
        starting.heal_due(runtime, task_id)
        done += 1
    return Report(done=done, left=done == limit or done < len(task_ids))


def purge(runtime: Runtime, *, limit: int = PURGED, monotonic: Callable[[], float] = time.monotonic) -> Report:
    """Delete expired tasks: the chunks first, so that no task is left with half a result.

    An NDB context must be active.
    """
    task_ids = runtime.store.expired(limit)
    done = 0
    for task_id in _in_time(task_ids, monotonic):
        if runtime.store.begin_purge(task_id):
            while chunks.delete_some(task_id):
                pass
            runtime.store.end_purge(task_id)
        done += 1
    return Report(done=done, left=done == limit or done < len(task_ids))


def _in_time(items: list[T], monotonic: Callable[[], float]) -> Iterator[T]:
    end = monotonic() + SECONDS
    for item in items:
        if monotonic() >= end:
            return
        yield item
