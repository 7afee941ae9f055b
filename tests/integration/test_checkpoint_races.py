"""Checkpoints in unusual cases: uncertain commits, odd code of authors, damage, and late calls."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import grpc
import pytest
from flask import Flask
from google.cloud import ndb

from gaetk_longtask import LongTask, LongTaskError, Status, TaskCancelled
from gaetk_longtask.limits import LEASE
from gaetk_longtask.models import LongTaskChunk
from gaetk_longtask.payloads import chunks
from gaetk_longtask.payloads.chunks import INLINE_BYTES
from gaetk_longtask.testing import Crash, Faults, InMemoryQueue, ManualClock
from tests.support import Work, deliver, job, load, press, services_of

STEP = timedelta(seconds=20)
LOST = grpc.StatusCode.DEADLINE_EXCEEDED  # ndb does not retry after this code


@pytest.fixture(autouse=True)
def work(work: type[Work]) -> type[Work]:
    work.time_limit = timedelta(minutes=2)
    return work


def shown(app: Flask, task: LongTask) -> str:
    return app.test_client().get(job(task.url, "showresult")).text


def lose_sight(app: Flask) -> None:
    """Let the next checkpoint be committed, but not reported to its attempt."""
    store = services_of(app).store
    keep = store.keep

    def uncertain(*args: Any, **kwargs: Any) -> Any:
        store.keep = keep  # type: ignore[method-assign]  # for once only
        keep(*args, **kwargs)
        raise grpc.RpcError

    store.keep = uncertain  # type: ignore[method-assign]  # the reply is lost, and so is the check


@pytest.fixture
def _early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notice a lost block when the next one is written, and not only when the result is sealed."""
    monkeypatch.setattr(chunks, "AT_ONCE", 1)


@pytest.mark.usefixtures("_early")
def test_a_checkpoint_that_comes_after_pieces_were_lost_keeps_nothing(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, faults: Faults, work: type[Work]
) -> None:
    noise = [os.urandom(2_100_000) for _ in range(3)]
    losses = iter(["once"])
    generators = []

    def pieces(handler: Work) -> Iterator[bytes]:
        for step in range(handler.resumed_from or 0, len(noise)):
            if step == 1 and next(losses, None):
                faults.lose_request("Commit", LOST)
            clock.advance(STEP)
            try:
                yield noise[step]
            finally:  # also runs if the piece could not be stored
                handler.checkpoint(step + 1)

    def do(handler: Work) -> Iterator[bytes]:
        generators.append(pieces(handler))
        return generators[-1]

    work.do = do
    assert deliver(app, queue) == 500
    with services_of(app).ndb_context(), suppress(TaskCancelled):
        generators[0].close()  # as the garbage collector does, sooner or later
    clock.advance(LEASE)
    assert deliver(app, queue) == 200
    assert app.test_client().get(job(task.url, "showresult")).data == b"".join(noise)


@pytest.mark.usefixtures("_early")
def test_an_error_in_cleanup_after_a_lost_piece_does_no_harm(
    app: Flask, task: LongTask, queue: InMemoryQueue, faults: Faults, work: type[Work]
) -> None:
    def do(handler: Work) -> Iterator[bytes]:
        faults.lose_request("Commit", LOST)
        try:
            yield os.urandom(2_100_000)
        finally:
            raise ValueError

    work.do = do
    assert deliver(app, queue) == 500
    assert (load(app, task).status, load(app, task).failures) == (Status.ERROR, 0)


def test_an_earlier_state_after_an_uncertain_checkpoint_is_durable(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, work: type[Work]
) -> None:
    begins = []

    def do(handler: Work) -> str:
        begins.append(handler.resumed_from)
        if len(begins) > 1:
            return "done"
        clock.advance(STEP)
        handler.checkpoint("a")
        clock.advance(STEP)
        lose_sight(app)
        handler.checkpoint("b")
        clock.advance(STEP)
        handler.checkpoint("a")
        raise Crash

    work.do = do
    with pytest.raises(Crash):
        deliver(app, queue)
    clock.advance(LEASE)
    assert deliver(app, queue) == 200
    assert begins == [None, "a"]


def test_states_of_the_same_bytes_and_another_type_differ(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, work: type[Work]
) -> None:
    begins = []

    def do(handler: Work) -> str:
        begins.append(handler.resumed_from)
        for state in ("7", 7, b"7"):
            clock.advance(STEP)
            handler.checkpoint(state)
            if len(begins) == 1 and state == 7:
                raise ValueError
        return "done"

    work.do = do
    assert deliver(app, queue) == 500
    assert deliver(app, queue) == 200
    assert begins == [None, 7]


