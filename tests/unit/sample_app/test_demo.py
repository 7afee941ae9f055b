"""Tests of what the demo prints."""

from __future__ import annotations

from sample_app.demo import report_table


def test_the_table_adds_the_report_up_exactly() -> None:
    report = "Date,Country,Quantity,ValueGBP\n2010-12-01,EIRE,1200,0.10\n2010-12-01,France,-200,1234.25\n"

    assert report_table(report).splitlines() == [
        "  Date        Country  Quantity  ValueGBP",
        "  2010-12-01  EIRE        1,200      0.10",
        "  2010-12-01  France       -200  1,234.25",
        "              Total       1,000  1,234.35",
    ]


def test_an_empty_report_has_a_total_of_nothing() -> None:
    assert report_table("Date,Country,Quantity,ValueGBP\n").splitlines()[-1].split() == ["Total", "0", "0"]
