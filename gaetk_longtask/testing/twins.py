"""Twins of the services: a queue that delivers on demand, progress in a dict, a clock that stands still."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from gaetk_longtask.exceptions import EnqueueRefusedError, EnqueueUncertainError
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.progress.stores import ProgressStore, Written, is_later
from gaetk_longtask.queues import QueueRequest
from gaetk_longtask.web.requests import QUEUE_HEADER


class ManualClock:
    """A clock that moves only by `advance`; pass it as the manager's ``clock``."""

    def __init__(self, now: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """Return the clock's time."""
        return self.now

    def advance(self, by: timedelta) -> None:
        """Move the clock forward."""
        self.now += by


@dataclass(kw_only=True)
class QueuedTask:
    """A request in an `InMemoryQueue`."""

    request: QueueRequest
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    retry_count: int = 0

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a delivery, as App Engine sends them (documentation of `AppEngineHttpRequest`)."""
        return {
            **self.request.headers,
            QUEUE_HEADER: self.request.queue,
            "X-AppEngine-TaskName": self.name,
            "X-AppEngine-TaskRetryCount": str(self.retry_count),
            "X-AppEngine-TaskExecutionCount": str(self.retry_count),
        }


class InMemoryQueue:
    """A `TaskQueue` for tests; it keeps the tasks until `deliver` sends one to the application.

    Its `clock` says which tasks may be sent; a `TaskRunner` sets its own. Without one, it is the real time.
    """

    def __init__(self, clock: Callable[[], datetime] | None = None) -> None:
        self.clock = clock
        self.tasks: list[QueuedTask] = []
        #: All deliveries, the latest last.
        self.delivered: list[QueuedTask] = []
        #: Errors that the next calls of `enqueue` raise, one each.
        self.errors: list[EnqueueRefusedError | EnqueueUncertainError] = []
        #: Whether the queue has a task after an `EnqueueUncertainError`.
        self.keeps_uncertain = False

    def check(self) -> None:
        """Do nothing: nothing is missing."""

    def enqueue(self, request: QueueRequest) -> None:
        """Add the request, or raise the next error of `errors`."""
        error = self.errors.pop(0) if self.errors else None
        if error is None or (isinstance(error, EnqueueUncertainError) and self.keeps_uncertain):
            self.tasks = [task for task in self.tasks if task.name != request.replaces]
            if request.name not in {task.name for task in self.tasks}:
                self.tasks.append(QueuedTask(request=request, name=request.name or secrets.token_hex(8)))
        if error is not None:
            raise error

    def deliver(self, client: FlaskClient) -> TestResponse:
        """Deliver the oldest task that is due; unless the answer is 2xx, it goes to the end of the queue for a retry.

        Raises:
            AssertionError: the queue has no task that is due.
        """
        if not self.tasks:
            message = "The queue is empty: no task was started, or all of them were delivered and have ended."
            raise AssertionError(message)
        task = self._next()
        if task is None:
            first = min(task.request.not_before for task in self.tasks if task.request.not_before is not None)
            raise AssertionError(f"The queue delivers nothing before {first}. Advance the clock: it is {self._now()}.")
        self.tasks.remove(task)
        try:
            response = self._send(task, client)
        except BaseException:  # the worker has crashed
            self._try_again(task)
            raise
        if not 200 <= response.status_code < 300:
            self._try_again(task)
        return response

    def deliver_again(self, client: FlaskClient, *, renamed: bool = False) -> TestResponse:
        """Deliver the latest delivery a second time, as Cloud Tasks sometimes does.

        If it is `renamed`, it comes under another name, as if the request had been enqueued twice.

        Raises:
            AssertionError: nothing was delivered yet.
        """
        if not self.delivered:
            raise AssertionError("Nothing was delivered yet, so nothing can be delivered again. Call deliver first.")
        latest = self.delivered[-1]
        return self._send(replace(latest, name=secrets.token_hex(8)) if renamed else latest, client)

    def _now(self) -> datetime:
        return datetime.now(UTC) if self.clock is None else self.clock()

    def _next(self) -> QueuedTask | None:
        now = self._now()
        return next((task for task in self.tasks if (task.request.not_before or now) <= now), None)

    def _try_again(self, task: QueuedTask) -> None:
        self.tasks.append(replace(task, retry_count=task.retry_count + 1))

    def _send(self, task: QueuedTask, client: FlaskClient) -> TestResponse:
        self.delivered.append(task)
        root = str(client.application.config["APPLICATION_ROOT"]).rstrip("/")  # the client adds it itself
        return client.get(task.request.uri.removeprefix(root), headers=task.headers)

    def deliver_all(self, client: FlaskClient, *, at_most: int = 100) -> None:
        """Deliver until no task is due; raise `AssertionError` if `at_most` deliveries in a row have failed."""
        failed = 0
        while self._next() is not None:
            failed = 0 if 200 <= self.deliver(client).status_code < 300 else failed + 1
            if failed == at_most:
                message = f"The queue still holds {len(self.tasks)} tasks after {at_most} deliveries that have failed."
                raise AssertionError(message)


class InMemoryProgressStore(ProgressStore):
    """A `ProgressStore` for tests; nothing in it expires."""

    def __init__(self, *, interval_seconds: float = 0.5) -> None:
        self.interval_seconds = interval_seconds
        #: The stored snapshots, as bytes, by task id.
        self.stored: dict[str, bytes] = {}
        #: Whether the store is down: while True, nothing is read or written.
        self.is_down = False
        self._lock = threading.Lock()

    def read(self, task_id: str) -> Snapshot | None:
        """Return the latest snapshot."""
        return None if self.is_down else Snapshot.from_json(self.stored.get(task_id), task_id)

    def write(self, snapshot: Snapshot) -> Written:
        """Store the snapshot unless a later one is there."""
        if self.is_down:
            return Written.LOST
        with self._lock:
            if is_later(self.read(snapshot.info.id), snapshot):
                return Written.OUTDATED
            self.stored[snapshot.info.id] = snapshot.to_json()
            return Written.YES

    def add(self, snapshot: Snapshot, *, seconds: int) -> None:
        """Store the snapshot if there is none; `seconds` is ignored."""
        if not self.is_down:
            self.stored.setdefault(snapshot.info.id, snapshot.to_json())
