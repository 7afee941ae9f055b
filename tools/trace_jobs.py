"""The jobs whose progress is recorded: ordinary work, in loops that report every step.

No job sleeps, and none has a fixed duration. The recording contains the job's docstring as a description.
"""

from __future__ import annotations

import ast
import difflib
import json
import lzma
import os
import signal
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from itertools import groupby
from pathlib import Path

from google.cloud import ndb

from sample_app.importing import Import
from sample_app.invoice_file import InvoiceRow, read_rows, split_rows
from sample_app.models import Invoice
from tools.trace_bar import Bar
from tools.trace_material import (
    batches,
    clerk,
    compressed,
    csv_file,
    datastore,
    invoice_rows,
    other_process,
    pseudonym,
    source_files,
)

Job = Callable[[Bar], object]


# Linear


def linear_pseudonyms(bar: Bar) -> None:
    """Makes a pseudonym for the customer of each of 10,000 invoice lines, with scrypt."""
    for row in bar.track(invoice_rows()):
        pseudonym(row)


def linear_puts(bar: Bar) -> None:
    """Stores 10,000 invoice lines in Datastore, one per call."""
    with datastore():
        for row in bar.track(invoice_rows()):
            Invoice.from_row(row).put()


def linear_import(bar: Bar) -> None:
    """The sample app's import: 60,000 invoice lines, stored in Datastore and reported 250 at a time."""

    class Recorded(Import):
        def log_progress(self, message: object, step: float = 0, total_steps: float = 0) -> None:
            bar.report(int(step), int(total_steps))

    with datastore():
        bar.report(0, 60_000)
        Recorded().execute_task({"file": csv_file(copies=6)})


# Slowing down


def slowing_similar_names(bar: Bar) -> None:
    """Finds article names that differ in a few letters: compares each of 2,000 names with all earlier ones."""
    names = sorted({row.description for row in invoice_rows()})
    matcher = difflib.SequenceMatcher()
    for number, name in enumerate(bar.track(names)):
        matcher.set_seq2(name)
        for earlier in names[:number]:
            matcher.set_seq1(earlier)
            if matcher.quick_ratio() > 0.6:
                matcher.ratio()


def slowing_rewritten_file(bar: Bar) -> None:
    """Appends to a JSON file, ten invoice lines at a time: reads it, adds lines and rewrites it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "invoices.json")
        file.write_text("[]")
        for batch in bar.track(list(batches(invoice_rows(copies=2), 10))):
            said = [[row.invoice_no, row.stock_code, row.description, str(row.unit_price)] for row in batch]
            file.write_text(json.dumps(json.loads(file.read_text()) + said))


def slowing_without_index(bar: Bar) -> None:
    """Stores 40,000 invoice lines in SQLite, and first searches for each in a table without an index."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE line (invoice_no, stock_code, description, digest)")
        for row in bar.track(invoice_rows(copies=4)):
            database.execute("SELECT count(*) FROM line WHERE digest LIKE ?", (row.key_name,)).fetchone()
            values = (row.invoice_no, row.stock_code, row.description, row.key_name)
            database.execute("INSERT INTO line VALUES (?, ?, ?, ?)", values)


# Bursty


def bursty_batches(bar: Bar) -> None:
    """Reads and checks 80,000 invoice lines and stores them in Datastore, 5,000 at a time; each line is a step."""
    with datastore():
        lines = split_rows(csv_file(copies=8))
        rows = (row for row in read_rows(lines) if isinstance(row, InvoiceRow))
        bar.report(0, len(lines))
        for batch in batches((Invoice.from_row(row) for row in bar.phase(rows)), 5000):
            ndb.put_multi(batch)


def bursty_compression(bar: Bar) -> None:
    """Compresses 900 modules of Python's library, of up to 230 kB each, with LZMA."""
    for path in bar.track(source_files()[::2]):
        compressed(path)


def bursty_invoices(bar: Bar) -> None:
    """Makes pseudonyms for 512 invoices of 1 to 593 lines; each invoice is a step."""
    invoices = [list(rows) for _, rows in groupby(invoice_rows(), lambda row: row.invoice_no)]
    for invoice in bar.track(invoices):
        for row in invoice:
            pseudonym(row)


def bursty_pages(bar: Bar) -> None:
    """Requests 6,000 pseudonyms from a server in pages of 500, and stores them in SQLite, one per commit."""
    with tempfile.TemporaryDirectory() as folder, clerk() as get:
        bar.report(0, 6_000)
        with closing(sqlite3.connect(Path(folder, "pseudonyms.sqlite"))) as database:
            database.execute("CREATE TABLE pseudonym (name)")
            for page in range(12):
                for name in bar.phase(get(f"page/{page}")):
                    with database:
                        database.execute("INSERT INTO pseudonym VALUES (?)", (name,))


# Phased


