"""Moves tasks: creates them, hands out their attempts when they are due, schedules retries, deletes them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

from gaetk_longtask.dev.tasks_emulator.acceptance import accept
from gaetk_longtask.dev.tasks_emulator.answers import Answer
from gaetk_longtask.dev.tasks_emulator.errors import already_exists, invalid, not_found
from gaetk_longtask.dev.tasks_emulator.messages import Message, Task, moment_of, set_moment
from gaetk_longtask.dev.tasks_emulator.names import parse_queue, parse_task, task_name
from gaetk_longtask.dev.tasks_emulator.queues import TaskQueue
from gaetk_longtask.dev.tasks_emulator.registry import Registry
from gaetk_longtask.dev.tasks_emulator.retry import RetrySchedule
from gaetk_longtask.dev.tasks_emulator.store import Store
from gaetk_longtask.dev.tasks_emulator.tasks import Previous, TaskRecord

_SWEEP_EVERY = timedelta(minutes=10)
_GONE = (
    "The task no longer exists, though a task with this name existed recently."
    " The task either successfully completed or was deleted."
)
_TOO_RECENT = "The task cannot be created because a task with this name existed too recently."


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One dispatch of a task: everything that its request needs, as it was when the attempt began."""

    queue: TaskQueue
    record: TaskRecord
    task: Message
    retries: int
    executions: int
    previous: Previous | None
    began: datetime
    forced: bool  #: by RunTask


