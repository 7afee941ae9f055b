"""Looks after the parts of a task: enqueues the first open part of each lane, if nothing else would.

It is the net below the deliveries of parts, which follow up themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial

from gaetk_longtask import limits
from gaetk_longtask.events import Event
from gaetk_longtask.exceptions import ConfigurationError, EnqueueRefusedError, EnqueueUncertainError
from gaetk_longtask.models import LongTask, LongTaskPart
from gaetk_longtask.parts import transitions
from gaetk_longtask.parts.following import Followed, begin_join, enqueue_parts, fail_by, request_for_part
from gaetk_longtask.parts.store import PartStore
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.splits import Split, lane_in, number_in
from gaetk_longtask.starting import request_again, send
from gaetk_longtask.status import Status

log = logging.getLogger(__name__)

_LONGEST_LOOK = timedelta(seconds=5)  #: for enqueuing up to a hundred parts, one after the other


def begin(runtime: Runtime, task: LongTask, split: Split) -> bool:
    """Enqueue the first part of each lane after a split; return whether all of that is certain."""
    names = (split.name(task.id, lane) for lane in split.used_lanes())  # it has the number of its lane
    return enqueue_parts(runtime, task, split, names)


def tend(runtime: Runtime, task: LongTask, *, healing: bool = False, early: bool = False) -> Followed:
    """Look after the parts of a task whose parts are at work, and whose `due_at` the caller has moved on.

    With `healing`, the caller is no delivery that would be repeated, and what is enqueued replaces what was enqueued so
    before. With `early`, parts that wait for a second attempt are enqueued as well.
    """
    split = Split.of(task)
    assert split is not None  # noqa: S101  # its parts are at work
    store = PartStore(runtime, task, split)
    firsts = store.firsts_open(split.used_lanes())
    open_parts = split.count - sum(split.done(lane, firsts.get(lane)) for lane in split.used_lanes())
    if open_parts != split.open_at_last_tend:
        note = partial(transitions.note, run=split.run, fence=task.fence, open_parts=open_parts)
        runtime.store.change(task.id, note)
    if not firsts:
        return Followed(certain=begin_join(runtime, task, split))
    parts = store.load(list(firsts.values()))
    for part in parts:
        if part.status is Status.FAILED and part.task_fence == task.fence:
            return fail_by(runtime, task, split, part)
    now = runtime.clock()
    waiting = [part for part in parts if _waits(part, task, now, early=early)]
    if not healing:
        return Followed(certain=enqueue_parts(runtime, task, split, [part.id for part in waiting]))
    if waiting:
        runtime.store.tell(Event.HEALED, task)
    _heal(runtime, task, split, waiting)
    return Followed()


def _waits(part: LongTaskPart, task: LongTask, now: datetime, *, early: bool) -> bool:
    """Return whether a part that comes next in its lane is without an attempt, as far as its entity tells."""
    if part.task_fence < task.fence or part.status is Status.READY or (early and not limits.is_leased(part)):
        return True
    handed_over = part.status is Status.STARTED and part.lease_until is None
    return handed_over or part.due_at is None or part.due_at <= now


def _heal(runtime: Runtime, task: LongTask, split: Split, parts: Iterable[LongTaskPart]) -> None:
    """Enqueue parts in place of what was enqueued for their lanes by the last healing. A visitor may wait for this."""
    ends_at = runtime.clock() + _LONGEST_LOOK
    for part in parts:
        if runtime.clock() >= ends_at:
            runtime.store.change(task.id, partial(transitions.hasten, fence=task.fence))
            return
        request = request_for_part(task, split, number_in(part.id))
        try:
            send(runtime, request_again(request, task, lane_in(part.id)))
        except EnqueueUncertainError as exc:
            log.warning("a part of %s is not certainly enqueued, healed when due: %s", task.id[:8], exc)
        except (EnqueueRefusedError, ConfigurationError) as exc:
            log.error("the parts of %s can't be enqueued again, healed when due: %s", task.id[:8], exc)
            return
