"""One attempt, from the queue's delivery to its commit; knows no Flask."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from google.cloud import ndb

from gaetk_longtask.checkpoints import Checkpoints
from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.exceptions import (
    ConfigurationError,
    DamagedDataError,
    HandedOver,
    PermanentTaskFailure,
    TaskCancelled,
)
from gaetk_longtask.models import LongTask
from gaetk_longtask.payloads.blobs import Stored
from gaetk_longtask.payloads.encoding import encode_pieces
from gaetk_longtask.progress.reporter import Reporter
from gaetk_longtask.progress.snapshot import MISSED_BEATS, Snapshot, presentable
from gaetk_longtask.queues import Delivery
from gaetk_longtask.services import Services, TaskOptions
from gaetk_longtask.starting import DEADLINE_MARGIN, hand_on
from gaetk_longtask.status import Status
from gaetk_longtask.store import LEASE, Verdict, new_reference

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """The answer to a delivery: 2xx deletes the Cloud Tasks task, anything else has it delivered again."""

    code: int
    reason: str


class Job(Protocol):
    """The author's part of an attempt."""

    def execute(self, task: LongTask, parameters: Any, reporter: Reporter, checkpoints: Checkpoints) -> Any:
        """Do the work and give its result; may raise anything."""

    def report_exception(self, exc: BaseException) -> None:
        """Tell the application's error reporting."""


