"""The time left; pure.

An estimate is the remaining steps at the recent pace, and recent means: since the pace last changed clearly, and of that
the later part. So neither bursts nor pauses sway it as they sway an average over the last few seconds, nor does
it cling to an early phase as an average over everything does.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite
from statistics import median

#: Less than this is too little to go on: seconds, and news of progress within them.
MIN_SECONDS = 5.0
MIN_CHANGES = 3
#: How many runs make something usual.
MIN_RUNS = 3

#: How much clearer than chance a change of pace has to be; an F value, tuned on the traces in the tests.
_CLEAR = 30.0
#: By how much the pace has to differ for a change to matter.
_MATTERS = 0.2
#: The later part of the time since the pace changed that counts.
_RECENT = 0.5
#: Two remembered moments are at least this share of their age apart.
_FINENESS = 0.02

_Points = list[tuple[float, float]]


def typical_seconds(durations: Sequence[float]) -> float | None:
    """Give the median of the last runs; None for fewer than `MIN_RUNS`."""
    return median(durations) if len(durations) >= MIN_RUNS else None


class Estimator:
    """Estimates one attempt's time left; not thread-safe.

    Starts anew whenever the total changes or the steps go back. Times are seconds of a monotonic clock.
    """

    def __init__(self) -> None:
        self._total = 0.0
        self._points: _Points = []

    def update(self, step: float, total: float, now: float) -> None:
        """Take the latest that the work has reported, at any pace; a total of 0 is unknown."""
        known = isfinite(step) and isfinite(total) and total > 0
        if not known or total != self._total or (self._points and step < self._points[-1][1]):
            self._total, self._points = total, []
        if known and (not self._points or step > self._points[-1][1]):
            self._points = [*_thinned(self._points, now), (now, step)]

    def seconds_left(self, now: float) -> float | None:
        """Give the time left, or None while it would be a guess: at first, in a stall, and when all steps are done."""
        if len(self._points) <= MIN_CHANGES or self._points[-1][1] >= self._total:
            return None
        last, step = self._points[-1]
        # Waiting for the next step is no delay until it takes longer than steps do.
        gap = (last - self._points[0][0]) / (len(self._points) - 1)
        wait = min(now - last, gap)
        points = _since_change([*self._points, (now - wait, step)])
        begin = points[-1][0] - _RECENT * (points[-1][0] - points[0][0])
        points = [first for first, second in pairwise(points) if second[0] > begin] + points[-1:]
        (first, step_then), (end, _) = points[0], points[-1]
        if end - first < MIN_SECONDS or step <= step_then:
            return None
        return max(0.0, (self._total - step) * (end - first) / (step - step_then) - wait)


def _thinned(points: _Points, now: float) -> _Points:
    kept: _Points = points[:1]
    for point in points[1:]:
        if point[0] - kept[-1][0] >= _FINENESS * (now - point[0]):
            kept.append(point)
    return kept


def _since_change(points: _Points) -> _Points: ...
