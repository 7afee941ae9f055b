"""The material for the jobs of `tools/trace_jobs.py`: the sample app's invoices, Python's sources, and services."""

from __future__ import annotations

import hashlib
import http.client
import http.server
import lzma
import os
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

from google.cloud import ndb

from gaetk_longtask.dev.pieces import Piece, start_datastore
from sample_app.importing import BUNDLED_FILE
from sample_app.invoice_file import InvoiceRow, read_rows, split_rows
from sample_app.models import Invoice

T = TypeVar("T")


def csv_file(copies: int = 1) -> bytes:
    """Return the CSV file of invoices, with its lines repeated ``copies`` times."""
    header, _, body = BUNDLED_FILE.read_bytes().partition(b"\n")
    return header + b"\n" + body * copies


def invoice_rows(copies: int = 1) -> list[InvoiceRow]:
    """Return the invoice lines, parsed."""
    return [row for row in read_rows(split_rows(csv_file(copies))) if isinstance(row, InvoiceRow)]


@cache
def cached_rows() -> list[InvoiceRow]:
    """Return the invoice lines, parsed only once."""
    return invoice_rows()


def source_files() -> list[Path]:
    """Return the paths of the modules of Python's library."""
    folder = Path(sysconfig.get_path("stdlib"))
    return [path for path in sorted(folder.rglob("*.py")) if "site-packages" not in path.parts]


def pseudonym(row: InvoiceRow | Invoice) -> str:
    """Return an irreversible pseudonym for the customer."""
    return hashlib.scrypt(row.customer_id.encode(), salt=b"2010-12", n=2048, r=8, p=1, dklen=16).hex()


def compressed(path: Path) -> bytes:
    """Return the content of the file, compressed as much as LZMA can."""
    return lzma.compress(path.read_bytes(), preset=9 | lzma.PRESET_EXTREME)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of ``size`` items. The last one may be shorter."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


@contextmanager
def datastore() -> Iterator[Piece]:
    """Run a Datastore emulator, and enter an NDB context for it."""
    with start_datastore() as piece:
        os.environ["DATASTORE_EMULATOR_HOST"] = piece.host
        with ndb.Client(project="traces").context():
            yield piece


def other_process(call: str) -> list[str]:
    """Return the command that calls a function of this module."""
    return [sys.executable, "-c", f"from tools.trace_material import *; {call}"]


class _Clerk(http.server.BaseHTTPRequestHandler):
    """Serves pseudonyms for invoice lines, and archives."""

    def do_GET(self) -> None:
        rows = cached_rows()
        _, what, text = self.path.split("/")
        number = int(text)
        match what:
            case "line":
                said = pseudonym(rows[number])
            case "page":
                said = "\n".join(map(pseudonym, rows[500 * number : 500 * (number + 1)]))
            case _:
                said = str(sum(len(compressed(path)) for path in source_files()[:number]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(said.encode())

    def log_message(self, *args: object) -> None:
        """Suppress the log."""


def serve() -> None:
    """Print the port, then handle one request at a time."""
    with http.server.HTTPServer(("127.0.0.1", 0), _Clerk) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


@contextmanager
def clerk() -> Iterator[Callable[[str], list[str]]]:
    """Start the server, and yield a function that sends it a request."""
    with subprocess.Popen(other_process("serve()"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())

        def get(what: str) -> list[str]:
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=300)) as connection:
                connection.request("GET", f"/{what}")
                return connection.getresponse().read().decode().splitlines()

        try:
            yield get
        finally:
            process.terminate()


def write_all_at_once(file: str) -> None:
    """Store thousands of lines in one transaction, which blocks all other writers."""
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        for row in invoice_rows()[:3500]:
            database.execute("INSERT INTO line VALUES (?, ?)", (row.key_name, pseudonym(row)))
        database.execute("COMMIT")
