"""docs/parts.md: its reports are right, whatever the year has."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.examples.conftest import AN_APP, Example

PARTS = "parts.md"
PREPARED = (
    AN_APP
    + """
from gaetk_longtask import LongRunningTaskHandler
invoices = {}
def invoices_of(month):
    return invoices.get(month, [])
"""
)


@pytest.fixture
def page(example: Example) -> tuple[Any, dict[str, Any]]:
    runner, names = example(PARTS, PREPARED, year="YearReport", largest="LargestMonth")
    names["invoices"]["2026-02"] = [{"customer": "A", "total": "1.50"}, {"customer": "B", "total": "2"}]
    names["invoices"]["2026-11"] = [{"customer": "C", "total": "3"}]
    names["invoices"]["2027-01"] = [{"customer": "D", "total": "4"}]
    return runner, names


@pytest.mark.calls(PARTS, "YearReport.split_task", "YearReport.execute_part", "YearReport.join_parts")
def test_the_report_has_the_invoices_of_the_year_month_by_month(page: tuple[Any, dict[str, Any]]) -> None:
    runner, _ = page
    lines = runner.run("/year?year=2026").text.splitlines()
    assert lines == ["month;customer;total", "2026-02;A;1.50", "2026-02;B;2", "2026-11;C;3"]


def test_a_year_without_invoices_has_a_report_all_the_same(page: tuple[Any, dict[str, Any]]) -> None:
    runner, _ = page
    assert runner.run("/year?year=1999").text == "month;customer;total\n"


@pytest.mark.calls(PARTS, "LargestMonth.join_parts")
def test_the_largest_month_is_found(page: tuple[Any, dict[str, Any]]) -> None:
    runner, _ = page
    assert runner.run("/largest?year=2026").json == {"month": 2, "invoices": 2}


@pytest.mark.calls(PARTS, "test_the_report_of_a_year_has_a_line_for_each_invoice")
def test_its_own_test_passes(page: tuple[Any, dict[str, Any]]) -> None:
    runner, names = page
    names["invoices"].clear()
    for month in range(1, 13):
        names["invoices"][f"2026-{month:02}"] = [{"customer": "A", "total": "1"}]
    names["test_the_report_of_a_year_has_a_line_for_each_invoice"](runner)
