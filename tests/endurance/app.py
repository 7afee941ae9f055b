"""Adds to the application under fire what lasts: known bytes, books that show a line entered twice, the real import."""

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

#: Names the seconds that an attempt may take.
TIME_LIMIT_VARIABLE = "ENDURANCE_TIME_LIMIT"
#: Names the directory with a file for each task, to which its attempts write their steps.
JOURNAL_VARIABLE = "ENDURANCE_JOURNAL"

TIME_LIMIT = timedelta(seconds=float(os.environ.get(TIME_LIMIT_VARIABLE, "3")))
BATCH_LINES = 100
PIECE_BYTES = 100_000


def piece(unit: int) -> bytes:
    """Give what a relay yields for a unit: from nothing to 5 KB, half of it noise."""
    size = unit * 7919 % 2_500
    return noise(unit, size) + b"%d " % unit * (size // 8)


def advanced(totals: dict[str, Any], unit: int) -> dict[str, Any]:
    """Add a unit to the totals; the digest is of all units so far, in their order."""
    data = piece(unit)
    digest = blake2b(totals["digest"].encode() + data, digest_size=16).hexdigest()
    return {"units": totals["units"] + 1, "bytes": totals["bytes"] + len(data), "digest": digest}


NOTHING = {"units": 0, "bytes": 0, "digest": ""}


def last_line(totals: dict[str, Any]) -> bytes:
    """Write the totals, as a relay ends."""
    return json.dumps(totals, sort_keys=True).encode() + b"\n"


def relayed(units: int) -> bytes:
    """Give what a relay comes to, computed in one go."""
    totals = NOTHING
    for unit in range(units):
        totals = advanced(totals, unit)
    return b"".join(piece(unit) for unit in range(units)) + last_line(totals)


@cache
def invoice_lines(number: int) -> list[InvoiceRow]:
    """Give so many lines of the sample application's real invoices."""
    rows = read_rows(split_rows(BUNDLED_FILE.read_bytes()))
    return list(islice((row for row in rows if isinstance(row, InvoiceRow)), number))


def receipt(row: InvoiceRow) -> str:
    """Write what is yielded for a line."""
    return f"{row.line_number} {row.key_name}\n"


class Relay(LongRunningTaskHandler):
    """Yields known bytes, unit by unit, and their totals at the end, which it carries from attempt to attempt."""

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
    """The same in one attempt."""

    time_limit = timedelta(minutes=10)


class Volume(LongRunningTaskHandler):
    """Yields so many bytes of noise, or of text, and keeps no journal."""

    time_limit = TIME_LIMIT

    def execute_task(self, parameters: dict[str, Any]) -> Iterator[Any]:
        pieces = range(int(parameters["bytes"]) // PIECE_BYTES)
        for number in self.track(pieces, "Yielding", start=self.resumed_from or 0):
            time.sleep(0.02)
            yield noise(number, PIECE_BYTES // 2).hex() if "text" in parameters else noise(number, PIECE_BYTES)
            self.checkpoint(number + 1)


class Entry(ndb.Model):  # type: ignore[misc]  # ndb is untyped
    """One line in the books; its parent is the book."""

    _use_cache = False
    times = ndb.IntegerProperty(default=0, indexed=False)


class Book(ndb.Model):  # type: ignore[misc]  # ndb is untyped
    """How far one task has come in its books, written together with the entries."""

    _use_cache = False
    batches = ndb.IntegerProperty(default=0, indexed=False)


class Booking(LongRunningTaskHandler):
    """Adds one to the entry of every invoice line, which is not harmless twice, and yields a receipt.

    ``careless`` leaves out what makes it harmless: the proof of ownership, and the look into the book.
    """

    time_limit = TIME_LIMIT

    def execute_task(self, parameters: dict[str, Any]) -> Iterator[str]:
        rows = invoice_lines(int(parameters["lines"]))
        book = ndb.Key(Book, str(self.task.id))  # type: ignore[union-attr]  # there is one by now
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
        if book.batches > number:  # an attempt that died has entered it, and nobody was told
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
    """The sample application's import, with a journal."""

    start_methods = ("GET",)
    time_limit = TIME_LIMIT

    def log_progress(self, message: str, step: float = 0, total_steps: float = 0) -> None:
        note(self.task, int(step) // BATCH_SIZE)
        super().log_progress(message, step, total_steps)

    def display_result(self, parameters: Any, result: Any, task: Any) -> Any:
        return jsonify(result)


def note(task: Any, step: int) -> None:
    """Write into the journal which process is at which step of a task, by which fence and when."""
    with (Path(os.environ[JOURNAL_VARIABLE]) / task.id).open("a", encoding="ascii") as journal:
        journal.write(f"{task.fence} {os.getpid()} {step} {time.time()}\n")


for handler in (Relay, Undisturbed, Volume, Booking, Importing):
    endpoint = handler.__name__.lower()
    app.add_url_rule(f"/{endpoint}", view_func=handler.as_view(endpoint))
