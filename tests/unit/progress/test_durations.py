"""The usual duration of tasks, and how often it is determined."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from google.api_core.exceptions import ServiceUnavailable

from gaetk_longtask.progress.durations import LAST_RUNS, REMEMBERED, Durations
from gaetk_longtask.testing import ManualClock


class Runs:
    """Returns durations like Datastore, and records the queries."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = list(seconds)
        self.asked: list[tuple[str, int]] = []
        self.error: Exception | None = None

    def __call__(self, endpoint: str, limit: int) -> Sequence[float]:
        self.asked.append((endpoint, limit))
        if self.error is not None:
            raise self.error
        return self.seconds


@pytest.mark.parametrize(
    ("seconds", "usual"),
    [([], None), ([40.0, 41.0], None), ([40.0, 300.0, 42.0], 42.0), ([1.0, 2.0, 3.0, 10.0], 2.5)],
)
def test_three_runs_are_enough_for_a_usual_duration(
    seconds: list[float], usual: float | None, clock: ManualClock
) -> None:
    assert Durations(Runs(*seconds), clock).typical_seconds("report") == usual


def test_each_endpoint_is_queried_once_in_ten_minutes(clock: ManualClock) -> None:
    runs = Runs(1, 2, 3)
    durations = Durations(runs, clock)
    for endpoint in ("report", "other", "report"):
        assert durations.typical_seconds(endpoint) == 2
    assert runs.asked == [("report", LAST_RUNS), ("other", LAST_RUNS)]
    clock.advance(REMEMBERED)
    durations.typical_seconds("report")
    assert len(runs.asked) == 3


def test_the_last_answer_stands_while_datastore_does_not_answer(clock: ManualClock) -> None:
    runs = Runs(1, 2, 3)
    durations = Durations(runs, clock)
    durations.typical_seconds("report")
    runs.error = ServiceUnavailable("down")
    clock.advance(REMEMBERED + timedelta(seconds=1))
    assert [durations.typical_seconds("report") for _ in range(2)] == [2, 2]
    assert len(runs.asked) == 2


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
