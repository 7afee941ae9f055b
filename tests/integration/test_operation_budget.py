"""The cost of everything, counted outside of the process: RPCs to Datastore and Cloud Tasks, memcached commands.

Each operation is a round trip. A transaction has none besides, because it begins with its first read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from flask import Flask
from flask.testing import FlaskClient
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager
from gaetk_longtask.testing import ManualClock, put_between
from tests.cloud_tasks import CloudTasks
from tests.contracts.stores import Served, store_at
from tests.relay import Relay, relay_to
from tests.support import job, result_text


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The operations that were carried out."""

    reads: int = 0
    writes: int = 0
    enqueued: int = 0
    memcache: tuple[str, ...] = ()

    def __add__(self, other: Cost) -> Cost:
        """Return the sum of two costs."""
        return Cost(**{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(Cost)})


#: Publishing a snapshot is a compare-and-set: twice a second, and with every change of the state.
NEWS = "gets", "cas"

NOTHING = Cost()
START = Cost(writes=1, memcache=("add",), enqueued=1)
POLL = Cost(memcache=("get",))
CLAIM = Cost(reads=1, writes=1, memcache=NEWS)
CHECKPOINT = Cost(reads=1, writes=1)
RELEASE = Cost(reads=1, writes=1, memcache=NEWS)
FINISH = Cost(reads=1, writes=1, memcache=NEWS)
FIRST_DISPLAY = Cost(reads=1, writes=1, memcache=NEWS)

_RPCS = {"Lookup": "reads", "Commit": "writes"}


class Meter:
    """Counts the operations between an application and its services."""

    def __init__(self, rpcs: list[str], commands: list[str], cloud_tasks: CloudTasks) -> None:
        self._rpcs = rpcs
        self._commands = commands
        self._cloud_tasks = cloud_tasks
        self._read_until = 0, 0, 0

    def read(self) -> Cost:
        """Return the cost since the last call."""
        rpcs, commands, tasks = self._read_until
        self._read_until = len(self._rpcs), len(self._commands), len(self._cloud_tasks.calls)
        counted = Counter(_RPCS[name] for name in self._rpcs[rpcs:])  # an unexpected RPC raises KeyError
        enqueued = len(self._cloud_tasks.calls) - tasks
        return Cost(**counted, enqueued=enqueued, memcache=tuple(self._commands[commands:]))

    def deliver(self, client: FlaskClient) -> int:
        """Deliver the latest task, like Cloud Tasks does."""
        request = self._cloud_tasks.calls[-1].task.app_engine_http_request
        return client.get(
            request.relative_uri, headers={**request.headers, "X-AppEngine-QueueName": "default"}
        ).status_code


class Report(LongRunningTaskHandler):
    """A task whose work the test chooses."""

    work: ClassVar[Callable[[Report], object]]

    def execute_task(self, parameters: Any) -> str:
        if self.resumed_from is None:
            type(self).work(self)
        return "result"


class Told(Report):
    """A task whose handler is told of its end."""

    def task_ended(self, task: LongTask) -> None:
        """Need nothing."""


@pytest.fixture(autouse=True)
def work() -> None:
    Report.work = lambda handler: None


@pytest.fixture
def meter(ndb_client: ndb.Client, memcached_host: str, cloud_tasks: CloudTasks, app: Flask, relay: Relay) -> Meter:
    meter = Meter(put_between(ndb_client).calls, relay.commands, cloud_tasks)
    meter.read()
    return meter


@pytest.fixture
def relay(memcached_host: str) -> Iterator[Relay]:
    with relay_to(memcached_host) as relay:
        yield relay


@pytest.fixture
def app(ndb_client: ndb.Client, relay: Relay, cloud_tasks: CloudTasks, clock: ManualClock) -> Iterator[Flask]:
    app = Flask("tests")
    app.config.update(LONGTASK_PROJECT="test", SECRET_KEY="for tests alone")
    with store_at(Served.MEMCACHE, relay.host) as progress:
        # The reporter's thread uses the wall clock, so no beat happens during a test.
        progress.interval_seconds = 3600.0
        LongTaskManager(app, ndb_client=ndb_client, progress=progress, clock=clock)
        app.add_url_rule("/report", view_func=Report.as_view("report"))
        yield app


def of_work(meter: Meter, spend: Callable[[Report], object]) -> Callable[[], Cost]:
    """Let the work call `spend`. Return a function that returns the cost, once the work is done."""
    costs: list[Cost] = []

    def work(handler: Report) -> None:
        meter.read()
        spend(handler)
        costs.append(meter.read())

    Report.work = work
    return lambda: costs[0]


# A whole run.


