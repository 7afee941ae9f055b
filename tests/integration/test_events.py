"""Every event of a task is logged and sent as a signal, once, after the commit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from flask import Flask
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler, LongTask, PermanentTaskFailure, TaskInfo, events
from gaetk_longtask.events import Event
from gaetk_longtask.exceptions import EnqueueRefusedError
from gaetk_longtask.testing import InMemoryQueue, ManualClock, put_between
from tests import support
from tests.support import Work, press, raising

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
Told = list[tuple[str, str, dict[str, Any]]]


@pytest.fixture
def work(work: type[Work]) -> type[Work]:
    work.max_attempts = 2
    work.time_limit = timedelta(minutes=2)
    work.keep_result = timedelta(days=1)
    work.do = lambda handler: "secret result"
    return work


@pytest.fixture
def app(make_app: Callable[..., Flask], work: type[Work]) -> Flask:
    return make_app(work, LONGTASK_PROJECT="demo")


@pytest.fixture
def told() -> Iterator[Told]:
    """All received signals: event, endpoint and data."""
    heard: Told = []
    receivers = []
    for event in Event:
        signal = getattr(events, event.value)

        def receive(sender: str, *, name: str = event.value, **data: Any) -> None:
            heard.append((name, sender, data))

        signal.connect(receive)
        receivers.append((signal, receive))
    yield heard
    for signal, receive in receivers:
        signal.disconnect(receive)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records if record.name == "gaetk_longtask.events"]


def names(told: Told) -> list[str]:
    return [name for name, _, _ in told]


def start(app: Flask) -> LongTask:
    return support.start(app, "work", {"password": "swordfish"})


def test_a_run_without_trouble(app: Flask, queue: InMemoryQueue, told: Told, lines: Callable[[], list[str]]) -> None:
    task = start(app)
    queue.deliver_all(app.test_client())
    assert names(told) == ["created", "enqueued", "claimed", "finished"]
    assert {sender for _, sender, _ in told} == {"work"}
    assert [line.split()[0] for line in lines()] == [
        "longtask.created",
        "longtask.enqueued",
        "longtask.claimed",
        "longtask.finished",
    ]
    assert lines()[-1] == (
        f"longtask.finished id={task.id[:8]} endpoint=work attempt=1 delivery=1 seconds=0.0 attempt_seconds=0.0"
    )


def test_a_signal_has_the_task_as_it_is_by_then(app: Flask, queue: InMemoryQueue, told: Told) -> None:
    task = start(app)
    queue.deliver_all(app.test_client())
    info = told[-1][2]["task"]
    assert isinstance(info, TaskInfo)
    assert (info.id, info.status.value) == (task.id, "done")


def test_a_task_that_fails_again_and_again(
    app: Flask, queue: InMemoryQueue, told: Told, caplog: pytest.LogCaptureFixture, work: type[Work]
) -> None:
    work.do = raising(ValueError("swordfish"))
    start(app)
    queue.deliver_all(app.test_client())
    assert names(told) == ["created", "enqueued", "claimed", "attempt_failed", "claimed", "failed"]
    assert [data["attempt"] for _, _, data in told] == [1, 1, 1, 1, 2, 2]
    assert [bool(data.get("reference")) for _, _, data in told] == [False, False, False, True, False, True]
    levels = [record.levelname for record in caplog.records if record.name == "gaetk_longtask.events"]
    assert levels[-1] == "ERROR"


def test_a_permanent_failure(app: Flask, queue: InMemoryQueue, told: Told, work: type[Work]) -> None:
    work.do = raising(PermanentTaskFailure("no"))
    start(app)
    queue.deliver_all(app.test_client())
    assert names(told)[2:] == ["claimed", "failed"]


def test_a_hand_over(app: Flask, queue: InMemoryQueue, told: Told, clock: ManualClock, work: type[Work]) -> None:
    def count(handler: LongRunningTaskHandler) -> str:
        for step in range(handler.resumed_from or 0, 3):
            clock.advance(timedelta(seconds=50))
            handler.checkpoint(step + 1)
        return "done"

    work.do = count
    start(app)
    queue.deliver_all(app.test_client())
    assert names(told)[2:] == ["claimed", "handed_over", "enqueued", "claimed", "resumed", "finished"]
    assert told[-1][2]["seconds"] == 150
    assert told[-1][2]["attempt_seconds"] == 50


def test_a_cancelled_task(app: Flask, told: Told) -> None:
    task = start(app)
    client = app.test_client()
    for _ in range(2):
        press(client, task.url, "cancel")
    assert names(told)[2:] == ["cancelled"]


def test_a_refused_task(app: Flask, queue: InMemoryQueue, told: Told) -> None:
    queue.errors = [EnqueueRefusedError("no such queue")]
    with pytest.raises(EnqueueRefusedError):
        start(app)
    assert names(told) == ["created", "refused"]


def test_a_healed_task(app: Flask, queue: InMemoryQueue, told: Told, clock: ManualClock) -> None:
    task = start(app)
    clock.advance(timedelta(minutes=2))
    app.test_client().get(task.url)
    assert names(told)[2:] == ["healed", "enqueued"]


def test_a_purged_task(app: Flask, queue: InMemoryQueue, told: Told, clock: ManualClock) -> None:
    start(app)
    queue.deliver_all(app.test_client())
    clock.advance(timedelta(days=2))
    app.test_client().get("/_longtask/purge", headers={"X-Appengine-Cron": "true"})
    assert names(told)[-1] == "purged"


def test_an_event_is_sent_after_its_commit(app: Flask, queue: InMemoryQueue) -> None:
    seen = []

    def look(sender: str, task: TaskInfo, **fields: Any) -> None:
        seen.append(LongTask.load(task.id).status.value)

    with events.finished.connected_to(look):
        start(app)
        queue.deliver_all(app.test_client())
    assert seen == ["done"]


def test_a_commit_whose_reply_was_lost_is_one_event(
    app: Flask, queue: InMemoryQueue, told: Told, ndb_client: ndb.Client, work: type[Work]
) -> None:
    start(app)
    faults = put_between(ndb_client)
    faults.lose_reply("Commit")
    work.do = lambda handler: faults.lose_reply("Commit", grpc.StatusCode.DEADLINE_EXCEEDED) or "result"
    queue.deliver_all(app.test_client())
    assert names(told)[2:] == ["claimed", "finished"]


def test_in_a_transaction_that_fails_nothing_was_created(app: Flask, told: Told, ndb_client: ndb.Client) -> None:
    def transact() -> None:
        start(app)
        raise ZeroDivisionError

    with ndb_client.context(), pytest.raises(ZeroDivisionError):
        ndb.transaction(transact)
    assert told == []


def test_a_receiver_that_raises_harms_nothing(app: Flask, queue: InMemoryQueue, told: Told) -> None:
    def fail(sender: str, **data: Any) -> None:
        raise ValueError

    with events.claimed.connected_to(fail), events.finished.connected_to(fail):
        start(app)
        queue.deliver_all(app.test_client())
    assert names(told) == ["created", "enqueued", "claimed", "finished"]


def test_parameters_results_and_whole_ids_are_not_logged(
    app: Flask, queue: InMemoryQueue, lines: Callable[[], list[str]]
) -> None:
    task = start(app)
    queue.deliver_all(app.test_client())
    logged = "\n".join(lines())
    assert task.id not in logged
    assert "swordfish" not in logged
    assert "secret result" not in logged


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"},
        {"X-Cloud-Trace-Context": f"{TRACE}/105445aa7843bc8bf206b12000100000;o=1"},
        {"X-Cloud-Trace-Context": TRACE},
    ],
)
def test_a_line_is_joined_to_its_requests_trace(
    headers: dict[str, str], app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app.test_client().get("/work", headers=headers)
    traces = {record.trace for record in caplog.records if record.name == "gaetk_longtask.events"}  # type: ignore[attr-defined]  # ours
    assert traces == {f"projects/demo/traces/{TRACE}"}


def test_a_task_that_another_request_starts_is_not_joined_to_the_trace_before(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    app.test_client().get("/work", headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
    caplog.set_level(logging.INFO)
    start(app)
    assert not any(hasattr(record, "trace") for record in caplog.records)


@pytest.mark.parametrize("value", ["", "nonsense", "00-xyz-00f067aa0ba902b7-01", "0" * 31])
def test_without_a_trace_there_is_none(value: str, app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    app.test_client().get("/work", headers={"traceparent": value, "X-Cloud-Trace-Context": value})
    assert not any(hasattr(record, "trace") for record in caplog.records)


def test_fields_arrive_as_google_cloud_logging_takes_them(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    task = start(app)
    (record, _) = [record for record in caplog.records if record.name == "gaetk_longtask.events"]
    assert (
        record.json_fields
        == {  # type: ignore[attr-defined]  # ours
            "event": "created",
            "id": task.id[:8],
            "endpoint": "work",
            "attempt": 1,
            "seconds": 0.0,
        }
    )
