"""The time left, and how steady and how right it is."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterable
from functools import cache
from itertools import pairwise
from statistics import mean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaetk_longtask.estimate import MIN_SECONDS, Estimator, typical_seconds
from tests.progress_traces import KINDS, Trace, answers, traces

SHARES = (0.25, 0.5, 0.75)


def watch(
    estimator: Estimator, step_at: Callable[[float], float], seconds: tuple[float, float], *, total: float = 1000
) -> float | None:
    """Let the estimator look twice a second at a job, and give the last answer."""
    begin, end = (round(2 * moment) for moment in seconds)
    for beat in range(begin, end + 1):
        estimator.update(step_at(beat / 2), total, beat / 2)
    return estimator.seconds_left(end / 2)


def ten_a_second(at: float) -> float:
    return 10 * at


@pytest.fixture
def estimator() -> Estimator:
    return Estimator()


# What is said


def test_nothing_is_said_before_anything_was_seen(estimator: Estimator) -> None:
    assert estimator.seconds_left(0) is None


def test_even_progress_gets_the_exact_answer(estimator: Estimator) -> None:
    assert watch(estimator, ten_a_second, (0, 40)) == pytest.approx(60)


@pytest.mark.parametrize("seconds", [0, 1, 2.5, 4.5])
def test_nothing_is_said_in_the_first_seconds(estimator: Estimator, seconds: float) -> None:
    assert seconds < MIN_SECONDS
    assert watch(estimator, ten_a_second, (0, seconds)) is None


def test_something_is_said_after_the_first_seconds(estimator: Estimator) -> None:
    assert watch(estimator, ten_a_second, (0, 5)) == pytest.approx(95)


def test_large_steps_get_an_answer_once_three_have_been_done(estimator: Estimator) -> None:
    def a_step_in_half_a_minute(at: float) -> float:
        return at // 30

    assert watch(estimator, a_step_in_half_a_minute, (0, 89.5), total=10) is None
    assert watch(estimator, a_step_in_half_a_minute, (90, 90), total=10) == pytest.approx(210)


def test_the_time_left_counts_down_while_a_step_takes_its_usual_time(estimator: Estimator) -> None:
    watch(estimator, lambda at: at // 30, (0, 90), total=10)
    assert [estimator.seconds_left(90 + waited) for waited in (10, 20, 30)] == pytest.approx([200, 190, 180])


def test_the_time_left_no_longer_counts_down_once_a_step_is_late(estimator: Estimator) -> None:
    watch(estimator, lambda at: at // 30, (0, 90), total=10)
    assert [estimator.seconds_left(moment) for moment in (125, 150)] == pytest.approx([180, 180])


@pytest.mark.parametrize("total", [0, -1, float("nan"), float("inf"), 10**400])
def test_nothing_is_said_without_a_total(estimator: Estimator, total: float) -> None:
    assert watch(estimator, ten_a_second, (0, 40), total=total) is None


@pytest.mark.parametrize("step", [-1, float("nan"), float("inf"), 10**400])
def test_an_impossible_step_takes_the_answer_back(estimator: Estimator, step: float) -> None:
    watch(estimator, ten_a_second, (0, 40))
    estimator.update(step, 1000, 41)
    assert estimator.seconds_left(41) is None


@pytest.mark.parametrize("total", [400, 390])
def test_nothing_is_said_when_all_steps_are_done_and_the_work_is_not(estimator: Estimator, total: float) -> None:
    assert watch(estimator, ten_a_second, (0, 40), total=total) is None


def test_steps_may_be_fractions(estimator: Estimator) -> None:
    assert watch(estimator, lambda at: at / 100, (0, 40), total=1) == pytest.approx(60)


def test_two_looks_at_the_same_moment_do_no_harm(estimator: Estimator) -> None:
    watch(estimator, ten_a_second, (0, 40))
    estimator.update(402, 1000, 40)
    assert estimator.seconds_left(40) == pytest.approx(60, abs=1)


# When it starts anew


def test_what_an_earlier_attempt_did_does_not_count(estimator: Estimator) -> None:
    assert watch(estimator, lambda at: 500 + ten_a_second(at), (0, 10)) == pytest.approx(40)


def test_another_total_starts_anew(estimator: Estimator) -> None:
    watch(estimator, ten_a_second, (0, 40))
    assert watch(estimator, ten_a_second, (40.5, 45), total=2000) is None
    assert watch(estimator, ten_a_second, (45.5, 50), total=2000) == pytest.approx(150)


def test_steps_that_go_back_start_anew(estimator: Estimator) -> None:
    watch(estimator, ten_a_second, (0, 40))
    assert watch(estimator, lambda at: at - 40, (40.5, 45)) is None
    assert watch(estimator, lambda at: at - 40, (45.5, 60)) == pytest.approx(980)


def test_a_total_that_gets_lost_takes_the_answer_back(estimator: Estimator) -> None:
    watch(estimator, ten_a_second, (0, 40))
    assert watch(estimator, ten_a_second, (40.5, 50), total=0) is None


# How it follows


def test_a_clear_change_of_pace_is_followed_within_seconds(estimator: Estimator) -> None:
    def slower_after_a_minute(at: float) -> float:
        return 10 * min(at, 60) + max(at - 60, 0)

    before = watch(estimator, slower_after_a_minute, (0, 60), total=640)
    after = watch(estimator, slower_after_a_minute, (60.5, 75), total=640)
    assert before == pytest.approx(4)
    assert after == pytest.approx(25)


def test_a_short_spurt_promises_little(estimator: Estimator) -> None:
    def faster_for_six_seconds(at: float) -> float:
        return min(at, 60) + 10 * max(at - 60, 0)

    watch(estimator, faster_for_six_seconds, (0, 60))
    left = watch(estimator, faster_for_six_seconds, (60.5, 66))
    at_the_spurts_pace, at_the_average_pace = (1000 - 120) / 10, (1000 - 120) / (120 / 66)
    assert left is not None
    assert 3 * at_the_spurts_pace < left < at_the_average_pace


def test_a_stall_takes_the_answer_back(estimator: Estimator) -> None:
    watch(estimator, ten_a_second, (0, 40))
    assert estimator.seconds_left(49) is not None
    assert estimator.seconds_left(51) is None


def test_a_stall_does_not_slow_down_what_comes_after(estimator: Estimator) -> None:
    def stuck_for_two_minutes(at: float) -> float:
        return 10 * min(at, 40) + 10 * max(at - 160, 0)

    watch(estimator, stuck_for_two_minutes, (0, 160))
    assert watch(estimator, stuck_for_two_minutes, (160.5, 190), total=1000) == pytest.approx(30, rel=0.05)


def test_pauses_that_come_again_are_no_stalls(estimator: Estimator) -> None:
    def eight_seconds_of_work_in_twenty(at: float) -> float:
        return 10 * (8 * (at // 20) + min(at % 20, 8))

    for begin in range(0, 200, 20):
        watch(estimator, eight_seconds_of_work_in_twenty, (begin, begin + 19.5))
    assert estimator.seconds_left(199.5) == pytest.approx(50, rel=0.2)


def test_a_reporter_that_looks_every_five_seconds_gets_the_same_answers() -> None:
    [trace] = traces("linear", 1)
    often, seldom = Estimator(), Estimator()
    pairs = []
    for at, step in trace.beats():
        often.update(step, trace.total, at)
        if at % 5 == 0:
            seldom.update(step, trace.total, at)
            if at > 0.1 * trace.seconds:
                pairs.append((seldom.seconds_left(at), often.seconds_left(at)))
    assert len(pairs) > 20
    assert all(a is not None and b is not None and a == pytest.approx(b, rel=0.25, abs=5) for a, b in pairs)


# How good it is on progress as jobs make it


class Ours:
    """The estimate, as the reporter makes it."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._estimator = Estimator()

    def step_done(self, step: int, at: float) -> None:
        """It only sees what the reporter sees."""

    def beat(self, step: int, at: float) -> None:
        self._estimator.update(step, self._total, at)

    def seconds_left(self, at: float) -> float | None:
        return self._estimator.seconds_left(at)


