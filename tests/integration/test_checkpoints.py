"""Work that takes longer than one request: checkpoints, hand-overs, and what the next attempt resumes from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, ClassVar

import grpc
import pytest
from flask import Flask
from google.cloud import ndb

from gaetk_longtask import (
    LongRunningTaskHandler,
    LongTask,
    LongTaskError,
    PermanentTaskFailure,
    Status,
    TaskCancelled,
)
from gaetk_longtask.exceptions import EnqueueRefusedError, EnqueueUncertainError
from gaetk_longtask.info import Progress
from gaetk_longtask.limits import READY_PATIENCE
from gaetk_longtask.models import LongTaskChunk
from gaetk_longtask.payloads.chunks import INLINE_BYTES
from gaetk_longtask.testing import Crash, InMemoryProgressStore, InMemoryQueue, ManualClock, put_between
from tests.support import deliver, job, load, polled, press, services_of, start

STEP = timedelta(seconds=20)


class Work(LongRunningTaskHandler):
    """Counts to `goal` at twenty seconds per step, and calls `on_the_way` in each step."""

    max_attempts = 3
    time_limit = timedelta(minutes=2)
    goal: ClassVar[int]
    clock: ClassVar[ManualClock]
    #: The states that the attempts have resumed from.
    begins: ClassVar[list[Any]]
    #: Called with the handler and the step, before the step's checkpoint.
    on_the_way: ClassVar[Callable[[Work, int], object]]
    #: Returns the state of a step.
    state: ClassVar[Callable[[int], Any]]

    def execute_task(self, parameters: dict[str, Any]) -> Any:
        self.begins.append(self.resumed_from)
        first = self.resumed_from["step"] if self.resumed_from else 0
        for step in range(first + 1, self.goal + 1):
            self.clock.advance(STEP)
            self.log_progress("Counting", step, self.goal)
            type(self).on_the_way(self, step)
            self.checkpoint(type(self).state(step))
        return f"counted to {step}"


@pytest.fixture(autouse=True)
def work(clock: ManualClock) -> None:
    Work.goal = 3
    Work.clock = clock
    Work.begins = []
    Work.on_the_way = lambda handler, step: None
    Work.state = lambda step: {"step": step}


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app(Work, Lines)


def chunks(app: Flask) -> list[str]:
    with services_of(app).ndb_context():
        return [key.id() for key in LongTaskChunk.query().fetch(keys_only=True)]


def crash_once(at: int) -> Callable[[Work, int], None]:
    crashes = iter([at])

    def do(handler: Work, step: int) -> None:
        if step == at and next(crashes, None):
            raise Crash

    return do


# Checkpoints.


def test_a_worker_that_dies_is_followed_by_one_that_goes_on_from_the_last_durable_state(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    Work.on_the_way = crash_once(at=3)
    with pytest.raises(Crash):
        deliver(app, queue)
    died = load(app, task)
    assert died.status is Status.STARTED
    assert died.progress == Progress(message="Counting", step=2, total_steps=3)
    clock.advance(timedelta(minutes=3))
    assert deliver(app, queue) == 200
    assert Work.begins == [None, {"step": 2}]
    assert load(app, task).status is Status.DONE


def test_an_attempt_that_fails_is_followed_by_one_that_goes_on(
    app: Flask, task: LongTask, queue: InMemoryQueue
) -> None:
    errors = iter([ValueError("once")])

    def fail(handler: Work, step: int) -> None:
        if step == 2 and (error := next(errors, None)):
            raise error

    Work.on_the_way = fail
    assert deliver(app, queue) == 500
    assert deliver(app, queue) == 200
    assert Work.begins == [None, {"step": 1}]


def test_a_state_becomes_durable_no_more_often_than_every_fifteen_seconds(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, ndb_client: ndb.Client
) -> None:
    Work.goal = 1
    faults = put_between(ndb_client)
    commits = []

    def often(handler: Work, step: int) -> None:
        for number in range(60):
            handler.checkpoint({"step": 0, "often": number})
            clock.advance(timedelta(seconds=0.5))
        commits.append(faults.calls.count("Commit"))

    Work.on_the_way = often
    assert deliver(app, queue) == 200
    assert commits == [1 + 2]  # the claim, and two states in these 30 seconds


def test_the_same_state_again_costs_no_operation(
    app: Flask, task: LongTask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    Work.state = lambda step: {"step": 0}
    faults = put_between(ndb_client)
    assert deliver(app, queue) == 200
    assert faults.calls.count("Commit") == 3  # claim, one state, finish


def test_a_checkpoint_renews_the_lease(app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock) -> None:
    leases = []

    def look(handler: Work, step: int) -> None:
        leases.append(load(app, task).lease_until - clock())

    Work.on_the_way = look
    assert deliver(app, queue) == 200
    assert leases == [timedelta(seconds=100)] * 3


def test_a_checkpoint_that_made_progress_forgives_earlier_failures(
    app: Flask, task: LongTask, queue: InMemoryQueue
) -> None:
    Work.goal = 12
    failing = iter(range(2, 12))  # each attempt gets one step further than its time to fail

    def fail(handler: Work, step: int) -> None:
        if step == next(failing, 0):
            raise ValueError(step)

    Work.on_the_way = lambda handler, step: fail(handler, step) if handler.resumed_from != {"step": step - 1} else None
    codes = []
    while load(app, task).status is not Status.DONE:
        codes.append(deliver(app, queue))
        assert len(codes) < 30
    assert codes.count(500) > Work.max_attempts


def test_failures_without_progress_are_counted(app: Flask, task: LongTask, queue: InMemoryQueue) -> None:
    def fail(handler: Work, step: int) -> None:
        if step == 2:
            raise ValueError

    Work.on_the_way = fail
    assert [deliver(app, queue) for _ in range(3)] == [500, 500, 200]
    assert load(app, task).status is Status.FAILED


def test_a_task_that_fails_a_hundred_times_has_failed_whatever_it_seems_to_reach(
    app: Flask, task: LongTask, queue: InMemoryQueue
) -> None:
    def fail(handler: Work, step: int) -> None:
        if step == 2:
            raise ValueError

    Work.on_the_way = fail
    Work.state = lambda step: {"step": 0, "now": os.urandom(8).hex()}
    codes = [deliver(app, queue)]
    while load(app, task).status is Status.ERROR:
        codes.append(deliver(app, queue))
    assert codes == [*[500] * 99, 200]
    assert load(app, task).status is Status.FAILED
    with services_of(app).ndb_context():
        services_of(app).store.retry(task.id)
    assert (load(app, task).failures, load(app, task).forgiven) == (0, 0)


def test_a_state_may_be_as_large_as_a_result(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    noise = os.urandom(3 * INLINE_BYTES)
    Work.state = lambda step: {"step": step, "noise": noise + bytes([step])}
    Work.on_the_way = crash_once(at=3)
    with pytest.raises(Crash):
        deliver(app, queue)
    assert len(chunks(app)) == 1  # the earlier state's is gone
    clock.advance(timedelta(minutes=3))
    assert deliver(app, queue) == 200
    assert Work.begins[1] == {"step": 2, "noise": noise + b"\x02"}
    assert chunks(app) == []  # after the result, the state is not needed any more


def test_a_state_that_can_not_be_stored_ends_the_task_at_once(app: Flask, task: LongTask, queue: InMemoryQueue) -> None:
    Work.state = lambda step: {"step": object()}
    assert deliver(app, queue) == 200
    failed = load(app, task)
    assert failed.status is Status.FAILED
    assert failed.error is None  # only the author can do something about it


def test_in_a_transaction_a_checkpoint_is_refused(app: Flask, task: LongTask, queue: InMemoryQueue) -> None:
    refusals = []

    def within(handler: Work, step: int) -> None:
        with pytest.raises(LongTaskError, match="outside of NDB transactions") as caught:
            ndb.transaction(lambda: handler.checkpoint({"step": 1}))
        refusals.append(caught.value)

    Work.on_the_way = within
    assert deliver(app, queue) == 200
    assert len(refusals) == 3


@pytest.mark.parametrize("method", ["BeginTransaction", "Commit"])
def test_a_store_that_does_not_answer_for_a_while_does_not_stop_the_work(
    method: str, app: Flask, task: LongTask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    faults = put_between(ndb_client)

    def lose(handler: Work, step: int) -> None:
        if step == 1:
            faults.lose_request(method, grpc.StatusCode.DEADLINE_EXCEEDED)
        if step == 3:
            assert load(app, task).progress.step == 2

    Work.on_the_way = lose
    assert deliver(app, queue) == 200
    assert load(app, task).status is Status.DONE


def test_a_checkpoint_whose_reply_was_lost_is_kept(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, ndb_client: ndb.Client
) -> None:
    faults = put_between(ndb_client)
    crash = crash_once(at=3)

    def lose(handler: Work, step: int) -> None:
        if step == 2:
            faults.lose_reply("Commit")
        crash(handler, step)

    Work.on_the_way = lose
    with pytest.raises(Crash):
        deliver(app, queue)
    clock.advance(timedelta(minutes=3))
    assert deliver(app, queue) == 200
    assert Work.begins == [None, {"step": 2}]


def test_a_superseded_attempt_can_keep_nothing(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    queued = queue.tasks[0]

    def another(handler: Work, step: int) -> None:
        Work.on_the_way = lambda handler, step: None
        clock.advance(timedelta(minutes=3))
        assert app.test_client().get(queued.request.uri, headers=queued.headers).status_code == 200

    Work.on_the_way = another
    assert deliver(app, queue) == 200
    assert load(app, task).status is Status.DONE
    assert Work.begins == [None, None]
    assert load(app, task).state_manifest is None


def test_a_cancelled_task_keeps_nothing_more_and_its_work_ends(
    app: Flask, task: LongTask, queue: InMemoryQueue
) -> None:
    ends = []

    def cancel(handler: Work, step: int) -> None:
        if step == 2:
            with services_of(app).ndb_context():
                services_of(app).store.cancel(task.id)
            try:
                handler.checkpoint({"step": 2})
            except TaskCancelled as exc:
                ends.append(exc.superseded)
                raise

    Work.on_the_way = cancel
    assert deliver(app, queue) == 200
    assert ends == [False]
    assert load(app, task).status is Status.CANCELLED


def test_a_task_that_is_retried_goes_on_from_its_last_state(app: Flask, task: LongTask, queue: InMemoryQueue) -> None:
    Work.on_the_way = lambda handler, step: _raise(PermanentTaskFailure("no")) if step == 3 else None
    assert deliver(app, queue) == 200
    assert load(app, task).status is Status.FAILED
    Work.on_the_way = lambda handler, step: None
    press(app.test_client(), task.url, "retry")
    assert deliver(app, queue) == 200
    assert Work.begins == [None, {"step": 2}]


def _raise(error: BaseException) -> None:
    raise error


def test_outside_of_an_attempt_there_is_nothing_to_keep() -> None:
    handler = Work()
    handler.checkpoint({"step": 1})
    handler.assert_current()
    assert handler.resumed_from is None


# Hand-overs.


def test_near_its_time_limit_an_attempt_hands_over_to_the_next_one(
    app: Flask, task: LongTask, queue: InMemoryQueue
) -> None:
    Work.goal = 12
    assert deliver(app, queue) == 200
    between = load(app, task)
    assert (between.status, between.lease_until, between.failures) == (Status.STARTED, None, 0)
    assert len(queue.tasks) == 1
    queue.deliver_all(app.test_client())
    assert Work.begins == [None, {"step": 5}, {"step": 10}]
    done = load(app, task)
    assert (done.status, done.fence, done.failures) == (Status.DONE, 3, 0)
    assert done.run_seconds == 12 * STEP.total_seconds()


def test_the_next_attempt_is_asked_for_once_the_authors_code_has_ended(
    app: Flask, task: LongTask, queue: InMemoryQueue
) -> None:
    queued_at_the_end = []

    class Tidy(Work):
        def execute_task(self, parameters: dict[str, Any]) -> Any:
            try:
                return super().execute_task(parameters)
            finally:
                queued_at_the_end.append(len(queue.tasks))

    app.view_functions["work"] = Tidy.as_view("work")
    Work.goal = 6
    assert deliver(app, queue) == 200
    assert queued_at_the_end == [0]
    assert len(queue.tasks) == 1


@pytest.mark.parametrize("way_out", [ValueError("while tidying up"), None])
def test_the_task_is_handed_over_even_if_the_authors_code_catches_or_raises(
    way_out: Exception | None, app: Flask, task: LongTask, queue: InMemoryQueue
) -> None:
    class Stubborn(Work):
        def execute_task(self, parameters: dict[str, Any]) -> Any:
            try:
                return super().execute_task(parameters)
            except BaseException:  # noqa: BLE001  # what an author should not write
                if way_out is not None:
                    raise way_out from None
                return "swallowed"

    app.view_functions["work"] = Stubborn.as_view("work")
    Work.goal = 6
    assert deliver(app, queue) == 200
    assert load(app, task).status is Status.STARTED
    assert deliver(app, queue) == 200
    assert load(app, task).status is Status.DONE
    assert Work.begins == [None, {"step": 5}]


def test_the_margin_covers_the_longest_work_between_two_calls(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    Work.goal = 3
    Work.on_the_way = lambda handler, step: clock.advance(timedelta(seconds=30))  # 50 seconds a step
    assert deliver(app, queue) == 200
    queue.deliver_all(app.test_client())
    assert Work.begins == [None, {"step": 2}]


def test_the_margin_covers_the_longest_saving(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, ndb_client: ndb.Client
) -> None:
    services = services_of(app)
    keep = services.store.keep

    def slowly(*args: Any, **kwargs: Any) -> Any:
        clock.advance(timedelta(seconds=12))
        return keep(*args, **kwargs)

    services.store.keep = slowly  # type: ignore[method-assign]  # a store that takes its time
    Work.goal = 4
    assert deliver(app, queue) == 200
    # 20 + 12 + 20 + 12 + 20 = 84 seconds. The next call would be at 104 seconds, and 24 more have to be left.
    assert load(app, task).progress.step == 3


def test_a_hand_over_without_new_state_counts_as_a_failure(app: Flask, task: LongTask, queue: InMemoryQueue) -> None:
    Work.goal = 9
    Work.state = lambda step: {"step": 0}
    codes = []
    while queue.tasks:
        codes.append(deliver(app, queue))
    assert load(app, task).status is Status.FAILED
    assert load(app, task).error_reference
    assert codes == [200] * (1 + Work.max_attempts)  # the first one brought a state


@pytest.mark.parametrize("error", [EnqueueRefusedError("no"), EnqueueUncertainError("maybe")])
def test_where_no_new_delivery_is_certain_the_present_one_goes_on(
    error: Any, app: Flask, task: LongTask, queue: InMemoryQueue
) -> None:
    Work.goal = 6
    queue.errors = [error]
    assert deliver(app, queue) == 409
    assert deliver(app, queue) == 200
    assert Work.begins == [None, {"step": 5}]
    assert load(app, task).status is Status.DONE


def test_a_worker_that_dies_before_it_has_asked_for_the_next_attempt_is_followed_by_its_own_delivery(
    app: Flask, task: LongTask, queue: InMemoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    Work.goal = 6

    def die(request: Any) -> None:
        monkeypatch.undo()
        raise Crash

    monkeypatch.setattr(queue, "enqueue", die)
    with pytest.raises(Crash):
        deliver(app, queue)
    assert deliver(app, queue) == 200
    assert Work.begins == [None, {"step": 5}]
    assert (load(app, task).status, load(app, task).failures) == (Status.DONE, 0)


def test_a_hand_over_whose_delivery_is_lost_is_healed(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    Work.goal = 6
    assert deliver(app, queue) == 200
    queue.tasks.clear()
    clock.advance(READY_PATIENCE)
    app.test_client().get(task.url)
    assert deliver(app, queue) == 200
    assert (load(app, task).status, load(app, task).failures) == (Status.DONE, 0)


def test_what_follows_a_healed_delivery_goes_to_the_version_with_the_traffic_as_it_did(
    make_app: Callable[..., Flask], queue: InMemoryQueue, clock: ManualClock
) -> None:
    Work.goal = 9
    app = make_app(Work, LONGTASK_VERSION="v1")
    task = start(app)
    assert deliver(app, queue) == 200
    assert [queued.request.version for queued in queue.tasks] == ["v1"]
    queue.tasks.clear()  # that version is gone
    clock.advance(READY_PATIENCE)
    app.test_client().get(task.url)
    while queue.tasks:
        assert [queued.request.version for queued in queue.tasks] == [None]
        assert deliver(app, queue) == 200
    assert load(app, task).status is Status.DONE


def test_the_old_delivery_once_more_finds_the_next_attempt_at_work(
    app: Flask, task: LongTask, queue: InMemoryQueue
) -> None:
    Work.goal = 6
    assert deliver(app, queue) == 200
    old = queue.delivered[-1]
    codes = []
    Work.on_the_way = lambda handler, step: codes.append(
        app.test_client().get(old.request.uri, headers=old.headers).status_code
    )
    assert deliver(app, queue) == 200
    assert codes == [409]


def test_a_lost_reply_of_the_hand_over_does_not_stop_it(
    app: Flask, task: LongTask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    Work.goal = 6
    faults = put_between(ndb_client)
    Work.on_the_way = lambda handler, step: faults.lose_reply("Commit") if step == 5 else None
    assert deliver(app, queue) == 200
    assert deliver(app, queue) == 200
    assert Work.begins == [None, {"step": 5}]


def test_where_the_store_does_not_take_the_hand_over_the_work_goes_on_and_tries_again(
    app: Flask, task: LongTask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    Work.goal = 7
    faults = put_between(ndb_client)
    Work.on_the_way = lambda handler, step: (
        faults.lose_request("Commit", grpc.StatusCode.DEADLINE_EXCEEDED) if step == 5 else None
    )
    assert deliver(app, queue) == 200
    assert deliver(app, queue) == 200
    assert Work.begins == [None, {"step": 6}]


def test_what_was_handed_over_is_not_taken_back_by_a_late_renewal(
    app: Flask, task: LongTask, queue: InMemoryQueue
) -> None:
    Work.goal = 6
    assert deliver(app, queue) == 200
    with services_of(app).ndb_context():
        assert services_of(app).store.renew(task.id, fence=1) is Status.STARTED
    assert load(app, task).lease_until is None


def test_the_visitor_sees_progress_go_on_across_a_hand_over(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, progress: InMemoryProgressStore
) -> None:
    Work.goal = 20
    client = app.test_client()
    seen = []

    def look() -> None:
        document = polled(client, task.url)
        assert document is not None
        seen.append(
            (document["status"], document["attempt"], document["progress"]["step"], document["elapsed_seconds"])
        )

    Work.on_the_way = lambda handler, step: (handler._reporter.beat(), look()) if step == 6 else None
    assert deliver(app, queue) == 200
    look()
    assert deliver(app, queue) == 200
    assert seen == [("started", 1, 5, 100), ("started", 1, 6, 120)]


# Superseded attempts and the author's own entities.


class Balance(ndb.Model):
    value = ndb.IntegerProperty(default=0)


def book(handler: Work) -> None:
    def transact() -> None:
        handler.assert_current()
        balance = Balance.get_by_id("b") or Balance(id="b")
        balance.value += 1
        balance.put()

    ndb.transaction(transact, retries=0)


def test_the_attempt_that_owns_the_task_may_write(app: Flask, task: LongTask, queue: InMemoryQueue) -> None:
    Work.on_the_way = lambda handler, step: book(handler)
    assert deliver(app, queue) == 200
    with services_of(app).ndb_context():
        assert Balance.get_by_id("b").value == 3


def test_a_superseded_attempt_can_not_write(app: Flask, task: LongTask, queue: InMemoryQueue) -> None:
    def cancel_and_book(handler: Work, step: int) -> None:
        with services_of(app).ndb_context():
            services_of(app).store.cancel(task.id)
        book(handler)

    Work.on_the_way = cancel_and_book
    assert deliver(app, queue) == 200
    with services_of(app).ndb_context():
        assert Balance.get_by_id("b") is None


def test_an_attempt_that_is_superseded_within_its_transaction_can_not_write(
    app: Flask, task: LongTask, queue: InMemoryQueue, ndb_client: ndb.Client, pytestconfig: pytest.Config
) -> None:
    if pytestconfig.getoption("--datastore") == "firestore":
        pytest.skip("there the cancellation waits until the transaction is over")

    def book_too_late(handler: Work, step: int) -> None:
        def transact() -> None:
            handler.assert_current()
            with ndb.get_context().new(transaction=None).use():
                services_of(app).store.cancel(task.id)
            Balance(id="b", value=1).put()

        ndb.transaction(transact, retries=0)

    Work.on_the_way = book_too_late
    deliver(app, queue)
    assert load(app, task).status is Status.CANCELLED
    with services_of(app).ndb_context():
        assert Balance.get_by_id("b") is None


def test_a_superseded_attempt_rolls_its_transaction_back_and_frees_its_locks(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, ndb_client: ndb.Client
) -> None:
    queued = queue.tasks[0]
    faults = put_between(ndb_client)
    rollbacks = []

    def successor(handler: Work, step: int) -> None:
        if step == 1:
            with pytest.raises(TaskCancelled):
                book(given_up[0])
            rollbacks.append(faults.calls.count("Rollback"))
        book(handler)

    def another(handler: Work, step: int) -> None:
        Work.on_the_way = successor
        given_up.append(handler)
        clock.advance(timedelta(minutes=3))
        assert app.test_client().get(queued.request.uri, headers=queued.headers).status_code == 200

    given_up: list[Work] = []
    Work.on_the_way = another
    assert deliver(app, queue) == 200
    assert rollbacks == [1]
    assert load(app, task).status is Status.DONE
    with services_of(app).ndb_context():
        assert Balance.get_by_id("b").value == 3


def test_a_transaction_in_which_progress_is_reported_is_rolled_back_too(
    app: Flask, task: LongTask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    faults = put_between(ndb_client)
    calls: list[str] = []

    def cancel_and_report(handler: Work, step: int) -> None:
        with services_of(app).ndb_context():
            services_of(app).store.cancel(task.id)
        assert handler._reporter is not None
        handler._reporter.beat()
        before = len(faults.calls)
        with pytest.raises(TaskCancelled):
            ndb.transaction(lambda: handler.log_progress("Booking"), retries=0)
        calls.extend(faults.calls[before:])

    Work.on_the_way = cancel_and_report
    assert deliver(app, queue) == 200
    assert calls == ["BeginTransaction", "Rollback"]


# Yielded results.


class Lines(LongRunningTaskHandler):
    """Yields numbered lines, with a checkpoint after each."""

    time_limit = timedelta(minutes=2)
    size: ClassVar[int] = 10
    encode: ClassVar[Callable[[str], Any]] = staticmethod(lambda line: line)

    def execute_task(self, parameters: dict[str, Any]) -> Iterator[Any]:
        for step in range(self.resumed_from or 0, Work.goal):
            Work.clock.advance(STEP)
            yield type(self).encode(f"{step} {'ä' * self.size}\n")
            Work.on_the_way(self, step)
            self.checkpoint(step + 1)


@pytest.fixture
def lines(app: Flask) -> LongTask:
    Lines.size, Lines.encode = 10, lambda line: line
    return start(app, "lines")


def whole() -> str:
    return "".join(f"{step} {'ä' * Lines.size}\n" for step in range(Work.goal))


@pytest.mark.parametrize("size", [10, 400_000])
@pytest.mark.parametrize("kind", ["str", "bytes"])
def test_what_was_yielded_across_hand_overs_and_crashes_is_one_result(
    kind: str, size: int, app: Flask, lines: LongTask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    Work.goal, Lines.size = 12, size
    if kind == "bytes":
        Lines.encode = lambda line: line.encode()
    Work.on_the_way = crash_once(at=8)
    deliver(app, queue)
    with pytest.raises(Crash):
        deliver(app, queue)
    clock.advance(timedelta(minutes=3))
    queue.deliver_all(app.test_client())
    shown = app.test_client().get(job(lines.url, "showresult"))
    assert shown.text == whole()


def test_pieces_that_were_yielded_after_the_last_checkpoint_are_yielded_again_and_count_once(
    app: Flask, lines: LongTask, queue: InMemoryQueue, clock: ManualClock, ndb_client: ndb.Client
) -> None:
    faults = put_between(ndb_client)
    crash = crash_once(at=2)

    def lose(handler: Any, step: int) -> None:
        if step == 1:  # this line is being stored already, and its checkpoint fails
            faults.lose_request("Commit", grpc.StatusCode.DEADLINE_EXCEEDED)
        crash(handler, step)

    Work.on_the_way = lose
    with pytest.raises(Crash):
        deliver(app, queue)
    clock.advance(timedelta(minutes=3))
    assert deliver(app, queue) == 200
    assert app.test_client().get(job(lines.url, "showresult")).text == whole()


def test_a_task_that_is_retried_keeps_what_was_yielded(app: Flask, lines: LongTask, queue: InMemoryQueue) -> None:
    Work.on_the_way = lambda handler, step: _raise(PermanentTaskFailure("no")) if step == 2 else None
    assert deliver(app, queue) == 200
    Work.on_the_way = lambda handler, step: None
    press(app.test_client(), lines.url, "retry")
    assert deliver(app, queue) == 200
    assert app.test_client().get(job(lines.url, "showresult")).text == whole()
