"""A start may be delayed: the queue waits, the page says until when, and the clocks of the task begin then."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager, Status, maintenance
from gaetk_longtask.exceptions import EnqueueUncertainError
from gaetk_longtask.info import job_url
from gaetk_longtask.limits import LONGEST_RUN, READY_PATIENCE
from gaetk_longtask.models import LongTaskChunk
from gaetk_longtask.runtime import CHUNK_GRACE
from gaetk_longtask.testing import InMemoryQueue, ManualClock, TaskRunner
from tests.cloud_tasks import CloudTasks
from tests.support import Work, deliver, load, polled, press, services_of, start, tasks_in

DELAY = timedelta(hours=14, minutes=30)
GERMAN = {"Accept-Language": "de"}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 12, 24, tzinfo=UTC))


@pytest.fixture
def task(app: Flask) -> LongTask:
    return start(app, delay=DELAY)


def page(task: LongTask) -> str:
    return job_url(task.path, task.id, "query")


def sweep(app: Flask, *, early: bool = False) -> int:
    with services_of(app).ndb_context():
        return maintenance.sweep(services_of(app), early=early).done


def test_the_queue_delivers_a_delayed_task_when_its_time_has_come(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, work: type[Work]
) -> None:
    assert task.starts_at == datetime(2026, 12, 24, 14, 30, tzinfo=UTC)
    assert [queued.request.not_before for queued in queue.tasks] == [task.starts_at]
    queue.deliver_all(app.test_client())
    with pytest.raises(AssertionError, match=r"nothing before 2026-12-24 14:30:00.* Advance the clock"):
        queue.deliver(app.test_client())
    assert work.runs == 0
    clock.advance(DELAY)
    assert deliver(app, queue) == 200
    assert work.runs == 1


def test_cloud_tasks_gets_the_time_as_the_tasks_schedule_time(
    ndb_client: ndb.Client, cloud_tasks: CloudTasks, clock: ManualClock
) -> None:
    app = Flask("tests")
    app.config.update(LONGTASK_PROJECT="test", LONGTASK_LOCATION="europe-west3")
    LongTaskManager(app, ndb_client=ndb_client, clock=clock)
    app.add_url_rule("/work", view_func=Work.as_view("work"))
    start(app, delay=DELAY)
    start(app)
    delayed, at_once = (call.task for call in cloud_tasks.calls)
    assert delayed.schedule_time == clock() + DELAY
    assert "schedule_time" not in at_once


def test_the_page_says_when_the_work_begins_and_polls_slowly_until_then(
    client: FlaskClient, task: LongTask, clock: ManualClock
) -> None:
    shown = client.get(page(task)).text
    assert "Starts on 24 December 2026 at 14:30 UTC." in shown
    assert "Waiting to start" in shown
    assert ">Starting<" not in shown
    assert 'data-poll="60"' in shown
    assert "so far</p>" not in shown
    assert "Startet am 24. Dezember 2026 um 14:30 Uhr (UTC)." in client.get(page(task), headers=GERMAN).text
    document = polled(client, page(task))
    assert document["starts_at"] == "2026-12-24T14:30:00+00:00"
    assert (document["status"], document["elapsed_seconds"], document["poll_after_seconds"]) == ("ready", 0.0, 60)
    assert document["links"]["cancel"] is not None
    clock.advance(DELAY - timedelta(seconds=20.5))
    assert polled(client, page(task))["poll_after_seconds"] == 21
    clock.advance(timedelta(seconds=21))
    shown = client.get(page(task)).text
    assert "Starts on" not in shown
    assert "The work starts as soon as there is capacity." in shown
    assert polled(client, page(task))["poll_after_seconds"] == 1


def test_the_clocks_of_the_task_begin_with_its_delayed_start(
    app: Flask, task: LongTask, client: FlaskClient, queue: InMemoryQueue, clock: ManualClock, work: type[Work]
) -> None:
    clock.advance(DELAY + timedelta(seconds=3))

    def do(handler: Any) -> str:
        clock.advance(timedelta(seconds=4))
        assert polled(client, page(task))["elapsed_seconds"] == 7
        return "result"

    work.do = do
    assert deliver(app, queue) == 200
    done = load(app, task)
    assert (done.run_seconds, done.created_at) == (7.0, clock() - DELAY - timedelta(seconds=7))


def test_patience_begins_with_the_delayed_start(
    app: Flask, queue: InMemoryQueue, client: FlaskClient, clock: ManualClock
) -> None:
    queue.errors = [EnqueueUncertainError("no answer")]
    task = start(app, delay=timedelta(days=30))
    clock.advance(timedelta(days=30))
    polled(client, page(task))
    assert (sweep(app), queue.tasks) == (0, [])
    clock.advance(READY_PATIENCE)
    assert sweep(app) == 1
    assert deliver(app, queue) == 200
    assert load(app, task).status is Status.DONE


def test_a_delayed_task_may_take_as_long_as_any_other(
    app: Flask, queue: InMemoryQueue, clock: ManualClock, work: type[Work]
) -> None:
    first, second = start(app, delay=timedelta(days=30)), start(app, delay=timedelta(days=30))
    clock.advance(timedelta(days=30) + LONGEST_RUN - timedelta(seconds=1))
    assert deliver(app, queue) == 200
    clock.advance(timedelta(seconds=1))
    assert deliver(app, queue) == 200
    assert [load(app, task).status for task in (first, second)] == [Status.DONE, Status.FAILED]


def test_a_purged_queue_gets_its_delayed_tasks_back_with_their_time(
    app: Flask, task: LongTask, queue: InMemoryQueue
) -> None:
    queue.tasks.clear()
    assert sweep(app, early=True) == 1
    assert [queued.request.not_before for queued in queue.tasks] == [task.starts_at]


def test_parameters_in_chunks_live_as_much_longer(app: Flask, ndb_client: ndb.Client, clock: ManualClock) -> None:
    start(app, "work", os.urandom(300_000), delay=timedelta(days=30))
    with ndb_client.context():
        [expires_at] = {chunk.expires_at for chunk in LongTaskChunk.query().fetch()}
    assert expires_at == clock() + timedelta(days=30) + Work.keep_result + CHUNK_GRACE


def test_a_delayed_task_can_be_cancelled_and_a_retry_begins_at_once(
    app: Flask, task: LongTask, client: FlaskClient, queue: InMemoryQueue, clock: ManualClock, work: type[Work]
) -> None:
    assert press(client, page(task), "cancel").json["status"] == "cancelled"
    document = press(client, page(task), "retry").json
    assert (document["status"], document.get("starts_at"), document["poll_after_seconds"]) == ("ready", None, 1)
    queue.deliver_all(client)
    assert work.runs == 1
    clock.advance(DELAY)
    assert deliver(app, queue) == 200  # the start's delivery
    assert work.runs == 1
    assert queue.tasks == []


def test_a_handler_is_told_at_once_that_a_delayed_task_was_cancelled(
    make_app: Callable[..., Flask], queue: InMemoryQueue
) -> None:
    told: list[str] = []

    class Told(Work):
        def task_ended(self, task: LongTask) -> None:
            told.append(task.status.value)

    app = make_app(Told)
    task = start(app, "told", delay=DELAY)
    press(app.test_client(), page(task), "cancel")
    queue.deliver_all(app.test_client())
    assert told == ["cancelled"]


def test_an_equal_request_joins_the_task_that_waits(make_app: Callable[..., Flask], queue: InMemoryQueue) -> None:
    class Joined(Work):
        def unique_key(self, parameters: Any) -> str:
            return "one"

    app = make_app(Joined)
    task = start(app, "joined", delay=DELAY)
    assert start(app, "joined").id == task.id
    assert len(queue.tasks) == 1


def test_a_delivery_that_comes_early_begins_the_run(
    app: Flask, task: LongTask, client: FlaskClient, queue: InMemoryQueue, clock: ManualClock
) -> None:
    queue.clock = lambda: clock() + DELAY  # as if an operator had forced it to run
    assert deliver(app, queue) == 200
    done = load(app, task)
    assert (done.status, done.run_seconds, done.requested_at) == (Status.DONE, 0.0, clock())


@pytest.mark.parametrize("delay", [None, timedelta(0)])
def test_no_delay_is_a_start_at_once(app: Flask, queue: InMemoryQueue, delay: timedelta | None) -> None:
    task = start(app, delay=delay)
    assert (task.starts_at, queue.tasks[0].request.not_before) == (None, None)
    assert "starts_at" not in polled(app.test_client(), page(task))
    assert deliver(app, queue) == 200


@pytest.mark.parametrize(
    ("delay", "error", "message"),
    [
        (timedelta(seconds=-1), ValueError, "between 0 and 30 days, Cloud Tasks' limit, not -1 day, 23:59:59"),
        (timedelta(days=30, microseconds=1), ValueError, "between 0 and 30 days"),
        (60, TypeError, r"delay must be a datetime\.timedelta or None, not 60\."),
        (datetime(2026, 12, 24, tzinfo=UTC), TypeError, "must be a datetime.timedelta"),
    ],
)
def test_an_impossible_delay_is_refused_before_anything_is_stored(
    app: Flask, ndb_client: ndb.Client, delay: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        start(app, delay=delay)
    assert tasks_in(ndb_client) == []


def test_a_start_in_the_authors_transaction_may_be_delayed(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client, clock: ManualClock
) -> None:
    with ndb_client.context():
        task = ndb.transaction(lambda: start(app, delay=DELAY))
    assert load(app, task).due_at == clock() + DELAY + READY_PATIENCE
    assert queue.tasks[0].request.not_before == clock() + DELAY


def test_events_of_a_task_that_waits_have_no_negative_seconds(
    app: Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    press(client, page(start(app, delay=DELAY)), "cancel")
    lines = [record.getMessage() for record in caplog.records if record.name == "gaetk_longtask.events"]
    assert len(lines) == 3
    assert all(line.endswith("seconds=0.0") for line in lines)


def test_a_task_runner_waits_for_its_own_clock(ndb_client: ndb.Client) -> None:
    app = Flask("tests")
    LongTaskManager(app, ndb_client=ndb_client)
    app.add_url_rule(
        "/work", view_func=type("Work", (LongRunningTaskHandler,), {"execute_task": lambda *_: "x"}).as_view("work")
    )
    with TaskRunner(app).opened() as runner:
        task = runner.started(start(app, delay=DELAY))
        runner.deliver_all()
        assert task.status is Status.READY
        runner.clock.advance(DELAY)
        runner.deliver_all()
        assert task.status is Status.DONE
