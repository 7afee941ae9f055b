"""The import of a CSV file of invoices, in batches."""

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
    """Stores the valid rows of the file, and lists the invalid ones with line number and reason.

    The key of a row is derived from its content. So a file can be imported twice, and files may overlap.

    There is a checkpoint after each batch. An import that was interrupted, or that takes longer than a request may,
    continues after its last checkpoint. A batch that was stored after this checkpoint is stored again, unchanged.
    """

    title = "Importing invoices"
    start_methods = ("POST",)

    def execute_task(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the number of stored rows, and the rejected rows."""
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


def _batches(rows: Iterable[InvoiceRow | RejectedRow], size: int) -> Iterator[list[InvoiceRow | RejectedRow]]:
    remaining = iter(rows)
    while batch := list(islice(remaining, size)):
        yield batch


def _too_many(line_number: int, reason: str, stored: int) -> str:
    return (
        f"More than {MAX_REJECTED:,} rows are invalid. The first one is line {line_number}: {reason}. "
        f"{stored:,} valid lines were stored. Correct the file and import it again. Nothing will be stored twice."
    )
