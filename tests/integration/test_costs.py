"""The operations in docs/cost-and-scale.md are right: each row of its table is carried out and counted."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from flask import Flask
from flask.testing import FlaskClient
from google.cloud import ndb
from google.cloud.datastore_v1.services.datastore.transports import DatastoreGrpcTransport

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager, listing
from gaetk_longtask.failures import tracebacks
from gaetk_longtask.listing import Filter
from gaetk_longtask.operators import many, overview
from gaetk_longtask.operators.many import Action
from gaetk_longtask.progress.datastore import DatastoreProgressStore
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.progress.stores import Written
from gaetk_longtask.queues import QueueRequest
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue, ManualClock
from tests.support import JSON, id_of, load, polled, services_of

PAGE = (Path(__file__).parents[2] / "docs" / "cost-and-scale.md").read_text(encoding="utf-8")
COLUMNS = ("reads", "writes", "deletes", "queries", "Cloud Tasks", "progress reads", "progress writes")
ROWS = {
    name: [int(number) for number in numbers.split("|")]
    for name, numbers in re.findall(rf"^\| ([^|]+) \| ((?:\d+ \| ){{{len(COLUMNS) - 1}}}\d+) \|$", PAGE, re.MULTILINE)
}


class Meter(grpc.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]  # generic in its stubs alone
    """Counts the billed operations of Datastore: entities read, written and deleted, and queries."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        match str(details.method).rpartition("/")[2]:
            case "Lookup":
                self.counts["reads"] += len(request.keys)
            case "RunQuery":
                self.counts["queries"] += 1
            case "Commit":
                deletes = sum("delete" in mutation for mutation in request.mutations)
                self.counts["deletes"] += deletes
                self.counts["writes"] += len(request.mutations) - deletes
        return continuation(details, request)


class Queue(InMemoryQueue):
    """Counts the enqueued requests."""

    def __init__(self, meter: Meter, clock: ManualClock) -> None:
        super().__init__(clock)
        self._counts = meter.counts

    def enqueue(self, request: QueueRequest) -> None:
        self._counts["Cloud Tasks"] += 1
        super().enqueue(request)


class Progress(InMemoryProgressStore):
    """Counts reads and writes. Its interval is so long that no report is due during a test."""

    def __init__(self, meter: Meter) -> None:
        super().__init__(interval_seconds=600)
        self._counts = meter.counts

    def read(self, task_id: str) -> Snapshot | None:
        self._counts["progress reads"] += 1
        return super().read(task_id)

    def read_many(self, task_ids: Sequence[str]) -> dict[str, Snapshot]:
        self._counts["progress reads"] += 1 - len(task_ids)  # one round trip
        return super().read_many(task_ids)

    def write(self, snapshot: Snapshot) -> Written:
        self._counts["progress writes"] += 1
        self._counts["progress reads"] -= 1  # the in-memory store reads to compare
        return super().write(snapshot)

    def add(self, snapshot: Snapshot, *, seconds: int) -> None:
        self._counts["progress writes"] += 1
        super().add(snapshot, seconds=seconds)


class Work(LongRunningTaskHandler):
    """A task whose work the test chooses."""

    max_attempts = 2

    def execute_task(self, parameters: dict[str, Any]) -> Any:
        return self.do()

    do: Callable[[Work], Any] = lambda self: "the result"


class Phased(Work):
    """A task with phases."""

    phases = ("Reading", "Storing")


class InParts(LongRunningTaskHandler):
    """A task of 12 parts, 4 at the same time."""

    parallel = 4

    def split_task(self, parameters: dict[str, Any]) -> range:
        return range(12)

    def execute_part(self, parameters: dict[str, Any], part: int) -> int:
        return part

    def join_parts(self, parameters: dict[str, Any], results: Any) -> str:
        return str(sum(results))


class Joined(Work):
    """A task that all requests share."""

    def unique_key(self, parameters: Any) -> str:
        return "one"


class Told(Work):
    """A task whose handler is told of its end."""

    def task_ended(self, task: LongTask) -> None:
        """Need nothing."""


