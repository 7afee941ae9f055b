"""The INTRASTAT report: what was sold to which country on each day of a month."""

from __future__ import annotations

import csv
import io
import re
from calendar import monthrange
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Protocol

from flask import Response

from gaetk_longtask import LongRunningTaskHandler, PermanentTaskFailure

from .models import Invoice

_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")


class IntrastatReport(LongRunningTaskHandler):
    """Adds up quantity and value for each day and country of the month in the parameter ``month`` (``2010-12``).

    Every stored line counts as it is. A cancellation (an invoice whose number starts with ``C``) has negative
    quantities: it lowers the totals of the day on which it was cancelled, not of the day of the sale. All countries
    are listed, also those that a declaration leaves out: the shop's own and those outside the Union.
    """

    title = "INTRASTAT report"

    def execute_task(self, parameters: dict[str, Any]) -> str:
        """Return the report as CSV."""
        days = days_of_month(parameters.get("month", ""))
        rows: list[ReportRow] = []
        for done, day in enumerate(days):
            self.log_progress(f"Adding up {day.day} {day:%B %Y}", done, len(days) + 1)
            rows += totals(day, Invoice.of_day(day))
        self.log_progress("Formatting", len(days), len(days) + 1)
        return to_csv(rows)

    def display_result(self, parameters: dict[str, Any], result: str) -> Response:
        """Hand the report over as a file."""
        response = Response(result, content_type="text/csv; charset=utf-8")
        response.headers.set("Content-Disposition", "attachment", filename=f"intrastat-{parameters['month']}.csv")
        return response


class Sale(Protocol):
    """What the report needs to know of an invoice line."""

    country: str
    quantity: int
    unit_price: Decimal


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportRow:
    """What was sold to one country on one day."""

    day: date
    country: str
    quantity: int
    #: Pounds sterling, exact: two decimals, or more where a price has more.
    value: Decimal


def days_of_month(month: object) -> list[date]:
    """Return the days of a month that is written like ``2010-12``."""
    match = _MONTH.fullmatch(str(month))
    if match is None or match[1] == "0000":
        raise PermanentTaskFailure(f"“{month}” is not a month. Write it as year and month, for example 2010-12.")
    year_number, month_number = int(match[1]), int(match[2])
    return [date(year_number, month_number, day + 1) for day in range(monthrange(year_number, month_number)[1])]


def totals(day: date, sales: Iterable[Sale]) -> list[ReportRow]:
    """Add up the sales of one day by country, in the order of the countries' names."""
    quantities: defaultdict[str, int] = defaultdict(int)
    values: defaultdict[str, Decimal] = defaultdict(lambda: Decimal("0.00"))
    for sale in sales:
        quantities[sale.country] += sale.quantity
        values[sale.country] += sale.quantity * sale.unit_price
    return [
        ReportRow(day=day, country=country, quantity=quantities[country], value=values[country])
        for country in sorted(quantities)
    ]


def to_csv(rows: Iterable[ReportRow]) -> str:
    """Write the report as text, with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("Date", "Country", "Quantity", "ValueGBP"))
    for row in rows:
        writer.writerow((row.day, row.country, row.quantity, row.value))
    return text.getvalue()
