"""The only entity kind of the sample application."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import date, datetime, time
from decimal import Decimal
from functools import cache
from typing import Any

from google.cloud import ndb

from .invoice_file import InvoiceRow


class DecimalProperty(ndb.TextProperty):
    """An exact `Decimal`, stored as text. It can't be sorted or filtered by value."""

    def _validate(self, value: object) -> None:
        if not isinstance(value, Decimal):
            raise TypeError(f"expected a Decimal, not {value!r}")

    def _to_base_type(self, value: Decimal) -> str:
        return str(value)

    def _from_base_type(self, value: str) -> Decimal:
        return Decimal(value)


class Invoice(ndb.Model):
    """One line of an invoice. Its key name is `InvoiceRow.key_name`."""

    # A request reads thousands of lines, each of them once. A cache would only use up memory.
    _use_cache = False

    invoice_no = ndb.StringProperty()
    stock_code = ndb.TextProperty()
    description = ndb.TextProperty()
    quantity = ndb.IntegerProperty(indexed=False)
    #: Local time of the shop.
    invoiced_at = ndb.DateTimeProperty()
    #: Pounds sterling.
    unit_price = DecimalProperty()
    customer_id = ndb.TextProperty()
    country = ndb.TextProperty()

    @classmethod
    def from_row(cls, row: InvoiceRow) -> Invoice:
        """Return the entity for a row. The same row always leads to the same key."""
        return cls(
            id=row.key_name,
            invoice_no=row.invoice_no,
            stock_code=row.stock_code,
            description=row.description,
            quantity=row.quantity,
            invoiced_at=row.invoiced_at,
            unit_price=row.unit_price,
            customer_id=row.customer_id,
            country=row.country,
        )

    @classmethod
    def count_up_to(cls, limit: int) -> int:
        """Count the stored lines, but stop at the limit. Counting takes time and money for each line."""
        counted: int = cls.query().count(limit=limit)
        return counted

    @classmethod
    def of_day(cls, day: date) -> Iterator[Invoice]:
        """Yield the lines of one day. The query filters on one property only, so it needs no composite index."""
        query = cls.query(
            cls.invoiced_at >= datetime.combine(day, time.min), cls.invoiced_at <= datetime.combine(day, time.max)
        )
        yield from query


@cache
def _client() -> ndb.Client:
    # Created on first use, after gunicorn has forked: a gRPC channel does not survive a fork.
    return ndb.Client()


def datastore() -> AbstractContextManager[Any]:
    """Return an NDB context for a view. Tasks don't need it: the library opens one for them."""
    context: AbstractContextManager[Any] = _client().context()
    return context
