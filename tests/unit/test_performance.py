"""docs/performance.md shows the measured figures."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.figures import Row, Table, side_by_side

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
RESULTS: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))["tables"]


@pytest.mark.parametrize("name", RESULTS)
def test_the_docs_show_the_measured_figures(name: str) -> None:
    assert f"<!-- {name} -->\n{Table.of_json(RESULTS[name]).markdown()}\n<!-- end -->" in DOCS


def test_every_table_of_the_docs_was_measured() -> None:
    assert set(re.findall(r"<!-- ([a-z-]+) -->", DOCS)) - {"end", "measured"} == set(RESULTS)


def test_a_ratio_is_the_median_of_the_repetitions_ratios() -> None:
    rows = [Row(name="theirs", values=[1, 10, 100]), Row(name="ours", values=[2, 20, 900], beside=("theirs",))]
    assert "2.00 × theirs" in Table(name="table", unit="ms", rows=rows).markdown()


def test_round_trips_are_a_column_of_their_own() -> None:
    rows = [Row(name="theirs", values=[1], round_trips=11), Row(name="ours", values=[1])]
    lines = Table(name="table", unit="ms", rows=rows).markdown().splitlines()
    assert [line.split(" | ")[-1] for line in lines] == ["round trips |", "---: |", "11 |", " |"]


def test_measures_are_taken_in_turn() -> None:
    taken: list[str] = []

    def measure(name: str) -> float:
        taken.append(name)
        return float(len(taken))

    found = side_by_side(2, {"a": lambda: measure("a"), "b": lambda: measure("b")})
    assert taken == ["a", "b", "a", "b"]
    assert found == {"a": [1, 3], "b": [2, 4]}
