"""What may become of a task that has ended: its result is shown, its handler is told, and it is deleted.

These are transitions as in `transitions`: pure rules that change an entity in memory and return what follows.
"""

from __future__ import annotations

from datetime import datetime

from gaetk_longtask.models import LongTask
from gaetk_longtask.status import Status
from gaetk_longtask.transitions import Effect


def show(task: LongTask, now: datetime) -> Effect | None:
    """Make a `done` task `finished`: its result is about to be shown for the first time."""
    if task.status is not Status.DONE:
        return None
    task.status_name = Status.FINISHED.value
    task.last_accessed_at = now
    return Effect()


def told(task: LongTask, now: datetime, *, fence: int) -> Effect | None:
    """Record that the handler's ``task_ended`` has returned for the end of the run with this fence."""
    if not task.end_untold or task.fence != fence:
        return None
    task.end_untold = False
    task.due_at = None
    return Effect()  # published, so that polls do not read a task that is not due any more


def begin_purge(task: LongTask, now: datetime) -> Effect | None:
    """Mark an expired task as being deleted, so that a retry can't start it when half of it is gone.

    From now on nobody is told of its end. `end_untold` stays, for the log.
    """
    if not task.status.ended or task.expires_at > now:
        return None
    task.purged = True
    task.due_at = None
    return Effect(publishes=False)
