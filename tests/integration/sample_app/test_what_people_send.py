"""Files as spreadsheets save them, and months as people type them."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from gaetk_longtask import Status
from gaetk_longtask.testing import StartedTask, TaskRunner
from sample_app.invoice_file import COLUMNS
from sample_app.models import Invoice

HEADER = ",".join(COLUMNS)
ROW = "700001,22423,Größe Łódź,2,2011-03-07T10:15,12.75,17850,Österreich"


def upload(data: bytes, name: str = "Umsätze März.csv") -> dict[str, Any]:
    """Return the test client's arguments for a form with a file."""
    return {"method": "POST", "data": {"file": (io.BytesIO(data), name)}}


def ended(longtask: TaskRunner, task: StartedTask) -> dict[str, Any]:
    """Return the document of a task that must end in its first attempt."""
    assert longtask.deliver().status_code == 200
    document = task.document
    assert document["done"]
    return document


@pytest.mark.parametrize(
    "file",
    [
        f"{HEADER}\n{ROW}",
        f"\ufeff{HEADER}\r\n{ROW}\r\n",
        f"\ufeff{HEADER}\r\n\r\n{ROW}\r\n\r\n   \r\n",
        f"{HEADER}\r{ROW}\r",
        f"{HEADER}\n{ROW}".replace(",", ";"),
        f"\ufeff{HEADER}\r\n{ROW}\r\n\r\n".replace(",", ";").replace("12.75", "12,75"),
        '"' + f"{HEADER}\n{ROW}\n".replace(",", '","').replace("\n", '"\n"')[:-1],
        '"' + f"{HEADER}\n{ROW}\n".replace(",", '";"').replace("\n", '"\n"')[:-1],
    ],
)
def test_a_file_is_imported_as_a_spreadsheet_saves_it(longtask: TaskRunner, file: str) -> None:
    task = longtask.start("/import", **upload(file.encode()))
    assert ended(longtask, task)["error"] is None
    assert re.search(r"imported</dt><dd>1<", task.result().text)
    with longtask.datastore():
        [invoice] = Invoice.query().fetch()
    assert (invoice.description, invoice.country, str(invoice.unit_price)) == ("Größe Łódź", "Österreich", "12.75")


@pytest.mark.parametrize(
    ("file", "error"),
    [
        (b"", "There was no file"),
        (b"\xef\xbb\xbf", "The file is empty"),
        (b"\n \r\n", "The file is empty"),
        (HEADER.encode(), "The file has no rows"),
        (f"\ufeff{HEADER}\r\n\r\n".replace(",", ";").encode(), "The file has no rows"),
        (f"{HEADER}\n{ROW}".encode("latin-1", "replace"), "Line 2 of the file is not UTF-8"),
        (f"{HEADER}\n{ROW}".encode("utf-16"), "is not a text file"),
        (f"Größe;Preis\n{ROW}".encode(), "The first line is “Größe;Preis”"),
        (f"{ROW}\n{ROW}".encode(), "it must list the columns"),
        (f"{HEADER}\n{ROW}".replace(",", "\t").encode(), "it must list the columns"),
        (f"{HEADER},Shop\n{ROW},Köln".encode(), "it must list the columns"),
        (b"{" + b'"a": 1,' * 50_000, "it must list the columns"),
    ],
)
def test_another_file_is_refused_at_once_and_with_a_message(longtask: TaskRunner, file: bytes, error: str) -> None:
    task = longtask.start("/import", **upload(file))
    assert error in ended(longtask, task)["error"]
    assert task.status is Status.FAILED


def test_rows_with_wrong_columns_are_listed(longtask: TaskRunner) -> None:
    rows = [f"{ROW},Köln", "Łódź", ROW.replace("12.75", "12,75"), ROW]
    page = longtask.run("/import", **upload("\n".join([HEADER, *rows]).encode())).text
    assert re.search(r"imported</dt><dd>1<", page)
    assert re.findall(r"must have 8 columns, not (\d+)", page) == ["9", "1", "9"]


@pytest.mark.parametrize("data", [{}, {"file": "Umsätze.csv"}, {"file": (io.BytesIO(b""), "")}])
def test_a_form_without_a_file_is_refused_at_once(longtask: TaskRunner, data: dict[str, Any]) -> None:
    task = longtask.start("/import", method="POST", data=data)
    assert "Choose one CSV file" in ended(longtask, task)["error"]


@pytest.mark.parametrize("month", ["0001-01", "2011-03", "9999-12"])
def test_a_month_without_sales_has_an_empty_report(longtask: TaskRunner, month: str) -> None:
    report = longtask.run(f"/intrastat?month={month}")
    assert report.text == "Date,Country,Quantity,ValueGBP\n"
    assert report.headers["Content-Disposition"] == f"attachment; filename=intrastat-{month}.csv"


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("", "“” is not a month"),
        ("month=", "“” is not a month"),
        ("month=M%C3%A4rz", "“März” is not a month"),
        ("month=2010-13", "“2010-13” is not a month"),
        ("month=2010-12%0A", "is not a month"),
        ("month=-2010-12", "“-2010-12” is not a month"),
        ("month=2010-12&month=2011-01", "Choose one month"),
        (f"month={'9' * 1000}", "is not a month"),
    ],
)
def test_what_is_no_month_is_refused_at_once(longtask: TaskRunner, query: str, error: str) -> None:
    task = longtask.start(f"/intrastat?{query}")
    assert error in ended(longtask, task)["error"]


def test_the_last_second_of_a_month_is_part_of_it(longtask: TaskRunner) -> None:
    rows = [ROW.replace("2011-03-07T10:15", time) for time in ("2011-03-31T23:59", "2011-04-01T00:00")]
    longtask.run("/import", **upload("\n".join([HEADER, *rows]).encode()))
    assert longtask.run("/intrastat?month=2011-03").text.splitlines()[1:] == ["2011-03-31,Österreich,2,25.50"]


@pytest.mark.parametrize("seconds", ["601", "-1", "1.5", "zehn", "99999999999999999999"])
def test_what_is_no_number_of_seconds_is_not_found(longtask: TaskRunner, seconds: str) -> None:
    assert longtask.client.get(f"/count/{seconds}").status_code == 404
