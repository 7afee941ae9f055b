"""A task in parts while Datastore does not answer, what a part has stored is damaged, or the progress store forgets."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from flask import Flask
from flask.testing import FlaskClient

from gaetk_longtask import LongTask, Status
from gaetk_longtask.models import LongTaskChunk
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.progress.stores import Written
from gaetk_longtask.splits import Split, Stage
from gaetk_longtask.testing import Faults, InMemoryProgressStore, InMemoryQueue, ManualClock
from tests.in_parts import Letters, parts_of, result_of, url_of
from tests.support import load, polled, press, services_of

ALL = "ABCDEFGH"
LOST = grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.fixture
def joining(app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue) -> Callable[[], None]:
    """A function that delivers until all parts are done, and the join comes next."""

    def deliver() -> None:
        while (split := Split.of(load(app, task))) is None or split.stage is not Stage.JOINING:
            queue.deliver(client)

    return deliver


# The join.


def each_alone(results: Any) -> Iterator[Any]:
    """Access one result after the other, and go on without those that can't be read."""
    for number in range(len(results)):
        try:
            yield results[number]
        except Exception:  # noqa: BLE001  # what the author may do
            yield "?"


@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize("read", [each_alone, iter], ids=["swallowed", "raised"])
def test_a_join_for_which_datastore_does_not_answer_is_interrupted_whatever_its_author_makes_of_it(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    letters: type[Letters],
    faults: Faults,
    joining: Callable[[], None],
    read: Callable[[Any], Iterator[str]],
    number: int,
) -> None:
    def join(handler: Any, results: Any) -> str:
        found = ""
        for index, each in enumerate(read(results)):
            found += each
            if index == number and letters.log.count("join") == 1:
                faults.lose_request("Lookup", LOST)
        return found

    letters.max_attempts, letters.join = 1, join
    joining()
    queue.deliver_all(client)
    assert (result_of(client, task), letters.log.count("join")) == (ALL, 2)
    assert load(app, task).failures == 0


def twice(results: Any) -> str:
    """Add up the sizes of results that were yielded, and access each once more after an error."""
    size = 0
    for number, result in enumerate(results):
        try:
            size += sum(len(piece) for piece in result)
        except Exception:  # noqa: BLE001  # what the author may do
            size += results[number].size
    return str(size)


def through_a_slice(results: Any) -> str:
    size = 0
    for result in results[:]:
        with suppress(Exception):
            size += sum(len(piece) for piece in result)
    return str(size)


def plainly(results: Any) -> str:
    return str(sum(len(piece) for result in results for piece in result))


@pytest.fixture
def large(letters: type[Letters]) -> int:
    """The size of all results. That of the first part has more blocks than are requested at once."""
    data = random.Random(1).randbytes(7_000_000)

    def do(handler: Any, letter: str) -> Iterator[bytes]:
        yield data if letter == "a" else letter.encode()

    letters.do = do
    return len(data) + 7


@pytest.mark.parametrize("add_up", [plainly, twice, through_a_slice])
def test_damage_in_a_later_block_of_what_a_part_has_yielded_splits_the_task_again_at_a_retry(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    letters: type[Letters],
    joining: Callable[[], None],
    large: int,
    add_up: Callable[[Any], str],
) -> None:
    letters.join = lambda handler, results: add_up(results)
    joining()
    with services_of(app).ndb_context():
        chunk = next(chunk for chunk in LongTaskChunk.query(namespace="").fetch() if chunk.key.id().endswith(".1"))
        chunk.data = chunk.data[:-1] + bytes([chunk.data[-1] ^ 1])
        chunk.save()
    queue.deliver_all(client)
    found = load(app, task)
    assert (found.status, found.parts, found.failures) == (Status.FAILED, None, 1)
    press(client, url_of(task), "retry")
    queue.deliver_all(client)
    assert result_of(client, task) == str(large)


@pytest.mark.parametrize("add_up", [plainly, twice, through_a_slice])
def test_a_join_for_which_datastore_does_not_answer_in_a_later_block_is_interrupted(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    letters: type[Letters],
    faults: Faults,
    joining: Callable[[], None],
    large: int,
    add_up: Callable[[Any], str],
) -> None:
    class Late:
        """Results of which the first one can be accessed, but not be read to its end."""

        def __init__(self, results: Any) -> None:
            self._results = results

        def __getitem__(self, index: Any) -> Any:
            return self._results[index] if isinstance(index, int) else Late(self._results[index])

        def __iter__(self) -> Iterator[Any]:
            for number in range(len(self._results)):
                result = self._results[number]
                if number == 0 and letters.log.count("join") == 1:
                    faults.lose_request("Lookup", LOST)
                yield result

    letters.max_attempts, letters.join = 1, lambda handler, results: add_up(Late(results))
    joining()
    queue.deliver_all(client)
    assert (result_of(client, task), letters.log.count("join")) == (str(large), 2)


