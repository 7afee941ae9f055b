"""The time left of an attempt, from the pace of its steps or, without steps, from the duration of earlier tasks."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from gaetk_longtask.progress.estimate import Estimator
from gaetk_longtask.progress.phases import Phases

#: After this long without steps, a task is compared with earlier ones. Shorter tasks are not worth a query.
STEPLESS = timedelta(seconds=3)


class TimeLeft:
    """Estimates the time left. Can continue the estimate of the previous attempt."""

    def __init__(
        self,
        *,
        requested_at: datetime,
        clock: Callable[[], datetime],
        phases: Phases | None = None,
        usual_seconds: Callable[[], float | None] = lambda: None,
        compares: bool = True,
        pace: dict[str, Any] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the estimate for an attempt that begins now.

        `usual_seconds` returns how long such tasks usually take, from the request to the result. It is called once, if
        `compares` is true and the work reports no steps. `pace` is what `pace` returned in the previous attempt.
        """
        self._requested_at = requested_at
        self._began_at = clock()
        self._clock = clock
        self._monotonic = monotonic
        self.phases = phases or Phases(clock=clock)
        self._phase = self.phases.number
        self._usual_seconds = usual_seconds
        self._estimator = Estimator()
        self._usual: float | None = None
        if pace:
            self._usual = pace.get("usual")
            self._estimator.resume(pace["points"], pace["total"], monotonic() - (clock().timestamp() - pace["at"]))
        self._compares = compares and self._usual is None and not self.phases.names

    def update(self, step: float, total_steps: float, *, may_ask: bool = True) -> None:
        """Store the latest position. Asks what is usual if it is needed and `may_ask` is true."""
        if self._phase != (number := self.phases.number):
            self._phase, self._estimator = number, Estimator()
        if may_ask:
            self.phases.ask()
        self._estimator.update(step, total_steps, self._monotonic())
        if self._compares and may_ask and not total_steps and self._clock() - self._began_at >= STEPLESS:
            self._compares = False
            self._usual = self._usual_seconds()

    def seconds(self, total_steps: float) -> float | None:
        """Return the seconds left, or None while there is no good estimate."""
        if self.phases.names:
            return self._seconds_in_phases(total_steps)
        if total_steps:
            return self._estimator.seconds_left(self._monotonic())
        if self._usual is None:
            return None
        left = self._usual - (self._clock() - self._requested_at).total_seconds()
        return left if left > 0 else None

    def _seconds_in_phases(self, total_steps: float) -> float | None:
        if not total_steps:
            return self.phases.seconds_left(None)
        now = self._monotonic()
        if self._estimator.stalled(now):
            return None
        return self.phases.seconds_left(0.0 if self._estimator.is_done else self._estimator.seconds_left(now))

    def pace(self) -> dict[str, Any]:
        """Return what the next attempt needs to continue the estimate, as JSON values."""
        points, total = self._estimator.points(self._monotonic())
        pace = {"points": points, "total": total, "at": self._clock().timestamp(), "usual": self._usual}
        return pace | ({"phases": self.phases.kept()} if self.phases.names else {})
