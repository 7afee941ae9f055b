"""Decides when an attempt stores its state and when it hands over, from times that the attempt measures."""

from __future__ import annotations

from datetime import datetime, timedelta

CHECKPOINT_EVERY = timedelta(seconds=15)  #: the shortest time between two saves
#: How long to wait after a save that failed; shorter when the attempt has to hand over.
TRY_AGAIN_AFTER = timedelta(seconds=5)
TRY_TO_HAND_OVER_AFTER = timedelta(seconds=1)
#: Time reserved for a hand-over besides twice the longest save: for the author's clean-up and the reply.
LONGEST_FAREWELL = timedelta(seconds=5)


class Schedule:
    """Decides for each call of ``checkpoint`` in one attempt whether to save.

    The next call must not come too late. So the schedule reserves time for the longest work between two calls so far,
    and for the longest save.
    """

    def __init__(self, *, began_at: datetime, now: datetime, time_limit: timedelta) -> None:
        """Plan an attempt that began at `began_at` and may take `time_limit`."""
        self._limit = self._ends_at = began_at + time_limit - min(LONGEST_FAREWELL, time_limit / 10)
        self._due_at = min(now + min(CHECKPOINT_EVERY, time_limit / 4), self._ends_at)
        self._left_at: datetime | None = None
        self._longest_work = timedelta(0)

    def call(self, now: datetime) -> bool:
        """Record a call, and return whether its state is to be stored."""
        if self._left_at is not None and now - self._left_at > self._longest_work:
            self._longest_work = now - self._left_at
            self._due_at = min(self._due_at, self._ends_at - self._longest_work)
        self._left_at = now
        return now >= self._due_at

    def leave(self, now: datetime) -> None:
        """Record that a call that stored something returns to the work."""
        self._left_at = now

    def hands_over(self, now: datetime) -> bool:
        """Return whether the remaining time is too short for another call."""
        return now + self._longest_work >= self._ends_at

    def unchanged(self, now: datetime) -> None:
        """Record that there was nothing new to store."""
        self._due_at = min(now + CHECKPOINT_EVERY, self._ends_at - self._longest_work)

    def saved(self, *, began_at: datetime, now: datetime) -> None:
        """Record how long a save took."""
        self._ends_at = min(self._ends_at, self._limit - 2 * (now - began_at))
        self.unchanged(now)

    def failed(self, now: datetime, *, hands_over: bool) -> None:
        """Record that a save failed, which may have taken a minute."""
        self._due_at = now + (TRY_TO_HAND_OVER_AFTER if hands_over else TRY_AGAIN_AFTER)
