"""What happens to a task in parts, and what follows: crashes, duplicates, failures, cancels and retries."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask, current_app
from flask.testing import FlaskClient

from gaetk_longtask import LongTask, PermanentTaskFailure, Status, TaskCancelled, maintenance
from gaetk_longtask.exceptions import EnqueueRefusedError, EnqueueUncertainError
from gaetk_longtask.limits import MOST_FAILURES
from gaetk_longtask.models import LongTaskChunk, LongTaskPart, LongTaskTraceback
from gaetk_longtask.parts.store import PartStore
from gaetk_longtask.payloads.manifests import set_stored
from gaetk_longtask.splits import Split, Stage
from gaetk_longtask.testing import Crash, Faults, InMemoryProgressStore, InMemoryQueue, ManualClock
from tests.in_parts import Letters, finish, numbers_in, parts_of, result_of, sweep, url_of
from tests.support import load, polled, press, services_of, start

# A crash leaves ndb's generators behind half-way, and they complain when they are thrown away.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ALL = "ABCDEFGH"


def split_of(task: LongTask) -> Split:
    found = Split.of(task)
    assert found is not None
    return found


def change(app: Flask, part: LongTaskPart, **values: Any) -> None:
    """Change a stored part as no code of ours does."""
    with services_of(app).ndb_context():
        for name, value in values.items():
            setattr(part, name, value)
        part.save()


def fail_at(letter: str, error: BaseException) -> Callable[[Any, str], str]:
    def do(handler: Any, given: str) -> str:
        if given == letter:
            raise error
        return given.upper()

    return do


# The split.


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("number", [0, 1, 2], ids=["at the claim", "at the parts", "at its commit"])
def test_a_split_that_dies_goes_on_and_the_task_ends(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
    faults: Faults,
    number: int,
    before: bool,
) -> None:
    faults.crash_at_commit(number, before=before)
    with pytest.raises(Crash):
        queue.deliver(client)
    faults.stop()
    clock.advance(timedelta(minutes=3))
    queue.deliver_all(client)
    assert result_of(client, task) == ALL
    split = split_of(load(app, task))
    assert {part.open for part in parts_of(app) if f".{split.run:09}." in part.id} == {False}


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("error", [EnqueueUncertainError("no answer"), EnqueueRefusedError("no")], ids=type)
def test_a_first_part_that_is_not_certainly_enqueued_is_enqueued_when_the_delivery_comes_again(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters], number: int, error: Any
) -> None:
    queue.errors = [*[None] * number, error]  # type: ignore[list-item]  # None: the call succeeds
    assert queue.deliver(client).status_code == 409
    queue.deliver_all(client)
    assert result_of(client, task) == ALL
    assert letters.log.count("split") == 1


def test_the_first_delivery_that_comes_again_while_parts_work_splits_nothing(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    queue.deliver(client)
    for renamed in (False, True):
        assert queue.deliver_again(client, renamed=renamed).status_code == 200
    queue.deliver_all(client)
    assert letters.log.count("split") == 1
    assert sorted(letters.log) == sorted(["split", "join", *"abcdefgh"])


def test_a_late_duplicate_of_the_first_delivery_does_nothing_after_the_end(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    queue.deliver(client)
    first = queue.delivered[0]
    queue.deliver_all(client)
    before = list(letters.log)
    assert queue._send(first, client).status_code == 200
    assert letters.log == before


# Parts.


def test_a_part_is_delivered_twice_under_another_name_and_works_once(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    queue.deliver(client)
    while queue.tasks:
        queue.deliver(client)
        before = len(queue.tasks)
        assert queue.deliver_again(client, renamed=True).status_code == 200
        assert len(queue.tasks) == before, "a delivery under another name has followed up"
    assert result_of(client, task) == ALL
    assert sorted(letters.log) == sorted(["split", "join", *"abcdefgh"])


def test_a_part_is_delivered_twice_under_the_same_name_and_works_once(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    queue.deliver(client)
    while queue.tasks:
        queue.deliver(client)
        assert queue.deliver_again(client).status_code == 200
    assert result_of(client, task) == ALL
    assert sorted(each for each in letters.log if len(each) == 1) == list("abcdefgh")


def test_a_duplicate_while_a_part_works_waits_under_its_own_name_and_ends_under_another(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    answers: list[int] = []

    def do(handler: Any, letter: str) -> str:
        for renamed in (False, True):
            answers.append(queue.deliver_again(client, renamed=renamed).status_code)
            queue.delivered.pop()
        return letter.upper()

    letters.do = do
    queue.deliver_all(client)
    assert answers == [409, 200] * 8
    assert result_of(client, task) == ALL


@pytest.mark.parametrize("at", range(8))
def test_a_part_whose_process_dies_before_its_follow_up_follows_up_when_it_comes_again(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, faults: Faults, letters: type[Letters], at: int
) -> None:
    queue.deliver(client)
    for _ in range(at):
        queue.deliver(client)
    faults.crash(after=Status.DONE)
    with pytest.raises(Crash):
        queue.deliver(client)
    queue.deliver_all(client)
    assert result_of(client, task) == ALL
    assert len(letters.log) == 10


@pytest.mark.parametrize("error", [EnqueueUncertainError("no answer"), EnqueueRefusedError("no")], ids=type)
@pytest.mark.parametrize("at", [0, 3, 7], ids=["at the first part", "at the fourth", "at the last"])
def test_a_follow_up_that_is_not_certain_is_repeated(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters], error: Any, at: int
) -> None:
    queue.deliver(client)
    for _ in range(at):
        queue.deliver(client)
    queue.errors = [error]
    assert queue.deliver(client).status_code == 409
    queue.deliver_all(client)
    assert result_of(client, task) == ALL
    assert len(letters.log) == 10


def test_two_last_parts_that_end_at_the_same_moment_lead_to_one_join(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    letters.letters = "ab"

    def do(handler: Any, letter: str) -> str:
        if letter == "a":
            queue.deliver(client)  # the other one ends while this one works
        return letter.upper()

    letters.do = do
    queue.deliver_all(client)
    assert result_of(client, task) == "AB"
    assert letters.log.count("join") == 1


def test_the_store_fails_at_the_follow_up_and_it_is_repeated(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, faults: Faults, letters: type[Letters]
) -> None:
    queue.deliver(client)

    def do(handler: Any, letter: str) -> str:
        faults.lose_request("RunQuery", times=10)
        return letter.upper()

    letters.do = do
    assert queue.deliver(client).status_code == 500
    faults.stop()
    letters.do = Letters.do
    queue.deliver_all(client)
    assert result_of(client, task) == ALL
    assert len(letters.log) == 10


def test_a_part_that_raises_is_tried_again_and_its_failures_are_its_own(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    tries: list[str] = []

    def do(handler: Any, letter: str) -> str:
        tries.append(letter)
        if tries.count(letter) < 3:
            raise ValueError(letter)
        return letter.upper()

    letters.do = do
    queue.deliver_all(client)
    assert result_of(client, task) == ALL
    assert {part.failures for part in parts_of(app)} == {2}
    assert load(app, task).failures == 0


def test_a_part_that_fails_too_often_fails_the_task_with_its_error_and_reference(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    letters.do = fail_at("d", ValueError("no d"))
    queue.deliver_all(client)
    found = load(app, task)
    [failed] = [part for part in parts_of(app) if part.status is Status.FAILED]
    assert (found.status, found.error_reference, found.failures) == (Status.FAILED, failed.error_reference, 3)
    assert (found.failed_attempts[-1]["part"], found.failed_attempts[-1]["message"]) == (3, "no d")
    with services_of(app).ndb_context():
        kept = LongTaskTraceback.load(f"{task.id}.{found.failed_attempts[-1]['number']}")
    assert kept.reference == failed.error_reference
    assert "We tried 3 times" in client.get(url_of(task), headers={"Accept": "text/html"}).text


def test_a_task_that_fails_within_a_second_says_how_many_parts_were_done(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    letters.do = fail_at("f", PermanentTaskFailure("no f today"))
    queue.deliver_all(client)
    document = polled(client, url_of(task))
    assert (document["status"], document["parts"]) == ("failed", {"done": 3, "total": 8})


def test_while_a_part_waits_for_its_next_attempt_the_page_says_how_many_are_done(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    letters.do = fail_at("c", ValueError("not yet"))
    letters.letters = "abc"
    for _ in range(4):
        queue.deliver(client)
    document = polled(client, url_of(task))
    assert (document["status"], document["parts"]) == ("started", {"done": 2, "total": 3})


def test_each_part_that_is_done_counts_at_once_if_no_other_one_works(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue
) -> None:
    seen = []
    for _ in range(9):
        queue.deliver(client)
        seen.append(polled(client, url_of(task))["parts"]["done"])
    assert seen == list(range(9))


def test_a_message_for_the_visitor_is_shown(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    letters.do = fail_at("d", PermanentTaskFailure("There is no d."))
    queue.deliver_all(client)
    assert polled(client, url_of(task))["error"] == "There is no d."


def test_a_part_that_dies_after_it_failed_for_good_fails_the_task_when_it_comes_again(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters], faults: Faults
) -> None:
    letters.do = fail_at("a", PermanentTaskFailure("no"))
    queue.deliver(client)
    faults.crash(after=Status.FAILED)
    with pytest.raises(Crash):
        queue.deliver(client)
    assert load(app, task).status is Status.STARTED
    queue.deliver_all(client)
    assert load(app, task).status is Status.FAILED


def test_when_a_part_fails_the_others_stop_and_are_not_told_of_a_take_over(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    stopped: list[TaskCancelled] = []

    def do(handler: Any, letter: str) -> str:
        if letter == "b":
            raise PermanentTaskFailure("no b")
        if letter == "a":
            queue.deliver(client)  # b
            handler._reporter.beat()
            try:
                handler.log_progress("on")
            except TaskCancelled as exc:
                stopped.append(exc)
                raise
        return letter.upper()

    letters.do = do
    queue.deliver_all(client)
    assert [(str(exc), exc.superseded) for exc in stopped] == [("the task has failed meanwhile", False)]


# Cancel and retry.


def test_a_cancel_stops_working_parts_and_waiting_ones_are_answered_200(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    stopped: list[str] = []

    def do(handler: Any, letter: str) -> str:
        press(client, url_of(task), "cancel")
        handler._reporter.beat()
        try:
            handler.log_progress("on")
        except TaskCancelled as exc:
            stopped.append(str(exc))
            raise
        return letter.upper()

    letters.do = do
    queue.deliver(client)
    while queue.tasks:
        assert queue.deliver(client).status_code == 200
    assert stopped == ["the task was cancelled"]
    assert load(app, task).status is Status.CANCELLED


def test_a_cancel_is_noticed_without_a_progress_store_at_the_next_renewal(
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    letters: type[Letters],
    progress: InMemoryProgressStore,
    clock: ManualClock,
) -> None:
    stopped: list[str] = []
    progress.is_down = True

    def do(handler: Any, letter: str) -> str:
        press(client, url_of(task), "cancel")
        clock.advance(timedelta(seconds=6))
        handler._reporter.beat()
        try:
            handler.checkpoint(1)
        except TaskCancelled as exc:
            stopped.append(str(exc))
            raise
        return letter.upper()

    letters.do = do
    queue.deliver_all(client)
    assert stopped == ["the task was cancelled"]


def test_after_a_cancel_and_a_retry_the_parts_that_are_done_stay_done(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    for _ in range(4):
        queue.deliver(client)
    done = len([part for part in parts_of(app) if not part.open])
    assert done == 3
    press(client, url_of(task), "cancel")
    queue.deliver_all(client)
    press(client, url_of(task), "retry")
    queue.deliver_all(client)
    assert result_of(client, task) == ALL
    assert sorted(letters.log) == sorted(["split", "join", *"abcdefgh"])


def test_a_retry_after_one_part_of_twelve_failed_works_on_that_one_alone(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    letters.parallel = 12
    letters.letters = "abcdefghijkl"
    letters.do = fail_at("l", PermanentTaskFailure("no l"))  # the last one, so that the others have ended
    queue.deliver_all(client)
    assert load(app, task).status is Status.FAILED
    letters.log.clear()
    letters.do = Letters.do
    press(client, url_of(task), "retry")
    queue.deliver_all(client)
    assert (letters.log, result_of(client, task)) == (["l", "join"], "ABCDEFGHIJKL")


def test_a_retry_within_a_run_resets_failures_of_the_parts(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    letters.do = fail_at("a", ValueError("a"))
    queue.deliver_all(client)
    letters.log.clear()
    press(client, url_of(task), "retry")
    queue.deliver_all(client)
    assert letters.log.count("a") == 3
    letters.do = Letters.do
    press(client, url_of(task), "retry")
    queue.deliver_all(client)
    assert result_of(client, task) == ALL


def test_a_retry_more_than_seven_days_after_the_start_splits_the_task_again(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    letters: type[Letters],
    clock: ManualClock,
) -> None:
    letters.do = fail_at("d", PermanentTaskFailure("no d"))
    queue.deliver_all(client)
    clock.advance(timedelta(days=8))
    letters.do = Letters.do
    letters.log.clear()
    press(client, url_of(task), "retry")
    queue.deliver_all(client)
    assert (result_of(client, task), letters.log.count("split")) == (ALL, 1)
    assert len(letters.log) == 10


def test_a_ghost_from_before_a_retry_that_nobody_has_taken_over_may_finish_its_part(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    def do(handler: Any, letter: str) -> str:
        if letter == "a" and letters.log.count("a") == 1:
            press(client, url_of(task), "cancel")
            press(client, url_of(task), "retry")
        return letter.upper()

    letters.do = do
    queue.deliver_all(client)
    assert result_of(client, task) == ALL
    assert letters.log.count("a") == 1


@pytest.mark.parametrize("error", [None, PermanentTaskFailure("from the past")], ids=["finishes", "fails"])
def test_a_ghost_whose_part_was_taken_over_after_a_retry_changes_nothing(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters], error: Exception | None
) -> None:
    def do(handler: Any, letter: str) -> str:
        if letter == "a" and letters.log.count("a") == 1:
            press(client, url_of(task), "cancel")
            press(client, url_of(task), "retry")
            queue.deliver_all(client)
            if error is not None:
                raise error
            return "ghost"
        return letter.upper()

    letters.do = do
    queue.deliver_all(client)
    assert result_of(client, task) == ALL
    assert letters.log.count("a") == 2


def test_a_ghost_can_say_nothing(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters], clock: ManualClock
) -> None:
    said: list[str] = []

    def do(handler: Any, letter: str) -> str:
        if letter == "a" and letters.log.count("a") == 1:
            press(client, url_of(task), "cancel")
            press(client, url_of(task), "retry")
            while letters.log.count("a") == 1:
                queue.deliver(client)
            handler._reporter.bar.report("from the past", 1, 1)
            clock.advance(timedelta(seconds=5))
            handler._reporter.beat()
            said.append(polled(client, url_of(task))["progress"]["message"])
        return letter.upper()

    letters.do = do
    queue.deliver_all(client)
    assert said == ["Working"]


@pytest.mark.parametrize("stage", ["before the join", "in the join"])
def test_a_cancel_and_a_retry_while_the_join_comes_or_works_lead_to_the_join_again(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters], stage: str
) -> None:
    def steer() -> None:
        press(client, url_of(task), "cancel")
        press(client, url_of(task), "retry")

    def join(handler: Any, results: Any) -> str:
        if stage == "in the join" and letters.log.count("join") == 1:
            steer()
        return "".join(results)

    letters.join = join
    while split_of_or_none(app, task) is not Stage.JOINING:
        queue.deliver(client)
    if stage == "before the join":
        steer()
    queue.deliver_all(client)
    assert result_of(client, task) == ALL
    assert sorted(each for each in letters.log if len(each) == 1) == list("abcdefgh")


def split_of_or_none(app: Flask, task: LongTask) -> Stage | None:
    found = Split.of(load(app, task))
    return found.stage if found else None


# Damage.


def test_a_damaged_input_fails_the_task_and_a_retry_splits_it_again(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    queue.deliver(client)
    change(app, parts_of(app)[0], parameters_blob=b"?")
    queue.deliver_all(client)
    found = load(app, task)
    assert (found.status, found.parts) == (Status.FAILED, None)
    press(client, url_of(task), "retry")
    queue.deliver_all(client)
    assert (result_of(client, task), letters.log.count("split")) == (ALL, 2)


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "changed"])
def test_a_damaged_result_of_a_part_fails_the_join_and_a_retry_splits_the_task_again(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters], missing: bool
) -> None:
    while split_of_or_none(app, task) is not Stage.JOINING:
        queue.deliver(client)
    part = parts_of(app)[0]
    if missing:
        with services_of(app).ndb_context():
            part.key.delete()
    else:
        change(app, part, result_blob=b"?")
    queue.deliver_all(client)
    found = load(app, task)
    assert (found.status, found.parts, found.failures) == (Status.FAILED, None, 1)
    press(client, url_of(task), "retry")
    queue.deliver_all(client)
    assert (result_of(client, task), letters.log.count("split")) == (ALL, 2)


def swallow(handler: Any, results: Any) -> str:
    found = []
    for number in range(len(results)):
        try:
            found.append(results[number])
        except Exception:  # noqa: BLE001  # what the author may do
            found.append("?")
    return "".join(found)


def give_up(handler: Any, results: Any) -> str:
    try:
        return "".join(results)
    except Exception as exc:
        raise PermanentTaskFailure("Something is wrong.") from exc


def go_on_by_checkpoints(handler: Any, results: Any) -> str:
    clock = services_of(current_app).clock
    for number in range(handler.resumed_from or 0, len(results)):
        with suppress(Exception):
            _ = results[number]
        clock.advance(timedelta(minutes=3))
        handler.checkpoint(number + 1)
    return ALL


@pytest.mark.parametrize("join", [swallow, give_up, go_on_by_checkpoints])
def test_a_join_that_does_not_care_about_a_damaged_result_fails_all_the_same(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters], join: Any
) -> None:
    letters.join = join
    while split_of_or_none(app, task) is not Stage.JOINING:
        queue.deliver(client)
    change(app, parts_of(app)[0], result_blob=b"?")
    queue.deliver_all(client)
    found = load(app, task)
    assert (found.status, found.parts, found.state_manifest, found.error) == (Status.FAILED, None, None, None)
    letters.join = Letters.join
    press(client, url_of(task), "retry")
    queue.deliver_all(client)
    assert (result_of(client, task), letters.log.count("split")) == (ALL, 2)


def test_a_damaged_state_of_a_part_clears_that_alone(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    letters: type[Letters],
    clock: ManualClock,
) -> None:
    def do(handler: Any, letter: str) -> str:
        if letter == "a" and handler.resumed_from is None and letters.log.count("a") == 1:
            clock.advance(timedelta(seconds=20))
            handler.checkpoint("state")
            raise ValueError("once")
        return letter.upper()

    letters.do = do
    queue.deliver(client)
    queue.deliver(client)
    part = next(part for part in parts_of(app) if part.state_manifest)
    change(app, part, state_blob=b"?")
    queue.deliver_all(client)
    found = load(app, task)
    assert found.status is Status.FAILED
    assert found.parts is not None
    press(client, url_of(task), "retry")
    queue.deliver_all(client)
    assert (result_of(client, task), letters.log.count("split")) == (ALL, 1)


# The join.


def test_a_join_that_fails_is_tried_again_and_a_retry_joins_alone(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    def join(handler: Any, results: Any) -> str:
        raise ValueError("not today")

    letters.join = join
    queue.deliver_all(client)
    assert load(app, task).status is Status.FAILED
    assert letters.log.count("join") == 3
    letters.join, before = Letters.join, len(letters.log)
    press(client, url_of(task), "retry")
    queue.deliver_all(client)
    assert (result_of(client, task), letters.log[before:]) == (ALL, ["join"])


def test_a_join_that_dies_is_taken_over(
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    letters: type[Letters],
    clock: ManualClock,
) -> None:
    def join(handler: Any, results: Any) -> str:
        if letters.log.count("join") == 1:
            raise Crash
        return "".join(results)

    letters.join = join
    with pytest.raises(Crash):
        queue.deliver_all(client)
    clock.advance(timedelta(minutes=5))
    queue.deliver_all(client)
    assert result_of(client, task) == ALL


def test_a_join_that_meets_a_part_which_is_not_done_waits_for_it_and_counts_no_failure(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    while split_of_or_none(app, task) is not Stage.JOINING:
        queue.deliver(client)
    part = parts_of(app)[0]
    set_stored(part, "result", None)
    change(app, part, open=True, status_name=Status.READY.value)
    queue.deliver_all(client)
    assert result_of(client, task) == ALL
    assert (load(app, task).failures, letters.log.count("join"), letters.log.count("a")) == (0, 2, 2)


def test_a_join_that_meets_a_part_which_no_query_finds_ends_the_task_after_a_while(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    while split_of_or_none(app, task) is not Stage.JOINING:
        queue.deliver(client)
    change(app, parts_of(app)[0], status_name=Status.READY.value)
    queue.deliver_all(client)
    assert load(app, task).status is Status.FAILED
    assert letters.log.count("join") == MOST_FAILURES


# What waits for too long.


def test_a_purged_queue_is_healed_and_the_lanes_go_on(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
    letters: type[Letters],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(3):
        queue.deliver(client)
    queue.tasks.clear()
    finish(app, client, queue, clock)
    assert result_of(client, task) == ALL
    assert "longtask.healed" in caplog.text
    assert len(letters.log) == 10


def test_a_poll_heals_as_well(client: FlaskClient, task: LongTask, queue: InMemoryQueue, clock: ManualClock) -> None:
    queue.deliver(client)
    queue.tasks.clear()
    clock.advance(timedelta(minutes=2))
    polled(client, url_of(task))
    assert numbers_in(queue) == [0, 1, 2]


def test_a_retry_whose_delivery_is_lost_is_healed(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
    letters: type[Letters],
) -> None:
    letters.do = fail_at("d", PermanentTaskFailure("no d"))
    queue.deliver_all(client)
    letters.do = Letters.do
    press(client, url_of(task), "retry")
    queue.tasks.clear()
    clock.advance(timedelta(minutes=2))
    sweep(app)
    queue.deliver_all(client)
    assert result_of(client, task) == ALL


def test_healing_again_and_again_leaves_one_delivery_for_each_lane(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    queue.deliver(client)
    queue.tasks.clear()
    for _ in range(10):
        clock.advance(timedelta(minutes=16))
        sweep(app)
    assert numbers_in(queue) == [0, 1, 2]


def test_healing_pauses_for_at_most_fifteen_minutes_and_less_after_progress(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    queue.deliver(client)
    for _ in range(8):
        clock.advance(timedelta(minutes=16))
        sweep(app)
        found = load(app, task)
        assert found.due_at - clock() <= timedelta(minutes=15)
    assert found.due_at - clock() == timedelta(minutes=15)
    queue.deliver(client)
    clock.advance(timedelta(minutes=16))
    sweep(app)
    assert load(app, task).due_at - clock() == timedelta(minutes=1)


@pytest.mark.parametrize("trouble", [EnqueueUncertainError("no answer"), EnqueueRefusedError("no"), None], ids=type)
def test_a_look_after_the_lanes_takes_a_few_seconds_at_most_whatever_the_queue_does(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
    trouble: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue.deliver(client)
    queue.tasks.clear()
    enqueue, asked = queue.enqueue, []

    def enqueue_slowly(request: Any) -> None:
        clock.advance(timedelta(seconds=4))
        asked.append(request)
        if trouble is not None:
            raise trouble
        enqueue(request)

    for _ in range(5):
        clock.advance(timedelta(minutes=16))
        sweep(app)
    clock.advance(timedelta(minutes=16))
    monkeypatch.setattr(queue, "enqueue", enqueue_slowly)
    sweep(app)
    is_refused = isinstance(trouble, EnqueueRefusedError)
    assert len(asked) == (1 if is_refused else 2)
    # If time was too short, the next look comes soon. If the queue refuses, it has time to recover.
    pause = load(app, task).due_at - clock()
    assert pause <= timedelta(minutes=15 if is_refused else 1)
    assert (pause > timedelta(minutes=10)) == is_refused
    monkeypatch.undo()
    finish(app, client, queue, clock)
    assert result_of(client, task) == ALL


def test_a_part_that_works_is_left_alone_by_healing(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
    letters: type[Letters],
) -> None:
    enqueued: list[int] = []

    def do(handler: Any, letter: str) -> str:
        if letter == "a":
            clock.advance(timedelta(seconds=61))
            before = len(queue.tasks)
            sweep(app)
            enqueued.append(len([number for number in numbers_in(queue)[before:] if number == 0]))
        return letter.upper()

    letters.do = do
    queue.deliver_all(client)
    assert enqueued == [0]


def test_a_part_that_died_is_taken_over_when_its_delivery_comes_again(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
    letters: type[Letters],
) -> None:
    def do(handler: Any, letter: str) -> str:
        if letter == "a" and letters.log.count("a") == 1:
            handler._reporter.beat()
            raise Crash
        return letter.upper()

    letters.do = do
    queue.deliver(client)
    with pytest.raises(Crash):
        queue.deliver(client)
    clock.advance(timedelta(seconds=2))  # its lease would last for two minutes
    queue.deliver_all(client)
    assert result_of(client, task) == ALL
    assert letters.log.count("a") == 2


def test_a_poll_that_finds_silence_reads_datastore_once(
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
    faults: Faults,
    letters: type[Letters],
) -> None:
    queue.deliver(client)
    letters.do = lambda handler, letter: clock.advance(timedelta(seconds=2)) or letter
    queue.deliver(client)
    clock.advance(timedelta(seconds=20))
    polled(client, url_of(task))
    faults.calls.clear()
    before = polled(client, url_of(task))
    assert faults.calls == []
    assert before["parts"] == {"done": 1, "total": 8}


# What belongs to a task is deleted with it.


def test_polls_of_a_task_that_stays_silent_after_a_healing_read_datastore_once_a_minute(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue.deliver(client)
    store, read = services_of(app).store, []
    get = store.get
    monkeypatch.setattr(store, "get", lambda name: read.append(name) or get(name))
    for _ in range(10 * 60):
        clock.advance(timedelta(seconds=1))
        polled(client, url_of(task))
    assert 5 <= len(read) <= 10


def test_a_part_that_ends_counts_at_once_although_another_one_waits_to_be_continued(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, clock: ManualClock, letters: type[Letters]
) -> None:
    def do(handler: Any, letter: str) -> str:
        if letter == "a" and letters.log.count("a") == 1:
            clock.advance(handler.time_limit)
            handler.checkpoint("half")
        return letter.upper()

    letters.do = do
    for _ in range(4):
        queue.deliver(client)
    assert polled(client, url_of(task))["parts"]["done"] == 2


def test_after_a_late_retry_the_parts_that_were_done_count_from_the_first_news(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
    progress: InMemoryProgressStore,
    letters: type[Letters],
) -> None:
    def do(handler: Any, letter: str) -> str:
        clock.advance(timedelta(seconds=2))
        if letter == "e" and letters.log.count("e") == 1:
            raise PermanentTaskFailure("no e today")
        return letter.upper()

    letters.do = do
    queue.deliver_all(client)
    clock.advance(timedelta(hours=2))
    progress.stored.clear()
    press(client, url_of(task), "retry")
    seen = []
    while numbers_in(queue) != [None] or not seen:
        queue.deliver(client)
        done = sum(not part.open for part in parts_of(app))
        seen.append((done, polled(client, url_of(task))["parts"]["done"]))
    assert len(seen) > 2
    assert all(done == told for done, told in seen)


def test_the_purge_deletes_the_parts_of_all_runs_with_their_chunks_and_tracebacks(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
    faults: Faults,
    letters: type[Letters],
) -> None:
    letters.letters = [random.Random(7).randbytes(500_000).hex(), "b"]
    tries: list[str] = []

    def do(handler: Any, letter: str) -> str:
        tries.append(letter)
        if letter == "b" and tries.count("b") == 1:
            raise ValueError("once")
        return letter

    letters.do = do
    faults.crash_at_commit(3, before=True)
    with pytest.raises(Crash):
        queue.deliver(client)
    faults.stop()
    clock.advance(timedelta(minutes=3))
    queue.deliver_all(client)
    assert load(app, task).status is Status.DONE
    assert len(parts_of(app)) >= 2
    clock.advance(timedelta(days=31))
    with services_of(app).ndb_context():
        maintenance.purge(services_of(app))
        left = [kind.query().fetch(keys_only=True) for kind in (LongTask, LongTaskPart, LongTaskChunk)]
        assert [*left, LongTaskTraceback.query().fetch(keys_only=True)] == [[], [], [], []]


def test_parts_without_a_task_are_deleted_when_they_expire(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    queue.deliver(client)
    with services_of(app).ndb_context():
        load(app, task).key.delete()
        clock.advance(timedelta(days=60))
        maintenance.purge(services_of(app))
        assert len(parts_of(app)) == 8
        clock.advance(timedelta(days=10))
        maintenance.purge(services_of(app))
    assert parts_of(app) == []


def test_a_part_that_works_while_its_task_is_deleted_finds_nothing_and_changes_nothing(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    def do(handler: Any, letter: str) -> str:
        with services_of(app).ndb_context():
            maintenance.delete(services_of(app), task.id)
        return letter.upper()

    letters.do = do
    queue.deliver(client)
    while queue.tasks:
        assert queue.deliver(client).status_code == 200
    assert parts_of(app) == []


# The proof, and the address of a part.


def test_a_delivery_with_a_wrong_key_is_refused_before_any_part_is_read(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, faults: Faults
) -> None:
    queue.deliver(client)
    queued = queue.tasks[0]
    forged = replace(queued.request, headers={**queued.request.headers, "X-Longtask-Execute-Key": "A" * 22})
    faults.calls.clear()
    assert queue._send(replace(queued, request=forged), client).status_code == 403
    assert faults.calls == ["Lookup"]


@pytest.mark.parametrize("is_split", [False, True], ids=["before the split", "after it"])
@pytest.mark.parametrize("address", ["9.0", "1.99", "1.8", "", "x", "1", "1.0.0", "-1.0", "1.0 ", "1.10000", "٣.0"])
def test_an_address_that_leads_to_no_part_is_answered_200(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, address: str, is_split: bool, letters: type[Letters]
) -> None:
    if is_split:
        queue.deliver(client)
    queued = queue.tasks[0]
    uri = queued.request.uri.partition("&_longtaskpart=")[0] + f"&_longtaskpart={address}"
    before = list(letters.log)
    assert queue._send(replace(queued, request=replace(queued.request, uri=uri)), client).status_code == 200
    assert letters.log == before


def test_assert_current_holds_in_a_part_until_the_task_is_cancelled(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    seen: list[str] = []

    def do(handler: Any, letter: str) -> str:
        handler.assert_current()
        seen.append("current")
        press(client, url_of(task), "cancel")
        handler.assert_current()
        seen.append("still current")
        return letter

    letters.do = do
    queue.deliver_all(client)
    assert seen == ["current"]


def test_the_entity_of_the_task_is_written_a_fixed_number_of_times(
    app: Flask, client: FlaskClient, queue: InMemoryQueue, letters: type[Letters], monkeypatch: pytest.MonkeyPatch
) -> None:

    written: list[str] = []
    save = LongTask.save
    monkeypatch.setattr(LongTask, "save", lambda task: (written.append(task.status_name), save(task)))
    counts = []
    for number in (4, 40):
        letters.letters = ["x"] * number
        written.clear()
        start(app, "letters")
        queue.deliver_all(client)
        counts.append(len(written))
    assert counts[0] == counts[1]


def test_a_task_that_is_too_old_ends_although_its_parts_could_go_on(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    queue.deliver(client)
    queue.tasks.clear()
    clock.advance(timedelta(days=31))
    sweep(app)
    assert load(app, task).status is Status.FAILED


def test_the_store_of_parts_knows_how_many_are_done_in_each_lane(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue
) -> None:
    for _ in range(3):
        queue.deliver(client)
    found = load(app, task)
    with services_of(app).ndb_context():
        store = PartStore(services_of(app), found, split_of(found))
        assert store.done_in_lanes([0, 1, 2]) == {0: 1, 1: 1, 2: 0}
