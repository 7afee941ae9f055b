"""The rate of a queue: a token bucket that also slows down when the app is overloaded."""

from __future__ import annotations

from datetime import datetime, timedelta

#: Congestion control does not go below this rate, unless the queue's own rate is lower.
_SLOWEST_PER_SECOND = 0.1
#: The throttled rate doubles after this time without another overload.
_RECOVERY = timedelta(seconds=10)
#: A limit, because a rate close to zero would give a time beyond the calendar.
_LONGEST_WAIT = timedelta(days=1)


class TokenBucket:
    """A bucket with a token for each dispatch; it starts full and gets `rate` tokens a second, up to `burst`."""

    def __init__(self, *, rate: float, burst: int, now: datetime) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._filled_at = now
        # The share of the rate that congestion control allows.
        self._factor = 1.0

    def configure(self, *, rate: float, burst: int, now: datetime) -> None:
        """Change the limits; the tokens stay, up to the new limit."""
        self._fill(now)
        self._rate, self._burst = rate, burst
        self._tokens = min(self._tokens, float(burst))

    def take(self, now: datetime) -> bool:
        """Take a token if there is one."""
        self._fill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def ready_at(self, now: datetime) -> datetime:
        """Return when the next token will be there."""
        self._fill(now)
        if self._tokens >= 1:
            return now
        seconds = (1 - self._tokens) / max(self._rate * self._factor, 1e-9)
        # One microsecond more, so that rounding never wakes the dispatcher too early.
        return now + min(timedelta(seconds=min(seconds, 1e6), microseconds=1), _LONGEST_WAIT)

    def throttle(self, now: datetime) -> None:
        """Halve the rate and empty the bucket; the rate recovers with time.

        Production slows a queue down when its tasks get 503; it does not document the curve.
        """
        self._fill(now)
        self._factor = max(self._factor / 2, min(1.0, _SLOWEST_PER_SECOND / self._rate))
        self._tokens = 0.0

    def _fill(self, now: datetime) -> None:
        elapsed = max(timedelta(0), now - self._filled_at)  # the clock may have been set back
        self._filled_at = now
        self._tokens = min(float(self._burst), self._tokens + elapsed.total_seconds() * self._rate * self._factor)
        self._factor = min(1.0, self._factor * 2.0 ** min(elapsed / _RECOVERY, 64))
