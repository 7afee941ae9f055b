"""What authors report, however odd, stops neither the work nor the page."""

from __future__ import annotations

import os
from decimal import Decimal
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from gaetk_longtask import LongRunningTaskHandler, PermanentTaskFailure
from gaetk_longtask.testing import InMemoryQueue
from tests.support import JSON, MIB, Work, polled, raising, started


@pytest.mark.parametrize(
    ("step", "total_steps"),
    [
        (float("nan"), 10),
        (1, float("nan")),
        (float("inf"), 10),
        (1, float("inf")),
        (float("-inf"), float("inf")),
        (-5, 10),
        (20, 10),
        (1e308, 1e-308),
        (Decimal(3), Decimal(10)),
    ],
    ids=repr,
)
def test_odd_steps_stop_neither_the_page_nor_the_work(
    client: FlaskClient, queue: InMemoryQueue, step: Any, total_steps: Any, work: type[Work]
) -> None:
    seen: list[TestResponse] = []

    def do(handler: LongRunningTaskHandler) -> Any:
        handler.log_progress("odd", step, total_steps)
        assert handler._reporter is not None
        handler._reporter.beat()  # as its thread does twice a second
        seen.append(client.get(url))
        seen.append(client.get(url, headers=JSON))
        return "result"

    work.do = do
    url = started(client)
    assert queue.deliver(client).status_code == 200
    assert [answer.status_code for answer in seen] == [200, 200]
    assert seen[1].json["progress"]["percent"] in (None, *range(101))
    assert polled(client, url)["status"] == "done"


@pytest.mark.parametrize("message", [42, ValueError("odd")], ids=repr)
def test_a_message_that_is_no_text_does_not_stop_the_work(
    client: FlaskClient, queue: InMemoryQueue, message: Any, work: type[Work]
) -> None:
    def do(handler: LongRunningTaskHandler) -> Any:
        handler.log_progress(message)
        return "result"

    work.do = do
    url = started(client)
    assert queue.deliver(client).status_code == 200
    assert polled(client, url)["status"] == "done"


def test_a_file_name_that_is_no_text_can_be_reported(
    client: FlaskClient, queue: InMemoryQueue, work: type[Work]
) -> None:
    name = os.fsdecode(b"caf\xe9.csv")

    def do(handler: LongRunningTaskHandler) -> Any:
        handler.log_progress(f"Reading {name}")
        raise ValueError

    work.do = do
    url = started(client)
    assert queue.deliver(client).status_code == 500
    assert client.get(url).status_code == 200
    assert polled(client, url)["progress"]["message"].startswith("Reading caf")


def test_a_failure_that_names_such_a_file_is_shown(client: FlaskClient, queue: InMemoryQueue, work: type[Work]) -> None:
    name = os.fsdecode(b"caf\xe9.csv")

    work.do = raising(PermanentTaskFailure(f"Can't read {name}"))
    url = started(client)
    assert queue.deliver(client).status_code == 200
    assert client.get(url).status_code == 200
    assert polled(client, url)["status"] == "failed"


def test_a_message_of_megabytes_does_not_stop_the_work(
    client: FlaskClient, queue: InMemoryQueue, work: type[Work]
) -> None:
    def do(handler: LongRunningTaskHandler) -> Any:
        handler.log_progress("x" * 2 * MIB)
        return "result"

    work.do = do
    url = started(client)
    assert queue.deliver(client).status_code == 200
    assert polled(client, url)["status"] == "done"


def test_a_failure_with_a_message_of_megabytes_is_permanent(
    client: FlaskClient, queue: InMemoryQueue, work: type[Work]
) -> None:
    work.do = raising(PermanentTaskFailure("x" * 2 * MIB))
    url = started(client)
    assert queue.deliver(client).status_code == 200
    assert polled(client, url)["status"] == "failed"
