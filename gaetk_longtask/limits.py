"""How long and how often: the limits of an attempt and of a task, pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from gaetk_longtask.failures import Cause
from gaetk_longtask.models import WorkUnit
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
#: The longest time between two looks at the parts of a task, which cost little and enqueue only parts that wait.
LONGEST_TENDING = timedelta(minutes=15)
#: A task that is retried later than this after its start could outlive its parameters' chunks and its parts.
LATE_RETRY = timedelta(days=7)

#: The most failures of one run, even with progress in between: a state that contains the time always looks new.
MOST_FAILURES = 100
LONGEST_RUN = timedelta(days=30)  #: a task that has not ended by then never will
#: How long chunks and tracebacks outlive `keep_result` if no purge deletes them: as long as a task may run, and a week.
CHUNK_GRACE = LONGEST_RUN + timedelta(days=7)


def lease(task: WorkUnit) -> timedelta:
    """Return a lease that is longer after each failure, for work that can't renew it because it holds the GIL."""
    return LEASE * int(2 ** min(task.failures, 3))


def pause(heals: int) -> timedelta:
    """Return how long healing waits after a task was enqueued again for this time."""
    if heals >= HEALED_HOURLY:
        return SELDOM_HEALING
    return min(timedelta(minutes=2 ** min(heals, 6)), LONGEST_HEALING)


def is_leased(task: WorkUnit) -> bool:
    """Return whether an attempt works on the task, or has died while it did."""
    return task.status is Status.STARTED and task.lease_until is not None


def is_hopeless(task: WorkUnit, max_attempts: int, now: datetime) -> bool:
    """Return whether a task has failed too often, in a row or in total, or has taken too long."""
    most = max(MOST_FAILURES, max_attempts)
    return task.failures >= max_attempts or task.failures + task.forgiven >= most or is_too_old(task, now)


def is_too_old(task: WorkUnit, now: datetime) -> bool:
    """Return whether a task has taken longer than any task may."""
    return bool(now - task.requested_at >= LONGEST_RUN)


def cause_of_death(task: WorkUnit, now: datetime) -> Cause:
    """Return whether an owner had used up its time when it died. It had renewed its lease until shortly before that."""
    ends_at = task.started_at + timedelta(seconds=task.time_limit_seconds or 0)
    renewed_at = task.lease_until - lease(task)
    return Cause.DEADLINE if min(now, renewed_at + LEASE / 2) >= ends_at else Cause.DIED
