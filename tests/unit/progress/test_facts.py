"""The facts that the work reports: whatever they are, they can be shown and stored."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.local import LocalProxy

from gaetk_longtask.info import Progress
from gaetk_longtask.ownership import Ownership
from gaetk_longtask.progress.bar import Bar
from gaetk_longtask.progress.facts import LONGEST_NAME, MOST_BYTES, MOST_FACTS, presentable_facts
from gaetk_longtask.progress.phases import Phases
from gaetk_longtask.testing import ManualClock


class Level(IntEnum):
    HIGH = 3


class Broken(float):
    def __float__(self) -> float:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (120, 120),
        (-1.5, -1.5),
        (2.0, 2),
        (Decimal("1.50"), 1.5),
        (Level.HIGH, 3),
        ("a.csv", "a.csv"),
        (True, "True"),
        (Fraction(1, 3), "1/3"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (Decimal("sNaN"), "sNaN"),
        (2**60, "1152921504606846976"),
        (10**5000, "int"),
        ("x" * 101, "x" * 100),
        ("rechnung-\udcfc.csv", "rechnung-?.csv"),
        (LocalProxy(lambda: 1 // 0), "LocalProxy"),
        (Broken(1.5), "1.5"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_fact_is_a_number_or_a_short_text(value: Any, shown: Any) -> None:
    assert presentable_facts({"fact": value}) == {"fact": shown}


VALUES = st.text(max_size=200) | st.floats() | st.integers() | st.booleans() | st.none()


@given(st.dictionaries(st.text("abc_", min_size=LONGEST_NAME, max_size=LONGEST_NAME), VALUES, max_size=MOST_FACTS))
def test_all_facts_together_are_small(reported: dict[str, Any]) -> None:
    facts = presentable_facts(reported)
    assert len(json.dumps(facts, separators=(",", ":"), allow_nan=False)) <= MOST_BYTES
    assert facts.keys() == {name for name, value in reported.items() if value is not None}


def test_long_texts_are_cut_until_all_of_them_fit() -> None:
    facts = presentable_facts({"a": "x" * 300, "b": "ü" * 300, "number": 7})
    assert {name: len(str(value)) for name, value in facts.items()} == {"a": 50, "b": 50, "number": 1}


def test_facts_that_are_not_mentioned_stay_and_none_removes_one() -> None:
    clock = ManualClock()
    ownership = Ownership(lambda: None, renew_every=timedelta(minutes=1), clock=clock)
    bar = Bar(Progress(facts={"skipped": 1}), ownership, Phases(clock=clock))
    bar.log_facts({"imported": 120, "file": "a.csv"})
    bar.log_facts({"imported": 240, "file": None})
    assert bar.facts == {"skipped": 1, "imported": 240}
