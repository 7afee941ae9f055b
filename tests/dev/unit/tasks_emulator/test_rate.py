"""The dispatch rate of a queue in the Cloud Tasks emulator."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaetk_longtask.dev.tasks_emulator.rate import TokenBucket

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def taken(bucket: TokenBucket, now: datetime, wanted: int = 1000) -> int:
    return sum(bucket.take(now) for _ in range(wanted))


def dispatches(bucket: TokenBucket, during: timedelta) -> list[float]:
    """Take every token as soon as it is available, and return the times in seconds."""
    now, moments = NOW, []
    while (now := max(now, bucket.ready_at(now))) <= NOW + during:
        assert bucket.take(now), "the bucket said that it would be ready"
        moments.append((now - NOW).total_seconds())
    return moments


def test_a_new_queue_dispatches_a_bucket_full_at_once():
    bucket = TokenBucket(rate=1, burst=5, now=NOW)

    assert taken(bucket, NOW) == 5


def test_an_emptied_bucket_fills_with_the_rate():
    bucket = TokenBucket(rate=10, burst=5, now=NOW)
    taken(bucket, NOW)

    assert taken(bucket, NOW + timedelta(milliseconds=350)) == 3


def test_a_bucket_never_holds_more_than_its_size():
    bucket = TokenBucket(rate=10, burst=5, now=NOW)

    assert taken(bucket, NOW + timedelta(hours=1)) == 5


@pytest.mark.parametrize("rate", [0.1, 0.5, 1, 3, 499.5])
def test_a_rate_is_kept_down_to_fractions_of_a_dispatch_a_second(rate):
    during = timedelta(seconds=20.5 / rate)

    moments = dispatches(TokenBucket(rate=rate, burst=1, now=NOW), during)

    assert len(moments) == 20 + 1
    assert moments[1] - moments[0] == pytest.approx(1 / rate, rel=0.01)


def test_a_clock_that_is_set_back_costs_no_tokens():
    bucket = TokenBucket(rate=1, burst=2, now=NOW)

    assert taken(bucket, NOW - timedelta(days=1)) == 2


def test_a_smaller_bucket_loses_what_no_longer_fits():
    bucket = TokenBucket(rate=1, burst=100, now=NOW)
    bucket.configure(rate=1, burst=3, now=NOW)

    assert taken(bucket, NOW) == 3


def test_overload_empties_the_bucket_and_halves_the_rate():
    bucket = TokenBucket(rate=10, burst=5, now=NOW)
    bucket.throttle(NOW)

    assert taken(bucket, NOW) == 0
    assert bucket.ready_at(NOW) - NOW == pytest.approx(timedelta(seconds=0.2), abs=timedelta(milliseconds=1))


def test_continued_overload_leaves_a_tenth_of_a_dispatch_a_second():
    bucket = TokenBucket(rate=500, burst=100, now=NOW)
    for _ in range(100):
        bucket.throttle(NOW)

    assert bucket.ready_at(NOW) - NOW == pytest.approx(timedelta(seconds=10), abs=timedelta(milliseconds=1))


def test_a_rate_below_that_is_not_throttled():
    bucket = TokenBucket(rate=0.01, burst=1, now=NOW)
    bucket.throttle(NOW)

    assert bucket.ready_at(NOW) - NOW == pytest.approx(timedelta(seconds=100), abs=timedelta(seconds=1))


def test_the_rate_recovers_from_overload():
    bucket = TokenBucket(rate=10, burst=1, now=NOW)
    bucket.throttle(NOW)
    later = NOW + timedelta(seconds=10)
    taken(bucket, later)

    assert bucket.ready_at(later) - later == pytest.approx(timedelta(seconds=0.1), abs=timedelta(milliseconds=1))


@given(
    rate=st.floats(min_value=1e-300, max_value=500, exclude_min=True),
    burst=st.integers(1, 500),
    steps=st.lists(st.tuples(st.sampled_from(["take", "throttle"]), st.timedeltas(timedelta(0), timedelta(days=40)))),
)
def test_whatever_happens_the_next_token_is_awaited_for_a_day_at_most(rate, burst, steps):
    now = NOW
    bucket = TokenBucket(rate=rate, burst=burst, now=now)
    for what, by in steps:
        now += by
        getattr(bucket, what)(now)

    assert now <= bucket.ready_at(now) <= now + timedelta(days=1)
