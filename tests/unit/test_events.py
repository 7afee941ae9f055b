"""Receivers of signals: how they may be written, and how long they are kept."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial, wraps
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler, LongTask, TaskInfo, events
from gaetk_longtask.events import Event
from tests.unit.conftest import ID, NOW

#: What a receiver has got: the endpoint, the task and the other fields.
Got = list[tuple[str, TaskInfo, dict[str, Any]]]


@pytest.fixture(autouse=True)
def _no_receivers_are_left() -> Iterator[None]:
    yield
    for event in Event:
        signal = getattr(events, event.value)
        for receiver in list(signal.receivers_for(signal.ANY)) + list(signal.receivers_for("report")):
            signal.disconnect(receiver)


def send(event: Event = Event.FINISHED) -> None:
    task = LongTask(
        key=ndb.Key(LongTask, ID, project="tests", database="tests", namespace="tests"),
        endpoint="report",
        path="/report",
        status_name="done",
        created_at=NOW,
        created_by="anna@example.com",
        requested_at=NOW,
        started_at=NOW,
    )
    events.emit(event, task, NOW + timedelta(seconds=2))


class Mailer:
    """Receivers that are a method, and an object that can be called."""

    def __init__(self, got: Got) -> None:
        self.got = got

    def send_mail(self, endpoint: str, task: TaskInfo, **fields: Any) -> None:
        self.got.append((endpoint, task, fields))

    def __call__(self, sender: str, task: TaskInfo, **fields: Any) -> None:
        self.got.append((sender, task, fields))


def passed_on(receiver: Callable[..., None]) -> Callable[..., None]:
    """Decorate like ``ndb.transactional`` and most others: with any arguments."""

    @wraps(receiver)
    def inner(*args: Any, **kwargs: Any) -> None:
        receiver(*args, **kwargs)

    return inner


def of_endpoint(got: Got) -> Callable[..., None]:
    def send_mail(endpoint: str, task: TaskInfo, **fields: Any) -> None:
        got.append((endpoint, task, fields))

    return send_mail


def of_sender(got: Got) -> Callable[..., None]:
    def send_mail(sender: str, task: TaskInfo, **fields: Any) -> None:
        got.append((sender, task, fields))

    return send_mail


def of_sender_and_endpoint(got: Got) -> Callable[..., None]:
    def send_mail(sender: str, *, endpoint: str, task: TaskInfo, **fields: Any) -> None:
        assert sender == endpoint
        got.append((endpoint, task, fields))

    return send_mail


def of_positional_endpoint(got: Got) -> Callable[..., None]:
    def send_mail(endpoint: str, /, task: TaskInfo, **fields: Any) -> None:
        assert fields["endpoint"] == endpoint
        got.append((endpoint, task, fields))

    return send_mail


def of_all_as_they_come(got: Got) -> Callable[..., None]:
    return lambda *args, **fields: got.append((args[0], fields["task"], fields))


def of_task(got: Got) -> Callable[..., None]:
    def send_mail(task: TaskInfo, **fields: Any) -> None:
        got.append((fields["endpoint"], task, fields))

    return send_mail


def of_task_and_endpoint(got: Got) -> Callable[..., None]:
    def send_mail(task: TaskInfo, endpoint: str, **fields: Any) -> None:
        got.append((endpoint, task, fields))

    return send_mail


def of_event(got: Got) -> Callable[..., None]:
    def send_mail(event: str, attempt: int, endpoint: str, task: TaskInfo, **fields: Any) -> None:
        assert (event, attempt) == ("finished", 1)
        got.append((endpoint, task, fields))

    return send_mail


def of_keywords(got: Got) -> Callable[..., None]:
    def send_mail(**fields: Any) -> None:
        got.append((fields["endpoint"], fields["task"], fields))

    return send_mail


def of_keywords_only(got: Got) -> Callable[..., None]:
    def send_mail(*, task: TaskInfo, **fields: Any) -> None:
        got.append((fields["endpoint"], task, fields))

    return send_mail


#: They leave fields out, and note what they get without them.
BRIEF_RECEIVERS: dict[str, Callable[[Got], Callable[..., None]]] = {
    "endpoint, task": lambda got: lambda endpoint, task: got.append((endpoint, task, {})),
    "sender, task": lambda got: lambda sender, task: got.append((sender, task, {})),
    "task": lambda got: lambda task: got.append(("report", task, {})),
    "task, endpoint": lambda got: lambda task, endpoint: got.append((endpoint, task, {})),
    "endpoint, /, task": lambda got: lambda endpoint, /, task: got.append((endpoint, task, {})),
    "*, task": lambda got: lambda *, task: got.append(("report", task, {})),
}
RECEIVERS = {
    "endpoint": of_endpoint,
    "sender": of_sender,
    "sender and endpoint": of_sender_and_endpoint,
    "positional endpoint": of_positional_endpoint,
    "all as they come": of_all_as_they_come,
    "task": of_task,
    "task and endpoint": of_task_and_endpoint,
    "event": of_event,
    "keywords": of_keywords,
    "keywords only": of_keywords_only,
    "decorated": lambda got: passed_on(of_endpoint(got)),
    "partial": lambda got: partial(of_endpoint(got), subject="Ready"),
    "method": lambda got: Mailer(got).send_mail,
    "object": Mailer,
}


@pytest.mark.parametrize("receiver", RECEIVERS.values(), ids=RECEIVERS)
def test_a_receiver_may_name_its_parameters_after_the_fields(receiver: Callable[[Got], Callable[..., None]]) -> None:
    got: Got = []
    events.finished.connect_via("report")(receiver(got))
    send()
    [(endpoint, task, fields)] = got
    assert (endpoint, task.id, task.created_by) == ("report", ID, "anna@example.com")
    assert fields["seconds"] == fields["attempt_seconds"] == 2


@pytest.mark.parametrize("receiver", BRIEF_RECEIVERS.values(), ids=BRIEF_RECEIVERS)
def test_a_receiver_may_leave_fields_out(receiver: Callable[[Got], Callable[..., None]]) -> None:
    got: Got = []
    events.finished.connect_via("report")(receiver(got))
    send()
    [(endpoint, task, _)] = got
    assert (endpoint, task.id) == ("report", ID)


def test_a_receiver_may_need_the_endpoint_only_or_nothing() -> None:
    heard: list[object] = []
    events.finished.connect(heard.append)
    events.finished.connect(lambda *endpoint: heard.append(endpoint))
    events.finished.connect(lambda: heard.append(None))
    send()
    assert sorted(heard, key=str) == [("report",), None, "report"]


def test_a_receiver_of_one_endpoint_hears_nothing_of_others() -> None:
    got: Got = []
    events.finished.connect_via("other")(of_endpoint(got))
    send()
    assert not got


@pytest.mark.parametrize("connect", [events.failed.connect, events.failed.connect_via("report")])
def test_a_receiver_that_is_defined_in_a_function_is_kept(connect: Callable[..., Any]) -> None:
    got: Got = []

    def create_app() -> None:
        @connect
        def send_mail(endpoint: str, task: TaskInfo, **fields: Any) -> None:
            got.append((endpoint, task, fields))

    create_app()
    gc.collect()
    send(Event.FAILED)
    assert len(got) == 1


def test_a_receiver_that_asks_for_it_is_not_kept() -> None:
    got: Got = []
    events.finished.connect(of_endpoint(got), weak=True)
    gc.collect()
    send()
    assert not got


def test_a_muted_signal_is_not_received() -> None:
    got: Got = []
    events.finished.connect(of_endpoint(got))
    with events.finished.muted():
        send()
    assert not got


async def send_mail_later(endpoint: str, task: TaskInfo, **fields: Any) -> None: ...


@pytest.mark.parametrize("receiver", [send_mail_later, partial(send_mail_later, subject="Ready")])
@pytest.mark.parametrize("connect", [events.finished.connect, events.finished.connect_via("report")])
def test_an_async_receiver_is_refused(connect: Callable[..., Any], receiver: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"A receiver can't be async, .*send_mail_later"):
        connect(receiver)


@pytest.mark.parametrize("sender", [LongRunningTaskHandler, Flask("tests"), 7, None])
def test_a_sender_that_is_no_endpoint_is_refused(sender: object) -> None:
    with pytest.raises(TypeError, match="The sender is the endpoint of a handler"):
        events.finished.connect_via(sender)(print)


def test_a_receiver_that_raises_is_logged_and_disturbs_no_other_one(caplog: pytest.LogCaptureFixture) -> None:
    got: Got = []
    events.finished.connect(lambda endpoint, **fields: SimpleNamespace().mail)
    events.finished.connect(of_endpoint(got))
    send()
    assert len(got) == 1
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "a receiver of the event finished failed"


class AsyncReceiver:
    async def __call__(self, endpoint: str, **fields: Any) -> None: ...


def no_field(endpoint: str, user: str) -> None: ...


def positional(endpoint: str, task: Any, /) -> None: ...


@pytest.mark.parametrize("receiver", [AsyncReceiver(), partial(AsyncReceiver()), no_field, positional, None, "text"])
def test_a_receiver_that_would_never_receive_anything_is_refused(receiver: Any) -> None:
    with pytest.raises(TypeError):
        events.finished.connect(receiver)