@dataclass(kw_only=True)
class Stage:
    app: Flask
    queue: InMemoryQueue
    clock: ManualClock
    meter: Meter
    measured: list[int] = field(default_factory=list)  #: by the last `counted`, in the order of `COLUMNS`

    @property
    def client(self) -> FlaskClient:
        return self.app.test_client()

    def start(self, url: str = "/work") -> str:
        return self.client.get(url).headers["Location"]

    def deliver(self) -> int:
        return self.queue.deliver(self.client).status_code

    def job(self, url: str, name: str, method: str = "GET") -> int:
        return self.client.open(url.replace("=query", f"={name}"), method=method).status_code

    def done(self) -> str:
        url = self.start()
        assert self.deliver() == 200
        return url

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the operations inside the block."""
        before = len(self.queue.delivered)
        self.meter.counts.clear()
        yield
        self.meter.counts["Cloud Tasks"] += len(self.queue.delivered) - before
        self.measured = [self.meter.counts[column] for column in COLUMNS]

    def while_working(self, do: Callable[[Work], Any]) -> None:
        Work.do = do
        self.start()
        assert self.deliver() == 200


@pytest.fixture
def stage(ndb_client: ndb.Client, clock: ManualClock) -> Iterator[Stage]:
    meter = Meter()
    queue = Queue(meter, clock)
    channel = grpc.intercept_channel(grpc.insecure_channel(ndb_client.host), meter)
    ndb_client.stub = DatastoreGrpcTransport(host=ndb_client.host, channel=channel)
    do = Work.do
    app = Flask("tests")
    app.config["LONGTASK_USER"] = lambda: "anna"
    LongTaskManager(app, ndb_client=ndb_client, queue=queue, progress=Progress(meter), clock=clock)
    app.add_url_rule("/work", view_func=Work.as_view("work"))
    app.add_url_rule("/phased", view_func=Phased.as_view("phased"))
    app.add_url_rule("/parts", view_func=InParts.as_view("parts"))
    app.add_url_rule("/told", view_func=Told.as_view("told"))
    app.add_url_rule("/joined", view_func=Joined.as_view("joined"))
    yield Stage(app=app, queue=queue, clock=clock, meter=meter)
    Work.do = do


def whole_run(stage: Stage, url: str = "/work") -> None:
    with stage.counted():
        url = stage.start(url)
        stage.deliver()
        stage.client.get(url)
        stage.job(url, "showresult")


def run_in_parts(stage: Stage) -> None:
    with stage.counted():
        url = stage.start("/parts")
        stage.queue.deliver_all(stage.client)
        stage.client.get(url)
        stage.job(url, "showresult")


def splitting(stage: Stage) -> None:
    stage.start("/parts")
    with stage.counted():
        stage.deliver()


def part(stage: Stage) -> None:
    stage.start("/parts")
    stage.deliver()
    stage.deliver()
    with stage.counted():
        stage.deliver()


def last_part_of_a_row(stage: Stage) -> None:
    stage.start("/parts")
    for _ in range(9):
        stage.deliver()
    with stage.counted():
        stage.deliver()


def last_part(stage: Stage) -> None:
    stage.start("/parts")
    for _ in range(12):
        stage.deliver()
    with stage.counted():
        stage.deliver()


def join(stage: Stage) -> None:
    stage.start("/parts")
    for _ in range(13):
        stage.deliver()
    with stage.counted():
        stage.deliver()
    assert not stage.queue.tasks


def start(stage: Stage) -> None:
    with stage.counted():
        stage.start()


def attempt(stage: Stage) -> None:
    stage.start()
    with stage.counted():
        stage.deliver()


def first_display(stage: Stage) -> None:
    url = stage.done()
    with stage.counted():
        stage.job(url, "showresult")


def next_display(stage: Stage) -> None:
    url = stage.done()
    stage.job(url, "showresult")
    with stage.counted():
        stage.job(url, "showresult")


def poll(stage: Stage) -> None:
    def do(handler: Work) -> None:
        with stage.counted():
            assert polled(stage.client, url)["status"] == "started"

    Work.do = do
    url = stage.start()
    assert stage.deliver() == 200


def poll_after_loss(stage: Stage) -> None:
    url = stage.start()
    services_of(stage.app).progress.store.stored.clear()  # type: ignore[attr-defined]  # the twin's
    with stage.counted():
        stage.client.get(url, headers=JSON)


def failed_attempt(stage: Stage) -> None:
    def do(handler: Work) -> None:
        raise ValueError

    Work.do = do
    stage.start()
    with stage.counted():
        assert stage.deliver() == 500


def checkpoint(stage: Stage) -> None:
    def do(handler: Work) -> None:
        stage.clock.advance(timedelta(seconds=20))
        with stage.counted():
            handler.checkpoint("a state")

    stage.while_working(do)


def early_checkpoint(stage: Stage) -> None:
    def do(handler: Work) -> None:
        with stage.counted():
            handler.checkpoint("a state")

    stage.while_working(do)


def lease(stage: Stage) -> None:
    def do(handler: Work) -> None:
        assert handler.task is not None
        with stage.counted():
            assert services_of(stage.app).store.renew(handler.task.id, fence=1) is None

    stage.while_working(do)


def hand_over(stage: Stage) -> None:
    def work(handler: Work) -> str:
        if handler.resumed_from is None:
            stage.clock.advance(timedelta(minutes=10))
            handler.checkpoint("a state")
        return "the result"

    Work.do = work
    stage.start()
    with stage.counted():
        assert (stage.deliver(), stage.deliver()) == (200, 200)
    # … of which the finish belongs to any attempt:
    before = stage.measured
    Work.do = lambda handler: "the result"
    attempt(stage)
    stage.measured = [ours - any_attempts for ours, any_attempts in zip(before, stage.measured, strict=True)]


def late_delivery(stage: Stage) -> None:
    stage.done()
    with stage.counted():
        assert stage.queue.deliver_again(stage.client).status_code == 200


def cancel(stage: Stage) -> None:
    url = stage.start()
    with stage.counted():
        assert stage.job(url, "cancel", "POST") == 303


def retry(stage: Stage) -> None:
    url = stage.start()
    stage.job(url, "cancel", "POST")
    with stage.counted():
        assert stage.job(url, "retry", "POST") == 303


def telling(stage: Stage) -> None:
    attempt(stage)
    silent = stage.measured
    stage.start("/told")
    with stage.counted():
        assert stage.deliver() == 200
    stage.measured = [told - untold for told, untold in zip(stage.measured, silent, strict=True)]


def telling_cancel(stage: Stage) -> None:
    url = stage.start("/told")
    stage.queue.tasks.clear()
    with stage.counted():
        assert (stage.job(url, "cancel", "POST"), stage.deliver()) == (303, 200)


def joinable_start(stage: Stage) -> None:
    with stage.counted():
        stage.start("/joined")


def joining(stage: Stage) -> None:
    stage.start("/joined")
    with stage.counted():
        stage.start("/joined")


def large_result(stage: Stage) -> None:
    attempt(stage)
    small = stage.measured
    noise = os.urandom(3_500_000)
    Work.do = lambda handler: noise
    attempt(stage)
    stage.measured = [large - small for large, small in zip(stage.measured, small, strict=True)]


def large_display(stage: Stage) -> None:
    next_display(stage)
    small = stage.measured
    noise = os.urandom(3_500_000)
    Work.do = lambda handler: noise
    next_display(stage)
    stage.measured = [large - few for large, few in zip(stage.measured, small, strict=True)]


def operators_list(stage: Stage) -> None:
    for _ in range(listing.PAGE):
        stage.done()
    services = services_of(stage.app)
    with services.ndb_context(), stage.counted():
        assert len(overview.tasks(services, Filter()).rows) == listing.PAGE


def deletion(stage: Stage) -> None:
    url = stage.done()
    with stage.app.app_context(), stage.counted():
        LongTaskManager.delete(id_of(url))


def deletion_while_working(stage: Stage) -> None:
    def do(handler: Work) -> None:
        assert handler.task is not None
        with stage.counted():
            LongTaskManager.delete(handler.task.id)

    stage.while_working(do)


def cancelling_many(stage: Stage) -> None:
    for _ in range(60):
        stage.start()
    services = services_of(stage.app)
    stage.queue.tasks.clear()
    with services.ndb_context(), stage.counted():
        wanted = Filter(endpoint="work")
        ids = many.ids_of(Action.CANCEL, wanted, services.clock(), limit=10_000)
        assert len(many.act_on(services, Action.CANCEL, ids).done) == 60


def look_up(stage: Stage) -> None:
    url = stage.start()
    with stage.app.app_context(), stage.counted():
        LongTaskManager.task(id_of(url))


def own_list(stage: Stage) -> None:
    for _ in range(overview.PAGE):
        stage.done()
    with stage.counted():
        assert len(stage.client.get("/_longtask/mine", headers=JSON).json["tasks"]) == overview.PAGE


def failed_task(stage: Stage) -> None:
    def do(handler: Work) -> None:
        raise ValueError

    Work.do = do
    url = stage.start()
    assert (stage.deliver(), stage.deliver()) == (500, 200)
    services = services_of(stage.app)
    reference = load(stage.app, id_of(url)).error_reference
    with services.ndb_context(), stage.counted():
        assert len(tracebacks(overview.find(services, reference))) == 2


def cron(name: str) -> Callable[[Stage], None]:
    def ask(stage: Stage) -> None:
        with stage.counted():
            stage.client.get(f"/_longtask/{name}", headers={"X-Appengine-Cron": "true"})

    return ask


def idle_sweep(stage: Stage) -> None:
    stage.start()
    cron("sweep")(stage)


def healing_sweep(stage: Stage) -> None:
    stage.start()
    stage.clock.advance(timedelta(minutes=2))
    cron("sweep")(stage)


def idle_purge(stage: Stage) -> None:
    stage.done()
    cron("purge")(stage)


def working_purge(stage: Stage) -> None:
    stage.done()
    stage.clock.advance(timedelta(days=31))
    cron("purge")(stage)


def typical(stage: Stage) -> None:
    with stage.counted(), services_of(stage.app).ndb_context():
        services_of(stage.app).durations.typical_seconds("work")


def run_in_phases(stage: Stage) -> None:
    def do(handler: Work) -> str:
        handler.phase("Reading")
        stage.clock.advance(timedelta(seconds=5))
        # The first report, without the write to the progress store that belongs to it.
        handler._reporter._time_left.update(0, 0)  # type: ignore[union-attr]  # there is one
        return "the result"

    Work.do = do
    whole_run(stage, "/phased")


def on_datastore(scenario: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """Repeat a row with the progress in Datastore."""

    def do(stage: Stage) -> None:
        services = services_of(stage.app)
        progress = DatastoreProgressStore(services.ndb_context)
        object.__setattr__(services, "progress", progress)
        services.store._progress = progress
        scenario(stage)

    return do


#: By the beginning of their rows.
SCENARIOS: dict[str, Callable[[Stage], None]] = {
    "**an undisturbed run**": whole_run,
    "the click": start,
    "an attempt, from": attempt,
    "a poll while": poll,
    "a poll after": poll_after_loss,
    "the first look": first_display,
    "each further look": next_display,
    "a checkpoint that is due": checkpoint,
    "any other checkpoint": early_checkpoint,
    "renewing the lease": lease,
    "a hand-over": hand_over,
    "an attempt that fails": failed_attempt,
    "a delivery that finds nothing": late_delivery,
    "cancelling |": cancel,
    "`task_ended`": telling,
    "cancelling, where": telling_cancel,
    "trying again": retry,
    "an operator's deletion": deletion,
    "the same, while": deletion_while_working,
    "an operator's command": cancelling_many,
    "a task looked up": look_up,
    "a click, where": joinable_start,
    "a click that joins": joining,
    "3.5 MB": large_result,
    "the same, in a look": large_display,
    "a sweep that finds nothing": idle_sweep,
    "a sweep that finds one": healing_sweep,
    "a purge that finds nothing": idle_purge,
    "a purge that finds one": working_purge,
    "how long such tasks usually take": typical,
    "an undisturbed run of a class with phases": run_in_phases,
    "an undisturbed run in 12 parts": run_in_parts,
    "the attempt that splits": splitting,
    "a part that": part,
    "the last part of a row": last_part_of_a_row,
    "the last part of all": last_part,
    "the join": join,
    "an operator's list": operators_list,
    "a visitor's own list": own_list,
    "a task that failed twice": failed_task,
    "an undisturbed run, with progress in Datastore": on_datastore(whole_run),
    "a poll, with progress in Datastore": on_datastore(poll),
}


@pytest.mark.parametrize("beginning", SCENARIOS)
def test_a_row_of_the_docs_matches_the_count(beginning: str, stage: Stage) -> None:
    [numbers] = [numbers for name, numbers in ROWS.items() if f"{name} |".startswith(beginning)]
    SCENARIOS[beginning](stage)
    assert dict(zip(COLUMNS, stage.measured, strict=True)) == dict(zip(COLUMNS, numbers, strict=True))


def test_every_row_of_the_docs_is_counted() -> None:
    assert len(ROWS) == len(SCENARIOS)
