"""Adds long tasks to the chaos test's application: known bytes, bookkeeping that shows duplicates, and the import."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import cache, partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from flask import jsonify
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler
from sample_app.importing import BATCH_SIZE, BUNDLED_FILE, Import
from sample_app.invoice_file import InvoiceRow, read_rows, split_rows
from tests.chaos.app import app, noise

__all__ = ["app"]

#: The limit of an attempt in seconds.
TIME_LIMIT_VARIABLE = "ENDURANCE_TIME_LIMIT"
#: The directory of the journal, with a file for each task. Attempts write their steps to it.
JOURNAL_VARIABLE = "ENDURANCE_JOURNAL"

TIME_LIMIT = timedelta(seconds=float(os.environ.get(TIME_LIMIT_VARIABLE, "3")))
BATCH_LINES = 100
PIECE_BYTES = 100_000


def piece(unit: int) -> bytes:
    """Return what a relay yields for a unit: up to 5 KB, half of it noise."""
    size = unit * 7919 % 2_500
    return noise(unit, size) + b"%d " % unit * (size // 8)


def advanced(totals: dict[str, Any], unit: int) -> dict[str, Any]:
    """Return the totals with one more unit. The digest depends on all units so far and their order."""
    data = piece(unit)
    digest = blake2b(totals["digest"].encode() + data, digest_size=16).hexdigest()
    return {"units": totals["units"] + 1, "bytes": totals["bytes"] + len(data), "digest": digest}


NOTHING = {"units": 0, "bytes": 0, "digest": ""}


def last_line(totals: dict[str, Any]) -> bytes:
    """Return the totals as the last line of a relay's result."""
    return json.dumps(totals, sort_keys=True).encode() + b"\n"


def relayed(units: int) -> bytes:
    """Return the expected result of a relay."""
    totals = NOTHING
    for unit in range(units):
        totals = advanced(totals, unit)
    return b"".join(piece(unit) for unit in range(units)) + last_line(totals)


@cache
def invoice_lines(number: int) -> list[InvoiceRow]:
    """Return the first ``number`` invoice lines of the sample application."""
    rows = read_rows(split_rows(BUNDLED_FILE.read_bytes()))
    return list(islice((row for row in rows if isinstance(row, InvoiceRow)), number))


def receipt(row: InvoiceRow) -> str:
    """Return the receipt for a line."""
    return f"{row.line_number} {row.key_name}\n"


class Relay(LongRunningTaskHandler):
    """Yields known bytes, unit by unit, and finally their totals. Checkpoints keep the totals between attempts."""

    time_limit = TIME_LIMIT

    def execute_task(self, parameters: dict[str, Any]) -> Iterator[bytes]:
        units, seconds = int(parameters["units"]), float(parameters["seconds"])
        totals = self.resumed_from or NOTHING
        for unit in self.track(range(units), "Working", start=totals["units"]):
            note(self.task, unit)
            time.sleep(seconds / units)
            yield piece(unit)
            totals = advanced(totals, unit)
            self.checkpoint(totals)
        yield last_line(totals)


class Undisturbed(Relay):
    """Does the same work in one attempt."""

    time_limit = timedelta(minutes=10)


class Volume(LongRunningTaskHandler):
    """Yields the given number of bytes, as noise or as text. It keeps no journal."""

    time_limit = TIME_LIMIT

    def execute_task(self, parameters: dict[str, Any]) -> Iterator[Any]:
        pieces = range(int(parameters["bytes"]) // PIECE_BYTES)
        for number in self.track(pieces, "Yielding", start=self.resumed_from or 0):
            time.sleep(0.02)
            yield noise(number, PIECE_BYTES // 2).hex() if "text" in parameters else noise(number, PIECE_BYTES)
            self.checkpoint(number + 1)


class Entry(ndb.Model):  # type: ignore[misc]  # ndb is untyped
    """One line in a book. The book is its parent."""

    _use_cache = False
    times = ndb.IntegerProperty(default=0, indexed=False)


class Book(ndb.Model):  # type: ignore[misc]  # ndb is untyped
    """The progress of one task's bookkeeping, written in the same transaction as the entries."""

    _use_cache = False
    batches = ndb.IntegerProperty(default=0, indexed=False)


class Booking(LongRunningTaskHandler):
    """Adds one to the entry of every invoice line, and yields a receipt. Adding twice would be an error.

    ``careless`` leaves out the protection against that: `assert_current`, and the check of the book.
    """

    time_limit = TIME_LIMIT

    def execute_task(self, parameters: dict[str, Any]) -> Iterator[str]:
        rows = invoice_lines(int(parameters["lines"]))
        book = ndb.Key(Book, str(self.task.id))  # type: ignore[union-attr]  # set during an attempt
        batches = range(0, len(rows), BATCH_LINES)
        enter = _enter_again if "careless" in parameters else self._enter_once
        for number in self.track(range(len(batches)), "Booking", start=self.resumed_from or 0):
            note(self.task, number)
            batch = rows[batches[number] : batches[number] + BATCH_LINES]
            ndb.transaction(partial(enter, book, number, batch))
            yield "".join(map(receipt, batch))
            self.checkpoint(number + 1)

    def _enter_once(self, key: Any, number: int, batch: list[InvoiceRow]) -> None:
        self.assert_current()
        book = key.get() or Book(key=key)
        if book.batches > number:  # an attempt has entered it and crashed before its checkpoint
            return
        _enter_again(key, number, batch)
        book.batches = number + 1
        book.put()


def _enter_again(book: Any, number: int, batch: list[InvoiceRow]) -> None:
    keys = [ndb.Key(Entry, row.key_name, parent=book) for row in batch]
    entries = [found or Entry(key=key) for key, found in zip(keys, ndb.get_multi(keys), strict=True)]
    for entry in entries:
        entry.times += 1
    ndb.put_multi(entries)


class Importing(Import):
    """The sample application's import with a journal."""

    start_methods = ("GET",)
    time_limit = TIME_LIMIT

    def log_progress(self, message: str, step: float = 0, total_steps: float = 0) -> None:
        note(self.task, int(step) // BATCH_SIZE)
        super().log_progress(message, step, total_steps)

    def display_result(self, parameters: Any, result: Any, task: Any) -> Any:
        return jsonify(result)


def note(task: Any, step: int) -> None:
    """Write a step to the journal, with fence, process id and time."""
    with (Path(os.environ[JOURNAL_VARIABLE]) / task.id).open("a", encoding="ascii") as journal:
        journal.write(f"{task.fence} {os.getpid()} {step} {time.time()}\n")


for handler in (Relay, Undisturbed, Volume, Booking, Importing):
    endpoint = handler.__name__.lower()
    app.add_url_rule(f"/{endpoint}", view_func=handler.as_view(endpoint))