class Fate(Enum):
    """What happens to a task after an attempt."""

    DONE = auto()
    RETRY = auto()
    GAVE_UP = auto()  #: attempts and time are used up; production deletes the task silently
    GONE = auto()  #: deleted or purged meanwhile, or another attempt is running


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How an attempt ended, for the log."""

    fate: Fate
    attempts: int
    again_in: timedelta | None = None


class Scheduler:
    """All tasks; used under the emulator's lock."""

    def __init__(self, registry: Registry, store: Store, now: datetime) -> None:
        self._registry = registry
        self._store = store
        self._sweep_at = now + _SWEEP_EVERY

    def create(self, parent: str, given: Message, now: datetime) -> TaskRecord:
        """Create a task."""
        queue = self._registry.find(parse_queue(parent), now)
        if given.name:
            named, task_id = parse_task(given.name)
            if named != queue.name:
                raise invalid(
                    f"The queue name from request ('{queue.name}') must be the same as the queue name"
                    f" in the named task ('{named}')."
                )
        else:
            task_id = str(secrets.randbits(63))
        name = task_name(queue.name, task_id)
        record = accept(given, name=name, queue=queue.name, now=now)
        if name in queue.tasks:
            raise already_exists("Requested entity already exists")
        if given.name and self._store.is_buried(name, now):
            raise already_exists(_TOO_RECENT)
        self._store.put_task(record, str(queue.name))
        queue.add(record)
        return record

    def get(self, name: str, now: datetime) -> TaskRecord:
        """Return a task; raise `CallError` if it does not exist."""
        _, record = self._find(name, now)
        if record is None:
            raise not_found(_GONE) if self._store.is_buried(name, now) else not_found()
        return record

    def tasks(self, parent: str, now: datetime) -> list[TaskRecord]:
        """Return the tasks of a queue, by name."""
        tasks = self._registry.find(parse_queue(parent), now).tasks
        return [tasks[name] for name in sorted(tasks)]

    def delete(self, name: str, now: datetime) -> None:
        """Delete a task; a running attempt goes on."""
        queue, record = self._find(name, now)
        if record is None:
            raise not_found()
        self._bury(queue, record, now)

    def run(self, name: str, now: datetime) -> Attempt:
        """Begin an attempt of a task despite the queue's limits and state, and even if another one is running."""
        queue, record = self._find(name, now)
        if record is None:
            raise not_found()
        queue.begin(record)
        return self._attempt(queue, record, now, forced=True)

    def due(self, now: datetime, *, limit: int) -> list[Attempt]:
        """Begin the attempts that are due, up to the limit."""
        if now >= self._sweep_at:
            self._sweep(now)
        attempts: list[Attempt] = []
        for queue in self._registry.all():
            if len(attempts) >= limit:
                break
            for record in queue.due(now):
                try:
                    attempts.append(self._attempt(queue, record, now))
                except Exception:  # the disk is full: those that are stored must be sent
                    if attempts:
                        return attempts
                    raise
                if len(attempts) >= limit:
                    break
        return attempts

    def wakes_at(self, now: datetime) -> datetime | None:
        """Return when `due` may have something."""
        moments = [moment for queue in self._registry.all() if (moment := queue.wakes_at(now)) is not None]
        return min(moments, default=None)

    def finish(self, attempt: Attempt, answer: Answer, now: datetime) -> Ending:
        """Record the end of an attempt: the task is done, gets another attempt, or is given up."""
        queue, record = attempt.queue, attempt.record
        queue.end(record)
        if answer.is_overload(app_engine=record.is_app_engine):
            queue.bucket.throttle(now)
        message = record.message
        attempts = message.dispatch_count
        if queue.tasks.get(record.name) is not record:
            return Ending(fate=Fate.DONE if answer.is_success else Fate.GONE, attempts=attempts)
        set_moment(message.last_attempt.response_time, now)
        message.last_attempt.response_status.code = answer.code.value[0]
        message.last_attempt.response_status.message = answer.message
        if answer.status is not None:
            message.response_count += 1
            record.executions += answer.is_execution(app_engine=record.is_app_engine)
        record.previous = answer.as_previous(app_engine=record.is_app_engine)
        if answer.is_success:
            self._bury(queue, record, now)
            return Ending(fate=Fate.DONE, attempts=attempts)
        return self._retry(attempt, answer, now)

    def _retry(self, attempt: Attempt, answer: Answer, now: datetime) -> Ending:
        queue, record = attempt.queue, attempt.record
        message = record.message
        attempts = message.dispatch_count
        if record.running:  # RunTask began another attempt, which decides
            self._store.put_task(record, str(queue.name))
            return Ending(fate=Fate.GONE, attempts=attempts)
        schedule = RetrySchedule.of(queue.message.retry_config, message.retry_config)
        elapsed = now - moment_of(message.first_attempt.dispatch_time)
        if schedule.is_exhausted(attempts, elapsed):
            self._bury(queue, record, now)
            return Ending(fate=Fate.GAVE_UP, attempts=attempts)
        delay = schedule.delay(attempts)
        if not record.is_app_engine:
            delay = max(delay, answer.retry_after)
        # After RunTask the delay counts from the call (its documentation).
        set_moment(message.schedule_time, (attempt.began if attempt.forced else now) + delay)
        queue.schedule(record)  # first, so that a full disk does not prevent it
        self._store.put_task(record, str(queue.name))
        return Ending(fate=Fate.RETRY, attempts=attempts, again_in=delay)

    def _attempt(self, queue: TaskQueue, record: TaskRecord, now: datetime, *, forced: bool = False) -> Attempt:
        before = record.message
        retries = before.dispatch_count
        record.message = message = Task()
        message.CopyFrom(before)
        if forced:
            set_moment(message.schedule_time, now)
        message.dispatch_count += 1
        message.last_attempt.Clear()
        message.last_attempt.schedule_time.CopyFrom(message.schedule_time)
        set_moment(message.last_attempt.dispatch_time, now)
        if not retries:
            message.first_attempt.dispatch_time.CopyFrom(message.last_attempt.dispatch_time)
        try:
            self._store.put_task(record, str(queue.name))
        except BaseException:  # as if it had not begun
            record.message = before
            queue.end(record)
            if not record.running:
                queue.schedule(record)
            raise
        task = Task()
        task.CopyFrom(message)
        return Attempt(
            queue=queue,
            record=record,
            task=task,
            retries=retries,
            executions=record.executions,
            previous=record.previous,
            began=now,
            forced=forced,
        )

    def _find(self, name: str, now: datetime) -> tuple[TaskQueue, TaskRecord | None]:
        queue = self._registry.find(parse_task(name)[0], now)
        return queue, queue.tasks.get(name)

    def _bury(self, queue: TaskQueue, record: TaskRecord, now: datetime) -> None:
        queue.remove(record.name)
        self._store.bury_task(record.name, now + queue.tombstone_ttl)

    def _sweep(self, now: datetime) -> None:
        self._sweep_at = now + _SWEEP_EVERY
        self._store.sweep(now)
        for queue in self._registry.all():
            oldest = now - queue.task_ttl
            for record in [task for task in queue.tasks.values() if moment_of(task.message.create_time) <= oldest]:
                self._bury(queue, record, now)
