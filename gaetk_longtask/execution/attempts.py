"""One attempt, from its claim to the commit of its outcome."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Protocol

from google.cloud import ndb

from gaetk_longtask import exceptions, transitions
from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.exceptions import DamagedDataError, PermanentTaskFailure, SerializationError, TaskCancelled
from gaetk_longtask.execution.checkpoints import Checkpoints
from gaetk_longtask.execution.outcomes import Done, Failed, HandedOver, Lost, Outcome
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
from gaetk_longtask.progress.time_left import TimeLeft
from gaetk_longtask.runtime import Runtime, TaskOptions
from gaetk_longtask.starting import DEADLINE_MARGIN, hand_on

log = logging.getLogger(__name__)

#: Does the author's work with the parameters that an attempt has loaded; returns its result, may raise anything.
Work = Callable[[LongTask, Any, Reporter, Checkpoints], Any]


class ReportException(Protocol):
    """Passes an exception to the application's error reporting."""

    def __call__(self, exc: BaseException, **fields: object) -> None:
        """Log the exception with these fields, and send Flask's signal."""


class _WorkError(Exception):
    """The author's code raised an exception."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__()
        self.cause = cause


class Attempt:
    """Owns the task until its commit, or until the task is cancelled or taken over."""

    def __init__(
        self, runtime: Runtime, task: LongTask, options: TaskOptions, work: Work, report_exception: ReportException
    ) -> None:
        self._runtime = runtime
        self._task = task
        self._options = options
        self._authors_work = work
        self._pass_on = report_exception
        self._reference = new_reference()  #: in all that is kept and logged if this attempt ends badly
        progress = runtime.progress.for_reporter()
        self._ownership = Ownership(
            lambda: runtime.store.renew(task.id, task.fence), renew_every=LEASE / 2, clock=runtime.clock
        )
        pace = (task.progress_stored or {}).get("pace") or {}
        phases = Phases(
            options.phases,
            clock=runtime.clock,
            usual_seconds=lambda: runtime.phase_times.usual_seconds(task.endpoint),
            progress=task.progress,
            kept=pace.get("phases"),
            complete=task.failures + task.forgiven == 0 and task.state_manifest is None,
        )
        self._reporter = Reporter(
            Snapshot.of(task, now=runtime.clock(), beat_seconds=progress.interval_seconds),
            progress,
            ownership=self._ownership,
            time_left=TimeLeft(
                requested_at=task.requested_at,
                clock=runtime.clock,
                phases=phases,
                usual_seconds=lambda: runtime.durations.typical_seconds(task.endpoint),
                compares=task.failures == 0,  # after a failure, the usual duration does not apply
                pace=pace,
            ),
            stop_at=task.started_at + options.time_limit + DEADLINE_MARGIN,
            clock=runtime.clock,
            context=ndb.get_context().client.context,  # the application's own client, if it has entered a context
        )
        self._checkpoints = Checkpoints(runtime, task, options, self._reporter, self._ownership)

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
                transitions.interrupt, fence=self._task.fence, reference=self._reference, raised=Raised.of(exc)
            )
            with suppress(*STORE_ERRORS):
                self._runtime.store.change(self._task.id, interrupt)
            return Reply(code=500, reason="Datastore does not respond")
        finally:
            self._reporter.stop()

    def _work(self) -> Outcome:
        try:
            parameters = self._runtime.load(self._task, "parameters", self._options.serializer)
            self._checkpoints.load()
            with _authors_code():
                result = self._authors_work(self._task, parameters, self._reporter, self._checkpoints)
            return Done(result=self._store_result(result))
        except STORE_ERRORS:
            raise
        except DamagedDataError as exc:  # in the parameters, or in the state to resume from
            return Failed(cause=exc, why=Cause.DAMAGED, permanent=True, forget=self._checkpoints.resumes)
        except BaseException as exc:
            if must_pass(exc):
                raise
            return self._outcome_of(exc.cause if isinstance(exc, _WorkError) else exc)

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
            signer = self._runtime.signer(self._task.id, "result")
            for part in encode_pieces(_of_author(result), writer.layout, signer):
                writer.write(part)
            return writer.seal()
        finally:
            self._checkpoints.end()
            self._close(result)

    def _close(self, generator: Generator[object, Any, Any]) -> None:
        """Close the author's generator if it did not end, so that it cleans up while its attempt still runs."""
        try:
            with _authors_code():
                generator.close()
        except _WorkError as exc:
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

    def _report_exception(self, exc: BaseException) -> None:
        self._pass_on(exc, **self._fields())

    def _fields(self) -> dict[str, object]:
        """Return what the lines about this attempt have in common with its events."""
        return {
            "id": self._task.id[:8],
            "endpoint": self._task.endpoint,
            "attempt": 1 if self._checkpoints.advanced else self._task.attempt,  # an advance forgives earlier failures
            "delivery": self._task.deliveries,
            "reference": self._reference,
        }

    def _finish(self, result: Stored) -> Reply:
        self._send_last_beat()
        ended = self._runtime.store.finish(self._task.id, self._task.fence, result, self._reporter.progress)
        if ended is None:
            return self._leave()
        self._checkpoints.clear()
        if seconds := self._reporter.phases.measured():
            self._runtime.phase_times.add(self._task.endpoint, seconds)
        return Reply(code=200, reason="done", ended=ended)

    def _fail(self, outcome: Failed) -> Reply:
        if outcome.error is None:  # else the visitor has to act, and the event's log line is enough
            self._report_exception(outcome.cause)
        self._send_last_beat()
        fail = partial(
            transitions.fail,
            fence=self._task.fence,
            permanent=outcome.permanent,
            error=outcome.error,
            reference=self._reference,
            progress=self._reporter.progress,
            max_attempts=self._options.max_attempts,
            forget=outcome.forget,
            cause=outcome.why,
            raised=Raised.of(outcome.cause),
        )
        change = self._runtime.store.change(self._task.id, fail)
        if not change.applied:
            return self._leave()
        if change.status.ended:
            return Reply(code=200, reason="failed for good", ended=change.task)
        return Reply(code=500, reason="failed, try again")

    def _hand_over(self) -> Reply:
        """Release the task after the author's clean-up, so that the next attempt begins when this one has ended."""
        self._reporter.stop()
        hand_over = partial(
            transitions.hand_over,
            fence=self._task.fence,
            progress=self._reporter.stored(),
            advanced=self._checkpoints.advanced,
            max_attempts=self._options.max_attempts,
            reference=self._reference,
        )
        change = self._runtime.store.change(self._task.id, hand_over)
        if not change.applied:
            return self._leave()
        if change.status.ended:
            return Reply(code=200, reason="failed for good, no progress", ended=change.task)
        # 200 deletes this delivery's Cloud Tasks task, so another one must certainly exist.
        return Reply(code=200 if hand_on(self._runtime, self._task) else 409, reason="handed over")

    def _leave(self) -> Reply:
        """End without a commit; 200 would delete the Cloud Tasks task if the next attempt uses the same one."""
        task = self._runtime.store.get(self._task.id)
        if task is None or task.status.ended:
            return Reply(code=200, reason="the task has ended")
        return Reply(code=409, reason="another attempt has taken the task over")

    def _send_last_beat(self) -> None:
        """Send news before the commit, which may take a while; a later beat could overwrite the committed state."""
        self._reporter.stop()
        if self._ownership.lost is None and self._reporter.has_news:
            self._reporter.beat()


@contextmanager
def _authors_code() -> Iterator[None]:
    """Wrap whatever the author's code raises, so that it is not taken for an error of ours."""
    try:
        yield
    except BaseException as exc:
        if must_pass(exc):
            raise
        raise _WorkError(exc) from exc


def _of_author(pieces: Iterator[object]) -> Iterator[object]:
    """Iterate over the author's generator, and wrap its errors."""
    while True:
        with _authors_code():
            try:
                piece = next(pieces)
            except StopIteration:
                return
        yield piece
