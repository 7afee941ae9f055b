"""Cancels, retries or deletes many tasks: each by itself, in bounded batches that can be resumed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from google.cloud import ndb

from gaetk_longtask import listing, maintenance, starting
from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.exceptions import (
    ConfigurationError,
    EndUntoldError,
    EnqueueRefusedError,
    LongTaskError,
    UnknownTaskError,
)
from gaetk_longtask.listing import Filter
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.status import Status

log = logging.getLogger(__name__)

#: How many tasks one request handles at most, and for how long; the next one continues.
BATCH, SECONDS = 200, 20.0
#: Tasks in one state are only counted up to this number.
COUNTED = 1000
#: How many ids one query returns.
_IDS = 50


class Action(StrEnum):
    """What is done to tasks."""

    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"

    @property
    def past(self) -> str:
        """What has then happened to a task."""
        return {Action.CANCEL: "cancelled", Action.RETRY: "retried", Action.DELETE: "deleted"}[self]

    @property
    def statuses(self) -> list[Status]:
        """The states of the tasks that it can be done to."""
        match self:
            case Action.CANCEL:
                return [status for status in Status if not status.ended]
            case Action.RETRY:
                return [status for status in Status if status.may_retry]
            case Action.DELETE:
                return list(Status)


class Obstacle(StrEnum):
    """Why an action could not be done to a task. The value says so to an operator."""

    UNKNOWN = "there is no such task, or it was deleted"
    STATE = "its state does not allow it"
    JOINED = "an equal task has not ended yet"
    UNTOLD = "its handler has not been told of its end yet"
    REFUSED = "the queue refused it"
    STORE = "Datastore did not respond"
    OTHER = "something went wrong, see the log"


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A task that an action could not be done to."""

    id: str
    obstacle: Obstacle
    status: Status | None = None  #: the state that does not allow it

    @property
    def reason(self) -> str:
        """Why, in words."""
        return f"it is {self.status.value}" if self.status else self.obstacle.value


@dataclass(kw_only=True, slots=True)
class Report:
    """What was done."""

    done: list[str] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    place: str | None = None  #: where to continue; None if nothing is left
    rest: list[str] = field(default_factory=list)  #: named tasks that there was no time for

    def add(self, outcome: Refusal | str) -> None:
        """Add a task: its id, or why it could not be done."""
        if isinstance(outcome, Refusal):
            self.refused.append(outcome)
        else:
            self.done.append(outcome)


def act(runtime: Runtime, action: Action, task_id: str, *, untold: bool = False) -> Refusal | str:
    """Do it to one task; return its id, or why it could not be done. An NDB context must be active.

    With `untold`, a task is also deleted if its handler has not been told of its end. Raise `ConfigurationError` if a
    setting prevents it, because that prevents it for all tasks.
    """
    try:
        match action:
            case Action.CANCEL:
                refusal = _cancel(runtime, task_id)
            case Action.RETRY:
                refusal = _retry(runtime, task_id)
            case Action.DELETE:
                maintenance.delete(runtime, task_id, untold=untold)
                refusal = None
    except ConfigurationError:
        raise
    except UnknownTaskError:
        refusal = Refusal(id=task_id, obstacle=Obstacle.UNKNOWN)
    except EndUntoldError:
        refusal = Refusal(id=task_id, obstacle=Obstacle.UNTOLD)
    except EnqueueRefusedError:
        refusal = Refusal(id=task_id, obstacle=Obstacle.REFUSED)
    except STORE_ERRORS as exc:
        log.warning("%s not %s, Datastore does not respond: %s", task_id[:8], action.past, exc)
        refusal = Refusal(id=task_id, obstacle=Obstacle.STORE)
    except LongTaskError as exc:
        log.warning("%s not %s: %s", task_id[:8], action.past, exc)
        refusal = Refusal(id=task_id, obstacle=Obstacle.OTHER)
    return refusal or task_id


def act_on(
    runtime: Runtime,
    action: Action,
    ids: Sequence[str],
    *,
    untold: bool = False,
    monotonic: Callable[[], float] = time.monotonic,
) -> Report:
    """Do it to these tasks, as far as there is time; an NDB context must be active."""
    report, end = Report(), monotonic() + SECONDS
    for number, task_id in enumerate(ids, 1):
        report.add(act(runtime, action, task_id, untold=untold))
        if monotonic() >= end:
            report.rest = list(ids[number:])
            break
    return report


