"""Commits one transition of a task or a part in one transaction, then announces it.

Each transaction carries a token that is drawn outside of it. If a commit was applied but its reply was lost, the
transaction is run again, or raises. A retry that finds its own token knows that the first commit was applied.
"""

from __future__ import annotations

import secrets
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Generic

from gaetk_longtask import failures, transitions
from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.datastore import calls as datastore_calls
from gaetk_longtask.events import Event
from gaetk_longtask.info import Progress
from gaetk_longtask.limits import CHUNK_GRACE
from gaetk_longtask.payloads.manifests import Stored
from gaetk_longtask.queues import Objection
from gaetk_longtask.status import Status
from gaetk_longtask.transitions import Checkpoint, Effect, Transition, Unit

RETRIES = 2  #: of a transaction that Datastore does not commit


def new_token() -> str:
    """Return 128 random bits, fit for a URL."""
    return secrets.token_urlsafe(16)


@dataclass(frozen=True, kw_only=True, slots=True)
class Change(Generic[Unit]):
    """What a transaction did."""

    task: Unit | None  #: the task or part after the transaction; None if there is none
    applied: bool  #: whether the transition was applied

    @property
    def status(self) -> Status:
        """Its status; what was deleted counts as cancelled."""
        return self.task.status if self.task else Status.CANCELLED


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim(Generic[Unit]):
    """Whether a delivery may work."""

    task: Unit | None  #: the task or part after the transaction; None if there is none
    objection: Objection | None  #: why not; None if the delivery's attempt owns it now, or has ended it


class Units(Generic[Unit]):
    """The tasks of an application, or the parts of a task. Needs an NDB context, outside of any transaction."""

    _kind: type[Unit]

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock

    @abstractmethod
    def _announce(self, unit: Unit, effect: Effect) -> None:
        """Publish a change that is committed, and tell of it."""

    @abstractmethod
    def tell(self, event: Event, unit: Unit) -> None:
        """Emit an event about a change that is committed."""

    def get(self, name: str) -> Unit | None:
        """Return it in its durable state, or None; one read."""
        return self._kind.load(name)  # type: ignore[no-any-return]  # ndb is untyped

    def change(self, name: str, transition: Transition[Unit]) -> Change[Unit]:
        """Commit a transition if there is such an entity and the transition applies; one read, one write."""
        return self.commit(Transaction(self._kind, name, transition, self._clock()))

    def commit(self, transaction: Transaction[Unit]) -> Change[Unit]:
        """Run a transaction, and announce what it has committed."""
        try:
            unit = datastore_calls.transaction(transaction, retries=RETRIES)
        except STORE_ERRORS:
            unit = self.get(transaction.name)
            if unit is None or unit.token != transaction.token:
                raise
        if unit is None or transaction.effect is None:
            return Change(task=unit, applied=False)
        self._announce(unit, transaction.effect)
        return Change(task=unit, applied=True)

    def renew(self, name: str, fence: int) -> Status | None:
        """Renew an attempt's lease; return None, or the status of what the attempt no longer owns."""
        change = self.change(name, partial(transitions.renew, fence=fence))
        return None if change.applied else change.status

    def owner_status(self, name: str, fence: int) -> Status | None:
        """Return what `renew` returns; one read, in an active transaction if there is one."""
        change = Change(task=self.get(name), applied=False)
        return None if change.task and transitions.works(change.task, fence) else change.status

    def keep(self, name: str, fence: int, checkpoint: Checkpoint) -> Status | None:
        """Store what an attempt has reached; return what `renew` returns."""
        change = self.change(name, partial(transitions.keep, fence=fence, checkpoint=checkpoint))
        return None if change.applied else change.status

    def finish(self, name: str, fence: int, result: Stored, progress: Progress) -> Unit | None:
        """Commit an attempt's result and return the entity, or None if the attempt no longer owns it."""
        change = self.change(name, partial(transitions.finish, fence=fence, result=result, progress=progress))
        unit = change.task
        if change.applied or unit is None:
            return unit
        # If the result was shown before we knew of its commit, our token is gone, but fence and manifest are the same.
        ours = unit.status.has_result and bool(unit.fence == fence) and Stored.of(unit, "result") == result
        if ours:
            self.tell(Event.FINISHED, unit)
        return unit if ours else None


@dataclass(slots=True)
class Transaction(Generic[Unit]):
    """One transition as a transaction, which may run more than once."""

    kind: type[Unit]
    name: str
    transition: Transition[Unit]
    now: datetime
    token: str = field(default_factory=new_token)
    effect: Effect | None = None  #: what follows from the last run; None if it changed nothing

    def __call__(self) -> Unit | None:
        """Run it once."""
        return self.apply(self.kind.load(self.name))

    def apply(self, unit: Unit | None) -> Unit | None:
        """Apply the transition to the entity that was read in this transaction."""
        if unit is None or unit.token == self.token:  # an earlier run was committed, and its reply was lost
            return unit
        self.effect = self.transition(unit, self.now) if unit.is_known else None
        if self.effect is not None:
            unit.token = self.token
            unit.updated_at = self.now
            unit.save()
            if self.effect.raised is not None:
                expires_at = self.now + CHUNK_GRACE + timedelta(seconds=unit.keep_result_seconds)
                failures.traceback_of(unit, self.effect.raised, expires_at).save()
        return unit
