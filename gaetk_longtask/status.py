"""The states of a task; pure."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """The state of a task."""

    READY = "ready"  #: stored and enqueued; no attempt owns it yet
    STARTED = "started"  #: an attempt owns it, for as long as its lease and its beats last
    ERROR = "error"  #: the last attempt failed; the queue retries
    DONE = "done"  #: the result is stored and has not been shown yet
    FINISHED = "finished"  #: the result has been shown at least once
    FAILED = "failed"  #: given up; only a retry changes that
    CANCELLED = "cancelled"  #: cancelled by the visitor; only a retry changes that

    has_result: bool  #: whether there is a result to show
    may_retry: bool  #: whether a retry makes the task `READY` again, under the same URL
    ended: bool  #: whether nothing more will happen on its own

    def __init__(self, name: str) -> None:
        self.has_result = name in ("done", "finished")
        self.may_retry = name in ("failed", "cancelled")
        self.ended = self.has_result or self.may_retry

    @property
    def rank(self) -> int:
        """The position within a run; it orders news with the same fence, see `Snapshot.order`."""
        return _RANKS.get(self, _RANK_OF_ENDS)


_RANKS = {Status.READY: 0, Status.STARTED: 1, Status.ERROR: 2, Status.FINISHED: 4}
_RANK_OF_ENDS = 3  #: of the states in which a run ends first
