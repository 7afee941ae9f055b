"""A task in parts: split, worked on in lanes, joined; what its author may write and what its visitor sees."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from gaetk_longtask import (
    LongRunningTaskHandler,
    LongTask,
    LongTaskError,
    Part,
    PermanentTaskFailure,
    Status,
    YieldedResult,
)
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue, ManualClock
from tests.in_parts import Letters, numbers_in, parts_of, result_of, url_of
from tests.support import JSON, load, polled, start


def test_the_parts_are_worked_on_and_their_results_joined_in_order(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    queue.deliver_all(client)
    assert load(app, task).status is Status.DONE
    assert result_of(client, task) == "ABCDEFGH"
    assert (letters.log[0], letters.log[-1]) == ("split", "join")
    assert sorted(letters.log[1:-1]) == list("abcdefgh")
    assert not any(part.open for part in parts_of(app))


def test_after_the_split_the_first_part_of_each_lane_is_enqueued(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue
) -> None:
    assert queue.deliver(client).status_code == 200
    found = load(app, task)
    assert (found.status, found.lease_until) == (Status.STARTED, None)
    assert numbers_in(queue) == [0, 1, 2]


def test_without_any_part_the_join_comes_at_once(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    letters.letters = ""
    queue.deliver_all(client)
    assert (load(app, task).status, letters.log) == (Status.DONE, ["split", "join"])
    assert polled(client, url_of(task))["parts"] == {"done": 0, "total": 0}


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_there_may_be_fewer_parts_than_lanes(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters], number: int
) -> None:
    letters.letters = "abcd"[:number]
    queue.deliver_all(client)
    assert result_of(client, task) == "ABCD"[:number]


def test_a_later_value_of_parallel_does_not_matter_for_a_task_that_is_split(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    queue.deliver(client)
    letters.parallel = 1
    queue.deliver_all(client)
    assert result_of(client, task) == "ABCDEFGH"


def test_a_part_knows_its_number_and_how_many_there_are(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    letters.do = lambda handler, letter: f"{letter}{handler.part.number}/{handler.part.total} "
    queue.deliver_all(client)
    assert result_of(client, task) == "a0/8 b1/8 c2/8 d3/8 e4/8 f5/8 g6/8 h7/8 "


def test_without_join_parts_the_result_is_the_list_of_all_results(
    make_app: Callable[..., Flask], queue: InMemoryQueue
) -> None:
    class Plain(LongRunningTaskHandler):
        def split_task(self, parameters: Any) -> list[int]:
            return [1, 2, 3]

        def execute_part(self, parameters: Any, part: int) -> Any:
            if part == 3:
                return self.pieces()
            return {"part": part}

        def pieces(self) -> Iterator[str]:
            yield "th"
            yield "ree"

    app = make_app(Plain)
    task = start(app, "plain")
    queue.deliver_all(app.test_client())
    answer = app.test_client().get(f"/plain?_longtaskjob=showresult&_longtaskid={task.id}", headers=JSON)
    assert answer.json == [{"part": 1}, {"part": 2}, "three"]


def test_results_are_a_sequence_that_loads_each_one_when_it_is_accessed(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    def join(handler: Any, results: Any) -> Any:
        assert (len(results), results[0], results[-1], list(results[2:4])) == (8, "A", "H", ["C", "D"])
        assert list(reversed(results)) == list("HGFEDCBA")
        with pytest.raises(IndexError):
            results[8]
        return "".join(results[::2])

    letters.join = join
    queue.deliver_all(client)
    assert result_of(client, task) == "ACEG"


def test_parts_and_the_join_may_yield(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    def do(handler: Any, letter: str) -> Iterator[str]:
        yield letter
        yield letter * 2

    def join(handler: Any, results: Any) -> Iterator[str]:
        for result in results:
            assert isinstance(result, YieldedResult)
            yield from result

    letters.do, letters.join = do, join
    queue.deliver_all(client)
    assert result_of(client, task) == "".join(letter * 3 for letter in "abcdefgh")


def test_a_part_is_handed_over_near_its_time_limit_and_goes_on_from_its_checkpoint(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    letters: type[Letters],
    clock: ManualClock,
) -> None:
    letters.letters = "a"
    begun: list[int] = []

    def do(handler: Any, letter: str) -> str:
        begun.append(handler.resumed_from or 0)
        for number in range(handler.resumed_from or 0, 4):
            clock.advance(timedelta(minutes=4))
            handler.checkpoint(number + 1)
        return letter

    letters.do = do
    queue.deliver_all(client)
    assert result_of(client, task) == "a"
    assert len(begun) > 1
    assert begun == sorted(set(begun))
    assert [part.failures for part in parts_of(app)] == [0]


def test_the_join_is_handed_over_and_goes_on_from_its_checkpoint(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters], clock: ManualClock
) -> None:
    def join(handler: Any, results: Any) -> str:
        for number in range(handler.resumed_from or 0, 4):
            clock.advance(timedelta(minutes=4))
            handler.checkpoint(number + 1)
        return "".join(results)

    letters.join = join
    queue.deliver_all(client)
    assert result_of(client, task) == "ABCDEFGH"
    assert letters.log.count("join") > 1


def test_the_page_and_the_document_say_how_many_parts_are_done_and_the_bar_grows(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters], clock: ManualClock
) -> None:
    seen: list[tuple[int, int]] = []

    def do(handler: Any, letter: str) -> str:
        document = polled(client, url_of(task))
        seen.append((document["parts"]["done"], document["progress"]["percent"]))
        return letter

    letters.do = do
    queue.deliver(client)
    assert polled(client, url_of(task))["parts"] == {"done": 0, "total": 8}
    while queue.tasks:
        clock.advance(timedelta(seconds=2))
        queue.deliver(client)
    assert seen == [(number, 100 * number // 9) for number in range(8)]
    document = polled(client, url_of(task))
    assert (document["parts"], document["progress"]["percent"]) == ({"done": 8, "total": 8}, 100)


def test_the_page_shows_it_in_words(client: FlaskClient, task: LongTask, queue: InMemoryQueue) -> None:
    queue.deliver(client)
    page = client.get(url_of(task), headers={"Accept": "text/html"}).text
    assert '<span data-lt="parts">Parts done: 0 of 8</span>' in page


def test_the_message_is_that_of_the_part_that_comes_first(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters], clock: ManualClock
) -> None:
    seen: list[str] = []

    def do(handler: Any, letter: str) -> str:
        handler.log_progress(f"Reading {letter}", 1, 2)
        handler._reporter.beat()
        clock.advance(timedelta(seconds=2))
        handler._reporter.beat()
        seen.append(polled(client, url_of(task))["progress"]["message"])
        if letter == "a":  # the second part works, while the first one does
            queue.deliver(client)
        return letter

    letters.do = do
    queue.deliver(client)
    queue.deliver(client)
    assert seen == ["Reading a", "Reading a"]


def test_a_hook_is_told_once_of_the_end_of_a_task_in_parts(
    make_app: Callable[..., Flask], letters: type[Letters], queue: InMemoryQueue
) -> None:
    told: list[Status] = []

    class Telling(letters):  # type: ignore[valid-type,misc]  # a class of the test
        def task_ended(self, task: LongTask) -> None:
            told.append(task.status)

    app = make_app(Telling)
    task = start(app, "telling")
    queue.deliver_all(app.test_client())
    assert (load(app, task).end_untold, told) == (False, [Status.DONE])
    letters.do = lambda handler, letter: (_ for _ in ()).throw(PermanentTaskFailure("no"))
    start(app, "telling")
    queue.deliver_all(app.test_client())
    assert told == [Status.DONE, Status.FAILED]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (lambda: range(1001), "more than 1,000 parts"),
        (lambda: None, "must return or yield parts"),
        (lambda: "abc", "must return or yield parts"),
        (lambda: {"a": 1}, "must return or yield parts"),
        (lambda: 5, "must return or yield parts"),
        (lambda: ["a", object()], "part 1, of class object, can't be stored"),
    ],
    ids=["too many", "None", "a text", "a dict", "a number", "an object"],
)
def test_what_split_task_must_not_return_fails_the_task_with_a_clear_message(
    make_app: Callable[..., Flask], queue: InMemoryQueue, parts: Callable[[], Any], said: str
) -> None:
    class Wrong(LongRunningTaskHandler):
        def split_task(self, parameters: Any) -> Any:
            return parts()

        def execute_part(self, parameters: Any, part: Any) -> Any:
            return part

    app = make_app(Wrong)
    task = start(app, "wrong")
    queue.deliver_all(app.test_client())
    found = load(app, task)
    assert (found.status, found.failures) == (Status.FAILED, 1)
    assert said in found.failed_attempts[-1]["message"]


def test_a_part_can_be_called_without_a_task() -> None:
    class Counts(LongRunningTaskHandler):
        def split_task(self, parameters: Any) -> range:
            return range(3)

        def execute_part(self, parameters: Any, part: int) -> str:
            return f"{self.part.number} of {self.part.total}"

    handler = Counts()
    assert handler.execute_part({}, 1) == "0 of 1"
    handler.part = Part(number=1, total=3)
    assert handler.execute_part({}, 1) == "1 of 3"


def test_the_results_say_how_many_they_are(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    letters.join = lambda handler, results: f"{results!r}, {results[:2]!r}"
    queue.deliver_all(client)
    assert result_of(client, task) == "<the results of 8 parts>, <the results of 2 parts>"


def test_a_thousand_parts_are_accepted(make_app: Callable[..., Flask], queue: InMemoryQueue) -> None:
    class Thousand(LongRunningTaskHandler):
        parallel = 100

        def split_task(self, parameters: Any) -> range:
            return range(1000)

        def execute_part(self, parameters: Any, part: int) -> int:
            return part

        def join_parts(self, parameters: Any, results: Any) -> int:
            return sum(results)

    app = make_app(Thousand)
    task = start(app, "thousand")
    queue.deliver_all(app.test_client())
    assert load(app, task).status is Status.DONE
    answer = app.test_client().get(f"/thousand?_longtaskjob=showresult&_longtaskid={task.id}", headers=JSON)
    assert answer.json == sum(range(1000))


def test_the_input_of_parts_may_be_large(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]
) -> None:
    letters.letters = [random.Random(number).randbytes(250_000).hex() for number in range(12)]
    letters.do = lambda handler, text: text[:4]
    queue.deliver_all(client)
    assert result_of(client, task) == "".join(text[:4] for text in letters.letters)


def test_split_task_must_not_call_checkpoint(make_app: Callable[..., Flask], queue: InMemoryQueue) -> None:
    raised: list[LongTaskError] = []

    class Wrong(Letters):
        def split_task(self, parameters: Any) -> Iterator[str]:
            try:
                self.checkpoint(1)
            except LongTaskError as exc:
                raised.append(exc)
            yield "a"

    app = make_app(Wrong)
    start(app, "wrong")
    queue.deliver_all(app.test_client())
    assert "split_task can't call checkpoint()" in str(raised[0])


def test_facts_of_the_join_are_shown(make_app: Callable[..., Flask], queue: InMemoryQueue) -> None:
    class Counting(Letters):
        facts = {"letters": "Letters"}  # noqa: RUF012  # as an author writes it

        def join_parts(self, parameters: Any, results: Any) -> Any:
            self.log_facts(letters=len(results))
            return "".join(results)

    app = make_app(Counting)
    task = start(app, "counting")
    queue.deliver_all(app.test_client())
    assert polled(app.test_client(), f"/counting?_longtaskjob=query&_longtaskid={task.id}")["facts"] == {"letters": 8}


def test_a_task_is_done_in_parts_although_the_progress_store_is_down(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, progress: InMemoryProgressStore
) -> None:
    progress.is_down = True
    queue.deliver_all(client)
    assert result_of(client, task) == "ABCDEFGH"


def test_without_news_the_page_does_not_claim_to_know_how_much_is_done(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, progress: InMemoryProgressStore
) -> None:
    for _ in range(3):
        queue.deliver(client)
    progress.stored.clear()
    document = polled(client, url_of(task))
    assert (document["progress"]["percent"], "parts" in document) == (None, False)
    queue.deliver(client)
    document = polled(client, url_of(task))
    assert document["progress"]["percent"] > 0


def test_events_tell_of_the_split_each_part_and_the_join(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="gaetk_longtask.events")
    queue.deliver_all(client)
    told = [record.json_fields for record in caplog.records]  # type: ignore[attr-defined]  # an extra field
    names = [each["event"] for each in told]
    assert [names.count(each) for each in ("split", "part_finished", "joining", "finished")] == [1, 8, 1, 1]
    assert {each["part"] for each in told if each["event"] == "part_finished"} == set(range(8))
    assert {each["parts"] for each in told if each["event"] in ("split", "joining")} == {8}
