"""Runs all benchmarks and writes the tables of docs/performance.md: ``nox -s bench``.

``python -m benchmarks --only polls …`` runs the named parts and keeps the other figures. ``--quick`` only checks that
everything runs, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from google.cloud import ndb

from benchmarks import end_to_end, growth, imports, parts, polls, progress_calls, sizes, throughput
from benchmarks.figures import Table
from benchmarks.stack import PROJECT, services

RESULTS = Path(__file__).with_name("results.json")
DOCS = Path(__file__).parents[1] / "docs" / "performance.md"


def main() -> None:
    """Run the benchmarks and write the docs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="run few repetitions and write nothing")
    names = "progress, polls, end, throughput, imports, growth, sizes, parts"
    parser.add_argument("--only", nargs="+", metavar="PART", help=f"run only these parts: {names}")
    parser.add_argument("--write-docs", action="store_true", help="measure nothing, only rewrite the docs")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    if not options.write_docs:
        _measure(quick=options.quick, only=options.only)
    if not options.quick:
        _write_docs()


def _measure(*, quick: bool, only: list[str] | None) -> None:
    def take(name: str, part: Callable[[], list[Table]]) -> None:
        if only is not None and name not in only:
            return
        began = time.perf_counter()
        tables = part()
        print(f"\n{name}: {time.perf_counter() - began:.0f} seconds")
        for table in tables:
            print(f"\n{table.name}\n{table.markdown()}", flush=True)
        if not quick:
            _keep(tables)

    with services() as named:
        client = ndb.Client(project=PROJECT)
        with_services: dict[str, Callable[[], list[Table]]] = {
            "progress": lambda: progress_calls.measure(client, quick=quick),
            "polls": lambda: polls.measure(quick=quick),
            "end": lambda: end_to_end.measure(quick=quick),
            "throughput": lambda: throughput.measure(named, quick=quick),
            "imports": lambda: imports.measure(quick=quick),
            "growth": lambda: growth.measure(client, quick=quick),
        }
        for name, part in with_services.items():
            take(name, part)
    take("sizes", lambda: sizes.measure(quick=quick))
    take("parts", lambda: parts.measure(quick=quick))


def _keep(found: list[Table]) -> None:
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"tables": {}}
    kept["tables"] |= {table.name: table.json() for table in found}
    kept["measured"] = {
        "at": datetime.now(UTC).isoformat(timespec="minutes"),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_at_the_end": os.getloadavg()[0],
    }
    RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def sentence(measured: dict[str, str]) -> str:
    """Return the sentence that states when and where the figures were measured."""
    load = f"a load average of {float(measured['load_at_the_end']):.0f} at the end"
    return f"Last measured {measured['at'][:10]}: Python {measured['python']}, {measured['machine']}, {load}."


def _write_docs() -> None:
    """Write the tables between their markers."""
    kept = json.loads(RESULTS.read_text(encoding="utf-8"))
    text = DOCS.read_text(encoding="utf-8")
    sections = {name: Table.of_json(data).markdown() for name, data in kept["tables"].items()}
    sections["measured"] = sentence(kept["measured"])
    for name, section in sections.items():
        marker = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = marker.sub(lambda found, section=section: f"{found[1]}{section}\n{found[2]}", text)
    DOCS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
