"""Numbers, percentages and dates as a language writes them.

They come from ``translations/formats.json``, which ``tools/translations.py`` takes from Unicode's CLDR.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Self

DIRECTORY = Path(__file__).parents[2] / "translations"
_FRACTION_DIGITS = 3  #: as `Intl.NumberFormat` of browsers shows by default


@dataclass(frozen=True, kw_only=True, slots=True)
class Formats:
    """The formats of one language. A language that the table does not have gets international ones."""

    percent: str = "{}%"
    decimal: str = "."  #: before the fraction of a number
    group: str = ""  #: between groups of three digits
    grouped_from: int = 4  #: how many digits a number has at least so that they are grouped
    date: str = ""  #: with {day}, {month} and {year}; empty for ISO 8601
    months: tuple[str, ...] = ()

    @classmethod
    def of(cls, code: str) -> Self:
        """Return the formats of a language; ``pt_BR`` and ``pt-BR`` have those of ``pt`` unless they have their own."""
        given = next((_table()[part] for part in prefixes(code) if part in _table()), {})
        return cls(**{**given, "months": tuple(given.get("months", ()))})

    def number(self, value: float) -> str:
        """Return a number with the language's separators, and at most three digits of its fraction."""
        whole, _, fraction = f"{abs(value):,.{_FRACTION_DIGITS}f}".partition(".")
        fraction = fraction.rstrip("0")
        digits = whole.replace(",", "")
        whole = whole.replace(",", self.group) if len(digits) >= self.grouped_from else digits
        sign = "-" if value < 0 and (fraction or digits != "0") else ""
        return f"{sign}{whole}{self.decimal}{fraction}" if fraction else sign + whole

    def day(self, moment: datetime) -> str:
        """Return the date of a moment in words."""
        if not self.date:
            return moment.date().isoformat()
        return self.date.format(day=moment.day, month=self.months[moment.month - 1], year=moment.year)


def prefixes(code: str) -> Iterator[str]:
    """Return a language code in lower case and what it may be shortened to: ``pt_br`` and ``pt`` for ``pt-BR``."""
    parts = code.lower().replace("-", "_").split("_")[:3]
    return ("_".join(parts[:length]) for length in range(len(parts), 0, -1))


@cache
def _table() -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = json.loads((DIRECTORY / "formats.json").read_text(encoding="utf-8"))
    return table
