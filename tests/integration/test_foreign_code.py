"""Whatever the author's code raises is a failed attempt, and nothing else of the process notices."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from google.cloud import ndb

from gaetk_longtask import (
    LongRunningTaskHandler,
    LongTask,
    LongTaskManager,
    PermanentTaskFailure,
    ProgressStore,
    Snapshot,
    Status,
    TaskCancelled,
    Written,
    events,
)
from gaetk_longtask.exceptions import HandedOver
from gaetk_longtask.testing import Faults, InMemoryProgressStore, InMemoryQueue, ManualClock
from tests.support import deliver, load, raising, result_text, services_of, start


class Panic(BaseException):
    """As Rust extensions, timeout libraries and gevent raise."""


class Work(LongRunningTaskHandler):
    max_attempts = 3
    do: ClassVar[Callable[[Any], Any]]

    def execute_task(self, parameters: Any) -> Any:
        return type(self).do(self)


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app(Work)


@pytest.fixture
def task(app: Flask) -> LongTask:
    with app.app_context():
        return LongTaskManager.start("work", {})


def yielding(error: BaseException) -> Callable[[Any], Any]:
    def do(handler: Any) -> Iterator[str]:
        yield "piece"
        raise error

    return do


def in_a_task_group(error: BaseException) -> Callable[[Any], Any]:
    async def child() -> None:
        raise error

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())

    return lambda handler: asyncio.run(main())


def cleaning_up(error: BaseException) -> Callable[[Any], Any]:
    """Raise the error while a generator that was not finished is closed."""

    def do(handler: Any) -> Iterator[Any]:
        try:
            yield "text"
            yield object()  # no piece
        finally:
            raise error

    return do


FOREIGN = [Panic("x"), SystemExit(3), GeneratorExit(), StopIteration(), StopAsyncIteration(), asyncio.CancelledError()]


@pytest.mark.parametrize("way", [raising, yielding])
@pytest.mark.parametrize("error", FOREIGN, ids=lambda error: type(error).__name__)
def test_whatever_the_work_raises_is_a_failed_attempt(
    way: Callable[[BaseException], Any], error: BaseException, app: Flask, task: LongTask, queue: InMemoryQueue
) -> None:
    Work.do = way(error)
    assert queue.deliver(app.test_client()).status_code == 500
    failed = load(app, task)
    assert (failed.status, failed.failures) == (Status.ERROR, 1)
    assert failed.error_reference


@pytest.mark.parametrize("error", [Panic("x"), ValueError("x")], ids=lambda error: type(error).__name__)
def test_a_group_of_errors_is_a_failed_attempt(
    error: BaseException, app: Flask, task: LongTask, queue: InMemoryQueue
) -> None:
    Work.do = in_a_task_group(error)
    assert queue.deliver(app.test_client()).status_code == 500
    assert load(app, task).status is Status.ERROR


def test_a_group_of_permanent_failures_gives_up_at_once(app: Flask, task: LongTask, queue: InMemoryQueue) -> None:
    Work.do = in_a_task_group(PermanentTaskFailure("There is no such month."))
    assert queue.deliver(app.test_client()).status_code == 200
    failed = load(app, task)
    assert (failed.status, failed.error, failed.permanent) == (Status.FAILED, "There is no such month.", True)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_cancellation_inside_a_task_group_ends_the_attempt(
    wrapped: bool, app: Flask, task: LongTask, queue: InMemoryQueue
) -> None:
    def work(handler: Any) -> Any:
        with services_of(app).ndb_context():
            services_of(app).store.cancel(task.id)

        async def child() -> None:
            handler.assert_current()

        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(child())

        asyncio.run(main()) if wrapped else handler.assert_current()

    Work.do = work
    assert queue.deliver(app.test_client()).status_code == 200
    assert load(app, task).status is Status.CANCELLED


@pytest.mark.parametrize("error", [TaskCancelled("mine"), HandedOver()], ids=lambda error: type(error).__name__)
def test_one_of_our_control_exceptions_that_the_work_raises_itself_is_a_failed_attempt(
    error: BaseException, app: Flask, task: LongTask, queue: InMemoryQueue
) -> None:
    Work.do = raising(error)
    assert queue.deliver(app.test_client()).status_code == 500
    assert (load(app, task).status, load(app, task).failures) == (Status.ERROR, 1)


@pytest.mark.parametrize("error", FOREIGN, ids=lambda error: type(error).__name__)
def test_an_error_while_a_generator_cleans_up_does_not_end_the_process(
    error: BaseException, app: Flask, task: LongTask, queue: InMemoryQueue
) -> None:
    Work.do = cleaning_up(error)
    queue.deliver(app.test_client())
    assert load(app, task).status in (Status.ERROR, Status.FAILED)


def test_a_receiver_that_panics_does_no_harm(app: Flask, task: LongTask, queue: InMemoryQueue) -> None:
    def receiver(*args: Any, **fields: Any) -> None:
        raise Panic

    Work.do = lambda handler: "result"
    with events.finished.connected_to(receiver, "work"):
        assert queue.deliver(app.test_client()).status_code == 200
    assert load(app, task).status is Status.DONE


def test_a_serializer_that_raises_anything_is_a_failed_attempt(
    make_app: Callable[..., Flask], queue: InMemoryQueue
) -> None:
    class Broken:
        name = "broken"

        def dumps(self, value: Any, signer: Any) -> bytes:
            if value == {}:
                return b"{}"
            raise Panic

        def loads(self, data: bytes, signer: Any) -> Any:
            return {}

    class Packed(LongRunningTaskHandler):
        serializer = Broken()

        def execute_task(self, parameters: Any) -> Any:
            return ["a result"]

    app = make_app(Packed)
    with app.app_context():
        task = LongTaskManager.start("packed", {})
    assert queue.deliver(app.test_client()).status_code == 500
    assert load(app, task).status is Status.ERROR


def sending(error: BaseException) -> Callable[..., Response]:
    """Return a display_result that raises the error while its response is sent."""

    def pieces() -> Iterator[str]:
        yield "first"
        raise error

    return lambda handler, parameters, result: Response(pieces())


def closing(error: BaseException) -> Callable[..., Response]:
    """Return a display_result that raises the error when the server closes its response."""

    class Pieces(list[str]):
        __len__ = None  # type: ignore[assignment]  # a streamed response has no length

        def close(self) -> None:
            raise error

    return lambda handler, parameters, result: Response(Pieces(["first"]))


@pytest.mark.parametrize("way", [sending, closing])
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        *((error, RuntimeError) for error in (Panic("x"), SystemExit(3), GeneratorExit(), asyncio.CancelledError())),
        (ValueError("x"), ValueError),
    ],
    ids=repr,
)
def test_what_is_raised_while_a_response_is_sent_ends_only_this_response(
    make_app: Callable[..., Flask],
    queue: InMemoryQueue,
    way: Callable[[BaseException], Any],
    error: BaseException,
    raised: type[Exception],
) -> None:
    app = make_app(type("Streamed", (Work,), {"display_result": way(error)}))
    task = start(app, "streamed")
    deliver(app, queue)
    answer = app.test_client().get(task.url.replace("=query", "=showresult"))

    def receive() -> None:
        list(answer.response)
        answer.close()

    with pytest.raises(raised) as caught:
        receive()
    assert error in (caught.value, caught.value.__cause__)


def test_a_streamed_response_arrives_whole_and_is_closed(make_app: Callable[..., Flask], queue: InMemoryQueue) -> None:
    closed = []

    def pieces() -> Iterator[str]:
        try:
            yield "first "
            yield "second"
        finally:
            closed.append(True)

    app = make_app(type("Streamed", (Work,), {"display_result": lambda handler, *values: Response(pieces())}))
    task = start(app, "streamed")
    deliver(app, queue)
    answer = app.test_client().get(task.url.replace("=query", "=showresult"))
    assert (answer.text, closed) == ("first second", [True])


# What is reported.


def test_an_error_is_reported_even_if_the_failure_can_not_be_stored(
    app: Flask, task: LongTask, queue: InMemoryQueue, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    def work(handler: Any) -> Any:
        faults.lose_request("Commit", times=50)
        faults.lose_request("Lookup", times=50)
        raise ValueError("the reason")

    Work.do = work
    assert queue.deliver(app.test_client()).status_code == 500
    faults.stop()
    assert "the reason" in caplog.text


@pytest.mark.parametrize("message", ["Please give a whole number.", ""])
def test_a_permanent_failure_is_a_warning_without_a_traceback(
    message: str, app: Flask, task: LongTask, queue: InMemoryQueue, caplog: pytest.LogCaptureFixture
) -> None:
    Work.do = raising(PermanentTaskFailure(message))
    queue.deliver(app.test_client())
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.levelname for record in records] == ["WARNING"]
    assert records[0].exc_info is None
    assert records[0].json_fields["permanent"] is True


def test_a_result_that_can_not_be_stored_is_an_error_for_the_author(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, caplog: pytest.LogCaptureFixture
) -> None:
    Work.do = lambda handler: object()
    queue.deliver(app.test_client())
    assert "of class object, can't be stored" in caplog.text
    page = client.get(f"/work?_longtaskid={task.id}").text
    assert "class" not in page.partition("<h1")[2].partition("</article>")[0].replace('class="', "")
    assert load(app, task).error_reference in page


# A progress store of the application's own.


class BrokenStore(InMemoryProgressStore):
    broken = False

    def read(self, task_id: str) -> Snapshot | None:
        if self.broken:
            raise Panic
        return super().read(task_id)

    def read_many(self, task_ids: Sequence[str]) -> dict[str, Snapshot]:
        raise Panic

    def write(self, snapshot: Snapshot) -> Written:
        if self.broken:
            raise Panic
        return super().write(snapshot)

    def add(self, snapshot: Snapshot, *, seconds: int) -> None:
        raise Panic

    def for_reporter(self) -> ProgressStore:
        if self.broken:
            raise Panic
        return self


@pytest.mark.parametrize("since", ["the start", "the work"])
def test_a_progress_store_that_raises_loses_no_result(
    since: str, ndb_client: ndb.Client, queue: InMemoryQueue, clock: ManualClock
) -> None:
    app, store = Flask("tests"), BrokenStore()
    LongTaskManager(app, ndb_client=ndb_client, queue=queue, progress=store, clock=clock)
    app.add_url_rule("/work", view_func=Work.as_view("work"))

    def work(handler: Any) -> str:
        store.broken = True
        handler.log_progress("Working", 1, 2)
        return "result"

    Work.do = work
    store.broken = since == "the start"
    url = app.test_client().get("/work").headers["Location"]
    assert queue.deliver(app.test_client()).status_code == 200
    assert result_text(app.test_client().get(url.replace("=query", "=showresult"))) == "result"


class OddGroup(ExceptionGroup):
    def derive(self, excs: Any) -> Any:
        raise ValueError("derive")


def test_a_group_that_can_not_be_split_is_a_failed_attempt(app: Flask, task: LongTask, queue: InMemoryQueue) -> None:
    Work.do = raising(OddGroup("all", [ValueError("a"), PermanentTaskFailure("b")]))
    assert queue.deliver(app.test_client()).status_code == 500
    assert (load(app, task).status, load(app, task).failures) == (Status.ERROR, 1)


@pytest.mark.parametrize("odd", [None, "written", True])
def test_a_progress_store_that_returns_something_odd_loses_no_result(
    odd: object, ndb_client: ndb.Client, queue: InMemoryQueue, clock: ManualClock
) -> None:
    class OddStore(InMemoryProgressStore):
        def read(self, task_id: str) -> Any:
            return odd

        def write(self, snapshot: Any) -> Any:
            return odd

    app = Flask("tests")
    LongTaskManager(app, ndb_client=ndb_client, queue=queue, progress=OddStore(), clock=clock)
    app.add_url_rule("/work", view_func=Work.as_view("work"))
    Work.do = lambda handler: handler.log_progress("Working", 1, 2) or "result"
    url = app.test_client().get("/work").headers["Location"]
    assert queue.deliver(app.test_client()).status_code == 200
    assert result_text(app.test_client().get(url.replace("=query", "=showresult"))) == "result"
