"""Measures the time and the memory that it takes to store and to show large results."""

from __future__ import annotations

import time

from benchmarks.figures import Row, Table
from benchmarks.memory import MIB, Worker
from tests.chaos.battlefield import Battlefield
from tests.chaos.visitors import ask


def measure(*, quick: bool) -> list[Table]:
    """Return the tables."""
    sizes, repetitions = ((1,), 1) if quick else ((1, 10, 30), 2)
    seconds: dict[str, list[float]] = {}
    peaks: dict[str, list[float]] = {}

    def note(what: str, spent: float, worker: Worker) -> None:
        measured = worker.measured()
        seconds.setdefault(what, []).append(spent)
        peaks.setdefault(what, []).append((measured.peak - measured.idle) / MIB)

    with Battlefield(workers=1) as field:
        for mebibytes in sizes * repetitions:
            size = mebibytes * MIB
            worker = Worker(field)
            document = worker.answered(ask("GET", f"{field.url}/large/1?bytes={size}&form=bytes"))
            began = time.perf_counter()
            document = worker.finish(document)
            note(f"create and store {mebibytes} MiB", time.perf_counter() - began, worker)
            worker = Worker(field)
            began = time.perf_counter()
            worker.show(document)
            note(f"show {mebibytes} MiB", time.perf_counter() - began, worker)
    return [
        Table(name="sizes-time", unit="s", digits=2, rows=[Row(name=k, values=v) for k, v in seconds.items()]),
        Table(
            name="sizes-memory",
            unit="peak above idle, MiB",
            digits=0,
            rows=[Row(name=k, values=v) for k, v in peaks.items()],
        ),
    ]
