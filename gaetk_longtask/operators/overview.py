"""Lists, single tasks and statistics for operators. Queries are bounded, and lists read no payloads.

A list asks for keys, and then for the properties that its rows show. A projection query would need them in each index,
and would not find the tasks of an earlier version of the library, which lack a new property.
"""

from __future__ import annotations

import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from statistics import median
from typing import Any, Self, TypeVar

from google.cloud import ndb

from gaetk_longtask.exceptions import LongTaskError, TooLargeError
from gaetk_longtask.failures import last_failure
from gaetk_longtask.listing import PAGE as PAGE  # the default number of tasks in a list
from gaetk_longtask.listing import asking, page_of
from gaetk_longtask.models import NAMESPACE, LongTask
from gaetk_longtask.payloads.manifests import Field, Stored
from gaetk_longtask.payloads.serializers import Serializer
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.status import Status

K = TypeVar("K")

#: Tasks in one state are only counted up to this number.
COUNTED = 100
#: How many of an endpoint's tasks the statistics include: those that ended last.
LAST_RUNS = 200
#: Larger parameters are not loaded to be shown, in bytes.
LARGEST_SHOWN = 1024 * 1024

#: Datastore's limit for an indexed string, in bytes.
_LONGEST_NAME = 1500
_EPOCH = datetime.fromtimestamp(0, UTC)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def check_name(name: str, what: str) -> None:
    """Raise `ValueError` if the name of something can't be an indexed string."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError as exc:
        raise ValueError(f"The {what}'s name is not valid Unicode.") from exc
    if size > _LONGEST_NAME:
        raise ValueError(f"The {what}'s name is too long: {_LONGEST_NAME} bytes are allowed.")


class NoSuchTaskError(LongTaskError):
    """There is no task with this id or reference, or there are several."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A task in a list, with its latest snapshot."""

    id: str
    endpoint: str
    status: Status
    attempts: int  #: so far, including the one that is running or comes next
    created_at: datetime
    created_by: str | None = None
    reason: str | None = None  #: why the last attempt ended badly; None if it did not, or if there is a result
    live: Snapshot | None  #: the latest snapshot; None if the task has ended or there is none
    title: str | None = None  #: the task's own

    @classmethod
    def of(cls, task: LongTask, live: Snapshot | None) -> Self:
        """Return the row of a task."""
        failed = task.failures > 0 or task.status is Status.FAILED
        failure = last_failure(task) if failed and not task.status.has_result else None
        return cls(
            id=task.id,
            endpoint=task.endpoint,
            status=task.status,
            attempts=task.attempt,
            created_at=task.created_at,
            created_by=task.created_by,
            reason=failure.reason if failure else task.error,
            live=live,
            title=task.title,
        )