def phased_import(bar: Bar) -> None:
    """Reads 6,000 invoice lines, makes a pseudonym for each, and stores them in Datastore 250 at a time."""
    with datastore():
        lines = split_rows(csv_file())[:6_000]
        bar.report(0, 3 * len(lines))
        rows = [row for row in bar.phase(read_rows(lines)) if isinstance(row, InvoiceRow)]
        entities = []
        for row in bar.phase(rows):
            entities.append(Invoice.from_row(row))
            entities[-1].customer_id = pseudonym(row)
        for batch in batches(entities, 250):
            ndb.put_multi(batch)
            bar.advance(len(batch))


def phased_sources(bar: Bar) -> None:
    """Reads 900 modules of Python's library, then parses each of them, then compresses each with LZMA."""
    files = source_files()[::2]
    bar.report(0, 3 * len(files))
    texts = [path.read_bytes() for path in bar.phase(files)]
    for text in bar.phase(texts):
        with suppress(SyntaxError):  # some modules are examples of syntax errors
            ast.parse(text)
    for path in bar.phase(files):
        compressed(path)


def phased_months(bar: Bar) -> None:
    """Four times: reads 1,500 invoice lines, makes a pseudonym for each, and stores them in Datastore."""
    with datastore():
        lines = split_rows(csv_file())[:6_000]
        bar.report(0, 3 * len(lines))
        for month in batches(lines, 1_500):
            rows = [row for row in bar.phase(read_rows(month)) if isinstance(row, InvoiceRow)]
            entities = []
            for row in bar.phase(rows):
                entities.append(Invoice.from_row(row))
                entities[-1].customer_id = pseudonym(row)
            for batch in batches(entities, 250):
                ndb.put_multi(batch)
                bar.advance(len(batch))


def phased_archive(bar: Bar) -> None:
    """Compresses 900 modules of Python's library with LZMA, then unpacks each and compares it."""
    files = source_files()[::2]
    bar.report(0, 2 * len(files))
    packed = [(path, compressed(path)) for path in bar.phase(files)]
    for path, data in bar.phase(packed):
        assert lzma.decompress(data) == path.read_bytes()


def phased_report(bar: Bar) -> None:
    """Reads 6,000 invoice lines from Datastore one by one, makes a pseudonym for each, and writes them as JSON."""
    with datastore():
        keys = []
        for batch in batches(invoice_rows()[:6_000], 250):
            keys += ndb.put_multi([Invoice.from_row(row) for row in batch])
        bar.report(0, 3 * len(keys))
        invoices = [key.get() for key in bar.phase(keys)]
        for invoice in bar.phase(invoices):
            invoice.customer_id = pseudonym(invoice)
        for invoice in bar.phase(invoices):
            json.dumps(invoice.to_dict(), default=str)


# Stalled


def stalled_by_a_lock(bar: Bar) -> None:
    """Stores invoice lines in SQLite, one per commit; another process twice writes thousands in one commit."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder, "invoices.sqlite"))
        with closing(sqlite3.connect(file, timeout=300)) as database:
            database.execute("CREATE TABLE line (name, customer)")
            others = []
            for number, row in enumerate(bar.track(invoice_rows()[:4000])):
                if number in (1000, 2500):
                    others.append(subprocess.Popen(other_process(f"write_all_at_once({file!r})")))
                with database:
                    database.execute("INSERT INTO line VALUES (?, ?)", (row.key_name, pseudonym(row)))
            for process in others:
                assert process.wait() == 0


def stalled_by_a_busy_server(bar: Bar) -> None:
    """Requests 4,000 pseudonyms from a single-threaded server; another client twice requests an archive."""
    with clerk() as get:
        for number in bar.track(range(4_000)):
            if number in (500, 2_500):
                threading.Thread(target=get, args=["archive/450"]).start()
            get(f"line/{number}")


def stalled_by_a_stopped_datastore(bar: Bar) -> None:
    """Stores 20,000 invoice lines in Datastore, ten at a time; its process is twice stopped (SIGSTOP) for a while."""
    with datastore() as piece:
        assert piece.process is not None
        pid = piece.process.pid
        for number, batch in enumerate(bar.track(list(batches(invoice_rows(copies=2), 10)))):
            if number in (600, 1_400):
                os.kill(pid, signal.SIGSTOP)
                threading.Timer(21, os.kill, (pid, signal.SIGCONT)).start()
            ndb.put_multi([Invoice.from_row(row) for row in batch])


#: The jobs by name. A name starts with the shape of the job's progress.
JOBS: dict[str, Job] = {
    function.__name__.replace("_", "-"): function
    for function in (
        linear_pseudonyms,
        linear_puts,
        linear_import,
        slowing_similar_names,
        slowing_rewritten_file,
        slowing_without_index,
        bursty_batches,
        bursty_compression,
        bursty_invoices,
        bursty_pages,
        phased_import,
        phased_sources,
        phased_months,
        phased_archive,
        phased_report,
        stalled_by_a_lock,
        stalled_by_a_busy_server,
        stalled_by_a_stopped_datastore,
    )
}
