"""What happens to a task in parts in rarer orders of events: namespaces, ghosts that fail, deletion, two last parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from google.cloud import ndb

from gaetk_longtask import (
    LongTask,
    LongTaskManager,
    PermanentTaskFailure,
    Status,
    events,
    maintenance,
)
from gaetk_longtask.exceptions import EnqueueRefusedError
from gaetk_longtask.info import Parts
from gaetk_longtask.limits import LATE_RETRY
from gaetk_longtask.splits import Split, Stage
from gaetk_longtask.testing import Crash, Faults, InMemoryQueue, ManualClock, QueuedTask
from tests.in_parts import Letters, finish, parts_of, result_of, url_of
from tests.support import load, polled, press, services_of

# A crash leaves ndb's generators behind half-way, and they complain when they are thrown away.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ALL = "ABCDEFGH"


def send(client: FlaskClient, queued: QueuedTask) -> int:
    return client.get(queued.request.uri, headers=queued.headers).status_code


def number_in(queued: QueuedTask) -> int | None:
    _, has_part, address = queued.request.uri.partition("_longtaskpart=")
    return int(address.partition(".")[2]) if has_part else None


def steer_again(client: FlaskClient, task: LongTask) -> None:
    press(client, url_of(task), "cancel")
    press(client, url_of(task), "retry")


# Where the work is done.


def test_the_parts_of_a_task_of_a_namespace_are_found_and_work_in_it(
    app: Flask, client: FlaskClient, queue: InMemoryQueue, letters: type[Letters], ndb_client: ndb.Client
) -> None:
    seen: set[str] = set()

    def do(handler: Any, letter: str) -> str:
        seen.add(ndb.get_context().get_namespace())
        return letter.upper()

    letters.do = do
    with ndb_client.context(namespace="shop"), app.app_context():
        task = LongTaskManager.start("letters", {})
    queue.deliver_all(client)
    assert load(app, task).status is Status.DONE
    assert seen == {"shop"}
    assert len(parts_of(app)) == 8
    with services_of(app).ndb_context():
        assert maintenance.delete(services_of(app), task.id)
    assert parts_of(app) == []


def test_a_retry_of_a_task_of_a_namespace_works_on_the_failed_part_alone(
    app: Flask, client: FlaskClient, queue: InMemoryQueue, letters: type[Letters], ndb_client: ndb.Client
) -> None:
    def fail(handler: Any, letter: str) -> str:
        if letter == "h":
            raise PermanentTaskFailure("no h today")
        return letter.upper()

    letters.do = fail
    with ndb_client.context(namespace="shop"), app.app_context():
        task = LongTaskManager.start("letters", {})
    queue.deliver_all(client)
    assert load(app, task).status is Status.FAILED
    letters.log.clear()
    letters.do = Letters.do
    press(client, url_of(task), "retry")
    queue.deliver_all(client)
    assert result_of(client, task) == ALL
    assert letters.log.count("h") == 1
    assert "split" not in letters.log


# Ghosts.


@pytest.mark.parametrize("error", [PermanentTaskFailure("from the past"), ValueError("from the past")], ids=type)
def test_a_ghost_that_fails_its_part_before_anybody_takes_it_over_does_not_fail_the_run_of_the_retry(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    letters: type[Letters],
    error: Exception,
) -> None:
    def do(handler: Any, letter: str) -> str:
        if letter == "a" and letters.log.count("a") == 1:
            steer_again(client, task)
            raise error
        return letter.upper()

    letters.do = do
    queue.deliver_all(client)
    assert result_of(client, task) == ALL
    assert letters.log.count("a") == 2
    [part] = [each for each in parts_of(app) if each.id.endswith(".0000")]
    assert part.failures == 0


def test_a_ghost_that_goes_on_after_the_join_has_begun_changes_nothing(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    def do(handler: Any, letter: str) -> str:
        if letter == "a" and letters.log.count("a") == 1:
            steer_again(client, task)
            while "join" not in letters.log:
                queue.deliver(client)
            return "ghost"
        return letter.upper()

    letters.do = do
    queue.deliver_all(client)
    assert result_of(client, task) == ALL
    assert letters.log.count("join") == 1


def test_the_parts_of_an_earlier_split_are_answered_200_and_not_worked_on(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
    letters: type[Letters],
) -> None:
    queue.deliver(client)
    old = list(queue.tasks)
    queue.tasks.clear()
    press(client, url_of(task), "cancel")
    clock.advance(LATE_RETRY + timedelta(days=1))
    press(client, url_of(task), "retry")
    queue.deliver(client)
    letters.log.clear()
    assert [send(client, each) for each in old] == [200, 200, 200]
    assert letters.log == []
    queue.deliver_all(client)
    assert result_of(client, task) == ALL


# Duplicates in each state of a part.


def test_a_duplicate_under_another_name_of_a_part_that_waits_for_its_second_attempt_takes_its_lane_over(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    def do(handler: Any, letter: str) -> str:
        if letter == "a" and letters.log.count("a") == 1:
            raise ValueError("once")
        return letter.upper()

    letters.do = do
    queue.deliver(client)
    assert queue.deliver(client).status_code == 500
    first = queue.tasks.pop()
    queue.tasks.insert(0, replace(first, name="another", retry_count=0))
    assert queue.deliver(client).status_code == 200
    assert send(client, first) == 200
    assert [number_in(each) for each in queue.tasks] == [1, 2, 5]
    queue.deliver_all(client)
    assert result_of(client, task) == ALL
    assert letters.log.count("a") == 2


def test_duplicates_of_a_part_that_has_failed_change_nothing(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    def fail(handler: Any, letter: str) -> str:
        raise PermanentTaskFailure("never")

    letters.do = fail
    queue.deliver(client)
    assert queue.deliver(client).status_code == 200
    before = load(app, task)
    again = queue.delivered[-1]
    for each in (again, replace(again, name="another")):
        assert send(client, each) == 200
    after = load(app, task)
    assert (after.status, after.error, after.token) == (Status.FAILED, "never", before.token)
    assert letters.log == ["split", "a"]


def test_a_part_that_has_failed_fails_its_task_only_by_its_own_delivery_or_the_next_look_at_the_lanes(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
    faults: Faults,
    letters: type[Letters],
) -> None:
    def fail(handler: Any, letter: str) -> str:
        raise PermanentTaskFailure("never")

    letters.do = fail
    queue.deliver(client)
    faults.crash(after=Status.FAILED)
    with pytest.raises(Crash):
        queue.deliver(client)
    again = queue.tasks.pop()
    queue.tasks.clear()
    assert send(client, replace(again, name="another")) == 200
    assert load(app, task).status is Status.STARTED
    clock.advance(timedelta(minutes=2))
    with services_of(app).ndb_context():
        maintenance.sweep(services_of(app))
    assert (load(app, task).status, load(app, task).error) == (Status.FAILED, "never")


@pytest.mark.parametrize("how", ["its own delivery", "a sweep"])
def test_when_a_part_has_failed_the_bar_stays_where_it_was_and_a_retry_goes_on_from_there(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
    faults: Faults,
    letters: type[Letters],
    how: str,
) -> None:
    def do(handler: Any, letter: str) -> str:
        clock.advance(timedelta(seconds=2))
        if letter == "g":
            raise PermanentTaskFailure("no g today")
        return letter.upper()

    letters.do = do
    queue.deliver(client)
    while "h" not in letters.log:
        queue.deliver(client)
    before = polled(client, url_of(task))
    assert before["parts"]["done"] == 7
    if how == "a sweep":
        faults.crash(after=Status.FAILED)
        with pytest.raises(Crash):
            queue.deliver(client)
        queue.tasks.clear()
        clock.advance(timedelta(minutes=16))
        with services_of(app).ndb_context():
            maintenance.sweep(services_of(app))
    queue.deliver_all(client)
    failed = polled(client, url_of(task))
    assert (failed["status"], failed["parts"]) == ("failed", before["parts"])
    press(client, url_of(task), "retry")
    again = polled(client, url_of(task))
    assert (again["status"], load(app, task).progress.parts) == ("ready", Parts(done=7, total=8))


# Two last parts.


def test_when_two_last_parts_end_at_the_same_moment_one_delivery_joins(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters], faults: Faults
) -> None:
    letters.split = lambda handler: "ab"
    queue.deliver(client)
    first, second = queue.tasks
    queue.tasks.clear()
    faults.crash(after=Status.DONE)
    with pytest.raises(Crash):  # between its commit and its follow-up
        send(client, first)
    faults.crash(after=Status.DONE)
    with pytest.raises(Crash):
        send(client, second)
    assert Split.of(load(app, task)).stage is Stage.WORKING  # type: ignore[union-attr]  # it is split
    for each in (first, second, first, second):
        assert send(client, replace(each, retry_count=1)) == 200
    assert number_in(queue.tasks[0]) is None
    queue.deliver_all(client)
    assert letters.log.count("join") == 1
    assert result_of(client, task) == "AB"


def test_a_refused_delivery_of_the_join_is_repeated_by_the_last_part(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    letters.split = lambda handler: "a"
    queue.deliver(client)
    queue.errors = [EnqueueRefusedError("no")]
    assert queue.deliver(client).status_code == 409
    assert queue.deliver(client).status_code == 200
    queue.deliver_all(client)
    assert (result_of(client, task), letters.log) == ("A", ["split", "a", "join"])


def test_a_due_delivery_of_the_task_enqueues_the_join_that_has_begun_meanwhile(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    letters: type[Letters],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue.deliver(client)
    store = services_of(app).store
    claim = store.claim

    def claim_and_wait(*args: Any, **more: Any) -> Any:
        found = claim(*args, **more)
        monkeypatch.undo()
        while set(letters.log) < {"split", *"abcdefgh"}:
            queue.deliver(client)
        assert [number_in(queued) for queued in queue.tasks] == [None]
        queue.tasks.clear()  # the delivery of the join is lost
        return found

    monkeypatch.setattr(store, "claim", claim_and_wait)
    assert queue.deliver_again(client).status_code == 200
    assert letters.log[-1] != "join"
    queue.deliver_all(client)
    assert result_of(client, task) == ALL


# A queue that does not name its deliveries.


def nameless(client: FlaskClient, queued: QueuedTask) -> int:
    headers = {name: value for name, value in queued.headers.items() if name != "X-AppEngine-TaskName"}
    return client.get(queued.request.uri, headers=headers).status_code


def test_a_task_in_parts_is_done_by_a_queue_without_names_and_duplicates_enqueue_nothing(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    enqueued = []
    while queue.tasks:
        queued = queue.tasks.pop(0)
        enqueued.append(number_in(queued))
        assert nameless(client, queued) == 200
        before = len(queue.tasks)
        assert nameless(client, queued) == 200
        assert len(queue.tasks) == before
    assert result_of(client, task) == ALL
    assert sorted(letters.log) == sorted(["split", "join", *"abcdefgh"])
    assert enqueued.count(None) == 2


def test_without_names_a_duplicate_of_a_part_that_works_comes_again(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    codes = []

    def do(handler: Any, letter: str) -> str:
        if letter == "a":
            codes.append(nameless(client, first))
        return letter.upper()

    letters.do = do
    queue.deliver(client)
    first = queue.tasks.pop(0)
    codes.append(nameless(client, first))
    assert codes == [409, 200]


# The split.


def test_a_permanent_failure_in_the_split_fails_the_task_and_a_retry_splits_it(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    def split(handler: Any) -> Iterator[str]:
        yield "a"
        raise PermanentTaskFailure("no months")

    letters.split = split
    queue.deliver_all(client)
    found = load(app, task)
    assert (found.status, found.error, found.parts) == (Status.FAILED, "no months", None)
    letters.split = Letters.split
    press(client, url_of(task), "retry")
    queue.deliver_all(client)
    assert result_of(client, task) == ALL


@pytest.mark.parametrize("letters_given", ["abc", ["a", object()]], ids=["whole", "ended early"])
def test_the_generator_of_a_split_is_closed_before_the_attempt_ends(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters], letters_given: Any
) -> None:
    seen = []

    def split(handler: Any) -> Iterator[Any]:
        try:
            yield from letters_given
        finally:
            seen.append(load(app, task).status)

    letters.split = split
    queue.deliver(client)
    assert seen == [Status.STARTED]


def test_a_cancel_during_the_split_ends_it_and_no_part_works(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    def split(handler: Any) -> Iterator[str]:
        press(client, url_of(task), "cancel")
        yield from "abc"

    letters.split = split
    assert queue.deliver(client).status_code == 200
    assert queue.tasks == []
    assert (load(app, task).status, load(app, task).parts) == (Status.CANCELLED, None)


def test_after_a_late_retry_of_a_join_the_new_split_begins_with_an_empty_bar_and_without_its_state(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
    letters: type[Letters],
) -> None:
    resumed: list[Any] = []

    def join(handler: Any, results: Sequence[str]) -> str:
        clock.advance(timedelta(seconds=20))
        handler.checkpoint("a state of the join")
        raise PermanentTaskFailure("not today")

    def split(handler: Any) -> str:
        resumed.append(handler.resumed_from)
        return "abcdefgh"

    letters.join, letters.split = join, split
    queue.deliver_all(client)
    assert load(app, task).status is Status.FAILED
    letters.join = Letters.join
    clock.advance(LATE_RETRY)
    press(client, url_of(task), "retry")
    queue.deliver(client)
    assert polled(client, url_of(task))["progress"]["percent"] == 0
    queue.deliver_all(client)
    assert (result_of(client, task), resumed) == (ALL, [None, None])


# The join.


def test_work_that_swallows_everything_does_not_join_without_a_part(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
    letters: type[Letters],
) -> None:
    def join(handler: Any, results: Sequence[str]) -> str:
        found = []
        for number in range(len(results)):
            try:
                found.append(results[number])
            except BaseException:  # noqa: BLE001  # what the author may do
                found.append("?")
        return "".join(found)

    letters.join = join
    while Split.of(load(app, task)) is None or Split.of(load(app, task)).stage is Stage.WORKING:  # type: ignore[union-attr]  # of the test
        queue.deliver(client)
    reopened = parts_of(app)[3]
    with services_of(app).ndb_context():
        reopened.open, reopened.status_name, reopened.ended_at = True, Status.READY.value, None
        reopened.save()
    finish(app, client, queue, clock)
    assert result_of(client, task) == ALL


# Deletion.


@pytest.mark.parametrize("how", ["delete", "purge"])
def test_with_a_task_whose_split_has_failed_the_parts_that_it_had_stored_are_deleted(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
    faults: Faults,
    how: str,
) -> None:
    faults.crash_at_commit(1, before=False)
    with pytest.raises(Crash):
        queue.deliver(client)
    faults.stop()
    assert len(parts_of(app)) == 8
    press(client, url_of(task), "cancel")
    with services_of(app).ndb_context():
        if how == "delete":
            maintenance.delete(services_of(app), task.id)
        else:
            clock.advance(Letters.keep_result)
            maintenance.purge(services_of(app))
    assert parts_of(app) == []


# Events.


def test_each_part_and_each_stage_is_told_of_once_whatever_is_delivered_twice(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue
) -> None:
    told: list[str] = []

    def note(sender: str, *, name: str, **more: Any) -> None:
        told.append(name)

    signals = {"split": events.split, "part": events.part_finished, "join": events.joining, "end": events.finished}
    with ExitStack() as stack:
        for name, signal in signals.items():
            stack.enter_context(signal.connected_to(partial(note, name=name)))
        while queue.tasks:
            queue.deliver(client)
            again = queue.delivered[-1]
            for each in (again, replace(again, name="another")):
                send(client, each)
    assert {name: told.count(name) for name in signals} == {"split": 1, "part": 8, "join": 1, "end": 1}
