"""Phases and facts from the work to the visitor, across attempts, hand-overs, crashes, retries and cancels."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from google.api_core.exceptions import ServiceUnavailable
from google.cloud import ndb

from gaetk_longtask import LongTask, LongTaskError, PermanentTaskFailure
from gaetk_longtask.models import LongTaskPhases
from gaetk_longtask.progress.durations import REMEMBERED
from gaetk_longtask.testing import Crash, InMemoryProgressStore, InMemoryQueue, ManualClock
from tests.support import Work, deliver, load, polled, press, services_of, start, started

NAMES = ("Reading", "Checking", "Storing")


@pytest.fixture
def work() -> type[Work]:
    facts = {"imported": "Imported", "file": "File"}
    return type("Work", (Work,), {"phases": NAMES, "facts": facts, "max_attempts": 3})


@pytest.fixture
def progress() -> InMemoryProgressStore:
    """A store with such a long interval that no beat happens unless a test asks for it."""
    return InMemoryProgressStore(interval_seconds=3600)


@pytest.fixture
def run(app: Flask, queue: InMemoryQueue, work: type[Work], clock: ManualClock) -> Callable[..., list[int]]:
    """A function that runs a task whose phases take some seconds; it returns the percentages at their beginnings."""

    def run(*seconds: float) -> list[int]:
        shown = []

        def do(handler: Any) -> str:
            handler._reporter.beat()
            for name, lasts in zip(NAMES, seconds, strict=True):
                handler.phase(name)
                handler._reporter.beat()
                shown.append(handler._reporter.progress.percent)
                clock.advance(timedelta(seconds=lasts))
            return "result"

        work.do = do
        start(app)
        assert deliver(app, queue) == 200
        return shown

    return run


def working(do: Callable[[Any], Any], *, fails: bool = False) -> Callable[[Any], Any]:
    """Return work that reports phase and facts, calls `do` and then ends."""

    def work(handler: Any) -> str:
        handler.phase("Checking")
        handler.log_progress("Line 3", 3, 4)
        handler.log_facts(imported=120, file="a.csv")
        handler._reporter.beat()
        do(handler)
        if fails:
            raise ValueError
        return "result"

    return work


def phase_of(document: Any) -> str:
    return str(document["progress"]["phase"]["name"])


# A task.


def test_a_visitor_sees_the_phase_and_the_facts_while_the_work_runs(
    client: FlaskClient, app: Flask, queue: InMemoryQueue, work: type[Work]
) -> None:
    url = started(client)
    seen: list[Any] = []
    work.do = working(lambda handler: seen.extend([polled(client, url), client.get(url).text]))
    deliver(app, queue)
    document, page = seen
    assert document["progress"]["phase"] == {"name": "Checking", "number": 2, "count": 3}
    assert (document["progress"]["step"], document["progress"]["total_steps"]) == (3, 4)
    assert document["progress"]["percent"] == 58  # a third, and three quarters of the next one
    assert document["facts"] == {"imported": 120, "file": "a.csv"}
    assert '<li value="2" data-state="now" aria-current="step"><bdi>Checking</bdi>' in page
    assert '<dd dir="auto" data-lt="fact-imported">120</dd>' in page


def test_a_task_that_has_ended_keeps_its_facts_and_is_at_100_percent(
    client: FlaskClient, app: Flask, queue: InMemoryQueue, work: type[Work]
) -> None:
    url = started(client)
    work.do = working(lambda handler: handler.log_facts(file=None))
    deliver(app, queue)
    client.get(url, follow_redirects=True)
    document = polled(client, url)
    assert (document["status"], document["progress"]["percent"]) == ("finished", 100)
    assert document["facts"] == {"imported": 120}
    page = client.get(url).text
    assert ">120</dd>" in page
    assert "File" not in page


def test_operators_see_the_phase_and_the_facts_in_the_terminal(
    app: Flask, queue: InMemoryQueue, work: type[Work], task: LongTask
) -> None:
    shown: list[str] = []
    show = ["longtask", "show", task.id]
    work.do = working(lambda handler: shown.append(app.test_cli_runner().invoke(args=show).output))
    assert deliver(app, queue) == 200
    assert "phase: Checking (2 of 3)\n" in shown[0]
    assert "facts: imported 120, file a.csv\n" in shown[0]


@pytest.mark.parametrize("call", [lambda handler: handler.phase("Sorting"), lambda handler: handler.log_facts(lost=1)])
def test_a_name_that_the_class_lacks_fails_the_attempt(
    call: Callable[[Any], None], app: Flask, queue: InMemoryQueue, work: type[Work], task: LongTask
) -> None:
    caught: list[LongTaskError] = []

    def do(handler: Any) -> None:
        with pytest.raises(LongTaskError) as raised:
            call(handler)
        caught.append(raised.value)

    work.do = do
    assert deliver(app, queue) == 200
    assert "Work has no" in str(caught[0])


# Attempts.


def test_a_failed_attempt_leaves_its_phase_and_its_facts_to_the_next_one(
    client: FlaskClient, app: Flask, queue: InMemoryQueue, work: type[Work]
) -> None:
    url = started(client)
    work.do = working(lambda handler: None, fails=True)
    assert deliver(app, queue) == 500
    assert polled(client, url)["facts"] == {"imported": 120, "file": "a.csv"}
    seen: list[Any] = []

    def again(handler: Any) -> str:
        handler._reporter.beat()
        seen.append(polled(client, url))
        handler.phase("Reading")
        handler.log_facts(imported=1)
        handler._reporter.beat()
        seen.append(polled(client, url))
        return "result"

    work.do = again
    assert deliver(app, queue) == 200
    assert [phase_of(each) for each in seen] == ["Checking", "Reading"]
    assert [each["progress"]["percent"] for each in seen] == [58, 0]
    assert [each["facts"]["imported"] for each in seen] == [120, 1]


def test_a_task_that_failed_for_good_keeps_its_facts(
    client: FlaskClient, app: Flask, queue: InMemoryQueue, work: type[Work]
) -> None:
    def give_up(handler: Any) -> None:
        raise PermanentTaskFailure("This file is empty.")

    url = started(client)
    work.do = working(give_up)
    deliver(app, queue)
    assert polled(client, url)["facts"] == {"imported": 120, "file": "a.csv"}
    assert ">a.csv</dd>" in client.get(url).text


def test_a_crash_goes_back_to_the_last_checkpoint(
    client: FlaskClient, app: Flask, queue: InMemoryQueue, work: type[Work], clock: ManualClock
) -> None:
    def crash(handler: Any) -> None:
        clock.advance(timedelta(seconds=20))
        handler.checkpoint({"line": 3})
        handler.phase("Storing")
        handler.log_facts(imported=999)
        raise Crash

    url = started(client)
    work.do = working(crash)
    with pytest.raises(Crash):
        deliver(app, queue)
    clock.advance(timedelta(minutes=5))
    seen: list[Any] = []
    work.do = lambda handler: seen.append(polled(client, url)) or "result"
    assert deliver(app, queue) == 200
    assert (phase_of(seen[0]), seen[0]["facts"]["imported"]) == ("Checking", 120)


def test_a_hand_over_keeps_phase_facts_and_bar(
    client: FlaskClient, app: Flask, queue: InMemoryQueue, work: type[Work], clock: ManualClock
) -> None:
    def hand_over(handler: Any) -> None:
        clock.advance(work.time_limit)
        handler.checkpoint({"line": 3})

    url = started(client)
    work.do = working(hand_over)
    assert deliver(app, queue) == 200
    between = polled(client, url)
    seen: list[Any] = []

    def go_on(handler: Any) -> str:
        handler.phase("Checking")
        handler._reporter.beat()
        seen.append(polled(client, url))
        return "result"

    work.do = go_on
    assert deliver(app, queue) == 200
    for document in (between, seen[0]):
        assert (phase_of(document), document["progress"]["step"]) == ("Checking", 3)
        assert document["progress"]["percent"] == 58
        assert document["facts"] == {"imported": 120, "file": "a.csv"}


def test_a_cancelled_task_keeps_the_facts_that_were_reported_last_and_a_retry_clears_them(
    client: FlaskClient, app: Flask, queue: InMemoryQueue, work: type[Work]
) -> None:
    url = started(client)
    work.do = working(lambda handler: press(client, url, "cancel"))
    deliver(app, queue)
    assert polled(client, url)["status"] == "cancelled"
    assert polled(client, url)["facts"] == {"imported": 120, "file": "a.csv"}
    press(client, url, "retry")
    assert polled(client, url)["facts"] == {}


def test_a_task_that_code_cancels_keeps_its_facts_as_well(
    client: FlaskClient, app: Flask, queue: InMemoryQueue, work: type[Work]
) -> None:
    def cancel(handler: Any) -> None:
        services_of(app).store.cancel(handler.task.id)

    url = started(client)
    work.do = working(cancel)
    deliver(app, queue)
    assert polled(client, url)["facts"]["imported"] == 120


def test_a_retry_that_resumes_clears_the_facts_too(
    client: FlaskClient, app: Flask, queue: InMemoryQueue, work: type[Work], clock: ManualClock
) -> None:
    def fail(handler: Any) -> None:
        clock.advance(timedelta(seconds=20))
        handler.checkpoint({"line": 3})
        raise PermanentTaskFailure("No.")

    url = started(client)
    work.do = working(fail)
    deliver(app, queue)
    press(client, url, "retry")
    document = polled(client, url)
    assert (phase_of(document), document["facts"]) == ("Checking", {})


# What is usual.


def usual(app: Flask) -> dict[str, float]:
    with services_of(app).ndb_context():
        return services_of(app).phase_times.usual_seconds("work")


def stored_runs(app: Flask) -> Any:
    with services_of(app).ndb_context():
        entity = LongTaskPhases.load("work")
        return entity.runs if entity else None


def another_process(app: Flask, make_app: Callable[..., Flask], work: type[Work]) -> Flask:
    """Return the application as another process has it: with the same Datastore and with empty caches."""
    return make_app(work)


def test_the_bar_is_composed_by_what_earlier_runs_took(run: Callable[..., list[int]]) -> None:
    assert run(10, 70, 20) == [0, 33, 66]
    assert run(10, 70, 20) == [0, 10, 80]


def test_it_is_the_median_of_the_last_runs(run: Callable[..., list[int]], app: Flask) -> None:
    run(1, 1, 1)
    run(10, 70, 20)
    run(90, 90, 90)
    assert usual(app) == {"Reading": 10, "Checking": 70, "Storing": 20}


def test_it_is_written_at_most_once_in_ten_minutes_and_then_everything(
    run: Callable[..., list[int]], app: Flask, clock: ManualClock
) -> None:
    run(1, 1, 1)
    run(2, 2, 2)
    assert stored_runs(app) == {name: [1] for name in NAMES}
    clock.advance(REMEMBERED)
    run(3, 3, 3)
    assert stored_runs(app) == {name: [1, 2, 3] for name in NAMES}


def test_only_the_last_ten_runs_are_kept(run: Callable[..., list[int]], app: Flask, clock: ManualClock) -> None:
    for seconds in range(12):
        clock.advance(REMEMBERED)
        run(seconds, 0, 0)
    assert stored_runs(app)["Reading"] == list(range(2, 12))


def test_another_process_reads_it(
    run: Callable[..., list[int]], app: Flask, make_app: Callable[..., Flask], work: type[Work]
) -> None:
    run(10, 70, 20)
    assert usual(another_process(app, make_app, work)) == {"Reading": 10, "Checking": 70, "Storing": 20}


def test_phases_that_the_class_no_longer_has_are_forgotten(
    run: Callable[..., list[int]], app: Flask, clock: ManualClock
) -> None:
    with services_of(app).ndb_context():
        LongTaskPhases(key=LongTaskPhases.key_of("work"), runs={"Reading": [4], "Loading": [5]}).save()
    run(10, 70, 20)
    assert stored_runs(app) == {"Reading": [4, 10], "Checking": [70], "Storing": [20]}


@pytest.mark.parametrize("runs", [None, [], "nonsense", {}])
def test_an_entity_that_says_nothing_does_no_harm(runs: Any, run: Callable[..., list[int]], app: Flask) -> None:
    with services_of(app).ndb_context():
        LongTaskPhases(key=LongTaskPhases.key_of("work"), runs=runs).save()
    assert run(10, 70, 20) == [0, 33, 66]


def test_failed_and_partial_runs_do_not_count(
    app: Flask, queue: InMemoryQueue, work: type[Work], clock: ManualClock
) -> None:
    start(app)
    work.do = working(lambda handler: clock.advance(timedelta(seconds=9)), fails=True)
    deliver(app, queue)
    work.do = working(lambda handler: None)
    assert deliver(app, queue) == 200
    assert stored_runs(app) is None


def test_a_hand_over_counts_as_one_run(
    app: Flask, queue: InMemoryQueue, work: type[Work], clock: ManualClock, task: LongTask
) -> None:
    def do(handler: Any) -> str:
        handler.phase("Checking")
        clock.advance(work.time_limit)
        if handler.resumed_from is None:
            handler.checkpoint("half")
        return "result"

    work.do = do
    assert [deliver(app, queue) for _ in range(2)] == [200, 200]
    assert stored_runs(app)["Checking"] == [2 * work.time_limit.total_seconds()]


def test_a_datastore_that_does_not_answer_costs_only_the_estimate(
    app: Flask, queue: InMemoryQueue, work: type[Work], task: LongTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise ServiceUnavailable("down")

    monkeypatch.setattr(LongTaskPhases, "load", refuse)
    work.do = working(lambda handler: None)
    assert deliver(app, queue) == 200
    assert load(app, task).progress.facts == {"imported": 120, "file": "a.csv"}


def test_a_class_without_phases_reads_and_writes_nothing(
    make_app: Callable[..., Flask], queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    class Plain(Work):
        do = lambda handler: handler._reporter.beat()  # noqa: E731  # as the other tests write it

    app = make_app(Plain)
    start(app, "plain")
    assert deliver(app, queue) == 200
    with ndb_client.context():
        assert LongTaskPhases.query(namespace="").fetch() == []
