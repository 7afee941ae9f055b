"""One attempt, from its claim to the commit of its outcome."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Generator
from contextlib import suppress
from functools import partial
from typing import Any, Generic, Protocol

from google.cloud import ndb

from gaetk_longtask import exceptions, transitions
from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.exceptions import DamagedDataError, PermanentTaskFailure, SerializationError, TaskCancelled
from gaetk_longtask.execution.authors_code import WorkError, authors_code, of_author
from gaetk_longtask.execution.checkpoints import Checkpoints
from gaetk_longtask.execution.errands import Errand, Execute, Work
from gaetk_longtask.execution.outcomes import Committed, Done, Failed, HandedOver, Lost, Outcome
from gaetk_longtask.execution.replies import Reply
from gaetk_longtask.failures import Cause, Raised, new_reference
from gaetk_longtask.foreign import must_pass, stands_for
from gaetk_longtask.limits import LEASE
from gaetk_longtask.models import LongTask
from gaetk_longtask.ownership import Ownership
from gaetk_longtask.payloads.encoding import encode_pieces
from gaetk_longtask.payloads.manifests import Stored
from gaetk_longtask.progress.phases import Phases
from gaetk_longtask.progress.reporter import Reporter
from gaetk_longtask.progress.snapshot import Snapshot, presentable
from gaetk_longtask.progress.stores import ProgressStore
from gaetk_longtask.progress.time_left import TimeLeft
from gaetk_longtask.runtime import Runtime, TaskOptions
from gaetk_longtask.starting import DEADLINE_MARGIN, hand_on
from gaetk_longtask.transitions import Unit
from gaetk_longtask.units import Units

log = logging.getLogger(__name__)


class ReportException(Protocol):
    """Passes an exception to the application's error reporting."""

    def __call__(self, exc: BaseException, **fields: object) -> None:
        """Log the exception with these fields, and send Flask's signal."""