#: The properties that `Row.of` reads.
_SHOWN = ["endpoint", "status", "failures", "created_at", "created_by", "title", "error", "failed_attempts"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """A page of a list, newest tasks first."""

    rows: list[Row]
    cursor: str | None  #: where the next page begins, with the same filter; None on the last page


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """The statistics of an endpoint's last runs."""

    endpoint: str
    runs: int  #: at most `LAST_RUNS`
    succeeded: int
    failed: int
    cancelled: int
    median_seconds: float | None  #: from the visitor's click to the result
    p95_seconds: float | None  #: 95 of 100 runs took no longer

    @property
    def success_rate(self) -> float | None:
        """The share of runs with a result, from 0 to 1. Cancelled runs do not count."""
        judged = self.succeeded + self.failed
        return self.succeeded / judged if judged else None

    @classmethod
    def of(cls, endpoint: str, runs: Sequence[LongTask]) -> Self:
        """Return the statistics of runs."""
        counts = Counter(run.status for run in runs)
        durations = sorted(run.run_seconds for run in runs if run.status.has_result and run.run_seconds is not None)
        return cls(
            endpoint=endpoint,
            runs=len(runs),
            succeeded=counts[Status.DONE] + counts[Status.FINISHED],
            failed=counts[Status.FAILED],
            cancelled=counts[Status.CANCELLED],
            median_seconds=median(durations) if durations else None,
            p95_seconds=durations[ceil(0.95 * len(durations)) - 1] if durations else None,
        )


def tasks(runtime: Runtime, wanted: Filter, *, cursor: str | None = None, limit: int = PAGE) -> Rows:
    """Return a page of tasks; one query for keys, one read of their tasks, and one read of the progress store.

    An NDB context must be active. The cursor contains the time from which ages count, because Datastore only continues
    an identical query. Raise `ValueError` for an invalid cursor, and `ConfigurationError` if an index is missing.
    """
    asked_at, start = (runtime.clock().replace(microsecond=0), None) if cursor is None else _from_cursor(cursor)
    query = LongTask.query(namespace=NAMESPACE).order(-LongTask.created_at)
    for prop, value in (
        (LongTask.status_name, wanted.status),
        (LongTask.endpoint, wanted.endpoint),
        (LongTask.created_by, wanted.created_by),
    ):
        if value is not None:
            query = query.filter(prop == str(value))
    if wanted.older_than is not None:
        query = query.filter(LongTask.created_at <= asked_at - wanted.older_than)
    if wanted.younger_than is not None:
        query = query.filter(LongTask.created_at >= asked_at - wanted.younger_than)
    ids, later = page_of(query, cursor=start, limit=limit)
    more = None if later is None else f"{asked_at.timestamp():.0f}.{later}"
    found = {task.id: task for task in (LongTask.load_parts(ids, _SHOWN) if ids else [])}
    listed = [found[task_id] for task_id in ids if task_id in found]  # one may have been deleted meanwhile
    alive = [task.id for task in listed if not task.status.ended]
    news = runtime.progress.read_many(alive) if alive else {}
    return Rows(rows=[Row.of(task, news.get(task.id)) for task in listed], cursor=more)


def count(statuses: Iterable[Status]) -> dict[Status, int]:
    """Return the number of tasks in each state, up to `COUNTED`; one small query for each, all at once."""
    queries = {status: LongTask.query(LongTask.status_name == status.value, namespace=NAMESPACE) for status in statuses}
    return {status: len(found) for status, found in _fetch(queries, COUNTED, keys_only=True).items()}


def statistics(endpoints: Iterable[str]) -> list[Statistics]:
    """Return the statistics of each endpoint; one projection query for each, all at once."""
    ended = LongTask.query(LongTask.expires_at > _EPOCH, namespace=NAMESPACE).order(-LongTask.expires_at)
    queries = {endpoint: ended.filter(LongTask.endpoint == endpoint) for endpoint in endpoints}
    with asking():
        found = _fetch(queries, LAST_RUNS, projection=[LongTask.run_seconds, LongTask.status_name])
    return [Statistics.of(endpoint, runs) for endpoint, runs in found.items()]


def find(runtime: Runtime, text: str) -> LongTask:
    """Return the task that has this reference, or whose id begins with this text; raise `NoSuchTaskError`.

    A visitor reads out the reference; log lines show the first characters of the id.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text, re.ASCII):
        raise NoSuchTaskError(f"{text!r} is not the id of a task, nor the beginning of one, nor a reference.")
    if task := runtime.store.get(text):
        return task
    # The tilde sorts after every character of an id.
    first, last = LongTask.key_of(text), LongTask.key_of(f"{text}~")
    queries = {"id": LongTask.query(LongTask.key > first, LongTask.key < last, namespace=NAMESPACE)}
    names = f"id begins with {text}"
    if re.fullmatch(r"[0-9a-f]{8}", text.lower()):
        queries["reference"] = LongTask.query(LongTask.references == text.lower(), namespace=NAMESPACE)
        names = f"id begins with {text}, or which has this reference"
    ids = {key.id() for keys in _fetch(queries, 2, keys_only=True).values() for key in keys}
    task = runtime.store.get(ids.pop()) if len(ids) == 1 else None
    if task is None:
        raise NoSuchTaskError(f"There is {'more than one' if ids else 'no'} task whose {names}.")
    return task


def live(runtime: Runtime, task: LongTask) -> Snapshot:
    """Return the latest snapshot of a task that has just been read."""
    durable = Snapshot.of(task, now=runtime.clock())
    news = None if task.status.ended else runtime.progress.read(task.id)
    return news if news is not None and news.order == durable.order else durable


def parameters(runtime: Runtime, task: LongTask, serializer: Serializer) -> dict[str, str]:
    """Load a task's parameters, unless they are too large, and return a short text for each of them by name."""
    if (length := size(task, "parameters") or 0) > LARGEST_SHOWN:
        raise TooLargeError(f"The parameters are too large to be shown: {length:,} bytes.", limit=LARGEST_SHOWN)
    value = runtime.load(task, "parameters", serializer)
    short = reprlib.Repr()
    short.maxdict = short.maxlist = short.maxtuple = short.maxset = short.maxfrozenset = 20
    short.maxstring = short.maxother = 500
    if not isinstance(value, dict):
        return {"": short.repr(value)}
    return {str(name): short.repr(one) for name, one in list(value.items())[:100]}


def size(task: LongTask, field: Field) -> int | None:
    """Return the size of a task's field in bytes, or None if the field is empty."""
    stored = Stored.of(task, field)
    return stored.manifest.size if stored else None


def parse_age(text: str) -> timedelta:
    """Return the duration for a text like ``90s``, ``10m``, ``2h`` or ``7d``; raise `ValueError` for any other."""
    found = re.fullmatch(r"([0-9]{1,4})([smhd])", text, re.ASCII)
    if found is None:
        raise ValueError(f"{reprlib.repr(text)} is not an age. Use a whole number followed by s, m, h or d, like 10m.")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _fetch(queries: dict[K, ndb.Query], limit: int, **options: Any) -> dict[K, list[Any]]:
    """Run all queries at once. Wait for all even if one fails, because NDB complains about unread results."""
    asked = {name: query.fetch_async(limit, **options) for name, query in queries.items()}
    ndb.wait_all(list(asked.values()))
    return {name: future.result() for name, future in asked.items()}


def _from_cursor(text: str) -> tuple[datetime, str]:
    found = re.fullmatch(r"([0-9]{1,10})[.]([A-Za-z0-9_=-]+)", text, re.ASCII)
    if found is None:
        raise ValueError("The cursor is invalid. Use the one that the previous page returned.")
    return datetime.fromtimestamp(int(found[1]), UTC), found[2]
