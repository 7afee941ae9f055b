"""A task and its history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from gaetk_longtask.dev.tasks_emulator.messages import Message, Task, duration_of, moment_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Previous:
    """The end of the last attempt, for the next one's headers."""

    response: int
    reason: str


@dataclass(slots=True)
class TaskRecord:
    """A task in a queue: the message for callers, and what they do not see."""

    message: Message
    #: The number of responses that count for the header TaskExecutionCount.
    executions: int = 0
    previous: Previous | None = None
    #: The number of running attempts.
    running: int = 0
    #: The valid entry of the queue's schedule; None while an attempt is running.
    ticket: int | None = None

    @property
    def name(self) -> str:
        """The full name."""
        return str(self.message.name)

    @property
    def is_app_engine(self) -> bool:
        """Whether the target is an App Engine service rather than any URL."""
        return bool(self.message.HasField("app_engine_http_request"))

    @property
    def scheduled(self) -> datetime:
        """When the next attempt is due."""
        return moment_of(self.message.schedule_time)

    def deadline(self, default: timedelta) -> timedelta:
        """Return how long an attempt may take."""
        return duration_of(self.message.dispatch_deadline) or default

    def view(self, view: int) -> Message:
        """Return a copy for a caller: without the body, unless the view is FULL."""
        copy = Task()
        copy.CopyFrom(self.message)
        copy.view = Task.FULL if view == Task.FULL else Task.BASIC
        if copy.view == Task.BASIC:
            target_of(copy).ClearField("body")
        return copy


def target_of(task: Message) -> Message:
    """Return the request that the task describes."""
    return getattr(task, task.WhichOneof("message_type"))
