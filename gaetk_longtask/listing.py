"""Finds tasks by what they are, newest first. Queries are bounded, and lists read no payloads.

A list asks for keys, and then for the properties that it shows. A projection query would need them in each index, and
would not find the tasks of an earlier version of the library, which lack a new property.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from google.api_core.exceptions import FailedPrecondition, InvalidArgument
from google.cloud import ndb

from gaetk_longtask.datastore.entities import NAMESPACE
from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.info import TaskInfo
from gaetk_longtask.models import INFO_PROPERTIES, LongTask
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.status import Status
from gaetk_longtask.transitions import works_in_parts

#: The default number of tasks in a list.
PAGE = 25
#: The most tasks in a list that is requested from code.
LONGEST = 1000
#: Datastore's limit for an indexed string, in bytes.
_LONGEST_NAME = 1500
#: The stored properties that a `Snapshot` is made of.
_TOLD = [*INFO_PROPERTIES, "fence", "due_at", "end_untold", "purged", "parts"]


def check_name(name: str, what: str) -> None:
    """Raise `ValueError` if the name of something can't be an indexed string."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError as exc:
        raise ValueError(f"The {what}'s name is not valid Unicode.") from exc
    if size > _LONGEST_NAME:
        raise ValueError(f"The {what}'s name is too long: {_LONGEST_NAME} bytes are allowed.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """Which tasks to list. None matches all."""

    status: Status | None = None
    endpoint: str | None = None
    older_than: timedelta | None = None  #: time since the task was first started
    younger_than: timedelta | None = None
    created_by: str | None = None

    def __post_init__(self) -> None:
        """Raise `ValueError` if Datastore can't look for the name of the endpoint or user."""
        for name, what in ((self.endpoint, "endpoint"), (self.created_by, "user")):
            if name is not None:
                check_name(name, what)


def query(wanted: Filter, asked_at: datetime) -> Any:
    """Return the query for tasks whose ages count from `asked_at`, newest first."""
    found = LongTask.query(namespace=NAMESPACE).order(-LongTask.created_at)
    for prop, value in (
        (LongTask.status_name, wanted.status),
        (LongTask.endpoint, wanted.endpoint),
        (LongTask.created_by, wanted.created_by),
    ):
        if value is not None:
            found = found.filter(prop == str(value))
    if wanted.older_than is not None:
        found = found.filter(LongTask.created_at <= asked_at - wanted.older_than)
    if wanted.younger_than is not None:
        found = found.filter(LongTask.created_at >= asked_at - wanted.younger_than)
    return found


def page(
    wanted: Filter, asked_at: datetime, *, limit: int, cursor: ndb.Cursor | None = None
) -> tuple[list[str], str | None]:
    """Return ids, and where the next ones begin with the same arguments, or None; one keys-only query.

    Raise `ValueError` for an invalid cursor, and `ConfigurationError` if an index is missing.
    """
    ids: list[str] = []
    with asking():
        try:
            results = query(wanted, asked_at).iter(limit=limit + 1, keys_only=True, start_cursor=cursor)
            while len(ids) < limit and results.has_next():
                ids.append(results.next().id())
        except InvalidArgument as exc:
            raise ValueError(f"Datastore refused the cursor: {exc.message}") from exc
        return ids, results.cursor_after().urlsafe().decode() if results.has_next() else None


def loaded(ids: list[str], properties: list[str]) -> list[LongTask]:
    """Return those tasks that still exist, in the order of their ids, with nothing but these properties."""
    found = {task.id: task for task in LongTask.load_all(ids, properties=properties) if task is not None}
    return [found[task_id] for task_id in ids if task_id in found]


def latest(runtime: Runtime, task: LongTask) -> Snapshot:
    """Return the latest snapshot of a task that has just been read."""
    return _later(durable(runtime, task), runtime.progress.read(task.id) if _lives(task) else None)


def durable(runtime: Runtime, task: LongTask) -> Snapshot:
    """Return the snapshot of a task that has just been read, without the progress store.

    While the parts of a task work, the entity does not say how much is done, so neither does this.
    """
    snapshot = Snapshot.of(task, now=runtime.clock())
    if not works_in_parts(task):
        return snapshot
    progress = replace(snapshot.info.progress, share=None, parts=None)
    return replace(snapshot, info=replace(snapshot.info, progress=progress))


def tasks(runtime: Runtime, wanted: Filter, *, limit: int = PAGE) -> list[TaskInfo]:
    """Return the newest tasks with their progress; one query for keys, one read of their tasks, and one of progress.

    An NDB context must be active. Raise `ConfigurationError` if an index is missing.
    """
    ids, _ = page(wanted, runtime.clock(), limit=limit)
    return [snapshot.info for snapshot in snapshots(runtime, ids)]


def snapshots(runtime: Runtime, ids: list[str]) -> list[Snapshot]:
    """Return the latest snapshots of those tasks that still exist, in this order.

    One read of the tasks, and one of the progress store for those that have not ended.
    """
    found = [task for task in loaded(ids, _TOLD) if not task.purged]
    alive = [task.id for task in found if _lives(task)]
    news = runtime.progress.read_many(alive) if alive else {}
    return [_later(durable(runtime, task), news.get(task.id)) for task in found]


def read_cursor(text: str) -> ndb.Cursor:
    """Return the cursor that `page` has returned as a text; raise `ValueError` if it is none."""
    try:
        if text and text.isascii():
            return ndb.Cursor(urlsafe=text.encode())
    except ValueError:  # not Base64
        pass
    raise ValueError("The cursor is invalid. Use the one that the previous page returned.")


def _lives(task: LongTask) -> bool:
    return not task.status.ended


def _later(durable: Snapshot, news: Snapshot | None) -> Snapshot:
    return news if news is not None and news.state == durable.state else durable


@contextmanager
def asking() -> Iterator[None]:
    """Raise `ConfigurationError` if Datastore lacks an index for a query."""
    try:
        yield
    except FailedPrecondition as exc:
        message = "Datastore has no index for this query. Run gcloud app deploy index.yaml and wait until it is ready."
        raise ConfigurationError(message) from exc


def fetch(queries: dict[Any, ndb.Query], limit: int, **options: Any) -> dict[Any, list[Any]]:
    """Run all queries at once. Wait for all even if one fails, because NDB complains about unread results."""
    asked = {name: each.fetch_async(limit, **options) for name, each in queries.items()}
    ndb.wait_all(list(asked.values()))
    return {name: future.result() for name, future in asked.items()}
