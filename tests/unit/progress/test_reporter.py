"""The reports of an attempt, and how it notices that it has lost its task."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import grpc
import pytest
from google.api_core.exceptions import ServiceUnavailable
from google.cloud import ndb
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.local import LocalProxy

from gaetk_longtask import Status, TaskCancelled
from gaetk_longtask.info import Progress
from gaetk_longtask.ownership import Ownership
from gaetk_longtask.progress.reporter import Reporter
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.progress.stores import Written
from gaetk_longtask.progress.time_left import TimeLeft
from gaetk_longtask.testing import InMemoryProgressStore, ManualClock
from tests.unit.conftest import ID, snapshot_of

RENEW_EVERY = timedelta(seconds=60)


class Store:
    """The Datastore of a reporter. It counts lease renewals and returns the given status."""

    def __init__(self) -> None:
        self.renewals = 0
        self.status: Status | None = None
        self.errors: list[Exception] = []

    def renew(self) -> Status | None:
        self.renewals += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.status


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def news() -> InMemoryProgressStore:
    return InMemoryProgressStore()


@pytest.fixture
def store() -> Store:
    return Store()


def make_reporter(
    clock: ManualClock,
    news: InMemoryProgressStore,
    *,
    snapshot: Snapshot | None = None,
    renew: Callable[[], Status | None] = lambda: None,
    renew_every: timedelta = RENEW_EVERY,
    stop_after: timedelta = timedelta(minutes=10),
    **time_left: Any,
) -> Reporter:
    snapshot = snapshot or snapshot_of(beat_at=clock(), beat_seconds=0.5)
    return Reporter(
        snapshot,
        news,
        ownership=Ownership(renew, renew_every=renew_every, clock=clock),
        time_left=TimeLeft(
            requested_at=snapshot.info.requested_at, clock=clock, monotonic=lambda: clock().timestamp(), **time_left
        ),
        stop_at=clock() + stop_after,
        clock=clock,
    )


@pytest.fixture
def make(news: InMemoryProgressStore, store: Store, clock: ManualClock) -> Callable[..., Reporter]:
    return partial(make_reporter, clock, news, renew=store.renew)


@pytest.fixture
def reporter(make: Callable[..., Reporter]) -> Reporter:
    return make()


@pytest.fixture
def heard(reporter: Reporter, news: InMemoryProgressStore) -> Callable[[], Progress]:
    """A function that lets the reporter beat, and returns the published progress."""

    def heard() -> Progress:
        reporter.beat()
        snapshot = news.read(ID)
        assert snapshot is not None
        return snapshot.info.progress

    return heard


# Reports of the work.


def test_at_first_the_progress_is_that_of_the_task(make: Callable[..., Reporter]) -> None:
    progress = Progress(message="Starting", step=0, total_steps=7, initial=True)
    assert make(snapshot=snapshot_of(progress=progress)).progress == progress


@pytest.mark.parametrize(
    ("report", "initial"),
    [
        (lambda bar: bar.report("Starting"), False),
        (lambda bar: bar.report("Starting", 1, 3), False),
        (lambda bar: bar.report(""), False),
        (lambda bar: list(bar.track([1], "Starting")), False),
        (lambda bar: list(bar.track([1, 2])), True),
        (lambda bar: [bar.report("Starting") for _ in bar.track([1])], False),
    ],
)
def test_the_initial_message_is_told_apart_from_one_with_the_same_text(
    make: Callable[..., Reporter], report: Callable[[Any], Any], initial: bool
) -> None:
    reporter = make(snapshot=snapshot_of(progress=Progress(message="Starting", initial=True)))
    report(reporter.bar)
    assert reporter.progress.initial is initial
    assert reporter.stored().get("initial", False) is initial


def test_a_report_is_published_at_the_next_beat(reporter: Reporter, heard: Callable[[], Progress]) -> None:
    reporter.bar.report("Reading", 1, 3)
    assert heard() == Progress(message="Reading", step=1, total_steps=3)


def test_a_report_by_itself_sends_nothing(reporter: Reporter, news: InMemoryProgressStore) -> None:
    reporter.bar.report("Reading", 1, 3)
    assert news.stored == {}


def test_without_step_and_total_only_the_message_changes(reporter: Reporter) -> None:
    reporter.bar.report("Reading", 2, 3)
    reporter.bar.report("Formatting")
    assert reporter.progress == Progress(message="Formatting", step=2, total_steps=3)


def test_a_total_that_was_given_once_stays(reporter: Reporter) -> None:
    reporter.bar.report("Reading", 1, 3)
    reporter.bar.report("Reading", 2)
    assert reporter.progress == Progress(message="Reading", step=2, total_steps=3)


def test_a_total_may_be_given_late(reporter: Reporter) -> None:
    reporter.bar.report("Reading", 5)
    assert reporter.progress.percent is None
    reporter.bar.report("Reading", 6, 12)
    assert reporter.progress.percent == 50


def test_a_total_alone_begins_at_step_0(reporter: Reporter) -> None:
    reporter.bar.report("Reading", 5, 9)
    reporter.bar.report("Writing", total_steps=4)
    assert reporter.progress == Progress(message="Writing", step=0, total_steps=4)


@pytest.mark.parametrize(
    ("message", "step", "total_steps"),
    [
        ("Reading", Decimal("1.5"), Decimal(3)),
        ("Reading", float("nan"), 3),
        ("Reading", 1, float("nan")),
        ("Reading", float("inf"), 3),
        (("not", "a", "text"), 1, 3),
        (object(), 1, 3),
        (LocalProxy(lambda: 1 // 0), 1, 3),
        ("rechnung-\udcfc.csv", 1, 3),
    ],
    ids=["Decimal", "step NaN", "total NaN", "step infinite", "tuple", "object", "raises", "surrogate"],
)
def test_an_odd_report_is_refused_or_can_be_shown(
    reporter: Reporter, heard: Callable[[], Progress], message: Any, step: Any, total_steps: Any
) -> None:
    try:
        reporter.bar.report(message, step, total_steps)
    except (TypeError, ValueError):
        return
    progress = heard()
    progress.message.encode()
    assert progress.percent in (None, 0, 33, 50, 100)


# Tracking.


def test_tracking_yields_the_items_and_counts_the_finished_ones(reporter: Reporter) -> None:
    counted = [(item, reporter.progress.step) for item in reporter.bar.track("abc", "Reading")]
    assert counted == [("a", 0), ("b", 1), ("c", 2)]
    assert reporter.progress == Progress(message="Reading", step=3, total_steps=3)


def test_tracking_uses_the_given_total_if_there_is_no_length(reporter: Reporter) -> None:
    list(reporter.bar.track(iter("abc"), total=6))
    assert reporter.progress.percent == 50


def test_the_total_that_is_given_wins_over_the_length(reporter: Reporter) -> None:
    list(reporter.bar.track("abc", total=6))
    assert reporter.progress.total_steps == 6


def test_tracking_without_length_and_total_counts_towards_the_unknown(reporter: Reporter) -> None:
    reporter.bar.report("Reading", 1, 9)
    list(reporter.bar.track(iter("abc")))
    assert reporter.progress == Progress(message="Reading", step=3, total_steps=0)


def test_a_length_that_python_can_not_tell_is_unknown(reporter: Reporter) -> None:
    class Unsized(list[str]):
        def __len__(self) -> int:
            raise TypeError("object of type 'Unsized' has no len()")

    for iterable in (range(10**20), Unsized("abc")):
        assert next(iter(reporter.bar.track(iterable))) in (0, "a")
        assert reporter.progress.total_steps == 0


def test_tracking_without_a_message_keeps_the_last_one(reporter: Reporter) -> None:
    reporter.bar.report("Reading")
    list(reporter.bar.track("abc"))
    assert reporter.progress.message == "Reading"


def test_a_message_within_the_loop_leaves_the_count_alone(reporter: Reporter) -> None:
    for item in reporter.bar.track("abc", "Reading"):
        reporter.bar.report(f"Reading {item}")
    assert reporter.progress == Progress(message="Reading c", step=3, total_steps=3)


def test_a_second_tracking_starts_at_0(reporter: Reporter) -> None:
    list(reporter.bar.track("abc", "Reading"))
    steps = [reporter.progress.step for _ in reporter.bar.track("ab", "Writing")]
    assert steps == [0, 1]


def test_tracking_nothing_is_done_at_once(reporter: Reporter) -> None:
    assert list(reporter.bar.track([], "Reading")) == []
    assert reporter.progress == Progress(message="Reading")


def test_tracking_skips_the_items_of_earlier_attempts(reporter: Reporter) -> None:
    counted = [(item, reporter.progress.step) for item in reporter.bar.track("abcd", "Reading", start=2)]
    assert counted == [("c", 2), ("d", 3)]
    assert reporter.progress == Progress(message="Reading", step=4, total_steps=4)


# Nested tracking.


def test_an_inner_loop_moves_the_bar_on_within_an_item_of_the_outer_one(reporter: Reporter) -> None:
    seen = []
    for _ in reporter.bar.track("ab", "Months"):
        seen += [(reporter.progress.step, reporter.progress.total_steps) for _ in reporter.bar.track(range(4), "Days")]
        seen.append((reporter.progress.step, reporter.progress.total_steps))
    assert [step for step, _ in seen] == [0, 0.25, 0.5, 0.75, 1, 1, 1.25, 1.5, 1.75, 2]
    assert {total for _, total in seen} == {2}
    assert reporter.progress.step == 2


def test_the_message_is_the_innermost_one_and_then_the_outer_one_again(reporter: Reporter) -> None:
    seen = []
    for _ in reporter.bar.track("a", "Months"):
        seen.append(reporter.progress.message)
        seen += [reporter.progress.message for _ in reporter.bar.track("b", "Days")]
        seen.append(reporter.progress.message)
    assert seen == ["Months", "Days", "Months"]


def test_steps_that_are_reported_within_a_loop_are_those_of_its_present_item(reporter: Reporter) -> None:
    for _ in reporter.bar.track("abcd", "Files"):
        reporter.bar.report("Reading", 5, 10)
        break_at = reporter.progress
        break
    assert (break_at.message, break_at.step, break_at.total_steps) == ("Reading", 0.5, 4)


def test_a_second_inner_loop_does_not_take_the_bar_back(reporter: Reporter) -> None:
    steps = []
    for _ in reporter.bar.track("ab"):
        for loop in ("cd", "ef"):
            steps += [reporter.progress.step for _ in reporter.bar.track(loop)]
    assert steps == [0, 0.5, 1, 1, 1, 1.5, 2, 2]


def test_an_inner_loop_that_is_left_early_counts_as_far_as_it_came(reporter: Reporter) -> None:
    kept = []  # a reference to the abandoned loop may remain
    steps = []
    for _ in reporter.bar.track("ab"):
        kept.append(inner := reporter.bar.track(range(4)))
        next(inner)
        next(inner)
        steps.append(reporter.progress.step)
    assert steps == [0.25, 1.25]
    assert reporter.progress.step == 2


def test_an_inner_loop_of_unknown_length_leaves_the_bar_alone(reporter: Reporter) -> None:
    for _ in reporter.bar.track("ab"):
        for _ in reporter.bar.track(iter("cdef")):
            assert reporter.progress.step in (0, 1)


@given(st.recursive(st.just([]), lambda inner: st.lists(inner, max_size=4), max_leaves=30))
def test_however_loops_are_nested_the_bar_never_goes_back_and_ends_full(shape: list[Any]) -> None:
    reporter = make_reporter(ManualClock(), InMemoryProgressStore())
    seen = [0.0]

    def walk(loop: list[Any]) -> None:
        for item in reporter.bar.track(loop):
            seen.append(reporter.progress.step)
            walk(item)
            seen.append(reporter.progress.step)

    walk(shape)
    assert seen == sorted(seen)
    assert (reporter.progress.step, reporter.progress.total_steps) == (len(shape), len(shape))


# The time left.


def test_the_time_left_goes_on_across_a_hand_over(make: Callable[..., Reporter], clock: ManualClock) -> None:
    def work(reporter: Reporter, first: int, last: int) -> None:
        for step in range(first, last):
            reporter.bar.report("Reading", step, 1000)
            reporter.beat()
            clock.advance(timedelta(seconds=1))

    work(first := make(), 0, 301)
    before = first.progress.eta_seconds
    stored = json.loads(json.dumps(first.stored()))
    clock.advance(timedelta(seconds=2))
    second = make(pace=stored["pace"])
    work(second, 301, 303)
    assert before == pytest.approx(700, abs=10)
    assert stored["eta_seconds"] == before
    assert second.progress.eta_seconds == pytest.approx(697, abs=15)
    assert len(stored["pace"]["points"]) < 60


def test_the_time_left_follows_from_the_pace(
    reporter: Reporter, clock: ManualClock, heard: Callable[[], Progress]
) -> None:
    for step in range(61):
        reporter.bar.report("Reading", step, 100)
        left = heard().eta_seconds
        clock.advance(timedelta(seconds=1))
    assert left == pytest.approx(40, abs=4)


def test_at_first_the_time_left_is_unknown(reporter: Reporter, heard: Callable[[], Progress]) -> None:
    reporter.bar.report("Reading", 1, 100)
    assert heard().eta_seconds is None


# The lease.


def test_a_beat_is_a_sign_of_life_of_the_owner(
    reporter: Reporter, news: InMemoryProgressStore, clock: ManualClock
) -> None:
    clock.advance(timedelta(seconds=7))
    reporter.beat()
    snapshot = news.read(ID)
    assert snapshot is not None
    assert snapshot.beat_at == clock()


def test_the_lease_is_not_renewed_too_early(reporter: Reporter, clock: ManualClock, store: Store) -> None:
    clock.advance(RENEW_EVERY - timedelta(milliseconds=1))
    reporter.beat()
    assert store.renewals == 0


def test_the_lease_is_renewed_when_it_is_time_and_once(reporter: Reporter, clock: ManualClock, store: Store) -> None:
    clock.advance(RENEW_EVERY)
    reporter.beat()
    reporter.beat()
    assert store.renewals == 1
    clock.advance(RENEW_EVERY)
    reporter.beat()
    assert store.renewals == 2


@pytest.mark.parametrize(
    "error",
    [ServiceUnavailable("gone"), grpc.RpcError("gone"), ndb.exceptions.ContextError()],
    ids=["API", "RPC", "NDB"],
)
def test_a_renewal_that_fails_is_tried_again_at_the_next_beat(
    reporter: Reporter, clock: ManualClock, store: Store, error: Exception
) -> None:
    store.errors = [error]
    clock.advance(RENEW_EVERY)
    reporter.beat()
    assert reporter.ownership.lost is None
    reporter.beat()
    assert store.renewals == 2


def test_without_a_progress_store_the_task_is_read_every_5_seconds(
    reporter: Reporter, clock: ManualClock, store: Store, news: InMemoryProgressStore
) -> None:
    news.is_down = True
    for _ in range(20):
        clock.advance(timedelta(seconds=0.5))
        reporter.beat()
    assert store.renewals == 2


def test_a_progress_store_that_is_down_does_not_slow_short_leases(
    make: Callable[..., Reporter], clock: ManualClock, store: Store, news: InMemoryProgressStore
) -> None:
    reporter = make(renew_every=timedelta(seconds=2))
    news.is_down = True
    clock.advance(timedelta(seconds=2))
    reporter.beat()
    assert store.renewals == 1


# Losing the task.


def test_a_snapshot_of_a_later_attempt_makes_the_reporter_read_the_task_at_once(
    reporter: Reporter, news: InMemoryProgressStore, store: Store
) -> None:
    news.write(snapshot_of(fence=2))
    reporter.beat()
    assert store.renewals == 1


def test_a_false_alarm_changes_nothing(reporter: Reporter, news: InMemoryProgressStore, store: Store) -> None:
    news.write(snapshot_of(fence=2))
    reporter.beat()
    assert reporter.ownership.lost is None
    reporter.bar.report("Going on")


def test_a_superseded_attempt_publishes_nothing(
    reporter: Reporter, news: InMemoryProgressStore, clock: ManualClock
) -> None:
    successor = snapshot_of(fence=2, progress=Progress(message="From the beginning"))
    news.write(successor)
    reporter.bar.report("Half-way", 1, 2)
    reporter.beat()
    assert news.read(ID) == successor


@pytest.fixture(params=[(Status.CANCELLED, False), (Status.STARTED, True), (Status.DONE, True), (Status.READY, True)])
def superseded(request: pytest.FixtureRequest, reporter: Reporter, clock: ManualClock, store: Store) -> bool:
    """The attempt loses its task. The value tells whether another attempt has taken over."""
    store.status, superseded = request.param
    clock.advance(RENEW_EVERY)
    reporter.beat()
    assert reporter.ownership.lost is not None
    return bool(superseded)


def test_the_next_report_of_an_attempt_that_has_lost_its_task_ends_it(reporter: Reporter, superseded: bool) -> None:
    with pytest.raises(TaskCancelled) as caught:
        reporter.bar.report("Going on")
    assert caught.value.superseded is superseded


def test_tracking_ends_an_attempt_that_has_lost_its_task_before_the_first_item(
    reporter: Reporter, superseded: bool
) -> None:
    with pytest.raises(TaskCancelled) as caught:
        next(reporter.bar.track("abc"))
    assert caught.value.superseded is superseded


def test_tracking_ends_an_attempt_that_loses_its_task_on_the_way(
    reporter: Reporter, clock: ManualClock, store: Store
) -> None:
    seen = []

    def work() -> None:
        for item in reporter.bar.track("abc"):
            seen.append(item)
            store.status = Status.CANCELLED
            clock.advance(RENEW_EVERY)
            reporter.beat()

    with pytest.raises(TaskCancelled):
        work()
    assert seen == ["a"]


# The thread.


class Beats(InMemoryProgressStore):
    """A store that signals every write, and blocks while `released` is not set."""

    def __init__(self) -> None:
        super().__init__(interval_seconds=0.001)
        self.beaten = threading.Event()
        self.released = threading.Event()
        self.released.set()

    def write(self, snapshot: Snapshot) -> Written:
        self.beaten.set()
        self.released.wait(10)
        return super().write(snapshot)


@pytest.fixture
def beats() -> Beats:
    return Beats()


@pytest.fixture
def run(beats: Beats, store: Store, clock: ManualClock) -> Iterator[Callable[..., Reporter]]:
    started: list[Reporter] = []

    def run(seconds: float = 600) -> Reporter:
        reporter = make_reporter(clock, beats, renew=store.renew, stop_after=timedelta(seconds=seconds))
        started.append(reporter)
        reporter.start()
        return reporter

    yield run
    beats.released.set()
    for reporter in started:
        reporter.stop()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("longtask-")]


def all_end() -> bool:
    for thread in threads():
        thread.join(10)
    return not threads()


def test_the_thread_beats_by_itself(run: Callable[..., Reporter], beats: Beats) -> None:
    run()
    assert beats.beaten.wait(10)


def test_an_own_store_that_raises_costs_one_beat(
    run: Callable[..., Reporter], beats: Beats, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, failed = beats.write, threading.Event()

    def fail_once(snapshot: Snapshot) -> Written:
        if not failed.is_set():
            failed.set()
            raise KeyError("a bug")
        return write(snapshot)

    monkeypatch.setattr(beats, "write", fail_once)
    run()
    assert failed.wait(10)
    assert beats.beaten.wait(10)


def test_stopping_ends_the_thread(run: Callable[..., Reporter]) -> None:
    reporter = run()
    assert threads()
    reporter.stop()
    assert not threads()


def test_the_thread_keeps_no_process_alive(run: Callable[..., Reporter]) -> None:
    run()
    assert all(thread.daemon for thread in threads())


def test_stopping_twice_does_no_harm(run: Callable[..., Reporter]) -> None:
    reporter = run()
    reporter.stop()
    reporter.stop()


def test_stopping_what_was_never_started_does_no_harm(reporter: Reporter) -> None:
    reporter.stop()


def test_beats_stop_at_the_platforms_time_limit(run: Callable[..., Reporter], beats: Beats) -> None:
    run(seconds=0)
    assert all_end()
    assert beats.stored == {}


def test_beats_stop_once_the_task_is_lost(run: Callable[..., Reporter], store: Store, clock: ManualClock) -> None:
    store.status = Status.CANCELLED
    run()
    clock.advance(RENEW_EVERY)
    assert all_end()


def test_stopping_does_not_wait_for_ever_for_a_store_that_hangs(run: Callable[..., Reporter], beats: Beats) -> None:
    beats.released.clear()
    reporter = run()
    assert beats.beaten.wait(10)
    reporter.stop(seconds=0.01)
    assert threads()
    beats.released.set()
    assert all_end()


# The usual duration.


def test_without_steps_the_estimate_is_the_usual_duration(make: Callable[..., Reporter], clock: ManualClock) -> None:
    reporter = make(usual_seconds=lambda: 40.0)
    clock.advance(timedelta(seconds=3))
    reporter.beat()
    assert reporter.progress.eta_seconds == 37
    clock.advance(timedelta(seconds=7))
    assert reporter.progress.eta_seconds == 30


def test_after_the_usual_duration_there_is_no_estimate(make: Callable[..., Reporter], clock: ManualClock) -> None:
    reporter = make(usual_seconds=lambda: 40.0)
    clock.advance(timedelta(seconds=40))
    reporter.beat()
    assert reporter.progress.eta_seconds is None


def questions(make: Callable[..., Reporter], clock: ManualClock, **options: Any) -> list[int]:
    """Beat for ten seconds, and return the times at which the question was asked."""
    asked: list[int] = []
    began = clock()
    reporter = make(usual_seconds=lambda: asked.append(int((clock() - began).total_seconds())), **options)
    for _ in range(10):
        clock.advance(timedelta(seconds=1))
        reporter.beat()
    return asked


def test_the_question_is_asked_once_and_not_for_a_short_task(make: Callable[..., Reporter], clock: ManualClock) -> None:
    assert questions(make, clock) == [3]


def test_what_it_usually_takes_is_known_at_once_after_a_hand_over(
    make: Callable[..., Reporter], clock: ManualClock
) -> None:
    first = make(usual_seconds=lambda: 40.0)
    clock.advance(timedelta(seconds=10))
    first.beat()
    second = make(pace=json.loads(json.dumps(first.stored()))["pace"])
    assert first.progress.eta_seconds is not None
    assert second.progress.eta_seconds == first.progress.eta_seconds


def test_work_that_reports_steps_asks_nothing(make: Callable[..., Reporter], clock: ManualClock) -> None:
    asked: list[int] = []
    reporter = make(usual_seconds=lambda: asked.append(1))
    reporter.bar.report("Reading", 1, 10)
    clock.advance(timedelta(seconds=10))
    reporter.beat()
    assert asked == []


def test_the_last_words_of_an_attempt_ask_nothing(make: Callable[..., Reporter], clock: ManualClock) -> None:
    asked: list[int] = []
    reporter = make(usual_seconds=lambda: asked.append(1))
    clock.advance(timedelta(seconds=10))
    reporter.stop()
    reporter.beat()
    assert asked == []


def test_after_a_failure_what_is_usual_says_nothing(make: Callable[..., Reporter], clock: ManualClock) -> None:
    assert questions(make, clock, compares=False) == []
