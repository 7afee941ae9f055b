"""The states of a task and what may follow what; pure."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Where a task stands."""

    READY = "ready"  #: stored and handed to the queue; no attempt owns it yet
    STARTED = "started"  #: an attempt owns it, as long as its lease or its beats last
    ERROR = "error"  #: the last attempt failed; another one follows
    DONE = "done"  #: the result is stored and has not been shown yet
    FINISHED = "finished"  #: the result has been shown at least once
    FAILED = "failed"  #: gave up; only a retry changes that
    CANCELLED = "cancelled"  #: ended by the visitor; only a retry changes that

    @property
    def ended(self) -> bool:
        """Nothing more will happen by itself."""
        return self in _ENDED

    @property
    def has_result(self) -> bool:
        """There is a result to show."""
        return self in (Status.DONE, Status.FINISHED)

    @property
    def may_retry(self) -> bool:
        """A retry leads back to `READY` under the same URL."""
        return self in (Status.FAILED, Status.CANCELLED)

    @property
    def rank(self) -> int:
        """How far a run has come; orders news about the same fence, see `Snapshot.order`."""
        return _RANKS[self]


_ENDED = frozenset({Status.DONE, Status.FINISHED, Status.FAILED, Status.CANCELLED})
_RANKS = {
    Status.READY: 0,
    Status.STARTED: 1,
    Status.ERROR: 2,
    Status.DONE: 3,
    Status.FAILED: 3,
    Status.CANCELLED: 3,
    Status.FINISHED: 4,
}
