"""Looks after tasks from code: finds, cancels, retries and deletes them. `LongTaskManager` documents the calls."""

from __future__ import annotations

import reprlib

from gaetk_longtask import listing, maintenance, starting
from gaetk_longtask.exceptions import LongTaskError, UnknownTaskError
from gaetk_longtask.info import TaskInfo
from gaetk_longtask.listing import Filter
from gaetk_longtask.models import LongTask
from gaetk_longtask.status import Status
from gaetk_longtask.web.current import current_runtime
from gaetk_longtask.web.requests import is_task_id


def task(task_id: str) -> TaskInfo:
    """Return a task with its latest progress."""
    runtime = current_runtime()
    with runtime.ndb_context():
        return listing.latest(runtime, _found(_checked(task_id), runtime.store.get(task_id))).info


def tasks(*, created_by: object, endpoint: object, status: Status | str | None, limit: object) -> list[TaskInfo]:
    """Return the newest tasks."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= listing.LONGEST:
        raise LongTaskError(f"limit must be an int from 1 to {listing.LONGEST}, not {reprlib.repr(limit)}.")
    try:
        wanted = Filter(
            created_by=_name("created_by", created_by),
            endpoint=_name("endpoint", endpoint),
            status=None if status is None else Status(status),
        )
    except ValueError as exc:
        raise LongTaskError(str(exc)) from exc
    runtime = current_runtime()
    with runtime.ndb_context():
        return listing.tasks(runtime, wanted, limit=limit)


def cancel(task_id: str) -> TaskInfo:
    """Cancel a task, unless it has ended; return it as it is then."""
    runtime = current_runtime()
    with runtime.ndb_context():
        return _found(task_id, starting.cancel(runtime, _checked(task_id))).info


def retry(task_id: str) -> TaskInfo:
    """Retry a task that failed or was cancelled; return it, or the equal one that has not ended."""
    runtime = current_runtime()
    with runtime.ndb_context():
        return _found(task_id, starting.retry(runtime, _checked(task_id))).info


def delete(task_id: str, *, untold: bool) -> TaskInfo:
    """Delete a task; return it as it was before."""
    runtime = current_runtime()
    with runtime.ndb_context():
        return maintenance.delete(runtime, _checked(task_id), untold=untold)


def _name(name: str, value: object) -> str | None:
    if value is not None and not (isinstance(value, str) and value):  # an anonymous visitor must not see all tasks
        raise LongTaskError(f"{name} must be a non-empty str, or None for all tasks, not {reprlib.repr(value)}.")
    return value


def _checked(task_id: object) -> str:
    if not isinstance(task_id, str) or not is_task_id(task_id):
        raise UnknownTaskError(f"{reprlib.repr(task_id)} is not the id of a task.")
    return task_id


def _found(task_id: str, found: LongTask | None) -> LongTask:
    if found is None:
        raise UnknownTaskError(f"There is no task {task_id[:8]}. It may have been deleted.")
    return found
