"""Open transactions: what each of them has read, and whether that is still so when it commits."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gaetk_longtask.dev.datastore_emulator.entities import microseconds_of
from gaetk_longtask.dev.datastore_emulator.errors import CallError, contention, invalid
from gaetk_longtask.dev.datastore_emulator.store import Store
from gaetk_longtask.dev.datastore_emulator.versions import View

#: The lifetime of a transaction in production.
_LIFETIME_MICROSECONDS = 270 * 1_000_000

#: Reads something in a view, and returns the numbers of the versions that it found, or other proof of what it read.
Read = Callable[[View], object]


@dataclass(kw_only=True, slots=True)
class Transaction:
    """An open transaction."""

    is_read_only: bool
    began: int
    #: The time of all reads. It is that of the first one, if the client does not set it.
    at: int | None = None
    #: What was read, and what was found.
    reads: list[tuple[Read, object]] = field(default_factory=list)
    #: Whether it can only be rolled back.
    has_failed: bool = False


class Transactions:
    """Knows the open transactions."""

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[bytes, Transaction] = {}

    def begin(self, options: Any) -> bytes:
        """Begin a transaction, and return its name."""
        at = None
        if options.read_only.HasField("read_time"):
            at = self._store.time_of(read_time(options.read_only.read_time))
        now = self._clock()
        transaction = Transaction(is_read_only=options.WhichOneof("mode") == "read_only", began=now, at=at)
        name = secrets.token_bytes(16)
        with self._lock:
            for old in [old for old, other in self._open.items() if _is_over(other, now)]:
                del self._open[old]
            self._open[name] = transaction
        return name

    def get(self, name: bytes) -> Transaction:
        """Return an open transaction."""
        with self._lock:
            found = self._open.get(name)
        if found is None or found.has_failed or _is_over(found, self._clock()):
            raise _over(name)
        return found

    def reading(self, name: bytes) -> Transaction:
        """Return an open transaction that has a time to read at."""
        transaction = self.get(name)
        with self._lock:
            if transaction.at is None:
                transaction.at = self._store.last
        return transaction

    def take(self, name: bytes) -> Transaction:
        """Return an open transaction and forget it. So only one of several calls can commit it."""
        transaction = self.get(name)
        self.end(name)
        return transaction

    def fail(self, name: bytes, transaction: Transaction) -> None:
        """Remember a transaction that was taken and could not be committed: clients roll it back."""
        transaction.has_failed = True
        with self._lock:
            self._open[name] = transaction

    def end(self, name: bytes) -> None:
        """Forget an open transaction."""
        with self._lock:
            if self._open.pop(name, None) is None:
                raise _over(name)

    def clear(self) -> None:
        """Forget all transactions."""
        with self._lock:
            self._open.clear()


def check_reads(transaction: Transaction, view: View, last: int) -> None:
    """Refuse the commit of a transaction if one of its reads would find something else now.

    So transactions are serializable: each is as if all of it happened at its commit.
    """
    if transaction.at is None or transaction.at == last:
        return
    for read, found in transaction.reads:
        if read(view) != found:
            raise contention()


def read_time(timestamp: Any) -> int:
    """Return the microseconds of a time to read at."""
    if timestamp.nanos % 1_000:
        raise invalid("timestamp cannot have more than microseconds precision")
    return microseconds_of(timestamp, "read_time")


def _is_over(transaction: Transaction, now: int) -> bool:
    return transaction.began + _LIFETIME_MICROSECONDS < now


def _over(name: bytes) -> CallError:
    return invalid("transaction has expired or is invalid" if name else "transaction required")
