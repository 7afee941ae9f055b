"""Measures the Datastore emulators side by side: the embedded one and the Cloud SDK's.

``python benchmarks/datastore_emulator.py [--entities 100000] [--kind embedded sdk]``. The emulator and the client share
the machine's cores. Memory is read from /proc, so this runs on Linux only.
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

from google.cloud import datastore
from google.cloud.datastore.query import PropertyFilter

from gaetk_longtask.dev.pieces import DatastoreKind, Piece, start_datastore

_AT_ONCE = 500
_FOUND, _MANY = 100, 3_000


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def seconds(function: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


class Run:
    """A client of an emulator, and what it does."""

    def __init__(self, piece: Piece, entities: int) -> None:
        os.environ["DATASTORE_EMULATOR_HOST"] = piece.host
        self._client = datastore.Client(project="bench")
        self._entities = entities

    def put(self, first: int, count: int) -> None:
        """Put entities with four indexed properties and a text."""
        for start in range(first, first + count, _AT_ONCE):
            batch = []
            for number in range(start, min(start + _AT_ONCE, first + count)):
                entity = datastore.Entity(self._client.key("Bill", number + 1), exclude_from_indexes=("text",))
                entity.update(
                    number=number,
                    group=number % (self._entities // _FOUND),
                    half=number % 2,
                    name=f"name {number}",
                    text="x" * 200,
                )
                batch.append(entity)
            self._client.put_multi(batch)

    def equal(self) -> None:
        """Find a few entities by equality."""
        query = self._client.query(kind="Bill").add_filter(filter=PropertyFilter("group", "=", 7))
        assert len(list(query.fetch())) == _FOUND

    def many(self) -> None:
        """Read many results of a filter by equality, in their order."""
        query = self._client.query(kind="Bill", order=["number"]).add_filter(filter=PropertyFilter("half", "=", 1))
        assert len(list(query.fetch(limit=_MANY))) == _MANY

    def ordered(self) -> None:
        """Read the first entities in a descending order, of those that a filter finds."""
        query = self._client.query(kind="Bill", order=["-number"])
        query.add_filter(filter=PropertyFilter("half", "=", 1))
        assert len(list(query.fetch(limit=_FOUND))) == _FOUND

    def get(self) -> None:
        """Get an entity."""
        assert self._client.get(self._client.key("Bill", 5)) is not None

    def gets_beside(self, query: Callable[[], None]) -> tuple[float, float]:
        """Return the median and the longest time of a get while a query runs."""
        thread = threading.Thread(target=query)
        thread.start()
        taken = []
        while thread.is_alive():
            taken.append(seconds(self.get))
        return statistics.median(taken), max(taken)


def measure(kind: str, entities: int) -> None:
    """Print the figures of an emulator."""
    began = time.perf_counter()
    with start_datastore(kind, memory_mib=2048) as piece:
        print(f"\n{kind}: started in {time.perf_counter() - began:.1f} s", flush=True)
        assert piece.process is not None
        run = Run(piece, entities)
        run.put(0, _AT_ONCE)
        print(f"memory at the start: {resident_mib(piece.process.pid):.0f} MiB", flush=True)
        taken = seconds(lambda: run.put(0, entities))
        print(f"put_multi: {entities / taken:.0f} entities per second")
        print(f"memory with {entities} entities: {resident_mib(piece.process.pid):.0f} MiB", flush=True)
        for name in ("equal", "ordered", "many", "get"):
            function = getattr(run, name)
            function()
            best = min(seconds(function) for _ in range(5))
            print(f"{name}: {best * 1000:.1f} ms", flush=True)
        median, longest = run.gets_beside(run.many)
        print(f"get beside a long query: {median * 1000:.1f} ms, at most {longest * 1000:.1f} ms", flush=True)


def main() -> None:
    """Measure each emulator."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--entities", type=int, default=100_000)
    parser.add_argument(
        "--kind", nargs="+", default=["embedded", "sdk"], choices=[kind.value for kind in DatastoreKind]
    )
    options = parser.parse_args()
    for kind in options.kind:
        measure(kind, options.entities)


if __name__ == "__main__":
    main()
