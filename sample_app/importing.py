"""Imports a CSV file of invoices, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from flask import render_template
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler, LongTask, PermanentTaskFailure

from .invoice_file import InvoiceRow, RejectedRow, UnreadableFileError, read_rows, split_rows
from .models import Invoice

BUNDLED_FILE = Path(__file__).parent / "data" / "online_retail_2010-12.csv"
BATCH_SIZE = 250
MAX_REJECTED = 5_000


class Import(LongRunningTaskHandler):
    """Stores every row of the file that is in order, and lists every other one with its line number and reason.

    Rows are stored under keys that follow from what they say, so a file can be imported twice, or overlap with another
    one. After each batch there is a checkpoint, so an import that is interrupted, or longer than a request may take,
    goes on behind the last batch that was kept; a batch that was stored and not kept is stored once more, unchanged.
    """

    title = "Import of invoices"
    start_methods = ("POST",)

    def execute_task(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return how many rows were stored, and the rejected ones."""
        try:
            rows = split_rows(_file_in(parameters))
        except UnreadableFileError as exc:
            raise PermanentTaskFailure(str(exc)) from exc
        done: dict[str, Any] = self.resumed_from or {"batches": 0, "stored": 0, "rejected": []}
        for batch in islice(_batches(read_rows(rows), BATCH_SIZE), done["batches"], None):
            accepted = [row for row in batch if isinstance(row, InvoiceRow)]
            ndb.put_multi([Invoice.from_row(row) for row in accepted])
            done["batches"] += 1
            done["stored"] += len(accepted)
            done["rejected"] += [[row.line_number, row.reason] for row in batch if isinstance(row, RejectedRow)]
            if len(done["rejected"]) > MAX_REJECTED:
                line_number, reason = done["rejected"][0]
                raise PermanentTaskFailure(_too_many(line_number, reason, done["stored"]))
            self.log_progress(f"{done['stored']:,} invoice lines stored", batch[-1].line_number - 1, len(rows))
            self.checkpoint(done)
        return {"stored": done["stored"], "rejected": done["rejected"]}

    def display_result(self, parameters: dict[str, Any], result: dict[str, Any], task: LongTask) -> str:
        """Show the outcome as a page."""
        return render_template("imported.html", task=task, **result)


def _file_in(parameters: dict[str, Any]) -> bytes:
    match parameters:
        case {"bundled": _}:
            return BUNDLED_FILE.read_bytes()
        case {"file": bytes(data)} if data:
            return data
        case _:
            raise PermanentTaskFailure("No file has arrived, or an empty one. Choose one CSV file and import it.")


def _batches(rows: Iterable[InvoiceRow | RejectedRow], size: int) -> Iterator[list[InvoiceRow | RejectedRow]]:
    remaining = iter(rows)
    while batch := list(islice(remaining, size)):
        yield batch


def _too_many(line_number: int, reason: str, stored: int) -> str:
    return (
        f"More than {MAX_REJECTED:,} rows are wrong; the first is line {line_number}: {reason}. "
        f"{stored:,} lines before that were stored. Correct the file and import it again, which stores nothing twice."
    )