def test_a_hand_over_without_new_state_counts_once_even_if_its_first_commit_was_uncertain(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, work: type[Work]
) -> None:
    def do(handler: Work) -> None:
        if handler.resumed_from is None:
            clock.advance(STEP)
            handler.checkpoint("stuck")
        while True:
            if handler.resumed_from and (clock() - load(app, task).started_at).total_seconds() == 100:
                lose_sight(app)
            handler.checkpoint("stuck")
            clock.advance(STEP)

    work.do = do
    assert deliver(app, queue) == 200
    assert load(app, task).failures == 0
    assert deliver(app, queue) == 200
    assert load(app, task).failures == 1


def test_a_task_with_a_damaged_state_starts_over_when_it_is_retried(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, work: type[Work]
) -> None:
    begins = []

    def do(handler: Work) -> str:
        begins.append(handler.resumed_from is None)
        clock.advance(STEP)
        handler.checkpoint(os.urandom(2 * INLINE_BYTES))
        if len(begins) == 1:
            raise ValueError
        return "done"

    work.do = do
    assert deliver(app, queue) == 500
    with services_of(app).ndb_context():
        ndb.delete_multi(LongTaskChunk.query().fetch(keys_only=True))
    assert deliver(app, queue) == 200
    assert load(app, task).status is Status.FAILED
    press(app.test_client(), task.url, "retry")
    assert deliver(app, queue) == 200
    assert load(app, task).status is Status.DONE
    assert begins == [True, True]


def test_damaged_pieces_are_yielded_again_when_the_task_is_retried(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, work: type[Work]
) -> None:
    fails = iter([ValueError()])

    def do(handler: Work) -> Iterator[str]:
        for step in range(handler.resumed_from or 0, 3):
            clock.advance(STEP)
            yield f"{step} "
            handler.checkpoint(step + 1)
            if step == 1 and (error := next(fails, None)):
                raise error

    work.do = do
    assert deliver(app, queue) == 500
    with services_of(app).ndb_context():
        damaged = load(app, task)
        damaged.result_blob = b"?"
        damaged.save()
    assert deliver(app, queue) == 200
    assert load(app, task).status is Status.FAILED
    press(app.test_client(), task.url, "retry")
    assert deliver(app, queue) == 200
    assert shown(app, task) == "0 1 2 "


def test_a_store_that_is_slow_to_fail_is_not_tried_at_every_call(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, work: type[Work]
) -> None:
    work.time_limit = timedelta(minutes=10)
    keep = services_of(app).store.keep
    tries = []

    def slow_to_fail(*args: Any, **kwargs: Any) -> Any:
        tries.append(clock())
        clock.advance(timedelta(seconds=60))
        raise grpc.RpcError

    def do(handler: Work) -> str:
        services_of(app).store.keep = slow_to_fail  # type: ignore[method-assign]  # a store in trouble
        clock.advance(STEP)
        for step in range(10):
            handler.checkpoint(step)
            clock.advance(timedelta(seconds=0.1))
        services_of(app).store.keep = keep  # type: ignore[method-assign]  # that has recovered
        return "done"

    work.do = do
    assert deliver(app, queue) == 200
    assert len(tries) == 1


def test_on_another_thread_a_checkpoint_is_refused(
    app: Flask, task: LongTask, queue: InMemoryQueue, ndb_client: ndb.Client, work: type[Work]
) -> None:
    refusals = []

    def do(handler: Work) -> str:
        def call() -> None:
            with ndb_client.context():
                try:
                    handler.checkpoint("state")
                except LongTaskError as exc:
                    refusals.append(str(exc))

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        return "done"

    work.do = do
    assert deliver(app, queue) == 200
    assert "on the thread that runs execute_task" in refusals[0]


def count_until_handed_over(clock: ManualClock) -> Callable[[Work], str]:
    """Reach the time limit after five steps."""

    def do(handler: Work) -> str:
        for step in range(1, 100):
            clock.advance(STEP)
            handler.log_progress("Counting", step, 100)
            handler.checkpoint(step)
        return "never"

    return do


def test_only_the_attempt_that_continues_at_once_inherits_the_pace(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, work: type[Work]
) -> None:
    work.do = count_until_handed_over(clock)
    assert deliver(app, queue) == 200
    assert "pace" in load(app, task).progress_stored

    def die(handler: Work) -> None:
        raise Crash

    work.do = die
    with pytest.raises(Crash):
        deliver(app, queue)
    clock.advance(LEASE)
    kept = []
    work.do = lambda handler: kept.append(load(app, task).progress_stored)
    assert deliver(app, queue) == 200
    assert kept == [{"message": "Counting", "step": 5, "total_steps": 100}]


def test_a_task_that_is_retried_long_after_its_cancellation_has_no_old_time_left(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, work: type[Work]
) -> None:
    work.do = count_until_handed_over(clock)
    assert deliver(app, queue) == 200
    with services_of(app).ndb_context():
        services_of(app).store.cancel(task.id)
    press(app.test_client(), task.url, "retry")
    assert load(app, task).progress_stored == {"message": "Counting", "step": 5, "total_steps": 100}
