"""The time left; pure.

What is left takes the recent pace, and recent means: of the time since the pace last changed clearly, the later half. A
pace is trusted to last as long again as it has lasted; what is left beyond that takes the attempt's average. So bursts
do not sway the estimate, as they sway an average over the last seconds, nor does an early phase.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite
from typing import NamedTuple

MIN_SECONDS = 5.0  #: too little to go on: less observation than this, …
MIN_CHANGES = 3  #: … or fewer changes of the step
STALL_SECONDS = 10.0  #: no change of the step for longer than this is a stall, …
STALL_FACTOR = 4.0  #: … provided that it is also longer than this many times the longest wait but one

# Tuned on synthetic progress, and tried on the recordings of benchmarks/estimate.py; none of them is touchy.
_CLEAR = 15.0  # how much clearer than chance a change of pace has to be, as the F value of the two paces
_MATTERS = 0.2  # by what share the pace has to change to be another one
_RECENT = 0.5  # the part of the time since the pace changed that counts
_RECENT_CHANGES = 9  # but no fewer changes of the step than these
_COUNTABLE = 2**53  # a float counts no further
_FINENESS = 0.02  # two remembered moments are this share of their age apart, so that a day takes a few hundred
_COARSENESS = 0.2  # the same for what the next attempt is told, so that a day takes a few dozens


class _Point(NamedTuple):
    at: float  # monotonic seconds
    step: float

    def pace(self, later: _Point) -> float:
        """Seconds a step from here to there."""
        return (later.at - self.at) / (later.step - self.step)


class Estimator:
    """Estimates one attempt's time left; starts anew when the total changes or the steps go back."""

    def __init__(self) -> None:
        self._total = 0.0
        self._start = _Point(0, 0)
        self._points: list[_Point] = []
        self._longest_waits = [0.0, 0.0]

    def update(self, step: float, total: float, now: float) -> None:
        """Take the latest that the work has said, at monotonic seconds `now`; a total of 0 is unknown."""
        known = 0 <= step <= _COUNTABLE and 0 < total <= _COUNTABLE
        if not known or total != self._total or (self._points and step < self._points[-1].step):
            self._total, self._points, self._longest_waits = total, [], [0.0, 0.0]
        if not known:
            return
        here = _Point(now, step)
        if not self._points:
            self._start, self._points = here, [here]
        elif step > self._points[-1].step:
            kept = [] if self._stalled(now) else _thinned(self._points, now)
            self._longest_waits = sorted([*self._longest_waits, now - self._points[-1].at])[1:]
            self._points = [*kept, here]

    def points(self, now: float) -> tuple[list[tuple[float, float]], float]:
        """Give what another estimator needs to go on: how long ago which step was reached, and the total."""
        kept = _thinned(self._points, now, _COARSENESS)
        return [(round(now - point.at, 2), point.step) for point in kept], self._total

    def resume(self, points: Sequence[Sequence[float]], total: float, now: float) -> None:
        """Go on from what another one gave at `now`."""
        self._points = [_Point(now - age, step) for age, step in points]
        if self._points:
            self._start, self._total = self._points[0], total
            waits = (b.at - a.at for a, b in pairwise(self._points))
            self._longest_waits = sorted([0.0, 0.0, *waits])[-2:]

    def seconds_left(self, now: float) -> float | None:
        """Give the time left; None at first, in a stall, and when nothing but the last step's end is awaited."""
        points = self._points
        if len(points) <= MIN_CHANGES or self._stalled(now):
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
        # To wait as long as the steps take is no delay.
        left -= min(now - last.at, (last.at - recent[0].at) / (len(recent) - 1))
        return max(0.0, left) if isfinite(left) else None

    def _stalled(self, now: float) -> bool:
        # The longest wait may have been a stall itself.
        patience = max(STALL_SECONDS, STALL_FACTOR * self._longest_waits[0])
        return len(self._points) > MIN_CHANGES and now - self._points[-1].at > patience


def _thinned(points: list[_Point], now: float, fineness: float = _FINENESS) -> list[_Point]:
    kept = points[:1]
    for point in points[1:]:
        if point.at - kept[-1].at >= fineness * (now - point.at):
            kept.append(point)
    return [point for point in kept if point.at < now]


def _since_change(points: list[_Point]) -> list[_Point]:
    """Drop what lies before the last clear change of pace; steps are taken as a random walk with drift."""
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
