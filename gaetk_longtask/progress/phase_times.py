"""How long the phases of an endpoint's tasks usually take: read and written at most once in ten minutes and process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.datastore.calls import UNCACHED
from gaetk_longtask.models import LongTaskPhases
from gaetk_longtask.progress.durations import REMEMBERED, median

log = logging.getLogger(__name__)

LAST_RUNS = 10  #: how many of the last runs are used
_OPTIONS: dict[str, Any] = {"retries": 0, "timeout": 2.0}  #: the end of a task, or the queue, may wait for these calls

Runs = Mapping[str, list[float]]  #: the seconds that each phase took in the last runs, the latest last


class PhaseTimes:
    """The phases of the last successful runs, by endpoint. Its methods never raise Datastore's errors."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        """Create an empty cache."""
        self._clock = clock
        self._stored: dict[str, Runs] = {}
        self._read_at: dict[str, datetime] = {}
        self._written_at: dict[str, datetime] = {}
        self._unwritten: dict[str, Runs] = {}
        self._lock = threading.Lock()

    def usual_seconds(self, endpoint: str) -> dict[str, float]:
        """Return the median of each phase by name, also after a single run. Needs an NDB context."""
        if self._is_due(self._read_at, endpoint):
            try:
                self._stored[endpoint] = _read(endpoint)
            except STORE_ERRORS as exc:
                log.warning("the usual phases of %s could not be read: %s", endpoint, exc)
        stored, unwritten = self._stored.get(endpoint, {}), self._unwritten.get(endpoint)
        runs = _joined(stored, unwritten) if unwritten else stored
        return {name: median(seconds) for name, seconds in runs.items() if seconds}

    def add(self, endpoint: str, seconds: Mapping[str, float]) -> None:
        """Add a successful run. Needs an NDB context, outside of any transaction."""
        run = {name: [round(each, 3)] for name, each in seconds.items()}
        with self._lock:
            self._unwritten[endpoint] = _joined(self._unwritten.get(endpoint, {}), run)
            if not self._is_due(self._written_at, endpoint):
                return
            written = self._unwritten[endpoint]
        try:
            runs = _joined(_read(endpoint), written)
            LongTaskPhases(key=LongTaskPhases.key_of(endpoint), runs=runs).put(**UNCACHED, **_OPTIONS)
        except STORE_ERRORS as exc:  # ten minutes later, it is tried again with everything that is new by then
            log.warning("the phases of %s could not be stored: %s", endpoint, exc)
            return
        with self._lock:
            self._stored[endpoint], self._read_at[endpoint] = runs, self._clock()
            if self._unwritten[endpoint] is written:
                del self._unwritten[endpoint]

    def _is_due(self, times: dict[str, datetime], endpoint: str) -> bool:
        """Return whether the last time is ten minutes ago, and store the present time if so."""
        now, last = self._clock(), times.get(endpoint)
        if last is not None and now - last < REMEMBERED:
            return False
        times[endpoint] = now
        return True


def _read(endpoint: str) -> Runs:
    entity = LongTaskPhases.load(endpoint, **_OPTIONS)
    return entity.runs if entity is not None and isinstance(entity.runs, dict) else {}


def _joined(earlier: Runs, later: Runs) -> Runs:
    """Return the last runs of the phases that the later runs have; the application may have changed its phases."""
    return {name: [*earlier.get(name, []), *seconds][-LAST_RUNS:] for name, seconds in later.items()}