class Attempt(Generic[Unit]):
    """Owns a task, or a part of one, until its commit, or until that is cancelled or taken over.

    As it is, it executes a task in one piece.
    """

    def __init__(
        self,
        runtime: Runtime,
        task: LongTask,
        units: Units[Unit],
        unit: Unit,
        options: TaskOptions,
        work: Work,
        report_exception: ReportException,
    ) -> None:
        """Begin to work on `unit`, which is the task or a part of it, and which `units` has just claimed."""
        self._runtime = runtime
        self._task = task
        self._units = units
        self._unit = unit
        self._options = options
        self._authors_work = work
        self._pass_on = report_exception
        self._reference = new_reference()  #: in all that is kept and logged if this attempt ends badly
        self._ownership = Ownership(
            lambda: units.renew(unit.id, unit.fence), renew_every=LEASE / 2, clock=runtime.clock
        )
        self._reporter = self._make_reporter()
        self._checkpoints = self._kind_of_checkpoints(runtime, units, unit, options, self._reporter, self._ownership)

    def _make_reporter(self) -> Reporter:
        progress = self._progress_store()
        snapshot = self._first_news(beat_seconds=progress.interval_seconds)
        return Reporter(
            snapshot,
            progress,
            ownership=self._ownership,
            time_left=self._time_left(),
            stop_at=self._unit.started_at + self._options.time_limit + DEADLINE_MARGIN,
            clock=self._runtime.clock,
            context=ndb.get_context().client.context,  # the application's own client, if it has entered a context
            share=self._share(),
        )

    # What differs between attempts.

    _kind_of_checkpoints = Checkpoints

    def _progress_store(self) -> ProgressStore:
        return self._runtime.progress.for_reporter()

    def _first_news(self, *, beat_seconds: float) -> Snapshot:
        return Snapshot.of(self._task, now=self._runtime.clock(), beat_seconds=beat_seconds)

    def _share(self) -> float | None:
        """Return the share of the whole task that is done while this attempt works, if its steps do not say."""
        return None

    def _time_left(self) -> TimeLeft:
        runtime, task = self._runtime, self._task
        pace = (task.progress_stored or {}).get("pace") or {}
        phases = Phases(
            self._options.phases,
            clock=runtime.clock,
            usual_seconds=lambda: runtime.phase_times.usual_seconds(task.endpoint),
            progress=task.progress,
            kept=pace.get("phases"),
            complete=task.failures + task.forgiven == 0 and task.state_manifest is None,
        )
        return TimeLeft(
            requested_at=task.requested_at,
            clock=runtime.clock,
            phases=phases,
            usual_seconds=lambda: runtime.durations.typical_seconds(task.endpoint),
            compares=task.failures == 0,  # after a failure, the usual duration does not apply
            pace=pace,
        )

    def _errand(self, parameters: Any) -> Errand:
        return Execute(parameters=parameters)

    def _outcome(self, result: Any) -> Outcome:
        """Return what it means that the author's code has returned."""
        return Done(result=self._store_result(result))

    def _damaged(self, exc: DamagedDataError) -> Outcome:
        """Return what it means that stored data can't be read."""
        return Failed(cause=exc, why=Cause.DAMAGED, permanent=True, forget=self._checkpoints.resumes)

    def _done(self, unit: Unit) -> Reply:
        """Return the reply after the result is committed."""
        if seconds := self._reporter.phases.measured():
            self._runtime.phase_times.add(self._task.endpoint, seconds)
        return Reply(code=200, reason="done", ended=self._task_of(unit))

    def _failed(self, unit: Unit) -> Reply:
        """Return the reply after `failed` is committed."""
        return Reply(code=200, reason="failed for good", ended=self._task_of(unit))

    def _hand_on(self) -> bool:
        """Enqueue what this attempt has handed over; return whether that is certain."""
        return hand_on(self._runtime, self._task)

    def _leave(self) -> Reply:
        """End without a commit; 200 would delete the Cloud Tasks task if the next attempt uses the same one."""
        task = self._runtime.store.get(self._task.id)
        if task is None or task.status.ended:
            return Reply(code=200, reason="the task has ended")
        return Reply(code=409, reason="another attempt has taken the task over")

    def _task_of(self, unit: Unit) -> LongTask | None:
        return unit if isinstance(unit, LongTask) else None

    # What they have in common.

    def run(self) -> Reply:
        """Do the work, commit the outcome and return the reply."""
        self._reporter.start()
        try:
            return self._commit(self._work())
        except STORE_ERRORS as exc:
            # The commit may have been applied. Our beats end now, so the next delivery sees it or takes over.
            message = "attempt at %s ended, Datastore does not respond (reference %s): %s"
            log.warning(message, self._task.id[:8], self._reference, exc, extra={"json_fields": self._fields()})
            interrupt = partial(
                transitions.interrupt, fence=self._unit.fence, reference=self._reference, raised=Raised.of(exc)
            )
            with suppress(*STORE_ERRORS):
                self._units.change(self._unit.id, interrupt)
            return Reply(code=500, reason="Datastore does not respond")
        finally:
            self._reporter.stop()

    def _work(self) -> Outcome:
        try:
            parameters = self._runtime.load(self._task, "parameters", self._options.serializer)
            self._checkpoints.load()
            errand = self._errand(parameters)
            with authors_code():
                result = self._authors_work(self._task, errand, self._reporter, self._checkpoints)
            return self._outcome(result)
        except STORE_ERRORS:
            raise
        except DamagedDataError as exc:  # in the parameters, or in the state to resume from
            return self._damaged(exc)
        except BaseException as exc:
            if must_pass(exc):
                raise
            return self._outcome_of(exc.cause if isinstance(exc, WorkError) else exc)

    def _outcome_of(self, exc: BaseException) -> Outcome:
        """Return what an exception of the author's code, or of a serializer, means for the attempt."""
        cause = stands_for(exc)
        match cause:
            case TaskCancelled() if self._ownership.lost is not None:
                return Lost()
            case exceptions.HandedOver() if self._checkpoints.hands_over:
                return HandedOver()
            case SerializationError():  # for the author: a visitor can't do anything about it
                return Failed(cause=cause, why=Cause.SERIALIZATION, permanent=True)
            case PermanentTaskFailure():
                return Failed(cause=cause, why=Cause.PERMANENT, permanent=True, error=presentable(cause))
            case _:  # also one of ours that the author's code has raised itself
                return Failed(cause=cause)

    def _store_result(self, result: Any) -> Stored:
        if not inspect.isgenerator(result):
            return self._checkpoints.store_result(result)
        try:
            writer = self._checkpoints.result_writer()
            signer = self._runtime.signer(self._unit.id, "result")
            for part in encode_pieces(of_author(result), writer.layout, signer):
                writer.write(part)
            return writer.seal()
        finally:
            self._checkpoints.end()
            self._close(result)

    def _close(self, generator: Generator[object, Any, Any]) -> None:
        """Close the author's generator if it did not end, so that it cleans up while its attempt still runs."""
        try:
            with authors_code():
                generator.close()
        except WorkError as exc:
            match stands_for(exc.cause):
                case PermanentTaskFailure() | TaskCancelled():
                    log.warning("an unfinished generator of %s was closed: %s", self._task.id[:8], exc.cause)
                case _:
                    self._report_exception(exc.cause)

    def _commit(self, outcome: Outcome) -> Reply:
        if self._checkpoints.hands_over and not isinstance(outcome, Lost):  # even if the author's code caught it
            if isinstance(outcome, Failed):
                self._report_exception(outcome.cause)
            outcome = HandedOver()
        match outcome:
            case Done(result=result):
                return self._finish(result)
            case Failed():
                return self._fail(outcome)
            case HandedOver():
                return self._hand_over()
            case Lost():
                return self._leave()
            case Committed(reply=reply):
                return reply()

    def _report_exception(self, exc: BaseException) -> None:
        self._pass_on(exc, **self._fields())

    def _fields(self) -> dict[str, object]:
        """Return what the lines about this attempt have in common with its events."""
        return {
            "id": self._task.id[:8],
            "endpoint": self._task.endpoint,
            "attempt": 1 if self._checkpoints.advanced else self._unit.attempt,  # an advance forgives earlier failures
            "delivery": self._unit.deliveries,
            "reference": self._reference,
        }

    def _finish(self, result: Stored) -> Reply:
        self._send_last_beat()
        unit = self._units.finish(self._unit.id, self._unit.fence, result, self._reporter.progress)
        if unit is None:
            return self._leave()
        self._checkpoints.clear()
        return self._done(unit)

    def _fail(self, outcome: Failed) -> Reply:
        if outcome.error is None:  # else the visitor has to act, and the event's log line is enough
            self._report_exception(outcome.cause)
        self._send_last_beat()
        fail = partial(
            transitions.fail,
            fence=self._unit.fence,
            permanent=outcome.permanent,
            error=outcome.error,
            reference=self._reference,
            progress=self._reporter.progress,
            max_attempts=self._options.max_attempts,
            forget=outcome.forget,
            forget_parts=outcome.forget_parts,
            cause=outcome.why,
            raised=Raised.of(outcome.cause),
        )
        change = self._units.change(self._unit.id, fail)
        if not change.applied or change.task is None:
            return self._leave()
        if change.status.ended:
            return self._failed(change.task)
        return Reply(code=500, reason="failed, try again")

    def _hand_over(self) -> Reply:
        """Release the task after the author's clean-up, so that the next attempt begins when this one has ended."""
        self._reporter.stop()
        hand_over = partial(
            transitions.hand_over,
            fence=self._unit.fence,
            progress=self._reporter.stored(),
            advanced=self._checkpoints.advanced,
            max_attempts=self._options.max_attempts,
            reference=self._reference,
        )
        change = self._units.change(self._unit.id, hand_over)
        if not change.applied or change.task is None:
            return self._leave()
        if change.status.ended:
            return self._failed(change.task)
        # 200 deletes this delivery's Cloud Tasks task, so another one must certainly exist.
        return Reply(code=200 if self._hand_on() else 409, reason="handed over")

    def _send_last_beat(self) -> None:
        """Send news before the commit, which may take a while; a later beat could overwrite the committed state."""
        self._reporter.stop()
        if self._ownership.lost is None and self._reporter.has_news:
            self._reporter.beat()
