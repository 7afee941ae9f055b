"""What was measured: repetitions side by side, their median and spread, the ratio to what stands beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One figure: a value of each repetition."""

    name: str
    values: list[float]
    beside: tuple[str, ...] = ()  #: the rows that the ratios are to, repetition by repetition
    target: str = ""  #: what the ratio, or the figure, is to be


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Figures of one unit."""

    name: str
    unit: str
    digits: int = 1
    rows: list[Row] = field(default_factory=list)
    ratio: str = "ratio"  #: what the last but one column says

    def json(self) -> dict[str, Any]:
        """Give it as it is written to the file."""
        return asdict(self)

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Table:
        """Read what `json` gave."""
        return cls(**{**data, "rows": [Row(**row) for row in data["rows"]]})

    def markdown(self) -> str:
        """Give it as the docs show it."""
        has_ratio = any(row.beside for row in self.rows)
        has_target = any(row.target for row in self.rows)
        heads = ["", f"{self.unit}", "from – to", *([self.ratio] * has_ratio), *(["target"] * has_target)]
        lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
        for row in self.rows:
            cells = [row.name, self._number(median(row.values))]
            cells.append(f"{self._number(min(row.values))} – {self._number(max(row.values))}")
            cells += [self._ratio(row)] * has_ratio + [row.target] * has_target
            lines.append(cells)
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

    def _number(self, value: float) -> str:
        return f"{value:,.{self.digits}f}"

    def _ratio(self, row: Row) -> str:
        values = {one.name: one.values for one in self.rows}
        ratios = {name: median(a / b for a, b in zip(row.values, values[name], strict=True)) for name in row.beside}
        return "<br>".join(f"{ratio:,.{2 if ratio < 10 else 0}f} × {name}" for name, ratio in ratios.items())


def side_by_side(repetitions: int, measures: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Take all measures in turn, as often as is wanted, so that what else the machine does meets them alike."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(repetitions):
        for name, measure in measures.items():
            values[name].append(measure())
    return values