def act_on_all(
    runtime: Runtime,
    action: Action,
    wanted: Filter,
    asked_at: datetime,
    *,
    place: str | None = None,
    limit: int = BATCH,
    monotonic: Callable[[], float] = time.monotonic,
) -> Report:
    """Do it to the tasks that the filter finds and that were started until `asked_at`; at most `limit` of them.

    Pass the report's `place` to continue. Raise `ValueError` if it is invalid. An NDB context must be active.
    """
    report, end = Report(), monotonic() + SECONDS
    for ids, after in _batches(action, wanted, asked_at, place, limit):
        for task_id in ids:
            report.add(act(runtime, action, task_id))
        report.place = after
        if monotonic() >= end:
            break
    return report


def ids_of(action: Action, wanted: Filter, asked_at: datetime, *, limit: int) -> list[str]:
    """Return the ids of the first tasks that `act_on_all` would handle."""
    return [task_id for ids, _ in _batches(action, wanted, asked_at, None, limit) for task_id in ids]


def count(action: Action, wanted: Filter, asked_at: datetime) -> dict[Status, int]:
    """Return how many tasks in each state `act_on_all` would handle, up to `COUNTED` each; one query for each state."""
    queries = {each.status: listing.query(each, asked_at) for each in _filters(action, wanted)}
    with listing.asking():
        found = listing.fetch(queries, COUNTED, keys_only=True)
    return {status: len(keys) for status, keys in found.items() if keys}


def _filters(action: Action, wanted: Filter) -> list[Filter]:
    """Return a filter for each state, without the tasks that were started after the question."""
    older_than = wanted.older_than or timedelta(0)
    statuses = [status for status in action.statuses if wanted.status in (None, status)]
    return [replace(wanted, status=status, older_than=older_than) for status in statuses]


def _batches(
    action: Action, wanted: Filter, asked_at: datetime, place: str | None, limit: int
) -> Iterator[tuple[list[str], str | None]]:
    """Yield ids, up to `limit`, and where the next ones are. The place is a state, and a cursor of its query."""
    filters = _filters(action, wanted)
    first, cursor = None, None
    if place is not None:
        first, _, text = place.partition(".")
        if first not in [each.status for each in filters]:
            raise ValueError("There is no such place to continue at.")
        cursor = ndb.Cursor(urlsafe=text.encode()) if text else None
    names = [each.status for each in filters]
    for number, each in enumerate(filters):
        if first is not None and number < names.index(Status(first)):
            continue
        more = True
        while more:
            if limit <= 0:
                return
            ids, after = listing.page(each, asked_at, limit=min(limit, _IDS), cursor=cursor)
            limit, cursor, more = limit - len(ids), None, after is not None
            if after is not None:
                cursor = ndb.Cursor(urlsafe=after.encode())
                yield ids, f"{each.status}.{after}"
            elif number + 1 < len(names):
                yield ids, f"{names[number + 1]}."
            else:
                yield ids, None


def _cancel(runtime: Runtime, task_id: str) -> Refusal | None:
    task = starting.cancel(runtime, task_id)
    if task is None:
        return Refusal(id=task_id, obstacle=Obstacle.UNKNOWN)
    if task.status is Status.CANCELLED:
        return None
    return Refusal(id=task_id, obstacle=Obstacle.STATE, status=task.status)


def _retry(runtime: Runtime, task_id: str) -> Refusal | None:
    before = runtime.store.get(task_id)
    if before is None:
        return Refusal(id=task_id, obstacle=Obstacle.UNKNOWN)
    if not before.status.may_retry:
        return Refusal(id=task_id, obstacle=Obstacle.STATE, status=before.status)
    task = starting.retry(runtime, task_id)
    if task is None:
        return Refusal(id=task_id, obstacle=Obstacle.UNKNOWN)
    if task.id != task_id:
        return Refusal(id=task_id, obstacle=Obstacle.JOINED)
    return Refusal(id=task_id, obstacle=Obstacle.STATE, status=task.status) if task.status.may_retry else None
