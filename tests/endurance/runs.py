"""Runs one task from start to result, and counts what happens meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from google.cloud import ndb

from gaetk_longtask.dev.pieces import DatastoreKind
from gaetk_longtask.dev.processes import Log, discard
from sample_app.invoice_file import InvoiceRow
from sample_app.models import Invoice
from tests.chaos.battlefield import Battlefield
from tests.chaos.visitors import ask, wait_for
from tests.endurance.app import JOURNAL_VARIABLE, TIME_LIMIT_VARIABLE, Book, Entry
from tests.endurance.hunter import Hunter, Shot
from tests.endurance.journal import Journal, pauses, repeated

#: A run that has not ended by then is stuck.
_LONGEST_SECONDS = 900.0
_DELETED_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """The outcome of a task."""

    task_id: str
    seconds: float
    attempts: int
    handed_over: int
    taken_over: int
    kills: int
    freezes: int
    repeated_steps: int
    #: Seconds between the steps before and after each hand-over that repeated no step.
    pauses: list[float]
    body: bytes

    @property
    def median_pause_seconds(self) -> float:
        """The median pause. It includes the work of one step."""
        return median(self.pauses) if self.pauses else 0.0


class Course:
    """A battlefield with an application whose tasks take many attempts."""

    def __init__(self, field: Battlefield, journal: Journal) -> None:
        self.field = field
        self._journal = journal

    @classmethod
    @contextmanager
    def open(
        cls, *, time_limit_seconds: float, datastore: DatastoreKind | str | None = None, log: Log = discard
    ) -> Iterator[Course]:
        """Start all processes, and stop them at the end."""
        with TemporaryDirectory(prefix="endurance-") as directory:
            env = {JOURNAL_VARIABLE: directory, TIME_LIMIT_VARIABLE: str(time_limit_seconds)}
            with Battlefield(app="tests.endurance.app:app", env=env, datastore=datastore, log=log) as field:
                yield cls(field, Journal(Path(directory)))

    def relay(self, *, units: int, seconds: float, shots: list[Shot]) -> Run:
        """Work through the units in the given time, with a hand-over at each time limit."""
        return self._run(f"/relay?units={units}&seconds={seconds}", shots)

    def undisturbed(self, *, units: int, seconds: float) -> Run:
        """Do the same work in one attempt."""
        return self._run(f"/undisturbed?units={units}&seconds={seconds}", [])

    def booking(self, *, lines: int, shots: list[Shot], careless: bool = False) -> Run:
        """Enter invoice lines into a new book, after deleting all entries."""
        self._clear(Entry)
        return self._run(f"/booking?lines={lines}{'&careless=yes' if careless else ''}", shots)

    def importing(self, *, shots: list[Shot]) -> Run:
        """Import all invoice lines, after deleting all invoices."""
        self._clear(Invoice)
        return self._run("/importing?bundled=yes", shots)

    def entries(self, run: Run, rows: list[InvoiceRow]) -> dict[str, int]:
        """Return how often each line was entered into the book, by the line's name."""
        with self.field.ndb_client().context():
            keys = [ndb.Key(Book, run.task_id, Entry, row.key_name) for row in rows]
            entries = [entry for first in range(0, len(keys), 1000) for entry in ndb.get_multi(keys[first:][:1000])]
            return {entry.key.id(): entry.times for entry in entries if entry is not None}

    def invoices(self) -> dict[str, int]:
        """Return how often each line is stored, by its key name."""
        with self.field.ndb_client().context():
            return {invoice.key.id(): 1 for invoice in Invoice.query()}  # the emulator takes ages for a keys-only query

    def broken_laws(self) -> list[str]:
        """Return all forbidden state changes and second results."""
        history = self.field.history
        return history.broken_laws() + [f"{task_id[:8]}: two results" for task_id in history.committed_twice()]

    def _clear(self, kind: type[ndb.Model]) -> None:
        """Delete all entities of a kind, because the emulator's memory is limited to half a gigabyte."""
        with self.field.ndb_client().context():
            keys = kind.query().fetch(keys_only=True)
            for first in range(0, len(keys), _DELETED_AT_ONCE):
                ndb.delete_multi(keys[first : first + _DELETED_AT_ONCE])

    def _run(self, path: str, shots: list[Shot]) -> Run:
        began = time.monotonic()
        started = ask("GET", self.field.url + path)
        assert started is not None
        assert started.status == 202, started.body
        task_id = str(started.json["id"])
        with Hunter(self.field, self._journal, task_id, shots) as hunter:
            document = wait_for(self.field.url + started.json["links"]["self"], seconds=_LONGEST_SECONDS)
            seconds = time.monotonic() - began
        assert document["links"]["result"], document
        shown = ask("GET", self.field.url + document["links"]["result"])
        assert shown is not None
        assert shown.status == 200, shown.body[:300]
        happened, steps = self.field.history.steps(task_id), self._journal.of(task_id)
        return Run(
            task_id=task_id,
            seconds=seconds,
            attempts=happened["started"],
            handed_over=happened["handed over"],
            taken_over=happened["taken over"],
            kills=hunter.kills,
            freezes=hunter.freezes,
            repeated_steps=repeated(steps),
            pauses=pauses(steps),
            body=shown.body,
        )
