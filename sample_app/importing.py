"""The import of a CSV file of invoices, in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path, PureWindowsPath
from typing import Any, ClassVar

from flask import render_template, request
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler, LongTask, PermanentTaskFailure

from .invoice_file import InvoiceRow, RejectedRow, UnreadableFileError, read_rows, split_rows
from .models import Invoice

BUNDLED_FILE = Path(__file__).parent / "data" / "online_retail_2010-12.csv"
BATCH_SIZE = 250
MAX_SKIPPED = 5_000


class Import(LongRunningTaskHandler):
    """Stores the valid rows of the file, and lists the others with line number and reason.

    The key of a row is derived from its content. So a file can be imported twice, and files may overlap.

    All rows are checked before the first one is stored. Then they are read again, because the rows of a large file do
    not fit into memory.

    There is a checkpoint after each batch. An import that was interrupted, or that takes longer than a request may,
    continues after its last checkpoint. A batch that was stored after this checkpoint is stored again, unchanged.
    """

    title = "Invoice import"
    start_methods = ("POST",)
    form_url = "index"
    phases = ("Reading", "Checking", "Storing")
    facts: ClassVar[dict[str, str]] = {"imported": "Imported", "skipped": "Skipped"}

    def prepare_task(self, **kwargs: Any) -> dict[str, Any]:
        """Return the fields of the form and the name of the file."""
        file = request.files.get("file")
        name = PureWindowsPath(file.filename or "").name if file else ""  # without folders
        return {**super().prepare_task(**kwargs), "name": name}

    def title_of(self, parameters: dict[str, Any]) -> str | None:
        """Return a title with the name of the file."""
        name = BUNDLED_FILE.name if "bundled" in parameters else parameters.get("name")
        return f"Import of {name}" if name else None

    def execute_task(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the number of stored rows, and the rows that were skipped."""
        self.phase("Reading")
        try:
            rows = split_rows(_file_in(parameters))
        except UnreadableFileError as exc:
            raise PermanentTaskFailure(str(exc)) from exc
        self.phase("Checking")
        skipped = self._check(rows)
        self.phase("Storing")
        done: dict[str, int] = self.resumed_from or {"batches": 0, "imported": 0}
        self.log_facts(imported=done["imported"], skipped=len(skipped))
        valid = (row for row in read_rows(rows) if isinstance(row, InvoiceRow))
        for batch in islice(_batches(valid, BATCH_SIZE), done["batches"], None):
            ndb.put_multi([Invoice.from_row(row) for row in batch])
            done = {"batches": done["batches"] + 1, "imported": done["imported"] + len(batch)}
            row_number = batch[-1].line_number - 1  # the first line is the header
            self.log_progress(f"Row {row_number:,} of {len(rows):,}", row_number, len(rows))
            self.log_facts(imported=done["imported"])
            self.checkpoint(done)
        return {"imported": done["imported"], "skipped": skipped}

    def _check(self, rows: Sequence[str]) -> list[list[Any]]:
        """Return line number and reason of each row that can't be stored."""
        skipped: list[list[Any]] = []
        for row in self.track(read_rows(rows), total=len(rows)):
            if isinstance(row, RejectedRow):
                skipped.append([row.line_number, row.reason])
                if len(skipped) > MAX_SKIPPED:
                    raise PermanentTaskFailure(_too_many(*skipped[0]))
        return skipped

    def display_result(self, parameters: dict[str, Any], result: dict[str, Any], task: LongTask) -> str:
        """Return a page that shows the outcome."""
        return render_template("imported.html", task=task, **result)


def _file_in(parameters: dict[str, Any]) -> bytes:
    match parameters:
        case {"bundled": _}:
            return BUNDLED_FILE.read_bytes()
        case {"file": bytes(data)} if data:
            return data
        case _:
            raise PermanentTaskFailure("There was no file, or it was empty. Choose one CSV file and import it.")


def _batches(rows: Iterable[InvoiceRow], size: int) -> Iterator[list[InvoiceRow]]:
    remaining = iter(rows)
    while batch := list(islice(remaining, size)):
        yield batch


def _too_many(line_number: int, reason: str) -> str:
    return (
        f"More than {MAX_SKIPPED:,} rows are invalid. The first one is line {line_number}: {reason}. "
        "Nothing was stored. Correct the file and import it again."
    )
