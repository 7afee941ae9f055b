"""The phases of an attempt: the bar and the time left of the whole task."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaetk_longtask import LongTaskError, Status, TaskCancelled
from gaetk_longtask.info import Phase, Progress
from gaetk_longtask.ownership import Ownership
from gaetk_longtask.progress.phases import Phases
from gaetk_longtask.progress.reporter import Reporter
from gaetk_longtask.progress.time_left import TimeLeft
from gaetk_longtask.testing import InMemoryProgressStore, ManualClock
from tests.progress_traces import Shape, Trace, recorded
from tests.unit.conftest import snapshot_of

NAMES = ("Reading", "Checking", "Storing")
USUAL = {"Reading": 10.0, "Checking": 70.0, "Storing": 20.0}
SHARES = (0.25, 0.5, 0.75)


def make_reporter(
    clock: ManualClock,
    *,
    names: Sequence[str] = NAMES,
    usual: Mapping[str, float] | None = None,
    progress: Progress | None = None,
    pace: Mapping[str, Any] | None = None,
    complete: bool = True,
) -> Reporter:
    snapshot = snapshot_of(progress=progress or Progress(), beat_at=clock(), beat_seconds=0.5)
    phases = Phases(
        names,
        clock=clock,
        usual_seconds=lambda: usual or {},
        progress=progress,
        kept=pace["phases"] if pace else None,
        complete=complete,
    )
    return Reporter(
        snapshot,
        InMemoryProgressStore(),
        ownership=Ownership(lambda: None, renew_every=timedelta(minutes=1), clock=clock),
        time_left=TimeLeft(
            requested_at=clock(),
            clock=clock,
            monotonic=lambda: clock().timestamp(),
            phases=phases,
            pace=dict(pace) if pace else None,
        ),
        stop_at=clock() + timedelta(hours=1),
        clock=clock,
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def make(clock: ManualClock) -> Callable[..., Reporter]:
    return partial(make_reporter, clock)


@pytest.fixture
def reporter(make: Callable[..., Reporter]) -> Reporter:
    reporter = make(usual=USUAL)
    reporter.beat()
    return reporter


def begin(reporter: Reporter, name: str) -> None:
    reporter.bar.begin_phase(reporter.phases.names.index(name) + 1)


def work(reporter: Reporter, clock: ManualClock, seconds: int, *, total: int = 0, first: int = 0) -> None:
    """Work for some seconds, one step a second if there is a total, and beat every second."""
    for second in range(seconds):
        if total:
            reporter.bar.report("Working", first + second, total)
        reporter.beat()
        clock.advance(timedelta(seconds=1))
    if total:
        reporter.bar.report("Working", first + seconds, total)
    reporter.beat()


def whole_run(reporter: Reporter, clock: ManualClock, seconds: Mapping[str, int]) -> None:
    for name, lasts in seconds.items():
        begin(reporter, name)
        work(reporter, clock, lasts, total=lasts)


# Which phase it is.


def test_before_the_first_phase_there_is_none_and_nothing_is_done(reporter: Reporter) -> None:
    assert (reporter.progress.phase, reporter.progress.percent) == (None, 0)


def test_a_phase_has_a_name_a_number_and_a_count(reporter: Reporter) -> None:
    begin(reporter, "Checking")
    assert reporter.progress.phase == Phase(name="Checking", number=2, count=3)


def test_steps_and_loops_count_within_the_phase(reporter: Reporter) -> None:
    begin(reporter, "Reading")
    list(reporter.bar.track(range(7), "Reading lines"))
    begin(reporter, "Checking")
    assert (reporter.progress.step, reporter.progress.total_steps) == (0, 0)
    next(iter(reporter.bar.track(range(4))))
    assert (reporter.progress.step, reporter.progress.total_steps) == (0, 4)


def test_a_phase_that_begins_within_a_loop_ends_the_loop_of_the_last_one(reporter: Reporter) -> None:
    begin(reporter, "Reading")
    kept = iter(reporter.bar.track(range(4)))
    next(kept)
    begin(reporter, "Checking")
    assert reporter.progress.total_steps == 0


def test_the_message_is_the_name_of_the_phase_until_the_work_says_something(reporter: Reporter) -> None:
    reporter.bar.report("Reading the file")
    begin(reporter, "Checking")
    assert reporter.progress.message == "Checking"


def test_a_phase_may_be_named_again_without_starting_over(reporter: Reporter) -> None:
    begin(reporter, "Checking")
    reporter.bar.report("Line 3", 3, 4)
    begin(reporter, "Checking")
    assert (reporter.progress.message, reporter.progress.step) == ("Line 3", 3)


def test_an_earlier_phase_is_refused_with_both_names(reporter: Reporter) -> None:
    begin(reporter, "Checking")
    with pytest.raises(LongTaskError, match=r"phase\('Reading'\) was called after phase\('Checking'\)"):
        begin(reporter, "Reading")
    assert reporter.progress.phase == Phase(name="Checking", number=2, count=3)


def test_a_new_attempt_may_begin_with_any_phase(make: Callable[..., Reporter]) -> None:
    last = Progress(message="Storing", phase=Phase(name="Storing", number=3, count=3), share=0.9)
    reporter = make(usual=USUAL, progress=last)
    reporter.beat()
    assert reporter.progress.percent == 80
    begin(reporter, "Reading")
    assert (reporter.progress.phase, reporter.progress.percent) == (Phase(name="Reading", number=1, count=3), 0)


@pytest.mark.parametrize("other", [("Reading", "Storing"), ("Loading", "Saving"), ()])
def test_a_phase_that_the_application_no_longer_has_is_forgotten(
    make: Callable[..., Reporter], other: tuple[str, ...]
) -> None:
    last = Progress(phase=Phase(name="Checking", number=2, count=3), share=0.5)
    assert make(names=other, progress=last).progress.phase is None


def test_the_next_phase_of_a_lost_attempt_ends_it(reporter: Reporter) -> None:
    reporter.ownership.lost = Status.CANCELLED
    with pytest.raises(TaskCancelled):
        begin(reporter, "Reading")


# The bar.


def test_phases_have_equal_shares_until_it_is_known_how_long_they_take(
    make: Callable[..., Reporter], clock: ManualClock
) -> None:
    reporter = make()
    shown = []
    for name in NAMES:
        begin(reporter, name)
        reporter.bar.report("Half of it", 1, 2)
        reporter.beat()
        shown.append(reporter.progress.percent)
    assert shown == [16, 50, 83]


def test_phases_have_the_shares_that_they_usually_take(reporter: Reporter) -> None:
    shown = []
    for name in NAMES:
        begin(reporter, name)
        shown.append(reporter.progress.percent)
        reporter.bar.report("Half of it", 1, 2)
        shown.append(reporter.progress.percent)
    assert shown == [0, 5, 10, 45, 80, 90]


def test_a_new_phase_is_as_long_as_the_others_are_on_average(make: Callable[..., Reporter]) -> None:
    reporter = make(usual={"Reading": 10.0, "Storing": 30.0})
    reporter.beat()
    begin(reporter, "Storing")
    assert reporter.progress.percent == 50


@pytest.mark.parametrize("usual", [{}, dict.fromkeys(NAMES, 0.0), {"Loading": 5.0}])
def test_times_that_say_nothing_make_equal_shares(make: Callable[..., Reporter], usual: dict[str, float]) -> None:
    reporter = make(usual=usual)
    reporter.beat()
    begin(reporter, "Storing")
    assert reporter.progress.percent == 66


def test_the_bar_is_not_full_before_the_task_has_ended(reporter: Reporter) -> None:
    begin(reporter, "Storing")
    reporter.bar.report("Done", 7, 7)
    assert reporter.progress.percent == 99


def test_what_is_usual_is_asked_once_and_not_by_the_works_own_thread(clock: ManualClock) -> None:
    asked = []
    phases = Phases(NAMES, clock=clock, usual_seconds=lambda: asked.append(1) or USUAL)
    time_left = TimeLeft(requested_at=clock(), clock=clock, phases=phases)
    time_left.update(0, 0, may_ask=False)
    assert asked == []
    for _ in range(3):
        time_left.update(0, 0)
    assert asked == [1]


def test_a_class_without_phases_asks_nothing(clock: ManualClock) -> None:
    asked = []
    phases = Phases(clock=clock, usual_seconds=lambda: asked.append(1) or {})
    TimeLeft(requested_at=clock(), clock=clock, phases=phases).update(1, 2)
    assert (asked, phases.share(0, 1, 2)) == ([], None)


ODD = st.sampled_from([0, 1, 3, 100, -5, 0.5, float("nan"), float("inf"), 10**400])
CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("phase"), st.integers(1, 4)),
        st.tuples(st.just("report"), ODD, ODD),
        st.tuples(st.just("track"), st.integers(0, 5), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.integers(0, 100)),
    )
)
TIMES = st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1e6))


@given(CALLS, TIMES)
def test_whatever_is_reported_the_percentage_never_goes_back_and_stays_below_100(
    calls: list[tuple[Any, ...]], usual: dict[str, float]
) -> None:
    clock = ManualClock()
    reporter = make_reporter(clock, names="abcd", usual=usual)
    shown = [0]

    def look() -> None:
        reporter.beat()
        percent, left = reporter.progress.percent, reporter.progress.eta_seconds
        assert percent is not None
        assert left is None or 0 < left < float("inf")
        shown.append(percent)

    for call in calls:
        match call:
            case "phase", number:
                if number >= reporter.phases.number:
                    reporter.bar.begin_phase(number)
            case "report", step, total:
                reporter.bar.report("Working", step, total)
            case "track", items, at_most:
                for done, _ in enumerate(reporter.bar.track(range(items))):
                    look()
                    if done == at_most:
                        break
            case _, seconds:
                clock.advance(timedelta(seconds=seconds))
        look()
    assert shown == sorted(shown)
    assert set(shown) <= set(range(100))


# What each phase has taken.


def test_a_run_measures_its_phases(reporter: Reporter, clock: ManualClock) -> None:
    clock.advance(timedelta(seconds=5))  # before the first phase
    whole_run(reporter, clock, {"Reading": 3, "Checking": 40, "Storing": 7})
    assert reporter.phases.measured() == {"Reading": 3, "Checking": 40, "Storing": 7}


def test_a_phase_that_was_left_out_has_taken_no_time(reporter: Reporter, clock: ManualClock) -> None:
    whole_run(reporter, clock, {"Reading": 3, "Storing": 7})
    assert reporter.phases.measured() == {"Reading": 3, "Checking": 0, "Storing": 7}


def test_an_attempt_without_phases_measures_nothing(make: Callable[..., Reporter], reporter: Reporter) -> None:
    assert reporter.phases.measured() is None
    assert make(names=()).phases.measured() is None


def test_an_attempt_that_repeats_only_a_part_measures_nothing(
    make: Callable[..., Reporter], clock: ManualClock
) -> None:
    reporter = make(complete=False)
    whole_run(reporter, clock, {"Storing": 7})
    assert reporter.phases.measured() is None


# A hand-over.


@pytest.fixture
def handed_over(make: Callable[..., Reporter], reporter: Reporter, clock: ManualClock) -> Reporter:
    """A reporter that continues where another one stopped: 30 of 70 steps into the second phase."""
    whole_run(reporter, clock, {"Reading": 10})
    begin(reporter, "Checking")
    work(reporter, clock, 30, total=70)
    stored = json.loads(json.dumps(reporter.stored()))
    clock.advance(timedelta(seconds=2))
    changed = dict.fromkeys(NAMES, 1.0)  # meanwhile
    return make(usual=changed, progress=Progress.from_stored(stored), pace=stored["pace"])


def test_the_next_attempt_continues_in_the_phase(handed_over: Reporter) -> None:
    handed_over.beat()
    begin(handed_over, "Checking")
    progress = handed_over.progress
    assert (progress.phase, progress.step, progress.percent) == (Phase(name="Checking", number=2, count=3), 30, 40)


def test_the_next_attempt_continues_the_time_left(handed_over: Reporter, clock: ManualClock) -> None:
    begin(handed_over, "Checking")
    work(handed_over, clock, 2, total=70, first=30)
    assert handed_over.progress.eta_seconds == pytest.approx(58, abs=6)


def test_the_bar_does_not_go_back_even_if_the_next_attempt_begins_with_the_first_phase(handed_over: Reporter) -> None:
    begin(handed_over, "Reading")
    handed_over.beat()
    assert handed_over.progress.percent == 40


def test_the_times_of_all_attempts_count(handed_over: Reporter, clock: ManualClock) -> None:
    begin(handed_over, "Checking")
    work(handed_over, clock, 40, total=70, first=30)
    whole_run(handed_over, clock, {"Storing": 20})
    assert handed_over.phases.measured() == {"Reading": 10, "Checking": 70, "Storing": 20}


# The time left.


def test_the_time_left_is_that_of_the_phase_and_of_the_rest(reporter: Reporter, clock: ManualClock) -> None:
    whole_run(reporter, clock, {"Reading": 10})
    begin(reporter, "Checking")
    work(reporter, clock, 35, total=70)
    assert reporter.progress.eta_seconds == pytest.approx(35 + 20, abs=1)


def test_the_rest_is_scaled_if_this_run_takes_longer_than_usual(reporter: Reporter, clock: ManualClock) -> None:
    whole_run(reporter, clock, {"Reading": 20})
    begin(reporter, "Checking")
    work(reporter, clock, 70, total=140)
    assert reporter.progress.eta_seconds == pytest.approx(70 + 40, rel=0.05)


def test_a_phase_without_steps_takes_what_it_usually_takes(reporter: Reporter, clock: ManualClock) -> None:
    whole_run(reporter, clock, {"Reading": 10})
    begin(reporter, "Checking")
    work(reporter, clock, 30)
    assert reporter.progress.eta_seconds == pytest.approx(40 + 20, abs=1)


def test_a_phase_that_takes_longer_than_usual_leaves_the_rest(reporter: Reporter, clock: ManualClock) -> None:
    begin(reporter, "Checking")
    work(reporter, clock, 140)
    assert reporter.progress.eta_seconds == pytest.approx(40, rel=0.1)


def test_after_the_usual_time_of_the_last_phase_there_is_no_estimate(reporter: Reporter, clock: ManualClock) -> None:
    begin(reporter, "Storing")
    work(reporter, clock, 60)
    assert reporter.progress.eta_seconds is None


def test_without_earlier_runs_only_the_last_phase_has_an_estimate(
    make: Callable[..., Reporter], clock: ManualClock
) -> None:
    reporter = make()
    begin(reporter, "Checking")
    work(reporter, clock, 30, total=60)
    assert reporter.progress.eta_seconds is None
    begin(reporter, "Storing")
    work(reporter, clock, 30, total=60)
    assert reporter.progress.eta_seconds == pytest.approx(30, abs=1)


def test_in_a_stall_there_is_no_estimate(reporter: Reporter, clock: ManualClock) -> None:
    begin(reporter, "Checking")
    work(reporter, clock, 30, total=70)
    clock.advance(timedelta(seconds=11))
    reporter.beat()
    assert reporter.progress.eta_seconds is None


def test_the_pace_of_the_last_phase_does_not_count(reporter: Reporter, clock: ManualClock) -> None:
    begin(reporter, "Reading")
    work(reporter, clock, 60, total=60)
    begin(reporter, "Checking")
    for step in range(0, 210, 10):  # of the same total, and never back
        reporter.bar.report("Checking", 60 + step, 460)
        reporter.beat()
        clock.advance(timedelta(seconds=1))
    assert reporter.progress.eta_seconds is not None
    assert 20 < reporter.progress.eta_seconds < 20 + 6 * 20


# Accuracy on the recorded progress of real jobs.


def left_in(trace: Trace) -> list[float | None]:
    return [left for left, _ in trace.in_phases(trace.earlier_runs())]


@pytest.mark.parametrize("share", SHARES)
def test_after_three_runs_the_median_error_is_below_20_percent(share: float) -> None:
    errors = [trace.median_error(left_in(trace), share) for trace in recorded(Shape.PHASED)]
    assert None not in errors
    assert median(each for each in errors if each is not None) < 0.2


@pytest.mark.parametrize("trace", recorded(Shape.PHASED), ids=lambda trace: trace.name)
@pytest.mark.parametrize("share", SHARES)
def test_it_is_nowhere_worse_than_tqdm_nor_than_without_phases(trace: Trace, share: float) -> None:
    ours, tqdms = trace.median_error(left_in(trace), share), trace.median_error(trace.tqdms(), share)
    before = trace.median_error(trace.ours(), share)
    assert ours is not None
    assert tqdms is not None
    assert before is not None
    assert ours < min(tqdms, before)


@pytest.mark.parametrize("factor", [0.5, 2])
@pytest.mark.parametrize("trace", recorded(Shape.PHASED), ids=lambda trace: trace.name)
def test_a_run_of_another_size_is_estimated_as_well(trace: Trace, factor: float) -> None:
    runs = [[seconds * factor for seconds in run] for run in trace.earlier_runs()]
    left = [each for each, _ in trace.in_phases(runs)]
    errors = [trace.median_error(left, share) for share in SHARES]
    assert all(error is not None and error < 0.3 for error in errors), errors


@pytest.mark.parametrize("trace", recorded(Shape.PHASED), ids=lambda trace: trace.name)
def test_there_is_nearly_always_an_answer_and_it_rarely_jumps(trace: Trace) -> None:
    left = left_in(trace)[len(trace.beats()) // 4 : -2]
    assert left.count(None) < 0.05 * len(left)
    known = [each for each in left if each is not None]
    jumps = [abs(after - max(before - 0.5, 0)) / max(before, 10) for before, after in pairwise(known)]
    assert sum(jump > 0.1 for jump in jumps) < 0.05 * len(jumps)


@pytest.mark.parametrize("trace", recorded(Shape.PHASED), ids=lambda trace: trace.name)
def test_the_bar_is_about_where_the_time_is(trace: Trace) -> None:
    shares = [share for _, share in trace.in_phases(trace.earlier_runs())]
    assert shares == sorted(shares)
    off = [abs(share - beat.at / trace.seconds) for share, beat in zip(shares, trace.beats(), strict=True)]
    assert max(off) < 0.15
