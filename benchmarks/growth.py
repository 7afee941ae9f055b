"""Measures whether starts, polls and sweeps take longer if many tasks are stored."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from flask import Flask
from google.cloud import datastore_v1, ndb
from google.cloud.datastore_v1.services.datastore.transports import DatastoreGrpcTransport

from benchmarks.figures import Row, Table, side_by_side
from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager, Status
from gaetk_longtask.store import new_token
from gaetk_longtask.testing import InMemoryQueue, ManualClock

_BATCH = 500
#: A figure is the mean of this many requests, or of those that fit into this many seconds.
_TIMES, _SECONDS = 20, 1.5
_NEVER = datetime(2999, 1, 1, tzinfo=UTC)

SWEEP, IN_VAIN = "a sweep", "a query that finds nothing"


class Grown(LongRunningTaskHandler):
    """A task that is started but never run."""

    def execute_task(self, parameters: Any) -> None:
        """Do nothing."""


def measure(ndb_client: ndb.Client, *, quick: bool) -> list[Table]:
    """Return the tables."""
    sizes = [10, 1_000] if quick else [10, 10_000, 100_000]
    repetitions = 2 if quick else 5
    app, queue = Flask("bench"), InMemoryQueue()
    app.config["LONGTASK_PROJECT"] = os.environ["GOOGLE_CLOUD_PROJECT"]
    # The clock stands still, so that no task becomes due.
    LongTaskManager(app, ndb_client=ndb_client, queue=queue, clock=ManualClock(datetime.now(UTC)))
    app.add_url_rule("/grown", view_func=Grown.as_view("grown"))
    client = app.test_client()
    poll = client.get("/grown").headers["Location"]
    cron = {"X-Appengine-Cron": "true"}

    def ask_in_vain() -> None:
        with ndb_client.context():
            assert LongTask.query(LongTask.created_at > _NEVER).get() is None

    requests: dict[str, Callable[[], Any]] = {
        "a start": lambda: client.get("/grown"),
        "a poll": lambda: client.get(poll),
        IN_VAIN: ask_in_vain,
        SWEEP: lambda: client.get("/_longtask/sweep", headers=cron),
    }
    stored = 0
    rows: dict[str, list[Row]] = {what: [] for what in requests}
    for size in sizes:
        _store(ndb_client, size - stored)
        stored = size
        for request in requests.values():
            _milliseconds(request)
        found = side_by_side(repetitions, {what: _timed(request) for what, request in requests.items()})
        for what, values in found.items():
            beside = (rows[what][0].name,) if rows[what] else ()
            if what == SWEEP:
                beside += (_name(IN_VAIN, size),)
            rows[what].append(Row(name=_name(what, size), values=values, beside=beside))
    return [Table(name="growth", unit="ms", digits=2, rows=[row for one in rows.values() for row in one])]


def _name(what: str, size: int) -> str:
    return f"{what}, {size:,} tasks stored"


def _timed(request: Callable[[], Any]) -> Callable[[], float]:
    return lambda: _milliseconds(request)


def _milliseconds(request: Callable[[], Any]) -> float:
    began, answers = time.perf_counter(), []
    while len(answers) < _TIMES and time.perf_counter() - began < _SECONDS:
        answers.append(request())
    seconds = time.perf_counter() - began
    assert all(answer is None or answer.status_code < 400 for answer in answers)
    return seconds / len(answers) * 1000


def _store(client: ndb.Client, number: int) -> None:
    """Store copies of an ended task. This does without NDB, which would take minutes."""
    with client.context():
        key = _task(datetime.now(UTC)).put()
    host = os.environ["DATASTORE_EMULATOR_HOST"]
    datastore: Any = DatastoreGrpcTransport(host=host, channel=grpc.insecure_channel(host))
    wanted = datastore_v1.Key(path=[datastore_v1.Key.PathElement(kind=key.kind(), name=key.id())])
    wanted.partition_id.project_id = client.project
    found = datastore.lookup(datastore_v1.LookupRequest(project_id=client.project, keys=[wanted])).found[0].entity
    for begin in range(1, number, _BATCH):
        mutations = [datastore_v1.Mutation(upsert=_renamed(found)) for _ in range(min(_BATCH, number - begin))]
        mode = datastore_v1.CommitRequest.Mode.NON_TRANSACTIONAL
        datastore.commit(datastore_v1.CommitRequest(project_id=client.project, mode=mode, mutations=mutations))


def _renamed(entity: Any) -> Any:
    renamed = datastore_v1.Entity()
    datastore_v1.Entity.copy_from(renamed, entity)
    renamed.key.path[0].name = new_token()
    return renamed


def _task(now: datetime) -> LongTask:
    return LongTask(
        key=LongTask.key_of(new_token()),
        endpoint="grown",
        path="/grown",
        base_url="",
        method="GET",
        execute_key=new_token(),
        queue="default",
        time_limit_seconds=600.0,
        keep_result_seconds=86_400.0,
        status_name=Status.FINISHED.value,
        created_at=now,
        updated_at=now,
        requested_at=now,
        ended_at=now,
        expires_at=now + timedelta(days=1),
        run_seconds=1.0,
        parameters_manifest={"layout": {"kind": "text"}, "fence": 0, "chunks": 0, "pieces": []},
        result_manifest={"layout": {"kind": "text"}, "fence": 1, "chunks": 0, "pieces": []},
    )
