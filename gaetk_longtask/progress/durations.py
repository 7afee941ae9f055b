"""How long an endpoint's tasks usually take, remembered for a while."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from gaetk_longtask.contexts import STORE_ERRORS

log = logging.getLogger(__name__)

#: How long an answer serves before Datastore is asked again.
REMEMBERED = timedelta(minutes=10)
#: How many tasks that have ended last are looked at.
LAST_RUNS = 50
#: Fewer runs than these say nothing of the next one.
MIN_RUNS = 3


class Durations:
    """Asks Datastore once in ten minutes for each endpoint and process."""

    def __init__(self, last_runs: Callable[[str, int], Sequence[float]], clock: Callable[[], datetime]) -> None:
        """Ask `last_runs` for the seconds that an endpoint's last tasks took; it may raise what Datastore raises."""
        self._last_runs = last_runs
        self._clock = clock
        self._known: dict[str, tuple[datetime, float | None]] = {}

    def typical_seconds(self, endpoint: str) -> float | None:
        """Return the median, in seconds from the visitor's click to the result; None if there are too few runs.

        Needs an NDB context. Where Datastore does not answer, the last answer stands until it is asked again.
        """
        now = self._clock()
        asked_at, known = self._known.get(endpoint, (None, None))
        if asked_at is not None and now - asked_at < REMEMBERED:
            return known
        self._known[endpoint] = now, known  # other threads that ask meanwhile need not wait
        try:
            known = _median(self._last_runs(endpoint, LAST_RUNS))
        except STORE_ERRORS as exc:
            log.warning("how long %s usually takes is not known: %s", endpoint, exc)
        self._known[endpoint] = now, known
        return known


def _median(runs: Sequence[float]) -> float | None:
    """Do without the module `statistics`, whose import takes a millisecond."""
    if len(runs) < MIN_RUNS:
        return None
    ordered, middle = sorted(runs), len(runs) // 2
    return (ordered[middle] + ordered[~middle]) / 2
