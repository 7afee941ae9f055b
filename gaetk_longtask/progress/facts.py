"""The facts that the work reports: a few numbers and short texts, safe for every page and store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal

from gaetk_longtask.info import Facts
from gaetk_longtask.progress.snapshot import presentable

MOST_FACTS = 10
LONGEST_NAME = 30
#: Texts are cut after this many characters, or after fewer if all facts together take more than `MOST_BYTES`.
_LENGTHS = (100, 50, 25, 12, 6, 3, 1)
MOST_BYTES = 600  #: as JSON, with every character that is not ASCII escaped
_COUNTABLE = 2**53  #: the highest number to which every browser can count


def presentable_facts(reported: Mapping[str, object]) -> Facts:
    """Return what the work has reported as numbers and short texts. Facts that are None are left out. Never raises."""
    values = {name: _number_or_text(value) for name, value in reported.items() if value is not None}
    for length in _LENGTHS:
        facts = {name: value[:length] if isinstance(value, str) else value for name, value in values.items()}
        if len(json.dumps(facts, separators=(",", ":"))) <= MOST_BYTES:
            break
    return facts


def _number_or_text(value: object) -> float | str:
    with suppress(Exception):  # an author's class may raise anything
        if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
            number = float(value)
            if abs(number) <= _COUNTABLE:  # neither infinite nor NaN
                return int(value) if number.is_integer() else number
    return presentable(value)
