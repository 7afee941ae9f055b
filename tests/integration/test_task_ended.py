"""The handler is told of every end by `task_ended`, at least once, whatever happens on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, ClassVar

import grpc
import pytest
from flask import Flask, session
from flask.testing import FlaskClient
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager, PermanentTaskFailure, Status, maintenance
from gaetk_longtask.exceptions import EnqueueRefusedError, EnqueueUncertainError, HandedOver
from gaetk_longtask.execution.telling import PATIENT_HEALINGS
from gaetk_longtask.limits import LONGEST_RUN, MOST_FAILURES, READY_PATIENCE
from gaetk_longtask.testing import Crash, Faults, InMemoryQueue, ManualClock
from tests.support import (
    FORGED,
    JSON,
    Work,
    deliver,
    exceptions_of,
    job,
    load,
    polled,
    press,
    raising,
    services_of,
    start,
    started,
    tasks_in,
)


class Telling(Work):
    """Notes what it is told. `then` is what its `task_ended` does after that."""

    told: ClassVar[list[tuple[str, int]]]
    then: ClassVar[Callable[[LongTask], Any]]

    def task_ended(self, task: LongTask) -> Any:
        type(self).told.append((task.status.value, task.fence))
        return type(self).then(task)


@pytest.fixture
def work() -> type[Telling]:
    return type("Work", (Telling,), {"told": [], "then": lambda task: None})


class Silent(Work):
    """Has no `task_ended`."""


@pytest.fixture
def app(make_app: Callable[..., Flask], work: type[Work]) -> Flask:
    return make_app(work, Silent)


def sweep(app: Flask) -> int:
    with services_of(app).ndb_context():
        return maintenance.sweep(services_of(app)).done


def cancel(app: Flask, task: LongTask) -> None:
    assert press(app.test_client(), task.url.removeprefix("http://localhost"), "cancel").status_code == 200


def untold(app: Flask, task: LongTask) -> tuple[bool, bool]:
    """Return whether the end of a task has yet to be told, and whether it will be due."""
    found = load(app, task)
    return found.end_untold, found.due_at is not None


# Each kind of end.


def test_a_result_is_told_by_the_delivery_that_commits_it(
    app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Telling]
) -> None:
    assert deliver(app, queue) == 200
    assert work.told == [("done", 1)]
    assert queue.tasks == []
    assert untold(app, task) == (False, False)


@pytest.mark.parametrize("error", [PermanentTaskFailure("No."), ValueError("no")])
def test_a_failure_is_told_once_it_is_final(
    app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Telling], error: Exception
) -> None:
    work.do = raising(error)
    queue.deliver_all(app.test_client())
    assert [status for status, _ in work.told] == ["failed"]
    assert untold(app, task) == (False, False)


def test_a_cancellation_is_told_by_a_delivery_and_not_by_the_visitors_request(
    app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Telling]
) -> None:
    queue.tasks.clear()
    cancel(app, task)
    assert work.told == []
    assert untold(app, task) == (True, True)
    assert deliver(app, queue) == 200
    assert work.told == [("cancelled", 1)]
    assert queue.tasks == []
    assert untold(app, task) == (False, False)


def test_a_cancellation_is_told_while_the_attempt_still_works(
    app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Telling]
) -> None:
    def do(handler: Any) -> None:
        cancel(app, task)
        assert deliver(app, queue) == 200
        assert work.told == [("cancelled", 2)]

    work.do = do
    assert deliver(app, queue) == 200
    assert len(work.told) == 1


def test_a_refused_start_is_told_as_soon_as_the_queue_takes_tasks_again(
    app: Flask, ndb_client: ndb.Client, queue: InMemoryQueue, clock: ManualClock, work: type[Telling]
) -> None:
    queue.errors = [EnqueueRefusedError("no such queue")] * 2
    with pytest.raises(EnqueueRefusedError):
        start(app)
    [task] = tasks_in(ndb_client)
    assert (task.status, queue.tasks) == (Status.FAILED, [])
    clock.advance(READY_PATIENCE)
    assert sweep(app) == 1
    assert deliver(app, queue) == 200
    assert work.told == [("failed", 0)]


def test_a_task_that_a_claim_or_a_healing_gives_up_is_told(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, work: type[Telling]
) -> None:
    other = start(app)
    [first, _] = queue.tasks
    clock.advance(LONGEST_RUN)
    queue.tasks = [first]
    assert deliver(app, queue) == 200
    assert load(app, task).status is Status.FAILED
    assert work.told == [("failed", 0)]
    assert sweep(app) == 1
    assert load(app, other).status is Status.FAILED
    assert deliver(app, queue) == 200
    assert work.told == [("failed", 0)] * 2
    assert queue.tasks == []


def test_an_attempt_that_hands_over_without_progress_and_is_given_up_is_told(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, work: type[Telling]
) -> None:
    def do(handler: Any) -> None:
        clock.advance(work.time_limit)
        handler.checkpoint("the same")

    work.do = do
    queue.deliver_all(app.test_client())
    assert load(app, task).status is Status.FAILED
    assert [status for status, _ in work.told] == ["failed"]


def test_an_attempt_whose_outcome_could_not_be_stored_too_often_is_told(
    app: Flask, task: LongTask, queue: InMemoryQueue, faults: Faults, work: type[Telling]
) -> None:
    def do(handler: Any) -> str:
        with services_of(app).ndb_context():
            stored = load(app, task)
            stored.forgiven = MOST_FAILURES - 1
            stored.save()
        faults.lose_request("Commit", grpc.StatusCode.INVALID_ARGUMENT)
        return "result"

    work.do = do
    queue.deliver_all(app.test_client())
    assert load(app, task).status is Status.FAILED
    assert work.told == [("failed", 1)]


# Tried again until it returns.


def test_a_worker_that_dies_between_the_end_and_the_hook_is_replaced(
    app: Flask, task: LongTask, queue: InMemoryQueue, faults: Faults, work: type[Telling]
) -> None:
    faults.crash(after=Status.DONE)
    with pytest.raises(Crash):
        deliver(app, queue)
    assert (load(app, task).status, work.told) == (Status.DONE, [])
    assert deliver(app, queue) == 200
    assert work.told == [("done", 1)]
    assert work.runs == 1


def test_a_worker_that_dies_with_its_cloud_tasks_task_is_replaced_by_the_sweep(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, faults: Faults, work: type[Telling]
) -> None:
    faults.crash(after=Status.DONE)
    with pytest.raises(Crash):
        deliver(app, queue)
    queue.tasks.clear()
    assert sweep(app) == 0
    clock.advance(READY_PATIENCE)
    assert sweep(app) == 1
    assert deliver(app, queue) == 200
    assert work.told == [("done", 1)]


def test_a_worker_that_dies_in_the_hook_is_replaced(
    app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Telling]
) -> None:
    work.then = raising(Crash())
    with pytest.raises(Crash):
        deliver(app, queue)
    work.then = lambda task: None
    assert deliver(app, queue) == 200
    assert work.told == [("done", 1)] * 2


@pytest.mark.parametrize("error", [ValueError("no mail"), SystemExit(1), HandedOver(), PermanentTaskFailure("no")])
def test_a_hook_that_raises_is_answered_500_reported_and_tried_again(
    app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Telling], error: BaseException
) -> None:
    work.then = raising(error)
    for _ in range(5):
        answer, reported = exceptions_of(app, lambda: queue.deliver(app.test_client()))
        assert (answer.status_code, reported) == (500, [error])
    stored = load(app, task)
    assert (stored.status, stored.failures, stored.end_untold) == (Status.DONE, 0, True)
    work.then = lambda task: None
    assert deliver(app, queue) == 200
    assert work.told == [("done", 1)] * 6
    assert work.runs == 1


async def coroutine() -> None:
    """Do nothing, because nothing awaits it."""


def generator() -> Iterator[None]:
    yield


@pytest.mark.parametrize("answer", [coroutine, generator])
def test_a_hook_that_has_not_done_its_work_is_told_again(
    app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Telling], answer: Callable[[], Any]
) -> None:
    work.then = lambda task: answer()
    got, [error] = exceptions_of(app, lambda: queue.deliver(app.test_client()))
    assert got.status_code == 500
    assert "Work.task_ended() must be a plain function" in str(error)
    assert untold(app, task) == (True, True)


def test_what_a_hook_returns_otherwise_does_not_matter(
    app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Telling]
) -> None:
    work.then = lambda task: "sent"
    assert deliver(app, queue) == 200
    assert untold(app, task) == (False, False)


@pytest.mark.parametrize("answer", [None, EnqueueUncertainError("no answer"), EnqueueRefusedError("no queue")])
def test_a_cancellation_whose_enqueuing_was_lost_is_told_by_a_poll_or_the_sweep(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, work: type[Telling], answer: Any
) -> None:
    queue.tasks.clear()
    queue.errors = [answer] if answer else []
    cancel(app, task)
    queue.tasks.clear()
    clock.advance(READY_PATIENCE)
    url = f"/work?_longtaskid={task.id}"
    assert polled(app.test_client(), url)["status"] == "cancelled"
    assert len(queue.tasks) == 1
    assert deliver(app, queue) == 200
    assert work.told == [("cancelled", 1)]


@pytest.mark.parametrize("loses_snapshot", [True, False])
def test_a_poll_of_a_result_enqueues_it_again_while_its_handler_has_not_been_told(
    app: Flask, queue: InMemoryQueue, clock: ManualClock, work: type[Telling], progress: Any, loses_snapshot: bool
) -> None:
    work.then = raising(ValueError())
    client = app.test_client()
    url = started(client)
    assert deliver(app, queue) == 500
    queue.tasks.clear()
    assert polled(client, url)["status"] == "done"
    if loses_snapshot:
        progress.stored.clear()
    clock.advance(READY_PATIENCE)
    for _ in range(3):
        assert polled(client, url)["status"] == "done"
    assert len(queue.tasks) == 1
    work.then = lambda task: None
    assert deliver(app, queue) == 200
    clock.advance(timedelta(hours=1))
    assert polled(client, url)["status"] == "done"
    assert queue.tasks == []


def test_a_hook_that_always_fails_is_tried_with_growing_pauses(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, work: type[Telling]
) -> None:
    work.then = raising(ValueError())
    assert deliver(app, queue) == 500
    minutes = []
    for minute in range(1, 181):
        clock.advance(timedelta(minutes=1))
        minutes += [minute] * sweep(app)
        if minute == 8:
            queue.deliver_all(app.test_client())  # … which ends, because the library goes on by itself
    assert minutes == [1, 2, 4, 8, 16, 32, 64, 124]
    assert load(app, task).heals > PATIENT_HEALINGS
    assert len(queue.tasks) == 1
    work.then = lambda task: None
    queue.deliver_all(app.test_client())
    assert untold(app, task) == (False, False)


def test_the_commit_that_records_the_telling_may_lose_its_reply_or_its_request(
    app: Flask, task: LongTask, queue: InMemoryQueue, faults: Faults, work: type[Telling]
) -> None:
    work.then = lambda task: faults.lose_reply("Commit", grpc.StatusCode.UNAVAILABLE)
    assert deliver(app, queue) == 200
    assert untold(app, task) == (False, False)
    other = start(app)
    work.then = lambda task: faults.lose_request("Commit", grpc.StatusCode.INVALID_ARGUMENT)
    assert deliver(app, queue) == 500
    work.then = lambda task: None
    assert deliver(app, queue) == 200
    assert untold(app, other) == (False, False)


def test_a_hook_that_hangs_harms_nothing(
    app: Flask, queue: InMemoryQueue, clock: ManualClock, work: type[Telling]
) -> None:
    hangs, goes_on = threading.Event(), threading.Event()

    def then(task: LongTask) -> None:
        if not hangs.is_set():
            hangs.set()
            assert goes_on.wait(60)

    work.then = then
    client = app.test_client()
    url = started(client)
    thread = threading.Thread(target=lambda: deliver(app, queue))
    thread.start()
    try:
        assert hangs.wait(60)
        assert polled(client, url)["status"] == "done"
        assert client.get(job(url, "showresult")).status_code == 200
        other = started(client)
        assert deliver(app, queue) == 200
        assert polled(client, other)["status"] == "done"
        work.do = raising(PermanentTaskFailure("No."))
        failed = started(client)
        assert deliver(app, queue) == 200
        assert press(client, failed, "retry").status_code == 200
        assert press(client, failed, "cancel").json["status"] == "cancelled"
        clock.advance(timedelta(days=31))
        with services_of(app).ndb_context():
            assert maintenance.purge(services_of(app)).done == 3
    finally:
        goes_on.set()
        thread.join()
    assert client.get(url).status_code == 404


# When it is not called.


def test_a_handler_without_the_hook_is_never_told(app: Flask, queue: InMemoryQueue) -> None:
    tasks = [start(app, "silent"), start(app, "silent")]
    assert deliver(app, queue) == 200
    with services_of(app).ndb_context():
        services_of(app).store.cancel(tasks[1].id)
    for task in tasks:
        assert load(app, task).status.ended
        assert untold(app, task) == (False, False)


def test_an_end_is_not_told_twice_by_a_second_delivery(
    app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Telling]
) -> None:
    assert deliver(app, queue) == 200
    assert queue.deliver_again(app.test_client()).status_code == 200
    assert work.told == [("done", 1)]


def test_a_retry_before_the_hook_has_returned_leaves_it_to_the_next_end(
    app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Telling]
) -> None:
    work.do, work.then = raising(PermanentTaskFailure("No.")), raising(ValueError())
    assert deliver(app, queue) == 500
    press(app.test_client(), f"/work?_longtaskjob=query&_longtaskid={task.id}", "retry")
    assert untold(app, task) == (False, True)
    work.do, work.then = (lambda handler: "result"), (lambda task: None)
    queue.deliver_all(app.test_client())
    assert work.told == [("failed", 1), ("done", 3)]


def test_a_retry_while_the_hook_runs_is_a_run_of_its_own(
    app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Telling]
) -> None:
    def then(ended: LongTask) -> None:
        if ended.status is Status.FAILED:
            press(app.test_client(), f"/work?_longtaskjob=query&_longtaskid={task.id}", "retry")

    work.do, work.then = raising(PermanentTaskFailure("No.")), then
    assert deliver(app, queue) == 200
    assert load(app, task).status is Status.READY
    work.do = lambda handler: "result"
    queue.deliver_all(app.test_client())
    assert work.told == [("failed", 1), ("done", 3)]


def test_a_forged_delivery_tells_nothing(
    app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Telling], client: FlaskClient
) -> None:
    cancel(app, task)
    uri = queue.tasks[0].request.uri
    assert client.get(uri, headers=FORGED).status_code == 403
    assert work.told == []


@pytest.mark.parametrize("takes_over", [True, False])
def test_another_handler_at_the_tasks_url_is_not_told(
    app: Flask,
    task: LongTask,
    queue: InMemoryQueue,
    work: type[Telling],
    make_app: Callable[..., Flask],
    takes_over: bool,
) -> None:
    cancel(app, task)
    thief = type("Thief", (Telling,), {"told": [], "then": lambda task: None})
    later = make_app()
    if takes_over:
        later.add_url_rule("/work", view_func=thief.as_view("thief"))
    assert queue.deliver(later.test_client()).status_code == 404
    assert thief.told == []
    assert untold(app, task) == (True, True)
    queue.deliver_all(app.test_client())
    assert work.told == [("cancelled", 1)]


def test_a_handler_that_has_lost_its_hook_ends_the_telling(
    app: Flask, task: LongTask, queue: InMemoryQueue, make_app: Callable[..., Flask]
) -> None:
    cancel(app, task)
    later = make_app()
    later.add_url_rule("/work", view_func=Silent.as_view("work"))
    assert queue.deliver(later.test_client()).status_code == 200
    assert untold(app, task) == (False, False)


def test_the_purge_gives_up_with_an_error_in_the_log(
    app: Flask,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
    work: type[Telling],
    caplog: pytest.LogCaptureFixture,
) -> None:
    work.then = raising(ValueError())
    assert deliver(app, queue) == 500
    clock.advance(work.keep_result)
    with services_of(app).ndb_context():
        assert maintenance.purge(services_of(app)).done == 1
    [line] = [record for record in caplog.records if "task_ended has never returned" in record.getMessage()]
    assert line.levelname == "ERROR"
    assert task.id[:8] in line.getMessage()
    assert deliver(app, queue) == 200
    assert len(work.told) == 1


# Where it runs.


def test_the_hook_runs_like_the_work_without_visitor_and_without_the_attempts_handler(
    make_app: Callable[..., Flask], queue: InMemoryQueue, client: FlaskClient
) -> None:
    seen: list[tuple[Any, ...]] = []

    class Spy(LongRunningTaskHandler):
        def execute_task(self, parameters: Any) -> Any:
            self.left_over = True
            return "result"

        def may_access(self, task: Any) -> bool:
            raise AssertionError("the queue is no visitor")

        def task_ended(self, task: LongTask) -> None:
            namespace = ndb.get_context().get_namespace()
            seen.append((self.task is task, hasattr(self, "left_over"), namespace, dict(session)))
            self.log_progress("not shown")
            self.checkpoint("not stored")
            seen.append((LongTaskManager.start("spy", {}).base_url,) if len(seen) == 1 else ())

    app = make_app(Spy)
    with services_of(app).ndb_context(), ndb.get_context().new(namespace="shop").use():
        task = start(app, "spy")
        with services_of(app).ndb_context():
            stored = load(app, task)
            stored.base_url = "https://shop.example.com"
            stored.save()
    assert deliver(app, queue) == 200
    assert seen[:2] == [(True, False, "shop", {}), ("https://shop.example.com",)]


def test_the_hook_gets_the_task_as_it_is_stored(app: Flask, queue: InMemoryQueue, work: type[Telling]) -> None:
    got: list[LongTask] = []
    work.do, work.then = raising(PermanentTaskFailure("Choose a month.")), got.append
    task = start(app, created_by="anna@example.com")
    assert deliver(app, queue) == 200
    [ended] = got
    assert (ended.id, ended.status, ended.error) == (task.id, Status.FAILED, "Choose a month.")
    assert (ended.created_by, ended.ended_at is not None) == ("anna@example.com", True)


def test_the_visitors_status_document_does_not_show_whether_the_handler_knows(
    app: Flask, client: FlaskClient, queue: InMemoryQueue
) -> None:
    url = started(client)
    deliver(app, queue)
    assert "untold" not in client.get(url, headers=JSON).text