class Smoothed:
    """What bars in a terminal do by default: average the last refreshes, the latest by 0.3, at most ten a second."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._step = 0
        self._refreshed = (0, 0.0)
        self._steps = self._seconds = 0.0

    def step_done(self, step: int, at: float) -> None:
        steps, seconds = step - self._refreshed[0], at - self._refreshed[1]
        if seconds >= 0.1:
            self._steps += 0.3 * (steps - self._steps)
            self._seconds += 0.3 * (seconds - self._seconds)
            self._refreshed = (step, at)

    def beat(self, step: int, at: float) -> None:
        self._step = step

    def seconds_left(self, at: float) -> float | None:
        return (self._total - self._step) * self._seconds / self._steps if self._steps else None


def median_errors(guesser: type[Ours | Smoothed], some: Iterable[Trace]) -> list[float]:
    """Per share of the steps, the median over the traces of the median error in parts of the time left."""
    all_answers = [answers(trace, guesser(trace.total), SHARES) for trace in some]
    return [median(median(one[share].errors) for one in all_answers if one[share].errors) for share in SHARES]


@pytest.mark.parametrize("kind", ["bursty", "phased", "recurring phases", "stalled"])
def test_it_is_closer_than_an_average_over_the_last_moments(kind: str) -> None:
    some = traces(kind, 21)
    ours, smoothed = median_errors(Ours, some), median_errors(Smoothed, some)
    assert all(a < b for a, b in zip(ours, smoothed, strict=True)), (ours, smoothed)


@pytest.mark.parametrize(
    ("kind", "limits"),
    [
        ("linear", (0.1, 0.1, 0.15)),
        ("bursty", (0.25, 0.25, 0.25)),
        ("recurring phases", (0.3, 0.3, 0.3)),
        # What later steps will take is nothing that the earlier ones tell.
        ("slowing down", (0.65, 0.5, 0.3)),
        ("coarse", (0.4, 0.4, 0.4)),
    ],
)
def test_it_is_about_right(kind: str, limits: tuple[float, float, float]) -> None:
    errors = median_errors(Ours, traces(kind, 9))
    assert all(error < limit for error, limit in zip(errors, limits, strict=True)), errors


@cache  # several tests look at the same answers, which are the slow part
def heard(guesser: type[Ours | Smoothed], trace: Trace) -> list[float | None]:
    """All that is said from the first quarter of the steps on."""
    guessing = guesser(trace.total)
    seen, said = 0, []
    for at, step in trace.beats():
        for number in range(seen, step):
            guessing.step_done(number + 1, trace.done_at[number])
        seen = step
        guessing.beat(step, at)
        if step > trace.total / 4:
            said.append(guessing.seconds_left(at))
    return said


def jumps(guesser: type[Ours | Smoothed], some: Iterable[Trace]) -> list[float]:
    """By what part each answer differs from the one half a second before; seconds are not counted as parts."""
    return [
        abs(after - before) / max(before, 10)
        for trace in some
        for before, after in pairwise(heard(guesser, trace))
        if before is not None and after is not None
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_it_seldom_jumps(kind: str) -> None:
    ours = jumps(Ours, traces(kind, 3))
    assert sum(jump > 0.1 for jump in ours) < 0.08 * len(ours)


@pytest.mark.parametrize("kind", ["linear", "slowing down", "bursty", "phased", "recurring phases", "stalled"])
def test_it_is_several_times_steadier_than_an_average_over_the_last_moments(kind: str) -> None:
    some = traces(kind, 3)
    assert mean(jumps(Ours, some)) < 0.2 * mean(jumps(Smoothed, some))


@pytest.mark.parametrize("kind", KINDS)
def test_it_keeps_silent_in_a_stall_alone(kind: str) -> None:
    said = [left is not None for trace in traces(kind, 3) for left in heard(Ours, trace)]
    assert sum(said) > (0.75 if kind == "stalled" else 0.98) * len(said)


# What it costs and what it survives


def test_a_day_of_work_is_remembered_in_a_few_hundred_moments(estimator: Estimator) -> None:
    rng = random.Random(1)
    step = 0.0
    for second in range(0, 24 * 60 * 60, 10):
        step += rng.random()
        estimator.update(step, 1e6, second)
    assert len(pickle.dumps(estimator)) < 20_000


NUMBERS = st.one_of(st.floats(), st.integers(), st.integers(0, 100), st.floats(0, 100))


@given(
    st.lists(st.tuples(NUMBERS, st.one_of(st.just(100), NUMBERS), st.integers(0, 600).map(lambda n: n / 10))),
    st.integers(0, 10_000),
)
def test_whatever_the_work_says_the_answer_is_a_time_or_none(
    said: list[tuple[float, float, float]], waited: int
) -> None:
    estimator = Estimator()
    now = 0.0
    for step, total, later in said:
        now += later
        estimator.update(step, total, now)
        left = estimator.seconds_left(now + waited)
        assert left is None or 0 <= left < float("inf")


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 30)), min_size=5),
    st.sampled_from([100, 1e-300, 2**53]),
)
def test_uneven_progress_gets_a_time_or_none(said: list[tuple[float, float]], total: float) -> None:
    estimator = Estimator()
    now = step = 0.0
    for share, later in said:
        now += later
        step += (total - step) * share / 100
        estimator.update(step, total, now)
        left = estimator.seconds_left(now)
        assert left is None or 0 <= left < float("inf")


# Tasks without steps


@pytest.mark.parametrize(
    ("durations", "usual"),
    [([], None), ([40.0, 41.0], None), ([40.0, 300.0, 42.0], 42.0), ([1.0, 2.0, 3.0, 10.0], 2.5)],
)
def test_three_runs_make_something_usual(durations: list[float], usual: float | None) -> None:
    assert typical_seconds(durations) == usual
