"""Estimates the time left. Does no I/O and reads no clock.

The estimate uses the recent pace: the pace in the later half of the time since the last clear change. A pace is trusted
to last as long again as it has lasted. The remaining steps use the attempt's average pace. So neither bursts nor a
different early phase distort the estimate. An average over the last seconds would follow every burst.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite
from typing import NamedTuple

MIN_SECONDS = 5.0  #: no estimate after less time than this, …
MIN_CHANGES = 3  #: … or after fewer changes of the step
STALL_SECONDS = 10.0  #: a stall is a wait for the next step that is longer than this …
STALL_FACTOR = 4.0  #: … and longer than this many times the second-longest wait

# Tuned on synthetic progress and checked with the recordings of benchmarks/estimate.py. Small changes matter little.
_CLEAR = 15.0  # a change of pace is clear above this F value of the two paces
_MATTERS = 0.2  # smaller relative changes of pace are ignored
_RECENT = 0.5  # the later share of the time since the change that counts as recent
_RECENT_CHANGES = 9  # but at least this many changes of the step
_COUNTABLE = 2**53  # the highest number to which a float can count
_FINENESS = 0.02  # remembered points are this share of their age apart; a day takes a few hundred points
_COARSENESS = 0.2  # the same for the points that the next attempt gets; a day takes a few dozen


class _Point(NamedTuple):
    at: float  # monotonic seconds
    step: float

    def pace(self, later: _Point) -> float:
        """Return the seconds per step from this point to a later one."""
        return (later.at - self.at) / (later.step - self.step)


class Estimator:
    """Estimates one attempt's time left. Starts over when the total changes or the steps go back."""

    def __init__(self) -> None:
        self._total = 0.0
        self._start = _Point(0, 0)
        self._points: list[_Point] = []
        self._longest_waits = [0.0, 0.0]

    def update(self, step: float, total: float, now: float) -> None:
        """Store the latest step, reported at monotonic seconds `now`. A total of 0 means unknown."""
        known = 0 <= step <= _COUNTABLE and 0 < total <= _COUNTABLE
        if not known or total != self._total or (self._points and step < self._points[-1].step):
            self._total, self._points, self._longest_waits = total, [], [0.0, 0.0]
        if not known:
            return
        here = _Point(now, step)
        if not self._points:
            self._start, self._points = here, [here]
        elif step > self._points[-1].step:
            kept = [] if self.stalled(now) else _thinned(self._points, now)
            self._longest_waits = sorted([*self._longest_waits, now - self._points[-1].at])[1:]
            self._points = [*kept, here]

    def points(self, now: float) -> tuple[list[tuple[float, float]], float]:
        """Return what the next estimator needs to continue: pairs of age in seconds and step, and the total."""
        kept = _thinned(self._points, now, _COARSENESS)
        return [(round(now - point.at, 2), point.step) for point in kept], self._total

    def resume(self, points: Sequence[Sequence[float]], total: float, now: float) -> None:
        """Continue from what another estimator's `points` returned. `now` is the time of that call on this clock."""
        self._points = [_Point(now - age, step) for age, step in points]
        if self._points:
            self._start, self._total = self._points[0], total
            waits = (b.at - a.at for a, b in pairwise(self._points))
            self._longest_waits = sorted([0.0, 0.0, *waits])[-2:]

    def seconds_left(self, now: float) -> float | None:
        """Return the seconds left. None at first, in a stall, and once the last step is reported."""
        points = self._points
        if len(points) <= MIN_CHANGES or self.stalled(now):
            return None
        first, last = points[0], points[-1]
        rest = self._total - last.step
        if rest <= 0 or last.at - first.at < MIN_SECONDS:
            return None
        since = _since_change(points)
        begin = last.at - max(MIN_SECONDS, _RECENT * (last.at - since[0].at))
        recent = [point for point in since if point.at >= begin]
        if len(recent) <= _RECENT_CHANGES:
            recent = since[-_RECENT_CHANGES - 1 :]
        near = min(rest, last.step - since[0].step)
        left = near * recent[0].pace(last) + (rest - near) * self._start.pace(last)
        # Subtract the time since the last step, but at most the average wait for a step.
        left -= min(now - last.at, (last.at - recent[0].at) / (len(recent) - 1))
        return max(0.0, left) if isfinite(left) else None

    @property
    def is_done(self) -> bool:
        """Whether the last step is reported."""
        return bool(self._points) and self._points[-1].step >= self._total

    def stalled(self, now: float) -> bool:
        """Return whether the wait for the next step is unusually long."""
        # Not the longest wait, which may have been a stall itself.
        patience = max(STALL_SECONDS, STALL_FACTOR * self._longest_waits[0])
        return len(self._points) > MIN_CHANGES and now - self._points[-1].at > patience


def _thinned(points: list[_Point], now: float, fineness: float = _FINENESS) -> list[_Point]:
    kept = points[:1]
    for point in points[1:]:
        if point.at - kept[-1].at >= fineness * (now - point.at):
            kept.append(point)
    return [point for point in kept if point.at < now]


def _since_change(points: list[_Point]) -> list[_Point]:
    """Return the points since the last clear change of pace. Models the steps as a random walk with drift."""
    while True:
        first, last = points[0], points[-1]
        drift = (last.step - first.step) / first.pace(last)
        noise = sum((b.step - a.step) / a.pace(b) for a, b in pairwise(points)) - drift
        gain, change = 0.0, 0
        for index, point in enumerate(points[MIN_CHANGES + 1 : -MIN_CHANGES], MIN_CHANGES + 1):
            before, after = first.pace(point), point.pace(last)
            if last.at - point.at < MIN_SECONDS:
                break
            if abs(before - after) > _MATTERS * max(before, after):
                explained = (point.step - first.step) / before + (last.step - point.step) / after - drift
                gain, change = max((gain, change), (explained, index))
        if not change or gain <= _CLEAR * (noise - gain) / (len(points) - 3):
            return points
        points = points[change:]
