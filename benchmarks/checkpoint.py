"""Measures the cost of ``checkpoint`` calls, due and not due: ``python -m benchmarks.checkpoint``.

Datastore is the Cloud SDK's emulator on the same machine. The fastest of several rounds counts. Calls that are not due
are measured in the thread's CPU time, so other load hardly matters. Due calls are measured in wall-clock time, most of
which they spend in round trips.
"""

from __future__ import annotations

import os
import time
import timeit
from collections import Counter
from datetime import timedelta
from statistics import median
from typing import Any, ClassVar

from flask import Flask
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler, LongTaskManager
from gaetk_longtask.dev.pieces import start_datastore
from gaetk_longtask.testing import Faults, InMemoryProgressStore, InMemoryQueue, ManualClock, put_between

_CALLS, _ROUNDS = 200_000, 9
_DUE_CALLS = 30


class NotDue(LongRunningTaskHandler):
    """Calls ``checkpoint`` many times in a row."""

    def execute_task(self, parameters: Any) -> str:
        """Print the time per call."""
        self.checkpoint({"step": 0})
        for name, timer in (("CPU time", time.thread_time), ("wall-clock time", time.perf_counter)):
            rounds = timeit.repeat(
                "checkpoint(state)",
                globals={"checkpoint": self.checkpoint, "state": {"step": 1, "total": 2}},
                timer=timer,
                repeat=_ROUNDS,
                number=_CALLS,
            )
            best, middle = (1e9 * one(rounds) / _CALLS for one in (min, median))
            print(f"not due: {best:.0f} ns {name}; median of {_ROUNDS} rounds {middle:.0f} ns", flush=True)
        return "done"


class Due(LongRunningTaskHandler):
    """Calls ``checkpoint`` every sixteen seconds, on a simulated clock."""

    clock: ClassVar[ManualClock]
    faults: ClassVar[Faults]

    def execute_task(self, parameters: Any) -> str:
        """Print the time and the operations per call."""
        taken, calls = [], []
        for step in self.track(range(_DUE_CALLS)):  # with a total, so that no usual duration is looked up
            self.clock.advance(timedelta(seconds=16))
            before, began = len(self.faults.calls), time.perf_counter()
            self.checkpoint({"step": step, "total": 2})
            taken.append(time.perf_counter() - began)
            calls.append(Counter(self.faults.calls[before:]))
        assert calls == [calls[0]] * _DUE_CALLS, calls
        operations = ", ".join(f"{number} {name}" for name, number in calls[0].items())
        print(f"due: {1000 * median(taken):.1f} ms, fastest {1000 * min(taken):.1f} ms; {operations}", flush=True)
        return "done"


def _deliver(handler: type[LongRunningTaskHandler], client: ndb.Client, **twins: Any) -> None:
    app, queue = Flask("benchmark"), InMemoryQueue()
    LongTaskManager(app, ndb_client=client, queue=queue, progress=InMemoryProgressStore(), **twins)
    app.add_url_rule("/task", view_func=handler.as_view("task"))
    with app.app_context():
        LongTaskManager.start("task", {})
    assert queue.deliver(app.test_client()).status_code == 200


def main() -> None:
    """Print the figures."""
    with start_datastore() as datastore:
        os.environ["DATASTORE_EMULATOR_HOST"] = datastore.host
        _deliver(NotDue, ndb.Client(project="benchmark"))  # type: ignore[no-untyped-call]  # it has no annotations
        client = ndb.Client(project="benchmark")  # type: ignore[no-untyped-call]  # it has no annotations
        Due.faults, Due.clock = put_between(client), ManualClock()
        _deliver(Due, client, clock=Due.clock)


if __name__ == "__main__":
    main()
