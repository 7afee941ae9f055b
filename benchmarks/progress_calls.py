"""Measures the cost of progress calls in the innermost loop of a real attempt."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from celery import Celery
from flask import Flask
from google.cloud import ndb
from rq.job import Job
from tqdm import tqdm  # type: ignore[import-untyped]  # it ships no annotations

from benchmarks.empty import empty
from benchmarks.figures import Row, Table, side_by_side
from benchmarks.peers import celery_app, rq_queue
from gaetk_longtask import LongRunningTaskHandler, LongTaskManager
from gaetk_longtask.testing import InMemoryQueue

EMPTY, LOOP, CHECKPOINT = "an empty method with the same arguments", "a bare loop", "checkpoint, not due"
_MICROSECONDS = 1e6


class Measuring(LongRunningTaskHandler):
    """Takes the measures within an attempt."""

    calls: ClassVar[int]
    repetitions: ClassVar[int]
    found: ClassVar[dict[str, list[float]]]

    def execute_task(self, parameters: Any) -> None:
        """Measure all calls in turn."""
        job, app = _rq_job(), celery_app()
        self.checkpoint({"step": 0})
        bar = tqdm(total=self.calls, file=io.StringIO())
        number, few, wall = self.calls, max(20, self.calls // 500), time.perf_counter
        measures: dict[str, Callable[[], float]] = {
            EMPTY: lambda: _per_call(lambda step: self.nothing("Counting", step, number), number),
            "log_progress": lambda: _per_call(lambda step: self.log_progress("Counting", step, number), number),
            CHECKPOINT: lambda: _per_call(self.checkpoint, number),
            "tqdm's update": lambda: _per_call(lambda step: bar.update(), number),
            "RQ's save_meta": lambda: _per_call(lambda step: _save_meta(job, step, number), few, wall),
            "Celery's update_state": lambda: _per_call(lambda step: update_state(app, "task", step, number), few, wall),
            LOOP: lambda: _per_item(range(number), number),
            "track": lambda: _per_item(self.track(range(number), "Counting"), number),
            "tqdm": lambda: _per_item(tqdm(range(number), file=io.StringIO()), number),
        }
        type(self).found = side_by_side(self.repetitions, measures)

    def nothing(self, message: str, step: float = 0, total_steps: float = 0) -> None:
        """Do nothing; only the call is measured."""


def measure(ndb_client: ndb.Client, *, quick: bool) -> list[Table]:
    """Return the tables."""
    Measuring.calls, Measuring.repetitions = (5_000, 2) if quick else (100_000, 9)
    app, queue = Flask("bench"), InMemoryQueue()
    app.config["LONGTASK_PROJECT"] = os.environ["GOOGLE_CLOUD_PROJECT"]
    LongTaskManager(app, ndb_client=ndb_client, queue=queue)
    app.add_url_rule("/measuring", view_func=Measuring.as_view("measuring"))
    client = app.test_client()
    client.get("/measuring")
    assert queue.deliver(client).status_code == 200
    found = Measuring.found
    above = [a - b for a, b in zip(found["log_progress"], found[EMPTY], strict=True)]
    calls = [
        Row(name=EMPTY, values=found[EMPTY]),
        Row(name="log_progress", values=found["log_progress"], beside=("tqdm's update",)),
        Row(name="log_progress minus the empty method", values=above, target="≤ 0.2"),
        Row(name=CHECKPOINT, values=found[CHECKPOINT], beside=("tqdm's update",), target="≤ 1"),
        Row(name="tqdm's update", values=found["tqdm's update"]),
        Row(name="RQ's save_meta", values=found["RQ's save_meta"], beside=("log_progress",)),
        Row(name="Celery's update_state", values=found["Celery's update_state"], beside=("log_progress",)),
    ]
    items = [
        Row(name=LOOP, values=found[LOOP]),
        Row(name="track", values=found["track"], beside=("tqdm",), target="≤ 1"),
        Row(name="tqdm", values=found["tqdm"]),
    ]
    return [
        Table(name="progress-calls", unit="µs per call", digits=3, rows=calls),
        Table(name="progress-items", unit="µs per item", digits=3, rows=items),
    ]


def _per_call(call: Callable[[int], object], number: int, clock: Callable[[], float] = time.thread_time) -> float:
    began = clock()
    for step in range(number):
        call(step)
    return (clock() - began) / number * _MICROSECONDS


def _per_item(items: Iterable[int], number: int) -> float:
    began = time.thread_time()
    for _ in items:
        pass
    return (time.thread_time() - began) / number * _MICROSECONDS


def _rq_job() -> Job:
    return rq_queue().enqueue(empty)


def _save_meta(job: Job, step: int, total: int) -> None:
    job.meta["progress"] = {"message": "Counting", "step": step, "total_steps": total}
    job.save_meta()


def update_state(app: Celery, task_id: str, step: int, total: int) -> None:
    """Report a task's progress to Celery."""
    meta = {"message": "Counting", "step": step, "total_steps": total}
    app.tasks["empty"].update_state(task_id, "PROGRESS", meta)