def test_an_undisturbed_run_costs_3_reads_and_4_writes_in_7_round_trips_and_1_create_task(
    client: FlaskClient, meter: Meter
) -> None:
    page = client.get("/report").headers["Location"]
    assert meter.read() == START
    assert client.get(page).status_code == 200
    assert meter.read() == POLL
    assert meter.deliver(client) == 200
    assert meter.read() == CLAIM + FINISH
    result = client.get(page).headers["Location"]
    assert meter.read() == POLL
    assert result_text(client.get(result)) == "result"
    assert meter.read() == POLL + FIRST_DISPLAY
    run = START + CLAIM + FINISH + FIRST_DISPLAY
    assert (run.reads, run.writes, run.enqueued) == (3, 4, 1)


def test_a_further_display_costs_1_read(client: FlaskClient, meter: Meter) -> None:
    result = job(client.get("/report").headers["Location"], "showresult")
    meter.deliver(client)
    client.get(result)
    meter.read()
    assert "result" in client.get(result).text
    assert meter.read() == POLL + Cost(reads=1)


# A running task.


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_a_poll_of_a_running_task_costs_1_memcache_get(client: FlaskClient, meter: Meter, accept: str) -> None:
    page = client.get("/report").headers["Location"]
    poll = of_work(meter, lambda handler: client.get(page, headers={"Accept": accept}))
    meter.deliver(client)
    assert poll() == POLL


@pytest.mark.parametrize(
    "report",
    [
        lambda handler: handler.log_progress("Counting", 1, 2),
        lambda handler: list(handler.track(range(100), "Counting")),
        lambda handler: handler.checkpoint({"step": 1}),
    ],
    ids=["log_progress", "track", "checkpoint"],
)
def test_progress_that_is_not_due_costs_nothing(
    client: FlaskClient, meter: Meter, report: Callable[[Report], object]
) -> None:
    client.get("/report")
    a_thousand = of_work(meter, lambda handler: [report(handler) for _ in range(1000)])
    meter.deliver(client)
    assert a_thousand() == NOTHING


def test_progress_that_is_due_costs_a_compare_and_set(client: FlaskClient, meter: Meter) -> None:
    client.get("/report")
    beat = of_work(meter, lambda handler: handler._reporter.beat())  # type: ignore[union-attr]  # there is one
    meter.deliver(client)
    assert beat() == Cost(memcache=NEWS)


def test_progress_since_the_last_beat_is_published_before_the_result(client: FlaskClient, meter: Meter) -> None:
    Report.work = lambda handler: handler.log_progress("Counting", 1, 2)
    client.get("/report")
    meter.read()
    meter.deliver(client)
    assert meter.read() == CLAIM + Cost(memcache=NEWS) + FINISH


# A task that takes longer than a request.


def test_a_checkpoint_that_is_due_costs_1_read_and_1_write(
    client: FlaskClient, meter: Meter, clock: ManualClock
) -> None:
    def keep(handler: Report) -> None:
        clock.advance(timedelta(seconds=20))
        handler.checkpoint({"step": 1})

    client.get("/report")
    kept = of_work(meter, keep)
    meter.deliver(client)
    assert kept() == CHECKPOINT


def test_a_hand_over_costs_a_checkpoint_the_release_1_create_task_and_the_next_claim(
    client: FlaskClient, meter: Meter, clock: ManualClock
) -> None:
    def hand_over(handler: Report) -> None:
        meter.read()
        clock.advance(Report.time_limit)
        handler.checkpoint({"step": 1})

    Report.work = hand_over
    client.get("/report")
    assert meter.deliver(client) == 200
    assert meter.read() == CHECKPOINT + RELEASE + Cost(enqueued=1)
    assert meter.deliver(client) == 200
    assert meter.read() == CLAIM + FINISH


# A handler that is told of every end.

TOLD = Cost(reads=1, writes=1, memcache=NEWS)


def test_telling_the_handler_costs_1_read_and_1_write_in_the_delivery_that_ends_the_task(
    app: Flask, client: FlaskClient, meter: Meter
) -> None:
    app.add_url_rule("/told", view_func=Told.as_view("told"))
    client.get("/told")
    assert meter.read() == START
    assert meter.deliver(client) == 200
    assert meter.read() == CLAIM + FINISH + TOLD


def test_telling_the_handler_of_a_cancellation_costs_1_create_task_and_its_delivery(
    app: Flask, client: FlaskClient, meter: Meter
) -> None:
    app.add_url_rule("/told", view_func=Told.as_view("told"))
    page = client.get("/told").headers["Location"]
    meter.read()
    client.post(job(page, "cancel"))
    assert meter.read() == POLL + Cost(reads=1, writes=1, memcache=NEWS, enqueued=1)
    assert meter.deliver(client) == 200
    in_vain = Cost(reads=1, writes=1)  # a claim whose commit is empty
    assert meter.read() == in_vain + TOLD
