"""The import: stored and rejected rows, and failures half-way."""

from __future__ import annotations

import gc
import io
import re
from collections.abc import Iterator
from datetime import timedelta

import pytest

from gaetk_longtask import Status
from gaetk_longtask.testing import Crash, Faults, ManualClock
from gaetk_longtask.testing.runner import TaskRunner
from sample_app import importing
from sample_app.invoice_file import COLUMNS
from sample_app.models import Invoice

HEADER = ",".join(COLUMNS)
GOOD_ROW = "700001,22423,CAKESTAND,2,2011-03-07T10:15,12.75,17850,France"


def upload(*lines: str) -> dict[str, object]:
    """Return the test client's arguments for a form with a file."""
    return file("\n".join([HEADER, *lines]).encode())


def file(data: bytes) -> dict[str, object]:
    return {"method": "POST", "data": {"file": (io.BytesIO(data), "invoices.csv")}}


def invoices(count: int) -> list[str]:
    return [GOOD_ROW.replace("700001", str(700001 + number)) for number in range(count)]


def stored(longtask: TaskRunner) -> list[str]:
    with longtask.datastore():
        return sorted(invoice.invoice_no for invoice in Invoice.query())


def test_what_was_imported_is_stored(longtask: TaskRunner) -> None:
    page = longtask.run("/import", **upload(*invoices(3)))
    assert re.search(r"imported</dt><dd>3<", page.text)
    assert stored(longtask) == ["700001", "700002", "700003"]


def test_bad_rows_are_listed_with_line_and_reason_and_good_ones_stored(longtask: TaskRunner) -> None:
    bad_rows = [GOOD_ROW.replace("12.75", "free"), GOOD_ROW.replace("CAKESTAND", '"CAKESTAND'), "<b>nonsense</b>"]

    page = longtask.run("/import", **upload(bad_rows[0], GOOD_ROW, *bad_rows[1:])).text

    assert "4 rows read" in page
    assert re.search(r"imported</dt><dd>1<", page)
    assert re.search(r"skipped</dt><dd>3<", page)
    assert re.findall(r'<td class="number">(\d+)</td>', page) == ["2", "4", "5"]
    assert "UnitPrice must be an amount such as 2.55, not “free”" in page
    assert "check its quotation marks" in page
    assert "The row must have 8 columns, not 1" in page
    assert stored(longtask) == ["700001"]


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        (b"PK\x03\x04\x00workbook", "save the table as “CSV UTF-8 (comma separated)”"),
        (b"", "Choose one CSV file"),
        (b"%PDF-1.7 \xe2\xe3", "is not UTF-8 text"),
        (b"Name;Price\nx;1\n", f"separated by commas: {HEADER}"),
    ],
)
def test_a_file_that_is_no_csv_file_fails_at_once_and_says_what_to_do(
    longtask: TaskRunner, data: bytes, advice: str
) -> None:
    task = longtask.start("/import", **file(data))
    longtask.deliver()
    assert task.status is Status.FAILED
    assert advice in task.document["error"]
    assert advice in task.page().text


def test_a_file_full_of_errors_is_given_up(longtask: TaskRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "MAX_SKIPPED", 2)
    task = longtask.start("/import", **upload(*invoices(3), "x", "y", "z"))
    longtask.deliver()
    assert task.status is Status.FAILED
    assert "More than 2 rows are invalid. The first one is line 5" in task.document["error"]
    assert stored(longtask) == []


def test_the_page_shows_the_phase_the_row_and_how_many_were_imported_and_skipped(
    longtask: TaskRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH_SIZE", 2)
    task = longtask.start("/import", **upload(*invoices(4), "nonsense", *invoices(5)[4:]))
    longtask.deliver()
    progress = task.document["progress"]
    assert progress["phase"] == {"name": "Storing", "number": 3, "count": 3}
    assert progress["message"] == "Row 6 of 6"
    assert progress["percent"] == 100
    assert task.document["facts"] == {"imported": 5, "skipped": 1}


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("Umsätze März.csv", "Import of Umsätze März.csv"),
        (r"C:\\Users\\anna\\may.csv", "Import of may.csv"),
        ("", "Invoice import"),
    ],
)
def test_the_title_of_an_import_has_the_name_of_the_file(longtask: TaskRunner, name: str, title: str) -> None:
    task = longtask.start("/import", method="POST", data={"file": (io.BytesIO(b"x"), name)})
    assert task.document["title"] == title


def test_the_title_of_the_bundled_file_has_its_name(longtask: TaskRunner) -> None:
    task = longtask.start("/import", method="POST", data={"bundled": "yes"})
    assert task.document["title"] == f"Import of {importing.BUNDLED_FILE.name}"
    assert f'<h1 tabindex="-1" dir="auto">Import of {importing.BUNDLED_FILE.name}</h1>' in task.page().text


def test_an_import_that_failed_leads_back_to_the_form(longtask: TaskRunner) -> None:
    task = longtask.start("/import", **file(b"PK\x03\x04\x00"))
    longtask.deliver()
    assert '<a class="lt-button" href="/">Back to the form</a>' in task.page().text


def test_an_import_that_is_delivered_twice_is_done_once(longtask: TaskRunner) -> None:
    task = longtask.start("/import", **upload(*invoices(3)))
    longtask.deliver()
    assert longtask.deliver_again().status_code == 200
    assert task.status is Status.DONE
    assert len(stored(longtask)) == 3


@pytest.fixture
def _no_complaints() -> Iterator[None]:
    """Collect the generators that ndb leaves unfinished after a crash, because they cause warnings."""
    yield
    gc.collect()


@pytest.mark.usefixtures("_no_complaints")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_import_whose_worker_dies_is_done_again_and_stores_each_line_once(
    longtask: TaskRunner,
    longtask_clock: ManualClock,
    longtask_faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importing, "BATCH_SIZE", 2)
    task = longtask.start("/import", **upload(*invoices(5)))
    longtask_faults.crash_at_commit(2, before=True)  # the first two commits are the claim and the first batch
    with pytest.raises(Crash):
        longtask.deliver()
    assert task.status is Status.STARTED
    assert len(stored(longtask)) == 2

    longtask_clock.advance(timedelta(minutes=3))
    longtask.deliver_all()

    assert task.status is Status.DONE
    assert len(stored(longtask)) == 5


def test_an_import_does_not_start_by_following_a_link(longtask: TaskRunner) -> None:
    assert longtask.client.get("/import").status_code == 405
    assert not longtask.queue.tasks
