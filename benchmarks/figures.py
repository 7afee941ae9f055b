"""The figures: repetitions, their median and spread, and their ratio to the figures of an alternative."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One figure, with a value for each repetition."""

    name: str
    values: list[float]
    beside: tuple[str, ...] = ()  #: the rows that it is compared with, repetition by repetition
    target: str = ""  #: the target for the ratio or the figure
    round_trips: int | None = None  #: how many calls to Datastore and Cloud Tasks it makes


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Figures that have the same unit."""

    name: str
    unit: str
    digits: int = 1
    rows: list[Row] = field(default_factory=list)
    ratio: str = "ratio"  #: the heading of the column of ratios

    def json(self) -> dict[str, Any]:
        """Return the table as it is written to the file."""
        return asdict(self)

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Table:
        """Return the table from the output of `json`."""
        return cls(**{**data, "rows": [Row(**row) for row in data["rows"]]})

    def markdown(self) -> str:
        """Return the table as Markdown."""
        has_ratio = any(row.beside for row in self.rows)
        has_target = any(row.target for row in self.rows)
        has_trips = any(row.round_trips is not None for row in self.rows)
        heads = ["", f"{self.unit}", "from – to", *([self.ratio] * has_ratio), *(["target"] * has_target)]
        heads += ["round trips"] * has_trips
        lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
        for row in self.rows:
            cells = [row.name, self._number(median(row.values))]
            cells.append(f"{self._number(min(row.values))} – {self._number(max(row.values))}")
            cells += [self._ratio(row)] * has_ratio + [row.target] * has_target
            cells += ["" if row.round_trips is None else str(row.round_trips)] * has_trips
            lines.append(cells)
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

    def _number(self, value: float) -> str:
        return f"{value:,.{self.digits}f}"

    def _ratio(self, row: Row) -> str:
        values = {one.name: one.values for one in self.rows}
        ratios = {name: median(a / b for a, b in zip(row.values, values[name], strict=True)) for name in row.beside}
        return "<br>".join(f"{ratio:,.{2 if ratio < 10 else 0}f} × {name}" for name, ratio in ratios.items())


def side_by_side(repetitions: int, measures: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Take all measures in turn, several times, so that other load on the machine affects all of them equally."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(repetitions):
        for name, measure in measures.items():
            values[name].append(measure())
    return values
