"""How fast a queue may dispatch: a token bucket that also slows down when the app says that it is overloaded."""

from __future__ import annotations

from datetime import datetime, timedelta

#: Below this rate congestion control does not go, unless the queue's own rate is lower still.
_SLOWEST_PER_SECOND = 0.1
#: After so much time without a further complaint the throttled rate has doubled.
_RECOVERY = timedelta(seconds=10)
#: Farther ahead nobody waits; a rate of next to nothing would leave the calendar.
_LONGEST_WAIT = timedelta(days=1)


class TokenBucket:
    """Takes a token for each dispatch; starts full, fills up with `rate` tokens a second to `burst` of them."""

    def __init__(self, *, rate: float, burst: int, now: datetime) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._filled_at = now
        # The part of the rate that congestion control leaves.
        self._factor = 1.0

    def configure(self, *, rate: float, burst: int, now: datetime) -> None:
        """Change the limits; what has been saved up stays, as far as it fits."""
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
        # A microsecond more, so that rounding never lets somebody wake up too early.
        return now + min(timedelta(seconds=min(seconds, 1e6), microseconds=1), _LONGEST_WAIT)

    def throttle(self, now: datetime) -> None:
        """Halve the rate and empty the bucket; the rate recovers with time.

        Production slows a queue down when its tasks get 503 and does not document the curve.
        """
        self._fill(now)
        self._factor = max(self._factor / 2, min(1.0, _SLOWEST_PER_SECOND / self._rate))
        self._tokens = 0.0

    def _fill(self, now: datetime) -> None:
        elapsed = max(timedelta(0), now - self._filled_at)  # the clock may have been set back
        self._filled_at = now
        self._tokens = min(float(self._burst), self._tokens + elapsed.total_seconds() * self._rate * self._factor)
        self._factor = min(1.0, self._factor * 2.0 ** min(elapsed / _RECOVERY, 64))
