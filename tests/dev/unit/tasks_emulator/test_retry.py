"""When the Cloud Tasks emulator retries a failed attempt, and when it gives up."""

from __future__ import annotations

from datetime import timedelta

import pytest
from google.cloud.tasks_v2 import types
from hypothesis import given
from hypothesis import strategies as st

from gaetk_longtask.dev.tasks_emulator.retry import UNLIMITED_ATTEMPTS, RetrySchedule

RetryConfig = types.RetryConfig.pb()


def schedule(**changes) -> RetrySchedule:
    values = {
        "max_attempts": 5,
        "max_duration": timedelta(0),
        "min_backoff": timedelta(seconds=10),
        "max_backoff": timedelta(seconds=300),
        "max_doublings": 3,
    }
    return RetrySchedule(**values | changes)


def seconds(schedule: RetrySchedule, attempts: int) -> list[float]:
    return [schedule.delay(attempt).total_seconds() for attempt in range(1, attempts + 1)]


def test_the_back_off_is_that_of_the_documentations_example():
    assert seconds(schedule(), 8) == [10, 20, 40, 80, 160, 240, 300, 300]


def test_without_doublings_the_back_off_grows_by_the_same_step():
    linear = schedule(max_doublings=0, max_backoff=timedelta(seconds=35))

    assert seconds(linear, 5) == [10, 20, 30, 35, 35]


def test_a_back_off_of_nothing_stays_nothing():
    assert seconds(schedule(min_backoff=timedelta(0)), 3) == [0, 0, 0]


@given(
    attempts=st.integers(1, 2**31),
    doublings=st.integers(0, 2**31),
    shortest=st.timedeltas(timedelta(0), timedelta(days=300_000)),
    longest=st.timedeltas(timedelta(0), timedelta(days=300_000)),
)
def test_no_setting_leads_to_a_delay_outside_of_its_limits_or_of_the_calendar(attempts, doublings, shortest, longest):
    delay = schedule(min_backoff=shortest, max_backoff=longest, max_doublings=doublings).delay(attempts)

    assert timedelta(0) <= delay <= min(longest, timedelta(days=60))


@pytest.mark.parametrize(("attempts", "exhausted"), [(4, False), (5, True), (6, True)])
def test_attempts_end_with_the_last_one_allowed(attempts, exhausted):
    assert schedule().is_exhausted(attempts, timedelta(0)) is exhausted


@pytest.mark.parametrize(
    ("attempts", "elapsed", "exhausted"),
    [(5, timedelta(seconds=59), False), (4, timedelta(seconds=60), False), (5, timedelta(seconds=60), True)],
)
def test_with_both_limits_attempts_go_on_until_both_are_reached(attempts, elapsed, exhausted):
    both = schedule(max_duration=timedelta(seconds=60))

    assert both.is_exhausted(attempts, elapsed) is exhausted


def test_with_a_time_limit_alone_it_ends_the_attempts():
    timed = schedule(max_attempts=UNLIMITED_ATTEMPTS, max_duration=timedelta(seconds=60))

    assert not timed.is_exhausted(1000, timedelta(seconds=59))
    assert timed.is_exhausted(1, timedelta(seconds=60))


def test_without_limits_attempts_never_end():
    assert not schedule(max_attempts=UNLIMITED_ATTEMPTS).is_exhausted(10**9, timedelta(days=3650))


def test_a_tasks_own_configuration_wins_field_by_field():
    queue = RetryConfig(max_attempts=100, max_doublings=16)
    queue.min_backoff.FromSeconds(1)
    queue.max_backoff.FromSeconds(60)
    task = RetryConfig(max_attempts=3)
    task.max_backoff.FromSeconds(5)

    assert RetrySchedule.of(queue, task) == RetrySchedule(
        max_attempts=3,
        max_duration=timedelta(0),
        min_backoff=timedelta(seconds=1),
        max_backoff=timedelta(seconds=5),
        max_doublings=16,
    )
