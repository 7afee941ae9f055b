"""When a failed attempt is repeated, and when no longer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from gaetk_longtask.dev.tasks_emulator.messages import Message, duration_of

UNLIMITED_ATTEMPTS = -1
#: Twice as far as a task may be scheduled; a time beyond the calendar would be an error.
_LONGEST_DELAY = timedelta(days=60)
#: Two to this power is more than any back-off allows.
_MAX_EXPONENT = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrySchedule:
    """The retry configuration that applies to a task."""

    max_attempts: int  #: including the first one; UNLIMITED_ATTEMPTS for no limit
    max_duration: timedelta  #: since the first attempt; zero for no limit
    min_backoff: timedelta
    max_backoff: timedelta
    max_doublings: int

    @classmethod
    def of(cls, queue_config: Message, task_config: Message) -> Self:
        """Return what applies to a task: its own configuration wins over the queue's, field by field."""

        def duration(field: str) -> timedelta:
            config = task_config if task_config.HasField(field) else queue_config
            return duration_of(getattr(config, field)) or timedelta(0)

        return cls(
            max_attempts=task_config.max_attempts or queue_config.max_attempts,
            max_duration=duration("max_retry_duration"),
            min_backoff=duration("min_backoff"),
            max_backoff=duration("max_backoff"),
            max_doublings=task_config.max_doublings or queue_config.max_doublings,
        )

    def delay(self, attempts: int) -> timedelta:
        """Return the pause after this many failed attempts.

        It doubles `max_doublings` times, then grows by equal steps, up to `max_backoff`: 10, 20, 40, 80, 160,
        240, 300, 300 seconds for 10, 300 and three doublings (documentation of `RetryConfig.max_doublings`).
        """
        retry = attempts - 1
        doublings = min(retry, self.max_doublings, _MAX_EXPONENT)
        steps = 1 + max(0, retry - self.max_doublings)
        longest = min(self.max_backoff, _LONGEST_DELAY)
        seconds = self.min_backoff.total_seconds() * 2.0**doublings * steps
        return longest if seconds >= longest.total_seconds() else timedelta(seconds=seconds)

    def is_exhausted(self, attempts: int, elapsed: timedelta) -> bool:
        """Return whether no attempt is left: every limit that is set has been reached.

        ``elapsed`` is the time since the first attempt. With both limits, attempts go on until both are reached
        (documentation of `RetryConfig.max_attempts`).
        """
        limits = []
        if self.max_attempts != UNLIMITED_ATTEMPTS:
            limits.append(attempts >= self.max_attempts)
        if self.max_duration:
            limits.append(elapsed >= self.max_duration)
        return bool(limits) and all(limits)
