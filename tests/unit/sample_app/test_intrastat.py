"""The arithmetic of the INTRASTAT report."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaetk_longtask import PermanentTaskFailure
from sample_app.intrastat import ReportRow, days_of_month, to_csv, totals

DAY = date(2010, 12, 1)


@dataclass(kw_only=True)
class Sold:
    quantity: int
    unit_price: Decimal
    country: str = "France"


# The range of values that the import accepts.
SALES = st.builds(
    Sold,
    quantity=st.integers(-999_999_999, 999_999_999),
    unit_price=st.integers(-99_999_999_999, 99_999_999_999).map(lambda units: Decimal(units).scaleb(-4)),
    country=st.sampled_from(["EIRE", "France", "Germany"]),
)


def test_quantities_and_values_are_added_up_by_country() -> None:
    sales = [
        Sold(quantity=6, unit_price=Decimal("2.55")),
        Sold(quantity=1, unit_price=Decimal("18.00"), country="EIRE"),
        Sold(quantity=2, unit_price=Decimal("0.1")),
    ]

    assert totals(DAY, sales) == [
        ReportRow(day=DAY, country="EIRE", quantity=1, value=Decimal("18.00")),
        ReportRow(day=DAY, country="France", quantity=8, value=Decimal("15.50")),
    ]


def test_a_cancellation_takes_back_quantity_and_value() -> None:
    sales = [Sold(quantity=6, unit_price=Decimal("2.55")), Sold(quantity=-6, unit_price=Decimal("2.55"))]

    assert totals(DAY, sales) == [ReportRow(day=DAY, country="France", quantity=0, value=Decimal("0.00"))]


def test_a_day_without_sales_has_no_rows() -> None:
    assert totals(DAY, []) == []


@given(st.lists(SALES, max_size=60))
def test_values_are_exact(sales: list[Sold]) -> None:
    expected: defaultdict[str, Fraction] = defaultdict(Fraction)
    for sale in sales:
        expected[sale.country] += sale.quantity * Fraction(sale.unit_price)

    assert {row.country: Fraction(row.value) for row in totals(DAY, sales)} == expected


def test_the_report_is_csv_with_at_least_two_decimals() -> None:
    rows = totals(DAY, [Sold(quantity=1, unit_price=Decimal(3), country='Land, "far"')])

    assert list(csv.reader(to_csv(rows).splitlines())) == [
        ["Date", "Country", "Quantity", "ValueGBP"],
        ["2010-12-01", 'Land, "far"', "1", "3.00"],
    ]


@pytest.mark.parametrize(
    ("month", "number_of_days"), [("2010-12", 31), ("2011-02", 28), ("2012-02", 29), ("9999-12", 31)]
)
def test_a_month_has_all_its_days(month: str, number_of_days: int) -> None:
    days = days_of_month(month)

    assert [day.day for day in days] == list(range(1, number_of_days + 1))
    assert {f"{day:%Y-%m}" for day in days} == {month}


@pytest.mark.parametrize(
    "month", ["", "2010-13", "2010-00", "12/2010", "0000-01", "2010-12-01", "März", ["2010-12"], None]
)
def test_what_is_not_a_month_fails_for_good_and_says_what_to_write(month: object) -> None:
    with pytest.raises(PermanentTaskFailure, match="for example 2010-12"):
        days_of_month(month)
