"""A queue: its settings, its tasks, and which of them may be dispatched now."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta

from gaetk_longtask.dev.tasks_emulator.messages import Message, Queue
from gaetk_longtask.dev.tasks_emulator.names import QueueName
from gaetk_longtask.dev.tasks_emulator.rate import TokenBucket
from gaetk_longtask.dev.tasks_emulator.tasks import TaskRecord

_tickets = itertools.count(1)


class TaskQueue:
    """A queue with its tasks. Callers pass the time in and hold the lock."""

    def __init__(self, name: QueueName, message: Message, *, from_yaml: bool, now: datetime) -> None:
        self.name = name
        #: The queue as callers see it.
        self.message = message
        #: Whether it comes from queue.yaml: then tasks and their names are kept longer.
        self.from_yaml = from_yaml
        self.tasks: dict[str, TaskRecord] = {}
        #: Running attempts, including those of deleted tasks.
        self.in_flight = 0
        limits = message.rate_limits
        self.bucket = TokenBucket(rate=limits.max_dispatches_per_second, burst=limits.max_burst_size, now=now)
        # An entry is void if its ticket is no longer the task's. So rescheduling needs no search.
        self._schedule: list[tuple[datetime, int, str]] = []

    @property
    def tombstone_ttl(self) -> timedelta:
        """How long a task's name can't be used again (documentation of `CreateTaskRequest`)."""
        return timedelta(days=9) if self.from_yaml else timedelta(hours=24)

    @property
    def task_ttl(self) -> timedelta:
        """The longest life of a task, whatever its retry configuration says (Cloud SDK, `MAX_TASK_TTL`; quotas)."""
        return timedelta(days=3650) if self.from_yaml else timedelta(days=31)

    def change(self, message: Message, now: datetime) -> None:
        """Change the settings."""
        self.message = message
        limits = message.rate_limits
        self.bucket.configure(rate=limits.max_dispatches_per_second, burst=limits.max_burst_size, now=now)

    def add(self, record: TaskRecord) -> None:
        """Add a task and schedule it for its schedule time."""
        self.tasks[record.name] = record
        self.schedule(record)

    def schedule(self, record: TaskRecord) -> None:
        """Schedule the task for its schedule time; an earlier entry becomes void."""
        record.ticket = next(_tickets)
        heapq.heappush(self._schedule, (record.scheduled, record.ticket, record.name))
        if len(self._schedule) > 2 * len(self.tasks) + 100:
            self._schedule = [entry for entry in self._schedule if self._record(entry) is not None]
            heapq.heapify(self._schedule)

    def remove(self, name: str) -> TaskRecord | None:
        """Remove a task, if it is there; its attempts go on."""
        return self.tasks.pop(name, None)

    def due(self, now: datetime) -> Iterator[TaskRecord]:
        """Yield the tasks to dispatch now; each takes a token of the rate and counts as in flight."""
        while self._may_dispatch(now) and self.bucket.take(now):
            _, _, name = heapq.heappop(self._schedule)  # valid, or the queue would not be open
            record = self.tasks[name]
            self.begin(record)
            yield record

    def begin(self, record: TaskRecord) -> None:
        """Count an attempt of the task as running."""
        record.ticket = None
        record.running += 1
        self.in_flight += 1

    def end(self, record: TaskRecord) -> None:
        """Count an attempt of the task as ended."""
        record.running -= 1
        self.in_flight -= 1

    def wakes_at(self, now: datetime) -> datetime | None:
        """Return when there may be something to dispatch; None if only an attempt's end or a call can change that."""
        if not self._is_open():
            return None
        return max(self._schedule[0][0], self.bucket.ready_at(now))

    def _may_dispatch(self, now: datetime) -> bool:
        return self._is_open() and self._schedule[0][0] <= now

    def _is_open(self) -> bool:
        """Return whether the queue runs, has room for an attempt, and has a scheduled task."""
        if self.message.state != Queue.RUNNING:
            return False
        if self.in_flight >= self.message.rate_limits.max_concurrent_dispatches:
            return False
        while self._schedule and self._record(self._schedule[0]) is None:
            heapq.heappop(self._schedule)
        return bool(self._schedule)

    def _record(self, entry: tuple[datetime, int, str]) -> TaskRecord | None:
        record = self.tasks.get(entry[2])
        return record if record is not None and record.ticket == entry[1] else None
