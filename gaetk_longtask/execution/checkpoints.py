"""Stores what an attempt has reached, and ends the attempt before its time is up."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from google.cloud import ndb

from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.exceptions import HandedOver, LongTaskError, TaskCancelled
from gaetk_longtask.execution.schedule import Schedule
from gaetk_longtask.models import WorkUnit
from gaetk_longtask.ownership import Ownership
from gaetk_longtask.payloads import chunks
from gaetk_longtask.payloads.encoding import encode, yielded_layout
from gaetk_longtask.payloads.manifests import Manifest, Stored
from gaetk_longtask.progress.reporter import Reporter
from gaetk_longtask.runtime import Runtime, TaskOptions
from gaetk_longtask.transitions import Checkpoint, Unit
from gaetk_longtask.units import Units

log = logging.getLogger(__name__)

_OUTSIDE = (
    "Call checkpoint() outside of NDB transactions, and on the thread that runs execute_task. A transaction may fail "
    "or run again, but its state would already be stored."
)


@dataclass(kw_only=True, slots=True)
class _Durable:
    """What the next attempt would find."""

    state: Manifest | None
    result_bytes: int  #: of a result that is yielded
    certain: bool = True  #: False after a save that may or may not have been applied
    advanced: bool = False  #: whether this attempt has added anything

    @classmethod
    def of(cls, task: WorkUnit) -> _Durable:
        """Return what the previous attempt has stored."""
        state, pieces = Stored.of(task, "state"), Stored.of(task, "result")
        return cls(state=state.manifest if state else None, result_bytes=pieces.manifest.size if pieces else 0)

    def is_new(self, state: Manifest, pieces: Stored | None) -> bool:
        """Return whether a save would change anything."""
        longer = pieces is not None and pieces.manifest.size > self.result_bytes
        return longer or self.state is None or not state.is_same(self.state)


class Checkpoints:
    """One attempt's durable states, and the result that it writes."""

    resumed_from: Any = None  #: the state that the previous attempt has stored; None if there is none
    hands_over = False  #: whether the attempt ends so that another attempt continues

    def __init__(
        self,
        runtime: Runtime,
        units: Units[Unit],
        task: Unit,
        options: TaskOptions,
        reporter: Reporter,
        ownership: Ownership,
    ) -> None:
        self._runtime = runtime
        self._units = units
        self._task = task
        self._options = options
        self._reporter = reporter
        self._ownership = ownership
        self._names = runtime.chunk_names(task.id, task.fence, options)
        self._signer = runtime.signer(task.id, "state")
        self._result: chunks.Writer | None = None
        self._durable = _Durable.of(task)
        self._clock = runtime.clock
        self._schedule = Schedule(began_at=task.started_at, now=runtime.clock(), time_limit=options.time_limit)
        self._was_called = False
        self._ended = False
        self._thread = threading.get_ident()
        self._context: Any = object()  # the last NDB context that was found to be outside of any transaction

    @property
    def advanced(self) -> bool:
        """Whether this attempt has stored anything that the previous one did not have."""
        return self._durable.advanced

    @property
    def resumes(self) -> bool:
        """Whether the previous attempt has stored anything."""
        return self._task.state_manifest is not None

    def load(self) -> None:
        """Load the state that the previous attempt has stored; raise `DamagedDataError` if it can't be read."""
        if self.resumes:
            self.resumed_from = self._runtime.load(self._task, "state", self._options.serializer)

    def offer(self, state: Any) -> None:
        """Store the state if the last save is long enough ago; raise `HandedOver` if the attempt's time is nearly up.

        By then, everything that the attempt has reached is durable. For other errors, see the handler's `checkpoint`.
        """
        # A call that is not due must take less than a microsecond.
        context = ndb.context.get_context(raise_context_error=False)
        if context is not self._context:
            self._enter(context)
        if self._ownership.lost is not None:
            self._ownership.check()
        if not self._was_called:
            encode(state, self._options.serializer, self._signer)  # raises at once if it can't be stored
            self._was_called = True
        if self._schedule.call(self._clock()):
            self._save(state)
            self._schedule.leave(self._clock())

    def end(self) -> None:
        """Refuse further states: part of a yielded result may be lost, and a later state must not skip it."""
        self._ended = True
        self._context = object()
        if self._result is not None:
            self._result.close()

    def assert_current(self) -> None:
        """Raise `TaskCancelled` unless the attempt owns the task. In a transaction, this holds until its commit."""
        status = self._units.owner_status(self._task.id, self._task.fence)
        if status is not None:
            self._ownership.lose(status)

    def result_writer(self) -> chunks.Writer:
        """Return the writer for the pieces of a yielded result, after those that are already durable."""
        if self._result is None:
            if pieces := Stored.of(self._task, "result"):
                self._result = chunks.Writer.resume(pieces, self._names, what="result")
            else:
                self._result = chunks.Writer(yielded_layout(), self._names, what="result")
        return self._result

    def store_result(self, result: Any) -> Stored:
        """Store a result that ``execute_task`` returned."""
        encoded = encode(result, self._options.serializer, self._runtime.signer(self._task.id, "result"))
        return chunks.write(encoded, self._names, what="result")

    def clear(self) -> None:
        """Delete the chunks of a state that is not needed any more."""
        if self._durable.state is not None and self._durable.certain:
            self._discard(self._durable.state)

    def _enter(self, context: Any) -> None:
        """Check an NDB context at its first use; each transaction and each thread has its own."""
        if context is None or context.in_transaction() or threading.get_ident() != self._thread:
            raise LongTaskError(_OUTSIDE)
        if self._ended:
            raise TaskCancelled("the attempt has ended", superseded=True)
        self._context = context

    def _save(self, state: Any) -> None:
        now = self._clock()
        hands_over = self._schedule.hands_over(now)
        encoded = encode(state, self._options.serializer, self._signer)
        try:
            stored = chunks.write(encoded, self._names, what="state")
            pieces = self._result.seal() if self._result is not None else None
            if self._durable.certain and not self._durable.is_new(stored.manifest, pieces):
                self._discard(stored.manifest)
                self._schedule.unchanged(now)
            else:
                self._keep(stored, pieces)
                self._schedule.saved(began_at=now, now=self._clock())
        except STORE_ERRORS as exc:
            log.warning("checkpoint of %s not stored, trying again: %s", self._task.id[:8], exc)
            self._durable.certain = False
            self._schedule.failed(self._clock(), hands_over=hands_over)
            return
        if hands_over:
            self.hands_over = True
            raise HandedOver

    def _keep(self, state: Stored, pieces: Stored | None) -> None:
        durable = self._durable
        durable.advanced = durable.advanced or durable.is_new(state.manifest, pieces)
        progress = self._reporter.progress.stored()
        checkpoint = Checkpoint(state=state, pieces=pieces, progress=progress, advanced=durable.advanced)
        lost = self._units.keep(self._task.id, self._task.fence, checkpoint)
        if lost is not None:
            self._ownership.lose(lost)
        self.clear()
        durable.state, durable.certain = state.manifest, True
        if pieces is not None:
            durable.result_bytes = pieces.manifest.size
        self._ownership.renewed(self._clock())

    def _discard(self, manifest: Manifest) -> None:
        with suppress(*STORE_ERRORS):  # the purge deletes it later
            chunks.discard(manifest, self._task.id)
