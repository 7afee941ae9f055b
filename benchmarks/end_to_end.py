"""Measures the time from a click to the visible result of an empty task, and compares it with the bare minimum."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.figures import Row, Table, side_by_side
from benchmarks.stack import Visitor, application

_POLL_SECONDS = 0.005
OURS, BARE, BY_NDB = "ours", "RPCs and requests only", "the same, with NDB"


def measure(*, quick: bool) -> list[Table]:
    """Return the table."""
    clicks, repetitions = (5, 2) if quick else (15, 5)
    with application(threads=8, with_peers=True) as (port, _, _):
        visitor = Visitor(port)
        flows: dict[str, Callable[[], None]] = {
            OURS: lambda: _ours(visitor),
            BARE: lambda: _alone(visitor, "bare"),
            BY_NDB: lambda: _alone(visitor, "ndb"),
            "RQ": lambda: _theirs(visitor, "rq"),
            "Celery": lambda: _theirs(visitor, "celery"),
        }
        for flow in flows.values():
            _milliseconds(flow, clicks)  # opens connections and fills caches
        measures = {name: lambda flow=flow: _milliseconds(flow, clicks) for name, flow in flows.items()}
        found = side_by_side(repetitions, measures)
    rows = [
        # With CreateTask.
        Row(name=BARE, values=found[BARE], round_trips=11),
        Row(name=BY_NDB, values=found[BY_NDB], beside=(BARE,), round_trips=11),
        Row(name=OURS, values=found[OURS], beside=(BARE, BY_NDB), target="≤ 1.15", round_trips=8),
        Row(name="RQ", values=found["RQ"], beside=(BARE,)),
        Row(name="Celery", values=found["Celery"], beside=(BARE,)),
    ]
    return [Table(name="end-to-end", unit="ms from click to result", digits=1, rows=rows)]


def _milliseconds(flow: Callable[[], None], clicks: int) -> float:
    began = time.perf_counter()
    for _ in range(clicks):
        flow()
    return (time.perf_counter() - began) / clicks * 1000


def _ours(visitor: Visitor) -> None:
    links = visitor.json("/empty")["links"]
    document = _wait(visitor, links["self"])
    _, _, body = visitor.ask(document["links"]["result"])
    assert body == b"result"


def _alone(visitor: Visitor, way: str) -> None:
    _, headers, _ = visitor.ask(f"/alone/{way}/start")
    document = _wait(visitor, headers["Location"])
    _, _, body = visitor.ask(f"/alone/{way}/result/{document['id']}")
    assert body == b"result"


def _theirs(visitor: Visitor, which: str) -> None:
    name = visitor.json(f"/{which}/start")["id"]
    _wait(visitor, f"/{which}/status/{name}")
    _, _, body = visitor.ask(f"/{which}/result/{name}")
    assert body == b"result"


def _wait(visitor: Visitor, url: str) -> Any:
    while not (document := visitor.json(url))["done"]:
        time.sleep(_POLL_SECONDS)
    return document
