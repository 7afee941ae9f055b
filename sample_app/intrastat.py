"""The INTRASTAT report: the sales to each country on each day of a month."""

from __future__ import annotations

import csv
import io
import re
from calendar import monthrange
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Protocol

from flask import Response

from gaetk_longtask import LongRunningTaskHandler, PermanentTaskFailure

from .models import Invoice

_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")


class _Report(LongRunningTaskHandler):
    """Quantity and value per day and country. The parameter ``month`` names the month (``2010-12``).

    Cancellations (invoice numbers that start with ``C``) have negative quantities. They lower the totals of the day of
    the cancellation, not of the day of the sale. The report lists all countries, also those that do not belong in an
    official declaration: the shop's own country and countries outside the European Union.
    """

    title = "INTRASTAT report"
    form_url = "index"

    def title_of(self, parameters: dict[str, Any]) -> str | None:
        """Return a title with the month, if it is one."""
        try:
            first_day, *_ = days_of_month(parameters.get("month"))
        except PermanentTaskFailure:
            return None
        return f"INTRASTAT report for {first_day:%B %Y}"

    def display_result(self, parameters: dict[str, Any], result: str) -> Response:
        """Return the report as a file to download."""
        response = Response(result, content_type="text/csv; charset=utf-8")
        response.headers.set("Content-Disposition", "attachment", filename=f"intrastat-{parameters['month']}.csv")
        return response


class IntrastatReport(_Report):
    """The report of a month, made by one worker."""

    def execute_task(self, parameters: dict[str, Any]) -> str:
        """Return the report as CSV."""
        days = days_of_month(parameters.get("month", ""))
        rows: list[ReportRow] = []
        for done, day in enumerate(days):
            self.log_progress(f"Adding up {day.day} {day:%B %Y}", done, len(days) + 1)
            rows += totals(day, Invoice.of_day(day))
        self.log_progress("Formatting", len(days), len(days) + 1)
        return to_csv(rows)


class IntrastatReportInParts(_Report):
    """The same report, made by several workers: each day is a part."""

    def split_task(self, parameters: dict[str, Any]) -> list[date]:
        """Return the days of the month."""
        return days_of_month(parameters.get("month", ""))

    def execute_part(self, parameters: dict[str, Any], part: date) -> list[tuple[str, int, Decimal]]:
        """Return country, quantity and value of each row of a day."""
        self.log_progress(f"Adding up {part.day} {part:%B %Y}")
        return [(row.country, row.quantity, row.value) for row in totals(part, Invoice.of_day(part))]

    def join_parts(self, parameters: dict[str, Any], results: Sequence[list[tuple[str, int, Decimal]]]) -> str:
        """Return the report as CSV."""
        self.log_progress("Formatting")
        return to_csv(
            ReportRow(day=day, country=country, quantity=quantity, value=value)
            for day, rows in zip(days_of_month(parameters["month"]), results, strict=True)
            for country, quantity, value in rows
        )


class Sale(Protocol):
    """The fields of an invoice line that the report uses."""

    country: str
    quantity: int
    unit_price: Decimal


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportRow:
    """The sales to one country on one day."""

    day: date
    country: str
    quantity: int
    #: Pounds sterling, exact. It has two decimals, or more if a price has more.
    value: Decimal


def days_of_month(month: object) -> list[date]:
    """Return the days of a month that is written like ``2010-12``."""
    if not isinstance(month, str):
        raise PermanentTaskFailure("Choose one month. Write it as year and month, for example 2010-12.")
    match = _MONTH.fullmatch(month)
    if match is None or match[1] == "0000":
        raise PermanentTaskFailure(f"“{month:.40}” is not a month. Write it as year and month, for example 2010-12.")
    year_number, month_number = int(match[1]), int(match[2])
    return [date(year_number, month_number, day + 1) for day in range(monthrange(year_number, month_number)[1])]


def totals(day: date, sales: Iterable[Sale]) -> list[ReportRow]:
    """Return the totals of one day for each country, sorted by country."""
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
    """Return the report as CSV with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("Date", "Country", "Quantity", "ValueGBP"))
    for row in rows:
        writer.writerow((row.day, row.country, row.quantity, row.value))
    return text.getvalue()