def test_a_join_that_reads_on_threads_without_an_ndb_context_is_told_so_and_not_repeated_for_ever(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    letters: type[Letters],
    joining: Callable[[], None],
) -> None:
    def join(handler: Any, results: Any) -> str:
        with ThreadPoolExecutor(1) as threads:
            return "".join(threads.map(results.__getitem__, range(len(results))))

    letters.join = join
    joining()
    queue.deliver_all(client)
    found = load(app, task)
    assert (found.status, letters.log.count("join")) == (Status.FAILED, letters.max_attempts)
    assert "ContextError" in found.failed_attempts[-1]["exception"]


def test_a_join_that_was_cancelled_after_it_has_swallowed_an_error_ends_quietly(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    letters: type[Letters],
    faults: Faults,
    joining: Callable[[], None],
) -> None:
    def join(handler: Any, results: Any) -> str:
        faults.lose_request("Lookup", LOST)
        found = "".join(each_alone(results))
        press(client, url_of(task), "cancel")
        handler._reporter.beat()
        handler.log_progress("too late")
        return found

    letters.join = join
    joining()
    assert queue.deliver(client).status_code == 200
    assert load(app, task).status is Status.CANCELLED


# Progress must not cost work.


def test_a_part_that_has_done_its_work_is_not_thrown_away_if_nobody_knows_how_far_the_others_are(
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    letters: type[Letters],
    faults: Faults,
    clock: ManualClock,
) -> None:
    def do(handler: Any, letter: str) -> str:
        if letter == "a":
            handler.log_progress("nearly done", 1, 2)
            clock.advance(timedelta(seconds=61))
            faults.lose_request("RunQuery", LOST)
        return letter.upper()

    letters.do = do
    queue.deliver_all(client)
    assert (result_of(client, task), letters.log.count("a")) == (ALL, 1)


def test_a_claim_is_followed_by_its_attempt_if_nobody_knows_how_far_the_others_are(
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    letters: type[Letters],
    faults: Faults,
    clock: ManualClock,
) -> None:
    letters.max_attempts = 1
    queue.deliver(client)
    queue.deliver(client)
    clock.advance(timedelta(seconds=70))
    faults.lose_request("RunQuery", LOST)
    assert queue.deliver(client).status_code == 200
    queue.deliver_all(client)
    assert result_of(client, task) == ALL


def test_a_lease_is_renewed_while_nobody_knows_how_far_the_others_are(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    letters: type[Letters],
    faults: Faults,
    clock: ManualClock,
) -> None:
    left = []

    def do(handler: Any, letter: str) -> str:
        handler.log_progress("long work", 1, 2)
        clock.advance(timedelta(seconds=61))
        faults.lose_request("RunQuery", LOST, times=50)
        for _ in range(10):
            handler._reporter.beat()
            clock.advance(timedelta(seconds=10))
        faults.stop()
        left.append(parts_of(app)[0].lease_until - clock())
        return letter.upper()

    letters.do = do
    queue.deliver(client)
    queue.deliver(client)
    assert left[0] > timedelta(0)


# What the progress store has lost.


@pytest.mark.parametrize("letter", ["a", "d"])
def test_a_part_is_not_taken_over_because_the_store_has_lost_the_news_of_its_lane(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    letters: type[Letters],
    clock: ManualClock,
    progress: InMemoryProgressStore,
    letter: str,
) -> None:
    codes = []

    def do(handler: Any, given: str) -> str:
        if given == letter:
            handler._reporter.stop()
            clock.advance(timedelta(seconds=2))
            for key in [key for key in progress.stored if "." in key]:
                del progress.stored[key]
            again = replace(queue.delivered[-1], retry_count=9)
            codes.append(client.get(again.request.uri, headers=again.headers).status_code)
        return given.upper()

    letters.max_attempts, letters.do = 1, do
    queue.deliver_all(client)
    assert (codes, load(app, task).status) == ([409], Status.DONE)


@pytest.mark.parametrize("lost", ["all", "the key of the task", "the news of the task"])
def test_a_cancel_is_noticed_within_seconds_whatever_the_store_has_lost(
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    letters: type[Letters],
    clock: ManualClock,
    progress: InMemoryProgressStore,
    monkeypatch: pytest.MonkeyPatch,
    lost: str,
) -> None:
    seen = []

    def lose() -> None:
        read, write = progress.read, progress.write

        def write_others(snapshot: Snapshot) -> Written:
            return Written.LOST if snapshot.info.id == task.id else write(snapshot)

        match lost:
            case "all":
                progress.is_down = True
            case "the key of the task":  # one of several servers is gone
                monkeypatch.setattr(progress, "read", lambda name: None if name == task.id else read(name))
                monkeypatch.setattr(progress, "write", write_others)
            case _:
                del progress.stored[task.id]

    def do(handler: Any, letter: str) -> str:
        handler._reporter.stop()
        press(client, url_of(task), "cancel")
        lose()
        clock.advance(timedelta(seconds=6))
        handler._reporter.beat()
        seen.append(handler._reporter.ownership.lost)
        return letter.upper()

    letters.do = do
    queue.deliver(client)
    queue.deliver(client)
    assert seen == [Status.CANCELLED]
    progress.is_down = False
    monkeypatch.undo()
    clock.advance(timedelta(minutes=2))
    assert polled(client, url_of(task))["status"] == "cancelled"
