"""Lists, single tasks and statistics for operators."""

from __future__ import annotations

import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from statistics import median
from typing import Self

from google.cloud import ndb

from gaetk_longtask import listing
from gaetk_longtask.datastore.entities import NAMESPACE
from gaetk_longtask.exceptions import TooLargeError, UnknownTaskError
from gaetk_longtask.failures import last_failure
from gaetk_longtask.listing import PAGE, Filter, asking, fetch
from gaetk_longtask.models import LongTask
from gaetk_longtask.payloads.manifests import Field, Stored
from gaetk_longtask.payloads.serializers import Serializer
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.status import Status

#: Tasks in one state are only counted up to this number.
COUNTED = 100
#: How many of an endpoint's tasks the statistics include: those that ended last.
LAST_RUNS = 200
#: Larger parameters are not loaded to be shown, in bytes.
LARGEST_SHOWN = 1024 * 1024

_EPOCH = datetime.fromtimestamp(0, UTC)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class NoSuchTaskError(UnknownTaskError):
    """There is no task with this id or reference, or there are several."""


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
    untold: bool = False  #: whether the task has ended, and its handler has not been told yet

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
            untold=task.is_untold,
        )


#: The properties that `Row.of` reads.
_SHOWN = [
    *("endpoint", "status", "failures", "created_at", "created_by", "title", "error", "failed_attempts"),
    *("end_untold", "purged"),
]


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
    ids, after = listing.page(wanted, asked_at, limit=limit, cursor=start)
    more = None if after is None else f"{asked_at.timestamp():.0f}.{after}"
    return Rows(rows=rows(runtime, ids), cursor=more)


def rows(runtime: Runtime, ids: list[str]) -> list[Row]:
    """Return the rows of these tasks; one read of the tasks, and one of the progress store."""
    listed = listing.loaded(ids, _SHOWN)  # one may have been deleted meanwhile
    alive = [task.id for task in listed if not task.status.ended]
    news = runtime.progress.read_many(alive) if alive else {}
    return [Row.of(task, news.get(task.id)) for task in listed]


#: The names in a URL of what a filter consists of.
FILTER_FIELDS = ("status", "endpoint", "user", "older", "younger")


def given_filter(values: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of a filter that are not empty."""
    return {name: value for name in FILTER_FIELDS if (value := values.get(name))}


def parse_filter(given: Mapping[str, str]) -> Filter:
    """Return the filter for the fields in a URL or form; raise `ValueError` if one is invalid."""
    return Filter(
        status=Status(given["status"]) if "status" in given else None,
        endpoint=given.get("endpoint"),
        created_by=given.get("user"),
        older_than=parse_age(given["older"]) if "older" in given else None,
        younger_than=parse_age(given["younger"]) if "younger" in given else None,
    )


def count(statuses: Iterable[Status]) -> dict[Status, int]:
    """Return the number of tasks in each state, up to `COUNTED`; one small query for each, all at once."""
    queries = {status: LongTask.query(LongTask.status_name == status.value, namespace=NAMESPACE) for status in statuses}
    return {status: len(found) for status, found in fetch(queries, COUNTED, keys_only=True).items()}


def statistics(endpoints: Iterable[str]) -> list[Statistics]:
    """Return the statistics of each endpoint; one projection query for each, all at once."""
    ended = LongTask.query(LongTask.expires_at > _EPOCH, namespace=NAMESPACE).order(-LongTask.expires_at)
    queries = {endpoint: ended.filter(LongTask.endpoint == endpoint) for endpoint in endpoints}
    with asking():
        found = fetch(queries, LAST_RUNS, projection=[LongTask.run_seconds, LongTask.status_name])
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
    queries = {"id": LongTask.between(text, f"{text}~")}
    names = f"id begins with {text}"
    if re.fullmatch(r"[0-9a-f]{8}", text.lower()):
        queries["reference"] = LongTask.query(LongTask.references == text.lower(), namespace=NAMESPACE)
        names = f"id begins with {text}, or which has this reference"
    ids = {key.id() for keys in fetch(queries, 2, keys_only=True).values() for key in keys}
    task = runtime.store.get(ids.pop()) if len(ids) == 1 else None
    if task is None:
        raise NoSuchTaskError(f"There is {'more than one' if ids else 'no'} task whose {names}.")
    return task


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


def _from_cursor(text: str) -> tuple[datetime, ndb.Cursor]:
    asked_at, _, cursor = text.partition(".")
    start = listing.read_cursor(cursor if re.fullmatch("[0-9]{1,10}", asked_at, re.ASCII) else "")
    return datetime.fromtimestamp(int(asked_at), UTC), start
