"""Keeps what an attempt has reached, and hands the task over to the next attempt before its time is up."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from google.cloud import ndb

from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.exceptions import HandedOver, LongTaskError, TaskCancelled
from gaetk_longtask.models import LongTask
from gaetk_longtask.payloads import chunks
from gaetk_longtask.payloads.encoding import encode, yielded_layout
from gaetk_longtask.payloads.manifests import Manifest, Stored
from gaetk_longtask.progress.reporter import Reporter
from gaetk_longtask.services import Services, TaskOptions
from gaetk_longtask.status import Status
from gaetk_longtask.store import Checkpoint

log = logging.getLogger(__name__)

#: A state becomes durable no more often than this.
CHECKPOINT_EVERY = timedelta(seconds=15)
#: A state that could not be stored is tried again after this.
TRY_AGAIN_AFTER = timedelta(seconds=5)
TRY_TO_HAND_OVER_AFTER = timedelta(seconds=1)
#: What a hand-over is left besides twice the longest saving so far: for the queue's answer and the author's clean-up.
LONGEST_FAREWELL = timedelta(seconds=5)

_OUTSIDE = (
    "Call checkpoint() outside of NDB transactions, and on the thread that runs execute_task: a transaction may yet "
    "fail, or run again, and the state would be ahead of it."
)


class Checkpoints:
    """One attempt's durable states.

    When the task is to be handed over follows from what has been measured in this attempt: the longest work between
    two calls, so that the next call does not come too late, and the longest saving.
    """

    #: What the attempt before this one has kept; None if there is nothing.
    resumed_from: Any
    #: What the task was when this attempt gave it away: `started` for the next attempt, or `failed` as hopeless.
    given_away: Status | None

    def __init__(self, services: Services, task: LongTask, options: TaskOptions, reporter: Reporter) -> None:
        self._services = services
        self._task = task
        self._fence = task.fence
        self._options = options
        self._reporter = reporter
        self._names = services.chunk_names(task.id, task.fence, options)
        self._signer = services.signer(task.id, "state")
        self._result: chunks.Writer | None = None
        state, pieces = Stored.of(task, "state"), Stored.of(task, "result")
        self._durable = state.manifest if state else None
        self._certain = True  # that nothing but this is durable
        self._pieces_size = pieces.manifest.size if pieces else 0
        self._advanced = False
        self._thread = threading.get_ident()
        self._ended = False
        self._context: Any = object()  # the one that was last found to be no transaction's
        self._clock = services.clock
        self.given_away = None
        self.resumed_from = None
        limit = options.time_limit
        self._limit: datetime = task.started_at + limit - min(LONGEST_FAREWELL, limit / 10)
        self._ends_at: datetime = self._limit
        self._due_at = min(services.clock() + min(CHECKPOINT_EVERY, limit / 4), self._ends_at)
        self._called_at: datetime | None = None
        self._longest_work = timedelta(0)

    def load(self) -> None:
        """Load what the attempt before this one has kept.

        Raises:
            DamagedDataError: it can't be read any more.

        """
        if self._durable is not None:
            self.resumed_from = self._services.load(self._task, "state", self._options.serializer)

    def offer(self, state: Any) -> None:
        """Take a state; store it if the last one is old enough, or hand over if time is nearly up.

        Raises:
            TaskCancelled: the attempt no longer owns the task.
            HandedOver: the next attempt is to go on; everything of this one is durable.
            LongTaskError: in a transaction of the author's.
            SerializationError, TooLargeError: the state can't be stored.

        """
        # A call that is not due is to take less than a microsecond.
        context = ndb.context.get_context(raise_context_error=False)
        if context is not self._context:
            self._enter(context)
        self._reporter.check_owner()
        now = self._clock()
        if self._called_at is None or now - self._called_at > self._longest_work:
            self._learn(state, now)
        if now >= self._due_at:
            self._save(state, now, hand_over=now + self._longest_work >= self._ends_at)
            now = self._clock()
        self._called_at = now

    def end(self) -> None:
        """Take no more states: something that was yielded is lost, and what comes after it must not be kept."""
        self._ended = True
        self._context = object()

    def assert_current(self) -> None:
        """Raise `TaskCancelled` unless the attempt still owns the task; in a transaction it stays so to its commit."""
        status = self._services.store.owner_status(self._task.id, self._fence)
        if status is not None:
            self._reporter.lose(status)

    def result_writer(self) -> chunks.Writer:
        """Return the writer that takes the pieces of a yielded result, behind those that are durable."""
        pieces = Stored.of(self._task, "result")
        if self._result is None and pieces is not None:
            self._result = chunks.Writer.resume(pieces, self._names, what="result")
        elif self._result is None:
            self._result = chunks.Writer(yielded_layout(), self._names, what="result")
        return self._result

    def store_result(self, result: Any) -> Stored:
        """Store a result that was returned."""
        encoded = encode(result, self._options.serializer, self._services.signer(self._task.id, "result"))
        return chunks.write(encoded, self._names, what="result")

    def clear(self) -> None:
        """Throw away what nobody resumes from any more."""
        if self._durable is not None and self._certain:
            self._discard(self._durable)

    def _enter(self, context: Any) -> None:
        """Look closer at an NDB context that is new: a transaction has one of its own, and so has a thread."""
        if context is None or context.in_transaction() or threading.get_ident() != self._thread:
            raise LongTaskError(_OUTSIDE)
        if self._ended:
            raise TaskCancelled("the attempt has ended", superseded=True)
        self._context = context

    def _learn(self, state: Any, now: datetime) -> None:
        if self._called_at is None:
            encode(state, self._options.serializer, self._signer)  # what can't be stored is found at once
        else:
            self._longest_work = now - self._called_at
            self._due_at = min(self._due_at, self._ends_at - self._longest_work)

    def _save(self, state: Any, now: datetime, *, hand_over: bool) -> None:
        encoded = encode(state, self._options.serializer, self._signer)
        try:
            stored = chunks.write(encoded, self._names, what="state")
            pieces = self._result.seal() if self._result is not None else None
            is_new = self._durable is None or not stored.manifest.is_same(self._durable) or self._has_grown(pieces)
            self._advanced = self._advanced or is_new
            if not is_new and not hand_over and self._certain:
                self._discard(stored.manifest)
                self._due_at = self._next(now)
                return
            checkpoint = Checkpoint(
                state=stored,
                pieces=pieces,
                progress=self._reporter.stored(with_pace=hand_over),
                advanced=self._advanced,
                hand_over=hand_over,
            )
            status, ours = self._services.store.keep(
                self._task.id, self._fence, checkpoint, max_attempts=self._options.max_attempts
            )
        except STORE_ERRORS as exc:
            log.warning("checkpoint of %s not stored, trying again: %s", self._task.id[:8], exc)
            self._certain = False
            # It may have taken a minute to fail.
            self._due_at = self._clock() + (TRY_TO_HAND_OVER_AFTER if hand_over else TRY_AGAIN_AFTER)
            return
        if not ours:
            self._reporter.lose(status)
        self._replace_durable(stored.manifest, pieces)
        if hand_over:
            self.given_away = status
            raise HandedOver
        self._reporter.renewed(now)
        after = self._clock()
        self._ends_at = min(self._ends_at, self._limit - 2 * (after - now))
        self._due_at = self._next(after)

    def _next(self, now: datetime) -> datetime:
        return min(now + CHECKPOINT_EVERY, self._ends_at - self._longest_work)

    def _has_grown(self, pieces: Stored | None) -> bool:
        return pieces is not None and pieces.manifest.size > self._pieces_size

    def _replace_durable(self, state: Manifest, pieces: Stored | None) -> None:
        if self._durable is not None and self._certain:
            self._discard(self._durable)
        self._durable, self._certain = state, True
        if pieces is not None:
            self._pieces_size = pieces.manifest.size

    def _discard(self, manifest: Manifest) -> None:
        with suppress(*STORE_ERRORS):  # it is rubbish for the purge then
            chunks.discard(manifest, self._task.id)