class _WorkError(Exception):
    """The author's code has raised something."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__()
        self.cause = cause


def deliver(services: Services, delivery: Delivery, options: TaskOptions, job: Job) -> Reply:
    """Answer a delivery: claim the task and work, or say why there is nothing to do (now).

    An NDB context must be active. 503 is never answered: App Engine slows the whole queue down for it.
    """
    try:
        verdict, task = services.store.claim(delivery, max_attempts=options.max_attempts)
        if verdict is Verdict.BUSY and _owner_is_dead(services, task, delivery):
            verdict, task = services.store.claim(delivery, max_attempts=options.max_attempts, silent_fence=task.fence)
    except STORE_ERRORS as exc:
        log.warning("no claim of %s, the store does not answer: %s", delivery.task_id[:8], exc)
        return Reply(code=500, reason="the store does not answer")
    match verdict:
        case Verdict.FORBIDDEN:
            return Reply(code=403, reason=verdict.value)
        case Verdict.OVER:
            return Reply(code=200, reason=verdict.value)
        case Verdict.EXHAUSTED:
            return Reply(code=200, reason=verdict.value)
        case Verdict.BUSY:
            return Reply(code=409, reason=verdict.value)
        case Verdict.WORK:
            with services.ndb_context.namespace(task.namespace):
                return _Attempt(services, task, options, job).run()


def _owner_is_dead(services: Services, task: LongTask, delivery: Delivery) -> bool:
    """Judge an owner by its beats; only a later delivery of the same Cloud Tasks task may ask.

    Such a delivery comes when the earlier one has ended without an answer, or has passed its deadline. A duplicate
    has no higher retry count, and no snapshot is no evidence.
    """
    if task.delivered_by != delivery.task_name or task.delivery_retries >= delivery.retry_count:
        return False
    snapshot = services.progress.read(task.id)
    if snapshot is None:
        return False
    now = services.clock()
    if snapshot.fence < task.fence:  # it has died before its first word
        return bool(now - task.started_at > timedelta(seconds=MISSED_BEATS * services.progress.interval_seconds))
    return snapshot.fence == task.fence and snapshot.is_silent(now)


class _Attempt:
    """Owns the task until its commit, or until another takes it away."""

    def __init__(self, services: Services, task: LongTask, options: TaskOptions, job: Job) -> None:
        self._services = services
        self._task = task
        self._fence = task.fence
        self._options = options
        self._job = job
        progress = services.progress.for_reporter()
        self._reporter = Reporter(
            Snapshot.of(task, now=services.clock(), beat_seconds=progress.interval_seconds),
            progress,
            renew=lambda: services.store.renew(task.id, task.fence),
            renew_every=LEASE / 2,
            typical_seconds=lambda: services.durations.typical_seconds(task.endpoint),
            stop_at=task.started_at + options.time_limit + DEADLINE_MARGIN,
            clock=services.clock,
            context=ndb.get_context().client.context,  # the application's own client, if it has entered a context
            pace=(task.progress_stored or {}).get("pace"),
        )
        self._checkpoints = Checkpoints(services, task, options, self._reporter)

    def run(self) -> Reply:
        """Work, and commit what came of it."""
        self._reporter.start()
        try:
            return self._work()
        except STORE_ERRORS as exc:
            # Nobody knows what was committed. Our beats cease now, so the next delivery finds out or takes over.
            log.warning("attempt at %s ends, the store does not answer: %s", self._task.id[:8], exc)
            return Reply(code=500, reason="the store does not answer")
        finally:
            self._reporter.stop()

    def _work(self) -> Reply:
        goes_on = False
        try:
            parameters = self._services.load(self._task, "parameters", self._options.serializer)
            goes_on = self._task.state_manifest is not None
            self._checkpoints.load()
            with _authors_code():
                result = self._job.execute(self._task, parameters, self._reporter, self._checkpoints)
            stored = self._store_result(result)
        except (TaskCancelled, HandedOver):
            return self._leave()
        except PermanentTaskFailure as exc:
            return self._fail(exc, permanent=True)
        except DamagedDataError as exc:  # of the parameters, or of what this attempt was to go on from
            return self._fail(exc, permanent=True, forget=goes_on)
        except ConfigurationError as exc:  # the next version of the application may have it right
            return self._fail(exc, permanent=False)
        except _WorkError as exc:
            return self._fail(exc.cause, permanent=False)
        if self._checkpoints.given_away:
            return self._leave()
        self._say_last_words()
        if not self._services.store.finish(self._task.id, self._fence, stored, self._reporter.progress):
            return self._leave()
        self._checkpoints.clear()
        return Reply(code=200, reason="done")

    def _store_result(self, result: Any) -> Stored:
        if not inspect.isgenerator(result):
            return self._checkpoints.store_result(result)
        try:
            writer = self._checkpoints.result_writer()
            signer = self._services.signer(self._task.id, "result")
            for part in encode_pieces(_of_author(result), writer.layout, signer):
                writer.write(part)
            return writer.seal()
        finally:
            self._checkpoints.end()
            self._close(result)

    def _close(self, generator: Generator[object, Any, Any]) -> None:
        """Have the author's code tidy up now, where it did not come to its end; later its attempt may be over."""
        try:
            with _authors_code():
                generator.close()
        except _WorkError as exc:
            self._job.report_exception(exc.cause)
        except (PermanentTaskFailure, TaskCancelled) as exc:
            log.warning("an unfinished generator of %s was closed: %s", self._task.id[:8], exc)

    def _fail(self, exc: BaseException, *, permanent: bool, forget: bool = False) -> Reply:
        if self._checkpoints.given_away:  # raised on the way out
            self._job.report_exception(exc)
            return self._leave()
        reference = new_reference()
        self._say_last_words()
        status = self._services.store.fail(
            self._task.id,
            self._fence,
            permanent=permanent,
            error=presentable(exc) if isinstance(exc, PermanentTaskFailure) else None,
            reference=reference,
            progress=self._reporter.progress,
            max_attempts=self._options.max_attempts,
            forget=forget,
        )
        self._job.report_exception(exc)
        match status:
            case None:
                return self._leave()
            case Status.FAILED:
                return Reply(code=200, reason="failed for good")
            case _:
                return Reply(code=500, reason="failed, try again")

    def _leave(self) -> Reply:
        """End without a commit of one's own.

        A 200 deletes the Cloud Tasks task that this attempt was delivered by, and maybe its successor; so it is only
        given where nothing has to be delivered any more, or a new one is certain.
        """
        match self._checkpoints.given_away:
            case Status.STARTED:
                handed_on = hand_on(self._services, self._task)
                return Reply(code=200 if handed_on else 409, reason="handed over")
            case Status.FAILED:
                return Reply(code=200, reason="no progress in its time")
        task = self._services.store.get(self._task.id)
        if task is None or task.status.ended:
            return Reply(code=200, reason="ended by somebody else")
        return Reply(code=409, reason="superseded")

    def _say_last_words(self) -> None:
        """Report for the last time: after the commit, nothing of this attempt may overwrite what the commit says."""
        self._reporter.stop()
        if not self._reporter.lost:
            self._reporter.beat()


@contextmanager
def _authors_code() -> Iterator[None]:
    """Tell the author's errors from ours, and ours from those that are for the visitor."""
    try:
        yield
    except PermanentTaskFailure:
        raise
    except (Exception, SystemExit, asyncio.CancelledError) as exc:
        # The author's code may raise anything; all of it means: try again. A SystemExit would end the whole worker.
        raise _WorkError(exc) from exc


def _of_author(pieces: Iterator[object]) -> Iterator[object]:
    """Run a generator that was written by the author."""
    while True:
        with _authors_code():
            try:
                piece = next(pieces)
            except StopIteration:
                return
        yield piece
