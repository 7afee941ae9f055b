"""The estimate of the time left, its steadiness and its accuracy."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from itertools import pairwise
from statistics import mean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaetk_longtask.progress.estimate import MIN_SECONDS, Estimator
from tests.progress_traces import BEAT_SECONDS, Shape, Trace, recorded

SHARES = (0.25, 0.5, 0.75)


def watch(
    estimator: Estimator, step_at: Callable[[float], float], seconds: tuple[float, float], *, total: float = 1000
) -> float | None:
    """Let the estimator see a job twice a second, and return its last answer."""
    begin, end = (round(2 * moment) for moment in seconds)
    for beat in range(begin, end + 1):
        estimator.update(step_at(beat / 2), total, beat / 2)
    return estimator.seconds_left(end / 2)


def ten_a_second(at: float) -> float:
    return 10 * at


@pytest.fixture
def estimator() -> Estimator:
    return Estimator()


# The answers


def test_there_is_no_answer_without_samples(estimator: Estimator) -> None:
    assert estimator.seconds_left(0) is None


def test_even_progress_gets_the_exact_answer(estimator: Estimator) -> None:
    assert watch(estimator, ten_a_second, (0, 40)) == pytest.approx(60)


@pytest.mark.parametrize("seconds", [0, 1, 2.5, 4.5])
def test_there_is_no_answer_in_the_first_seconds(estimator: Estimator, seconds: float) -> None:
    assert seconds < MIN_SECONDS
    assert watch(estimator, ten_a_second, (0, seconds)) is None


def test_there_is_an_answer_after_the_first_seconds(estimator: Estimator) -> None:
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
def test_there_is_no_answer_without_a_total(estimator: Estimator, total: float) -> None:
    assert watch(estimator, ten_a_second, (0, 40), total=total) is None


@pytest.mark.parametrize("step", [-1, float("nan"), float("inf"), 10**400])
def test_an_impossible_step_takes_the_answer_back(estimator: Estimator, step: float) -> None:
    watch(estimator, ten_a_second, (0, 40))
    estimator.update(step, 1000, 41)
    assert estimator.seconds_left(41) is None


@pytest.mark.parametrize("total", [400, 390])
def test_there_is_no_answer_if_all_steps_are_done_but_the_work_is_not(estimator: Estimator, total: float) -> None:
    assert watch(estimator, ten_a_second, (0, 40), total=total) is None


def test_steps_may_be_fractions(estimator: Estimator) -> None:
    assert watch(estimator, lambda at: at / 100, (0, 40), total=1) == pytest.approx(60)


def test_two_samples_at_the_same_moment_do_no_harm(estimator: Estimator) -> None:
    watch(estimator, ten_a_second, (0, 40))
    estimator.update(402, 1000, 40)
    assert estimator.seconds_left(40) == pytest.approx(60, abs=1)


# Starting over


def test_steps_of_earlier_attempts_do_not_count(estimator: Estimator) -> None:
    assert watch(estimator, lambda at: 500 + ten_a_second(at), (0, 10)) == pytest.approx(40)


def test_another_total_starts_over(estimator: Estimator) -> None:
    watch(estimator, ten_a_second, (0, 40))
    assert watch(estimator, ten_a_second, (40.5, 45), total=2000) is None
    assert watch(estimator, ten_a_second, (45.5, 50), total=2000) == pytest.approx(150)


def test_steps_that_go_back_start_over(estimator: Estimator) -> None:
    watch(estimator, ten_a_second, (0, 40))
    assert watch(estimator, lambda at: at - 40, (40.5, 45)) is None
    assert watch(estimator, lambda at: at - 40, (45.5, 60)) == pytest.approx(980)


def test_there_is_no_answer_after_the_total_is_lost(estimator: Estimator) -> None:
    watch(estimator, ten_a_second, (0, 40))
    assert watch(estimator, ten_a_second, (40.5, 50), total=0) is None


# Changes of pace


def test_a_clear_change_of_pace_is_followed_within_seconds(estimator: Estimator) -> None:
    def slower_after_a_minute(at: float) -> float:
        return 10 * min(at, 60) + max(at - 60, 0)

    before = watch(estimator, slower_after_a_minute, (0, 60), total=640)
    after = watch(estimator, slower_after_a_minute, (60.5, 80), total=640)
    assert before == pytest.approx(4)
    assert after == pytest.approx(20)


def test_a_short_spurt_promises_little(estimator: Estimator) -> None:
    def faster_for_six_seconds(at: float) -> float:
        return min(at, 60) + 10 * max(at - 60, 0)

    watch(estimator, faster_for_six_seconds, (0, 60))
    left = watch(estimator, faster_for_six_seconds, (60.5, 66))
    at_the_spurts_pace, at_the_average_pace = (1000 - 120) / 10, (1000 - 120) / (120 / 66)
    assert left is not None
    assert 3 * at_the_spurts_pace < left < at_the_average_pace


def test_there_is_no_answer_in_a_stall(estimator: Estimator) -> None:
    watch(estimator, ten_a_second, (0, 40))
    assert estimator.seconds_left(49) is not None
    assert estimator.seconds_left(51) is None


def test_a_stall_does_not_affect_later_answers(estimator: Estimator) -> None:
    def stuck_for_two_minutes(at: float) -> float:
        return 10 * min(at, 40) + 10 * max(at - 160, 0)

    watch(estimator, stuck_for_two_minutes, (0, 160))
    assert watch(estimator, stuck_for_two_minutes, (160.5, 190), total=1000) == pytest.approx(30, rel=0.05)


def test_one_stall_does_not_make_the_next_one_usual(estimator: Estimator) -> None:
    def stuck_twice_for_a_minute(at: float) -> float:
        return 10 * (min(at, 40) + min(max(at - 100, 0), 20) + max(at - 180, 0))

    watch(estimator, stuck_twice_for_a_minute, (0, 129))
    assert estimator.seconds_left(129) is not None
    assert estimator.seconds_left(131) is None


def eight_seconds_of_work_in_twenty(at: float) -> float:
    return 10 * (8 * (at // 20) + min(at % 20, 8))


def test_recurring_pauses_are_no_stalls(estimator: Estimator) -> None:
    for begin in range(0, 200, 20):
        watch(estimator, eight_seconds_of_work_in_twenty, (begin, begin + 19.5))
    assert estimator.seconds_left(199.5) == pytest.approx(50, rel=0.2)


def test_recurring_pauses_are_no_stalls_for_a_resumed_estimator_either(estimator: Estimator) -> None:
    watch(estimator, eight_seconds_of_work_in_twenty, (0, 190))
    points, total = estimator.points(190)
    follower = Estimator()
    follower.resume(points, total, 190)
    assert follower.seconds_left(199.5) is not None


def test_a_reporter_that_looks_every_five_seconds_gets_the_same_answers() -> None:
    pairs = [
        (seldom, often)
        for trace in recorded(Shape.LINEAR)
        for beat, seldom, often in zip(trace.beats(5), trace.ours(5), trace.ours()[::10], strict=False)
        if beat.at > trace.seconds / 3
    ]
    assert len(pairs) > 10
    assert all(a is not None and b is not None and a == pytest.approx(b, rel=0.25, abs=5) for a, b in pairs)


# Accuracy on the recorded progress of real jobs


def shape_errors(shape: Shape, answers: Callable[[Trace], list[float | None]]) -> list[float]:
    """Return the median over all recordings of the median relative error, for each share of the duration."""
    errors = [[trace.median_error(answers(trace), share) for trace in recorded(shape)] for share in SHARES]
    return [median(each for each in column if each is not None) for column in errors]


@pytest.mark.parametrize("shape", [Shape.BURSTY, Shape.PHASED])
def test_it_is_more_accurate_than_tqdm(shape: Shape) -> None:
    ours, tqdms = shape_errors(shape, Trace.ours), shape_errors(shape, Trace.tqdms)
    assert all(a < b for a, b in zip(ours, tqdms, strict=True)), (ours, tqdms)


@pytest.mark.parametrize(
    ("shape", "limits"),
    [
        (Shape.LINEAR, (0.15, 0.15, 0.2)),
        (Shape.BURSTY, (0.1, 0.15, 0.25)),
        # Earlier steps do not show how long later ones will take.
        (Shape.SLOWING, (0.65, 0.4, 0.2)),
    ],
)
def test_it_is_about_right(shape: Shape, limits: tuple[float, float, float]) -> None:
    errors = shape_errors(shape, Trace.ours)
    assert all(error < limit for error, limit in zip(errors, limits, strict=True)), errors


def jumps(shape: Shape, answers: Callable[[Trace], list[float | None]]) -> list[float]:
    """Return the relative difference of each answer from the previous answer minus half a second.

    The first quarter of the job is left out. Answers below ten seconds count as ten seconds.
    """
    return [
        abs(after - max(before - BEAT_SECONDS, 0)) / max(before, 10)
        for trace in recorded(shape)
        for before, after in pairwise(answers(trace)[len(trace.beats()) // 4 :])
        if before is not None and after is not None
    ]


@pytest.mark.parametrize("shape", Shape)
def test_it_rarely_jumps(shape: Shape) -> None:
    ours = jumps(shape, Trace.ours)
    assert sum(jump > 0.1 for jump in ours) < 0.12 * len(ours)


@pytest.mark.parametrize("shape", Shape)
def test_it_is_steadier_than_tqdm(shape: Shape) -> None:
    assert mean(jumps(shape, Trace.ours)) < 0.5 * mean(jumps(shape, Trace.tqdms))


@pytest.mark.parametrize("shape", Shape)
def test_it_has_no_answer_only_during_and_just_after_a_stall(shape: Shape) -> None:
    for trace in recorded(shape):
        steps = [beat.step for beat in trace.beats()]
        for beat, left in enumerate(trace.ours()):
            if left is None and beat > len(steps) / 4:
                before = steps[beat - 30 : beat + 1]  # fifteen seconds
                assert any(a == b for a, b in zip(before, before[20:], strict=False)), (trace.name, beat)


def test_every_recording_is_of_a_whole_job() -> None:
    for shape in Shape:
        assert len(recorded(shape)) >= 3
        for trace in recorded(shape):
            assert 20 < trace.seconds < 120
            assert len(trace.samples) <= 4 * trace.seconds + 2
            assert trace.samples[-1].step == trace.total_steps
            assert all(a.at < b.at and a.step <= b.step for a, b in pairwise(trace.samples))


# Memory and odd input


def test_a_day_of_work_takes_little_memory(estimator: Estimator) -> None:
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
def test_for_any_reports_the_answer_is_a_time_or_none(said: list[tuple[float, float, float]], waited: int) -> None:
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
