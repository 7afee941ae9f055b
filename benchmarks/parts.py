"""Measures work in parts: lanes that wait, the overhead of a part, writes of progress, and the memory of a join."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.figures import Row, Table, side_by_side
from benchmarks.memory import MIB
from benchmarks.parts_app import KIBIBYTE
from benchmarks.stack import cpu_seconds
from tests.chaos.battlefield import Battlefield
from tests.chaos.visitors import ask, wait_for

_APP = "benchmarks.parts_app:app"
_LONGEST_SECONDS = 300.0
_PARTS = 8
#: How long to wait before and while the operations of memcached are counted.
_WARM_UP_SECONDS, _COUNTED_SECONDS = 3.0, 10.0


def measure(*, quick: bool) -> list[Table]:
    """Return the tables."""
    return [*_measure_lanes(quick=quick), *_measure_join(quick=quick)]


def _measure_lanes(*, quick: bool) -> list[Table]:
    seconds, repetitions, number = (1, 1, 8) if quick else (5, 3, 100)
    with Battlefield(app=_APP, workers=4, threads=4) as field:

        def lanes(number: int, *, seconds: float = seconds, parts: int = _PARTS) -> float:
            return _run(field, f"/waiting/{number}?parts={parts}&seconds={seconds}")

        def cpu(run: object, count: int) -> float:
            before = cpu_seconds(field.app.pid)
            run()  # type: ignore[operator]  # a function
            return (cpu_seconds(field.app.pid) - before) / count * 1000

        def tasks() -> None:
            with ThreadPoolExecutor(max_workers=8) as pool:
                list(pool.map(lambda _: _run(field, "/empty"), range(number)))

        lanes(8, seconds=0)  # opens connections and fills caches
        waited = side_by_side(repetitions, {name: lambda n=n: lanes(n) for name, n in _NAMES.items()})
        spent = side_by_side(
            repetitions,
            {
                "a task": lambda: cpu(tasks, number),
                "a part": lambda: cpu(lambda: lanes(8, seconds=0, parts=number), number),
            },
        )
        operations = [_operations(field, n, quick=quick) for n in (1, 8)]
    one, *others = _NAMES
    rows = [Row(name=one, values=waited[one])]
    rows += [Row(name=name, values=waited[name], beside=(one,)) for name in others]
    rows[1] = Row(name=rows[1].name, values=rows[1].values, beside=(one,), target=f"< {1.5 * 2 * seconds:g} s")
    return [
        Table(name="parts-lanes", unit="s from click to result", digits=1, rows=rows),
        Table(
            name="parts-overhead",
            unit="ms of CPU time of the workers",
            digits=1,
            rows=[
                Row(name="a task", values=spent["a task"]),
                Row(name="a part", values=spent["a part"], beside=("a task",)),
            ],
        ),
        Table(
            name="parts-progress",
            unit="a second",
            digits=1,
            rows=[
                Row(name=f"{what} of memcached, {lanes} lane{'s' * (lanes > 1)} at work", values=[found[what]])
                for lanes, found in zip((1, 8), operations, strict=True)
                for what in ("writes", "reads")
            ],
        ),
    ]


_NAMES = {"8 parts in 1 lane": 1, "8 parts in 4 lanes": 4, "8 parts in 8 lanes": 8}


def _run(field: Battlefield, path: str) -> float:
    """Return how many seconds a task takes from the click to the visible result."""
    began = time.perf_counter()
    answer = ask("GET", f"{field.url}{path}")
    assert answer is not None, path
    assert answer.status == 202, answer.body
    document = wait_for(f"{field.url}{answer.json['links']['self']}", seconds=_LONGEST_SECONDS)
    assert document["links"]["result"], document
    return time.perf_counter() - began


def _operations(field: Battlefield, lanes: int, *, quick: bool) -> dict[str, float]:
    """Return how many writes and reads memcached gets a second while so many parts work, and no page is open."""
    warm_up, counted = (1.0, 2.0) if quick else (_WARM_UP_SECONDS, _COUNTED_SECONDS)
    answer = ask("GET", f"{field.url}/waiting/{lanes}?parts={lanes}&seconds={warm_up + counted + 2}")
    assert answer is not None, lanes
    time.sleep(warm_up)
    before = _stats(field)
    time.sleep(counted)
    after = _stats(field)
    wait_for(f"{field.url}{answer.json['links']['self']}", seconds=_LONGEST_SECONDS)
    return {
        "writes": (after["cmd_set"] - before["cmd_set"]) / counted,
        "reads": (after["cmd_get"] - before["cmd_get"]) / counted,
    }


def _stats(field: Battlefield) -> dict[str, int]:
    with socket.create_connection(("127.0.0.1", field.memcached_port), timeout=5) as connection:
        connection.sendall(b"stats\r\n")
        text = b""
        while not text.endswith(b"END\r\n"):
            text += connection.recv(65536)
    lines = [line.split() for line in text.decode().splitlines() if line.startswith("STAT cmd_")]
    return {name: int(value) for _, name, value in lines}


def _measure_join(*, quick: bool) -> list[Table]:
    parts, repetitions = (20, 1) if quick else (1000, 2)
    values = []
    with Battlefield(app=_APP, workers=1, threads=16) as field:
        for _ in range(repetitions):
            field.restart_app()
            _run(field, f"/bulky?parts=8&bytes={30 * KIBIBYTE}")
            idle = _peak(field)
            _run(field, f"/bulky?parts={parts}&bytes={30 * KIBIBYTE}")
            values.append((_peak(field) - idle) / MIB)
    row = Row(name=f"{parts:,} parts with results of 30 KiB, and their join", values=values)
    return [Table(name="parts-memory", unit="peak above idle, MiB", digits=0, rows=[row])]


def _peak(field: Battlefield) -> int:
    answer = ask("GET", f"{field.url}/memory")
    assert answer is not None
    return int(answer.json["peak"])
