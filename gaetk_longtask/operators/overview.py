"""What operators see of all tasks: lists, single tasks, statistics; queries are bounded, and lists read no payloads."""

from __future__ import annotations

import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from statistics import median
from typing import Any, Self, TypeVar

from google.api_core.exceptions import FailedPrecondition, InvalidArgument
from google.cloud import ndb

from gaetk_longtask.exceptions import ConfigurationError, LongTaskError, TooLargeError
from gaetk_longtask.models import NAMESPACE, LongTask
from gaetk_longtask.payloads.manifests import Field, Stored
from gaetk_longtask.payloads.serializers import Serializer
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.services import Services
from gaetk_longtask.status import Status

K = TypeVar("K")

#: Tasks in a list unless somebody wants another number.
PAGE = 25
#: Counting the tasks in a state ends here.
COUNTED = 100
#: How many of an endpoint's tasks the statistics look at: those that have ended last.
LAST_RUNS = 200
#: Parameters above this size are not loaded for a look at them, in bytes.
LARGEST_SHOWN = 1024 * 1024

#: What Datastore takes for an indexed string, in bytes.
_LONGEST_NAME = 1500
_EPOCH = datetime.fromtimestamp(0, UTC)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class NoSuchTaskError(LongTaskError):
    """There is no task of this id, or more than one whose id begins like that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """Which tasks to list; None is any."""

    status: Status | None = None
    endpoint: str | None = None
    older_than: timedelta | None = None  #: since it was started first
    younger_than: timedelta | None = None

    def __post_init__(self) -> None:
        """Refuse what no task can have.

        Raises:
            ValueError: the endpoint's name is longer than an indexed string may be.

        """
        if self.endpoint is not None and len(self.endpoint.encode()) > _LONGEST_NAME:
            message = f"The name of an endpoint has at most {_LONGEST_NAME} bytes."
            raise ValueError(message)


_ANY = Filter()


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A task in a list: what a projection query can tell of it, and the news."""

    id: str
    endpoint: str
    status: Status
    attempts: int  #: so far, with the one that is at work or comes next
    created_at: datetime
    live: Snapshot | None  #: the latest news, of a task that has not ended

    @classmethod
    def of(cls, task: LongTask, live: Snapshot | None, wanted: Filter = _ANY) -> Self:
        """Return the row of a task; a query for `wanted` does not project what is equal in all of its results."""
        status = wanted.status or task.status
        return cls(
            id=task.id,
            endpoint=wanted.endpoint or task.endpoint,
            status=status,
            attempts=task.failures + (status is not Status.FAILED),
            created_at=task.created_at,
            live=live,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """A page of a list, the youngest tasks first."""

    rows: list[Row]
    cursor: str | None  #: where the list goes on, with the same filter; None at its end


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """What became of an endpoint's last runs."""

    endpoint: str
    runs: int  #: at most `LAST_RUNS`
    succeeded: int
    failed: int
    cancelled: int
    median_seconds: float | None  #: from the visitor's click to the result
    p95_seconds: float | None  #: 95 of 100 took no longer

    @property
    def success_rate(self) -> float | None:
        """The share of runs with a result, from 0 to 1; those that were cancelled do not count."""
        judged = self.succeeded + self.failed
        return self.succeeded / judged if judged else None

    @classmethod
    def of(cls, endpoint: str, runs: Iterable[tuple[Status, float | None]]) -> Self:
        """Sum up runs, each with its duration if it came to a result."""
        counts: Counter[Status] = Counter()
        durations = []
        for status, seconds in runs:
            counts[status] += 1
            if status.has_result and seconds is not None:
                durations.append(seconds)
        return cls(
            endpoint=endpoint,
            runs=counts.total(),
            succeeded=counts[Status.DONE] + counts[Status.FINISHED],
            failed=counts[Status.FAILED],
            cancelled=counts[Status.CANCELLED],
            median_seconds=median(durations) if durations else None,
            p95_seconds=sorted(durations)[ceil(0.95 * len(durations)) - 1] if durations else None,
        )


def tasks(services: Services, wanted: Filter, *, cursor: str | None = None, limit: int = PAGE) -> Rows:
    """List tasks: one projection query, and one reading of the progress store.

    An NDB context must be active. The cursor knows the time that ages are reckoned from: Datastore goes on with the
    very same query alone.

    Raises:
        ValueError: the cursor is not one of ours.
        ConfigurationError: the indexes of index.yaml are not there.

    """
    asked_at, start = _from_cursor(cursor) if cursor else (services.clock().replace(microsecond=0), None)
    query = LongTask.query(namespace=NAMESPACE).order(-LongTask.created_at)
    projection = [LongTask.created_at, LongTask.failures]
    # What is equal in all results can't be projected.
    for prop, value in ((LongTask.status_name, wanted.status), (LongTask.endpoint, wanted.endpoint)):
        if value is None:
            projection.append(prop)
        else:
            query = query.filter(prop == str(value))
    if wanted.older_than is not None:
        query = query.filter(LongTask.created_at <= asked_at - wanted.older_than)
    if wanted.younger_than is not None:
        query = query.filter(LongTask.created_at >= asked_at - wanted.younger_than)
    found: list[LongTask] = []
    with _asking():
        try:
            results = query.iter(limit=limit + 1, projection=projection, start_cursor=start)
            while len(found) < limit and results.has_next():
                found.append(results.next())
        except InvalidArgument as exc:
            message = f"Datastore does not take this cursor: {exc.message}"
            raise ValueError(message) from exc
        more = f"{asked_at.timestamp():.0f}.{results.cursor_after().urlsafe().decode()}" if results.has_next() else None
    alive = [task.id for task in found if not (wanted.status or task.status).ended]
    news = services.progress.read_many(alive) if alive else {}
    return Rows(rows=[Row.of(task, news.get(task.id), wanted) for task in found], cursor=more)


def count(statuses: Iterable[Status]) -> dict[Status, int]:
    """Count the tasks in each of these states, up to `COUNTED`; one small query for each, all at once."""
    queries = {status: LongTask.query(LongTask.status_name == status.value, namespace=NAMESPACE) for status in statuses}
    return {status: len(found) for status, found in _fetch(queries, COUNTED, keys_only=True).items()}


def statistics(endpoints: Iterable[str]) -> list[Statistics]:
    """Sum up the last runs of each endpoint; one projection query for each, all at once.

    Raises:
        ConfigurationError: the indexes of index.yaml are not there.

    """
    queries = {
        endpoint: LongTask.query(
            LongTask.endpoint == endpoint, LongTask.expires_at > _EPOCH, namespace=NAMESPACE
        ).order(-LongTask.expires_at)
        for endpoint in endpoints
    }
    with _asking():
        found = _fetch(queries, LAST_RUNS, projection=[LongTask.run_seconds, LongTask.status_name])
    return [
        Statistics.of(endpoint, [(run.status, run.run_seconds) for run in runs]) for endpoint, runs in found.items()
    ]


def find(services: Services, beginning: str) -> LongTask:
    """Read a task by its id, or by a beginning that no other id has, as log lines give it.

    Raises:
        NoSuchTaskError: there is none, or more than one.

    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", beginning, re.ASCII):
        message = f"{beginning!r} is not the id of a task, nor the beginning of one."
        raise NoSuchTaskError(message)
    if task := services.store.get(beginning):
        return task
    # No character of an id comes after the tilde.
    first, last = LongTask.key_of(beginning), LongTask.key_of(f"{beginning}~")
    keys = LongTask.query(LongTask.key > first, LongTask.key < last, namespace=NAMESPACE).fetch(2, keys_only=True)
    task = services.store.get(keys[0].id()) if len(keys) == 1 else None
    if task is None:
        message = f"There is {'more than one' if keys else 'no'} task whose id begins with {beginning}."
        raise NoSuchTaskError(message)
    return task


def live(services: Services, task: LongTask) -> Snapshot:
    """Give the latest that is known of a task that has just been read."""
    durable = Snapshot.of(task, now=services.clock())
    news = None if task.status.ended else services.progress.read(task.id)
    return news if news is not None and news.order == durable.order else durable


def parameters(services: Services, task: LongTask, serializer: Serializer) -> dict[str, str]:
    """Load a task's parameters and describe each of them by a short text.

    Raises:
        TooLargeError: they are larger than `LARGEST_SHOWN`.
        DamagedDataError: they can't be read.

    """
    length = size(task, "parameters") or 0
    if length > LARGEST_SHOWN:
        message = f"The parameters are too large to be shown: {length:,} bytes."
        raise TooLargeError(message, limit=LARGEST_SHOWN)
    value = services.load(task, "parameters", serializer)
    short = reprlib.Repr()
    short.maxdict = short.maxlist = short.maxtuple = short.maxset = short.maxfrozenset = 20
    short.maxstring = short.maxother = 500
    if not isinstance(value, dict):
        return {"": short.repr(value)}
    return {str(name): short.repr(one) for name, one in list(value.items())[:100]}


def size(task: LongTask, field: Field) -> int | None:
    """Return the size of what a task keeps in a field, in bytes; None if the field is empty."""
    stored = Stored.of(task, field)
    return stored.manifest.size if stored else None


def parse_age(text: str) -> timedelta:
    """Read ``90s``, ``10m``, ``2h`` or ``7d``.

    Raises:
        ValueError: it is something else.

    """
    found = re.fullmatch(r"([0-9]{1,4})([smhd])", text, re.ASCII)
    if found is None:
        message = f"An age is a whole number with s, m, h or d behind it, like 10m, not {text!r}."
        raise ValueError(message)
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _fetch(queries: dict[K, ndb.Query], limit: int, **options: Any) -> dict[K, list[Any]]:
    """Ask all queries at once, and wait for all even where one fails: NDB complains about answers left behind."""
    asked = {name: query.fetch_async(limit, **options) for name, query in queries.items()}
    ndb.wait_all(list(asked.values()))
    return {name: future.result() for name, future in asked.items()}


def _from_cursor(text: str) -> tuple[datetime, ndb.Cursor]:
    found = re.fullmatch(r"([0-9]{1,10})[.]([A-Za-z0-9_=-]+)", text, re.ASCII)
    try:
        if found is not None:
            return datetime.fromtimestamp(int(found[1]), UTC), ndb.Cursor(urlsafe=found[2].encode())
    except ValueError:  # no Base64
        pass
    message = "This is not a cursor of such a list."
    raise ValueError(message)


@contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except FailedPrecondition as exc:
        message = "Datastore has no index for this query: deploy ours, gcloud app deploy index.yaml, and wait for it."
        raise ConfigurationError(message) from exc
