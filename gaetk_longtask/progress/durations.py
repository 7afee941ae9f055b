"""The usual duration of an endpoint's tasks, cached for a while."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from gaetk_longtask.contexts import STORE_ERRORS

log = logging.getLogger(__name__)

#: How long a duration is cached before Datastore is queried again.
REMEMBERED = timedelta(minutes=10)
#: How many of the tasks that ended last are used.
LAST_RUNS = 50
#: With fewer runs than this, the usual duration is unknown.
MIN_RUNS = 3


class Durations:
    """A cache of usual durations. Queries Datastore once in ten minutes for each endpoint and process."""

    def __init__(self, last_runs: Callable[[str, int], Sequence[float]], clock: Callable[[], datetime]) -> None:
        """Create an empty cache.

        `last_runs` returns the seconds that an endpoint's last tasks took. It may raise Datastore's errors.
        """
        self._last_runs = last_runs
        self._clock = clock
        self._known: dict[str, tuple[datetime, float | None]] = {}

    def typical_seconds(self, endpoint: str) -> float | None:
        """Return the median in seconds, from the visitor's click to the result. None if there are too few runs.

        Needs an NDB context. If Datastore does not answer, the last known value is used until the next query.
        """
        now = self._clock()
        asked_at, known = self._known.get(endpoint, (None, None))
        if asked_at is not None and now - asked_at < REMEMBERED:
            return known
        self._known[endpoint] = now, known  # other threads use the old value meanwhile
        try:
            runs = self._last_runs(endpoint, LAST_RUNS)
            known = median(runs) if len(runs) >= MIN_RUNS else None
        except STORE_ERRORS as exc:
            log.warning("the usual duration of %s could not be read: %s", endpoint, exc)
        self._known[endpoint] = now, known
        return known


def median(values: Sequence[float]) -> float:
    """Return the median. The module `statistics` has one too, but its import takes a millisecond."""
    ordered, middle = sorted(values), len(values) // 2
    return (ordered[middle] + ordered[~middle]) / 2
