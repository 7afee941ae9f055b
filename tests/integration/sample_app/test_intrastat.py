"""The report: sales by country and day, and invalid months."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from google.cloud import ndb

from gaetk_longtask import ConfigurationError, LongTaskManager, Status
from gaetk_longtask.testing.runner import TaskRunner
from sample_app.models import Invoice


def sell(longtask: TaskRunner, *sales: tuple[str, str, int, str]) -> None:
    """Store invoices with time, country, quantity and price."""
    with longtask.datastore():
        ndb.put_multi(
            Invoice(
                invoiced_at=datetime.fromisoformat(when), country=country, quantity=quantity, unit_price=Decimal(price)
            )
            for when, country, quantity, price in sales
        )


def test_a_month_is_added_up_by_day_and_country(longtask: TaskRunner) -> None:
    sell(
        longtask,
        ("2011-03-07T10:15", "France", 2, "12.75"),
        ("2011-03-07T11:00", "France", -1, "12.75"),
        ("2011-03-07T12:00", "Eire", 4, "0.85"),
        ("2011-03-31T23:59", "France", 1, "3.00"),
        ("2011-04-01T00:00", "France", 100, "9.99"),
    )
    report = longtask.run("/intrastat?month=2011-03")
    assert report.text.splitlines() == [
        "Date,Country,Quantity,ValueGBP",
        "2011-03-07,Eire,4,3.40",
        "2011-03-07,France,1,12.75",
        "2011-03-31,France,1,3.00",
    ]


def test_the_report_in_parts_is_the_same(longtask: TaskRunner) -> None:
    sell(
        longtask,
        ("2011-03-07T10:15", "France", 2, "12.75"),
        ("2011-03-07T12:00", "Eire", 4, "0.85"),
        ("2011-03-31T23:59", "France", 1, "3.00"),
    )
    whole, in_parts = (longtask.run(f"/{name}?month=2011-03") for name in ("intrastat", "intrastat-in-parts"))
    assert in_parts.text == whole.text
    assert in_parts.headers["Content-Disposition"] == whole.headers["Content-Disposition"]


def test_the_start_page_says_how_long_both_took(longtask: TaskRunner) -> None:
    assert "The last one took" not in longtask.client.get("/").text
    task = longtask.start("/intrastat-in-parts?month=2011-03")
    longtask.clock.advance(timedelta(seconds=5))
    longtask.deliver_all()
    page = longtask.client.get("/").text
    assert task.status.has_result
    assert "each with a day. The last one took 5.0 s." in page
    assert "day by day. The last one" not in page


def test_a_start_page_without_indexes_is_shown_all_the_same(
    longtask: TaskRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tasks(**wanted: object) -> None:
        raise ConfigurationError("no index")

    monkeypatch.setattr(LongTaskManager, "tasks", tasks)
    assert longtask.client.get("/").status_code == 200


def test_the_report_is_a_csv_download(longtask: TaskRunner) -> None:
    report = longtask.run("/intrastat?month=2011-03")
    assert report.content_type == "text/csv; charset=utf-8"
    assert report.headers["Content-Disposition"] == "attachment; filename=intrastat-2011-03.csv"


def test_the_title_has_the_month(longtask: TaskRunner) -> None:
    assert longtask.start("/intrastat?month=2011-03").document["title"] == "INTRASTAT report for March 2011"
    assert longtask.start("/intrastat?month=December").document["title"] == "INTRASTAT report"


def test_an_invalid_month_fails_and_says_what_to_write(longtask: TaskRunner) -> None:
    task = longtask.start("/intrastat?month=December")
    longtask.deliver()
    assert task.status is Status.FAILED
    assert "“December” is not a month" in task.document["error"]
