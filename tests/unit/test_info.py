"""The info of a task and its progress."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gaetk_longtask.info import Phase, Progress
from tests.unit.conftest import ID, info_of


def test_the_url_of_a_task_is_that_of_its_page() -> None:
    assert info_of().url == f"https://www.example.com/report?_longtaskjob=query&_longtaskid={ID}"


@pytest.mark.parametrize(
    ("step", "total_steps", "percent"),
    [(0, 0, None), (5, 0, None), (0, 3, 0), (1, 3, 33), (2.999, 3, 99), (3, 3, 100), (4, 3, 100), (-1, 3, 0)],
)
def test_percents_are_whole_and_unknown_without_a_total(step: float, total_steps: float, percent: int | None) -> None:
    assert Progress(step=step, total_steps=total_steps).percent == percent


def test_what_outlives_an_attempt_is_all_but_the_estimate() -> None:
    progress = Progress(message="Reading", step=2, total_steps=3, eta_seconds=12)
    assert Progress.from_stored(progress.stored()) == Progress(message="Reading", step=2, total_steps=3)


def test_phase_share_and_facts_outlive_an_attempt() -> None:
    phase = Phase(name="Storing", number=2, count=3)
    progress = Progress(message="Storing", phase=phase, share=0.5, facts={"imported": 120, "file": "a.csv"})
    assert Progress.from_stored(json.loads(json.dumps(progress.stored()))) == progress


@pytest.mark.parametrize(("share", "percent"), [(0, 0), (0.29, 29), (0.999, 99), (1 - 1e-12, 99), (1, 100)])
def test_with_phases_the_percentage_is_that_of_the_whole_task(share: float, percent: int) -> None:
    assert Progress(step=1, total_steps=2, share=share).percent == percent


@pytest.mark.parametrize("stored", [None, {}])
def test_nothing_stored_is_no_progress(stored: dict[str, Any] | None) -> None:
    assert Progress.from_stored(stored) == Progress()


def test_percents_are_exact_for_every_step_of_every_small_total() -> None:
    for total in range(1, 1001):
        steps = range(total + 1)
        shown = [Progress(step=step, total_steps=total).percent for step in steps]
        assert shown == [100 * step // total for step in steps], total


@pytest.mark.parametrize(
    ("step", "total", "percent"),
    [
        (0.29, 1, 29),
        (2.9, 10, 29),
        (0.57, 1.0, 57),
        (10**15 - 1, 10**15, 99),
        (1 - 1e-12, 1, 99),
        (10**400, 10**401, 10),
        (-5, 10, 0),
        (11, 10, 100),
        (10, 10, 100),
    ],
)
def test_a_hundred_percent_is_only_the_end(step: float, total: float, percent: int) -> None:
    assert Progress(step=step, total_steps=total).percent == percent
