"""The table of deliveries in docs/reliability.md, row by row."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from flask import Flask
from flask.testing import FlaskClient
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler, LongTask, PermanentTaskFailure, Status
from gaetk_longtask.dev.pieces import Piece
from gaetk_longtask.limits import LEASE
from gaetk_longtask.queues import Delivery
from gaetk_longtask.testing import Faults, InMemoryProgressStore, InMemoryQueue, ManualClock, QueuedTask, put_between
from tests.support import Work, exceptions_of, load, polled, raising, services_of, started


def deliver(app: Flask, queued: QueuedTask, *, retry_count: int = 0) -> int:
    """Deliver a task without the bookkeeping of the queue."""
    headers = queued.headers | {"X-AppEngine-TaskRetryCount": str(retry_count)}
    return app.test_client().get(queued.request.uri, headers=headers).status_code


def claimed_by_a_worker_that_dies(app: Flask, task: LongTask, queued: QueuedTask) -> LongTask:
    """Claim the task like a delivery, and then stop like a crashed worker."""
    services = services_of(app)
    with services.ndb_context():
        return services.store.claim(_delivery(task, queued), max_attempts=3).task


def _delivery(task: LongTask, queued: QueuedTask) -> Delivery:
    return Delivery(task_id=task.id, execute_key=task.execute_key, task_name=queued.name)


def test_a_delivery_without_the_execute_key_is_forbidden(
    app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Work]
) -> None:
    queued = queue.tasks[0]
    forged = replace(queued.request, headers={"X-Longtask-Execute-Key": "A" * 22})
    assert deliver(app, replace(queued, request=forged)) == 403
    assert load(app, task).status is Status.READY
    assert work.runs == 0


def test_if_datastore_does_not_answer_the_answer_is_500_and_nothing_is_counted(
    app: Flask, task: LongTask, queue: InMemoryQueue, ndb_client: ndb.Client, datastore_piece: Piece, work: type[Work]
) -> None:
    faults = put_between(ndb_client)
    faults.lose_request("Commit", grpc.StatusCode.DEADLINE_EXCEEDED)
    assert deliver(app, queue.tasks[0]) == 500
    assert load(app, task).failures == 0
    assert work.runs == 0


def test_a_task_that_does_not_exist_is_no_work(
    app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Work]
) -> None:
    with services_of(app).ndb_context():
        LongTask.key_of(task.id).delete()
    assert deliver(app, queue.tasks[0]) == 200
    assert work.runs == 0


def test_a_task_that_has_ended_is_no_work(app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Work]) -> None:
    queued = queue.tasks[0]
    assert deliver(app, queued) == 200
    assert deliver(app, queued) == 200
    assert work.runs == 1


def test_a_cancelled_task_is_no_work(app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Work]) -> None:
    with services_of(app).ndb_context():
        services_of(app).store.cancel(task.id)
    assert deliver(app, queue.tasks[0]) == 200
    assert work.runs == 0


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
def test_a_delivery_recognizes_its_own_claim_after_a_lost_reply(
    code: grpc.StatusCode,
    app: Flask,
    task: LongTask,
    queue: InMemoryQueue,
    ndb_client: ndb.Client,
    datastore_piece: Piece,
    work: type[Work],
) -> None:
    put_between(ndb_client).lose_reply("Commit", code)
    assert deliver(app, queue.tasks[0]) == 200
    done = load(app, task)
    assert (done.status, done.fence, done.failures) == (Status.DONE, 1, 0)
    assert work.runs == 1


def test_the_finishing_commit_whose_reply_was_lost_is_success(
    app: Flask, task: LongTask, queue: InMemoryQueue, ndb_client: ndb.Client, datastore_piece: Piece, work: type[Work]
) -> None:
    faults: Faults = put_between(ndb_client)

    def do(handler: LongRunningTaskHandler) -> str:
        faults.lose_reply("Commit", grpc.StatusCode.UNAVAILABLE)
        return "result"

    work.do = do
    assert deliver(app, queue.tasks[0]) == 200
    assert load(app, task).status is Status.DONE


def test_a_finishing_commit_is_success_even_if_the_result_was_shown_before_its_reply_was_lost(
    app: Flask, task: LongTask, queue: InMemoryQueue, ndb_client: ndb.Client, datastore_piece: Piece, work: type[Work]
) -> None:
    faults: Faults = put_between(ndb_client)
    visitor = ndb.Client(project=ndb_client.project)

    def show() -> None:
        def visit() -> None:
            with visitor.context():
                services_of(app).store.show(task.id)

        thread = threading.Thread(target=visit)
        thread.start()
        thread.join()

    def do(handler: LongRunningTaskHandler) -> str:
        faults.before_loss = show
        faults.lose_reply("Commit", grpc.StatusCode.UNAVAILABLE)
        return "result"

    work.do = do
    assert deliver(app, queue.tasks[0]) == 200
    assert load(app, task).status is Status.FINISHED


def test_after_an_error_the_next_delivery_claims(
    app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Work]
) -> None:
    client = app.test_client()
    work.do = raising(ValueError("once"))
    assert queue.deliver(client).status_code == 500
    assert load(app, task).status is Status.ERROR
    work.do = lambda handler: "result"
    assert queue.deliver(client).status_code == 200
    done = load(app, task)
    assert (done.status, done.failures, done.attempt, done.fence) == (Status.DONE, 1, 2, 2)


def test_a_lapsed_lease_is_claimed_and_counts_as_a_failure(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    queued = queue.tasks[0]
    claimed_by_a_worker_that_dies(app, task, queued)
    clock.advance(LEASE)
    assert deliver(app, replace(queued, name="another")) == 200
    assert load(app, task).failures == 1


def test_an_owner_that_misses_three_beats_is_taken_over_by_the_queues_next_delivery(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    queued = queue.tasks[0]
    claimed_by_a_worker_that_dies(app, task, queued)
    clock.advance(timedelta(seconds=1.6))
    assert deliver(app, queued, retry_count=1) == 200
    done = load(app, task)
    assert (done.status, done.failures, done.fence) == (Status.DONE, 1, 2)


def test_an_owner_that_died_before_its_first_beat_is_taken_over_as_well(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, progress: InMemoryProgressStore
) -> None:
    queued = queue.tasks[0]
    before = dict(progress.stored)
    claimed_by_a_worker_that_dies(app, task, queued)
    progress.stored.update(before)
    clock.advance(timedelta(seconds=1.4))
    assert deliver(app, queued, retry_count=1) == 409
    clock.advance(timedelta(seconds=0.2))
    assert deliver(app, queued, retry_count=2) == 200


def test_an_owner_whose_beats_are_fresh_is_left_alone(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    queued = queue.tasks[0]
    claimed_by_a_worker_that_dies(app, task, queued)
    clock.advance(timedelta(seconds=1.4))
    assert deliver(app, queued, retry_count=1) == 409
    assert load(app, task).fence == 1


def test_a_duplicate_never_takes_over(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, work: type[Work]
) -> None:
    queued = queue.tasks[0]
    claimed_by_a_worker_that_dies(app, task, queued)
    clock.advance(timedelta(seconds=60))
    assert deliver(app, queued, retry_count=0) == 409
    assert deliver(app, replace(queued, name="another"), retry_count=5) == 409
    assert work.runs == 0


def test_without_a_progress_store_only_the_lease_ends_an_owners_right(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, progress: InMemoryProgressStore
) -> None:
    queued = queue.tasks[0]
    claimed_by_a_worker_that_dies(app, task, queued)
    progress.is_down = True
    clock.advance(timedelta(seconds=60))
    assert deliver(app, queued, retry_count=1) == 409
    clock.advance(LEASE)
    assert deliver(app, queued, retry_count=2) == 200


def test_a_poison_task_is_failed_after_max_attempts_without_running_again(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, work: type[Work]
) -> None:
    queued = queue.tasks[0]
    for _ in range(3):
        claimed_by_a_worker_that_dies(app, task, queued)
        clock.advance(4 * LEASE)  # each lease is longer than the one before
    assert deliver(app, queued, retry_count=3) == 200
    dead = load(app, task)
    assert (dead.status, dead.failures) == (Status.FAILED, 3)
    assert dead.error_reference
    assert work.runs == 0


def test_the_last_exception_fails_the_task_with_200(
    app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Work]
) -> None:
    work.do = raising(ValueError("always"))
    client = app.test_client()
    codes = [queue.deliver(client).status_code for _ in range(3)]
    assert codes == [500, 500, 200]
    assert load(app, task).status is Status.FAILED
    assert queue.tasks == []


def test_the_visitor_of_a_failed_task_sees_a_reference_but_not_the_exception(
    app: Flask, task: LongTask, queue: InMemoryQueue, caplog: pytest.LogCaptureFixture, work: type[Work]
) -> None:
    work.do = raising(ValueError("the password is swordfish"))
    client = app.test_client()
    queue.deliver_all(client)
    page = client.get(f"/work?_longtaskid={task.id}").text
    reference = load(app, task).error_reference
    assert reference in page
    assert reference in caplog.text
    assert "swordfish" not in page


def test_a_permanent_failure_ends_the_task_at_once_and_says_why(
    app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Work]
) -> None:
    work.do = raising(PermanentTaskFailure("That month has no invoices."))
    client = app.test_client()
    assert queue.deliver(client).status_code == 200
    assert "That month has no invoices." in client.get(f"/work?_longtaskid={task.id}").text


def test_a_superseded_attempt_answers_409_and_changes_nothing(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, work: type[Work]
) -> None:
    queued = queue.tasks[0]

    def be_overtaken(handler: LongRunningTaskHandler) -> str:
        work.do = lambda handler: "the successor's"
        clock.advance(LEASE)
        claimed_by_a_worker_that_dies(app, task, replace(queued, name="another"))
        return "the loser's"

    work.do = be_overtaken
    assert deliver(app, queued) == 409
    state = load(app, task)
    assert (state.status, state.fence, state.result_manifest) == (Status.STARTED, 2, None)


def test_an_exception_of_a_superseded_attempt_changes_nothing(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, work: type[Work]
) -> None:
    queued = queue.tasks[0]

    def be_overtaken(handler: LongRunningTaskHandler) -> str:
        clock.advance(LEASE)
        claimed_by_a_worker_that_dies(app, task, replace(queued, name="another"))
        raise ValueError("too late")

    work.do = be_overtaken
    assert deliver(app, queued) == 409
    assert load(app, task).status is Status.STARTED


def test_a_result_that_comes_after_the_cancellation_is_refused(
    app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Work]
) -> None:
    def be_cancelled(handler: LongRunningTaskHandler) -> str:
        services_of(app).store.cancel(task.id)
        return "too late"

    work.do = be_cancelled
    assert deliver(app, queue.tasks[0]) == 200
    state = load(app, task)
    assert (state.status, state.result_manifest) == (Status.CANCELLED, None)


def test_a_cancelled_attempt_ends_when_it_next_reports(
    app: Flask, task: LongTask, queue: InMemoryQueue, progress: InMemoryProgressStore, work: type[Work]
) -> None:
    cleaned = []

    def be_cancelled(handler: LongRunningTaskHandler) -> str:
        services_of(app).store.cancel(task.id)
        assert handler._reporter is not None
        handler._reporter.beat()
        try:
            handler.log_progress("still at it")
        except Exception:  # noqa: BLE001  # what an author might write
            cleaned.append("swallowed")
        finally:
            cleaned.append("cleaned up")
        return "never"

    work.do = be_cancelled
    assert deliver(app, queue.tasks[0]) == 200
    assert cleaned == ["cleaned up"]


def test_a_retry_starts_again_under_the_same_id_with_a_fresh_count(
    app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Work]
) -> None:
    client = app.test_client()
    work.do = raising(ValueError("always"))
    queue.deliver_all(client)
    work.do = lambda handler: "at last"
    assert client.post(f"/work?_longtaskjob=retry&_longtaskid={task.id}").status_code == 303
    assert load(app, task).failures == 0
    queue.deliver_all(client)
    assert "at last" in client.get(f"/work?_longtaskjob=showresult&_longtaskid={task.id}").text


def test_a_late_attempt_does_not_finish_a_task_that_was_cancelled_and_retried(
    app: Flask, task: LongTask, queue: InMemoryQueue, work: type[Work]
) -> None:
    def be_retried(handler: LongRunningTaskHandler) -> str:
        store = services_of(app).store
        store.cancel(task.id)
        store.retry(task.id)
        return "of the first run"

    work.do = be_retried
    assert deliver(app, queue.tasks[0]) == 409
    assert load(app, task).status is Status.READY


@pytest.mark.parametrize("departure", [SystemExit("bad arguments"), asyncio.CancelledError()], ids=repr)
@pytest.mark.parametrize("yields", [False, True], ids=["at once", "while it yields"])
def test_work_that_calls_sys_exit_fails_like_any_other(
    app: Flask, client: FlaskClient, queue: InMemoryQueue, departure: BaseException, yields: bool, work: type[Work]
) -> None:
    def leave(handler: LongRunningTaskHandler) -> Any:
        raise departure

    def yield_and_leave(handler: LongRunningTaskHandler) -> Any:
        yield "a piece"
        raise departure

    work.do = yield_and_leave if yields else leave
    url = started(client)
    answer, reported = exceptions_of(app, lambda: queue.deliver(client))
    assert answer.status_code == 500
    assert reported == [departure]
    document = polled(client, url)
    assert (document["status"], document["attempt"]) == ("error", 2)
