"""Invoices for the examples of docs/long-jobs.md, and what their work does with them."""

from __future__ import annotations

from datetime import timedelta

from google.cloud import ndb

from gaetk_longtask.testing import ManualClock, TaskRunner
from tests.integration.examples.conftest import AN_APP

#: What the page takes for granted.
PREPARED = (
    AN_APP
    + """
from datetime import timedelta
from decimal import Decimal
from flask import Response
from google.cloud import ndb
from google.cloud.ndb import Cursor
from gaetk_longtask import LongRunningTaskHandler
self = LongRunningTaskHandler()
months = []
"""
)


class Invoice(ndb.Model):
    """An invoice of the page's examples."""

    booked = ndb.BooleanProperty(default=False)

    @classmethod
    def _get_kind(cls) -> str:
        return "ExampleInvoice"  # the sample application has a kind Invoice

    def book(self) -> None:
        self.booked = True
        self.put()


def store_invoices(runner: TaskRunner, count: int) -> list[int]:
    """Store invoices with the ids 1, 2, 3 … and return the ids."""
    ids = list(range(1, count + 1))
    with runner.datastore():
        for first in range(0, count, 250):
            ndb.put_multi([Invoice(id=number) for number in ids[first : first + 250]])
    return ids


class InterruptionError(Exception):
    """An attempt was interrupted."""


class Reconciled:
    """What ``reconcile`` of the page has done. It can be interrupted after some invoices, once for each number."""

    def __init__(self, clock: ManualClock, *interruptions: int, pause: timedelta = timedelta(0)) -> None:
        self.ids: list[int] = []
        self._clock = clock
        self._pause = pause
        self._interruptions = set(interruptions)

    def __call__(self, invoice: Invoice) -> None:
        if len(self.ids) in self._interruptions:
            self._interruptions.remove(len(self.ids))
            self._clock.advance(timedelta(minutes=3))
            raise InterruptionError
        self._clock.advance(self._pause)
        self.ids.append(invoice.key.id())
