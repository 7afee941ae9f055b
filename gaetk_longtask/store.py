"""Moves a task between its states; the only module that writes LongTask.

Every change is one transaction over one entity, guarded by what it expects to find there: a status, a fence, a time.
Each carries a token drawn outside of it. Where a commit was applied and its reply was lost, ndb runs the transaction
again, or it raises; whoever then finds the own token on the entity has succeeded.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from google.cloud import ndb

from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.events import Event, emit
from gaetk_longtask.info import Progress
from gaetk_longtask.models import NAMESPACE, LongTask, LongTaskProgress, LongTaskUnique
from gaetk_longtask.payloads.blobs import Stored
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.progress.stores import ProgressStore
from gaetk_longtask.queues import Delivery
from gaetk_longtask.status import Status

#: How long an owner may work without a word to Datastore. Renewed by its reporter.
LEASE = timedelta(seconds=120)
#: A task that is `ready` is delivered within seconds; after so long its enqueuing is in doubt.
READY_PATIENCE = timedelta(minutes=1)
#: The longest back-off of our queue.yaml, twice.
ERROR_PATIENCE = timedelta(seconds=120)
#: Healing waits 1, 2, 4 … minutes, and never longer than this; after so many times, for a day: each time leaves a Cloud
#: Tasks task more that tries for itself.
LONGEST_HEALING = timedelta(minutes=60)
HEALED_HOURLY, SELDOM_HEALING = 30, timedelta(days=1)

#: Failures of one run, whatever it reaches in between: a state that holds the time of day looks new each time.
MOST_FAILURES = 100
#: What has not ended by then never will, and nobody waits for it any more.
LONGEST_RUN = timedelta(days=30)

#: The progress of a task that nobody works on yet.
STARTING = {"message": "Starting", "step": 0, "total_steps": 0}

#: Excludes those that have no time at all, which Datastore sorts before every time.
_EPOCH = datetime.fromtimestamp(0, UTC)

_RETRIES = 2
#: For a question that need not be answered.
_PATIENCE_SECONDS = 5


def new_token() -> str:
    """Draw 128 random bits, fit for a URL."""
    return secrets.token_urlsafe(16)


class Verdict(Enum):
    """What a delivery has to do."""

    WORK = "it owns the task now"
    FORBIDDEN = "it has not proved that it comes from the queue"
    OVER = "there is nothing to do any more, now or later"
    EXHAUSTED = "it has failed too often and is `failed` now"
    BUSY = "another attempt owns the task; ask again later"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """What an attempt has reached."""

    state: Stored
    pieces: Stored | None  #: of a result that is yielded
    progress: dict[str, Any]
    advanced: bool  #: whether there is anything that the attempt before did not have
    hand_over: bool  #: whether the attempt ends with it


class TaskStore:
    """The tasks of one application. Needs an NDB context, outside of any transaction but for `create`."""

    def __init__(
        self,
        progress: ProgressStore,
        clock: Callable[[], datetime],
        *,
        trace: Callable[[], str | None] = lambda: None,
    ) -> None:
        """Publish to `progress`; `trace` names the trace of the present request, see `events.emit`."""
        self._progress = progress
        self._clock = clock
        self._trace = trace

    def get(self, task_id: str) -> LongTask | None:
        """Read the durable state; one read."""
        return LongTask.load(task_id)  # type: ignore[no-any-return]  # ndb is untyped

    def create(self, task: LongTask) -> None:
        """Store a new task, `ready`; one write."""
        now = self._clock()
        task.created_at = task.updated_at = task.requested_at = now
        task.due_at = now + READY_PATIENCE
        task.progress_stored = dict(STARTING)
        task.token = new_token()
        try:
            task.save()
        except STORE_ERRORS:
            found = None if ndb.in_transaction() else self.get(task.id)
            if found is None or found.token != task.token:
                raise
        ndb.get_context().call_on_commit(lambda: self._tell_created(task))

    def claim(self, delivery: Delivery, *, max_attempts: int, silent_fence: int | None = None) -> tuple[Verdict, Any]:
        """Take the task for an attempt, or say why not; one read, and one write if the state changes.

        `silent_fence` names the owner that has missed its beats: if it still owns the task, it is taken over.
        The second value is the task as it is then, or None where there is none.
        """
        now = self._clock()
        verdict = Verdict.OVER

        def change(task: LongTask) -> bool:
            nonlocal verdict
            verdict = Verdict.OVER
            if not hmac.compare_digest(task.execute_key.encode(), delivery.execute_key.encode()):
                verdict = Verdict.FORBIDDEN
                return False
            if task.status.ended:
                return False
            if task.status is Status.STARTED and task.lease_until is not None:
                if task.lease_until > now and task.fence != silent_fence:
                    verdict = Verdict.BUSY
                    return False
                task.failures += 1
                _forget_pace(task)
            if _is_hopeless(task, max_attempts, now):
                _give_up(task, now)
                verdict = Verdict.EXHAUSTED
                return True
            verdict = Verdict.WORK
            task.status_name = Status.STARTED.value
            task.fence += 1
            task.heals = 0
            task.started_at = now
            task.lease_until = task.due_at = now + LEASE
            task.delivered_by = delivery.task_name
            task.delivery_retries = delivery.retry_count
            return True

        task, done = self._change(delivery.task_id, change, beats=True)
        if task is not None and done:
            self.tell(Event.FAILED if verdict is Verdict.EXHAUSTED else Event.CLAIMED, task)
            if verdict is Verdict.WORK and task.state_manifest is not None:
                self.tell(Event.RESUMED, task)
        return verdict, task

    def renew(self, task_id: str, fence: int) -> Status | None:
        """Prolong an attempt's lease; gives None, or the status of a task that is no longer this attempt's."""
        now = self._clock()

        def change(task: LongTask) -> bool:
            if not _owns(task, fence) or task.lease_until is None:  # what was handed over is not taken back
                return False
            task.lease_until = task.due_at = now + LEASE
            return True

        task, done = self._change(task_id, change, publish=False)
        if done:
            return None
        return task.status if task else Status.CANCELLED

    def owner_status(self, task_id: str, fence: int) -> Status | None:
        """Give None, or the status of a task that is no longer this attempt's; one read, in an active transaction."""
        task = self.get(task_id)
        if task is None:
            return Status.CANCELLED
        return None if _owns(task, fence) and task.lease_until is not None else task.status

    def keep(self, task_id: str, fence: int, checkpoint: Checkpoint, *, max_attempts: int) -> tuple[Status, bool]:
        """Keep what an attempt has reached, and renew its lease or, to hand over, release it; one read, one write.

        A hand-over that has not advanced counts as a failure. Gives the task's status then, and whether the task was
        the attempt's.
        """
        now = self._clock()

        def change(task: LongTask) -> bool:
            if not _owns(task, fence):
                return False
            task.state_manifest, task.state_blob = checkpoint.state[0].to_json(), checkpoint.state[1]
            if checkpoint.pieces is not None:
                task.result_manifest, task.result_blob = checkpoint.pieces[0].to_json(), checkpoint.pieces[1]
            task.progress_stored = checkpoint.progress
            if checkpoint.advanced:
                task.forgiven, task.failures = task.forgiven + task.failures, 0
            elif checkpoint.hand_over and task.lease_until is not None:  # not counted yet
                task.failures += 1
            if not checkpoint.hand_over:
                task.lease_until = task.due_at = now + LEASE
            elif _is_hopeless(task, max_attempts, now):
                _give_up(task, now)
            else:
                task.lease_until = None
                task.due_at = now + READY_PATIENCE
            return True

        task, done = self._change(task_id, change, publish=checkpoint.hand_over)
        if task is not None and done and checkpoint.hand_over:
            self.tell(Event.HANDED_OVER if task.status is Status.STARTED else Event.FAILED, task)
        return (task.status if task else Status.CANCELLED), done

    def finish(self, task_id: str, fence: int, result: Stored, progress: Progress) -> bool:
        """Commit an attempt's result; False if the attempt no longer owns the task. The last write of a run."""
        now = self._clock()
        named, inline = result[0].to_json(), result[1]

        def change(task: LongTask) -> bool:
            if not _owns(task, fence):
                return False
            _end(task, Status.DONE, now)
            task.result_manifest, task.result_blob = named, inline
            task.state_manifest = task.state_blob = None
            task.run_seconds = (now - task.requested_at).total_seconds()
            task.progress_stored = progress.stored()
            task.error = task.error_reference = None
            return True

        task, done = self._change(task_id, change)
        # The token is gone where the result was shown before its commit was known to us; fence and manifest are not.
        if task is None:
            return False
        done = done or (task.status.has_result and bool(task.fence == fence) and bool(task.result_manifest == named))
        if done:
            self.tell(Event.FINISHED, task)
        return done

    def fail(
        self,
        task_id: str,
        fence: int,
        *,
        permanent: bool,
        error: str | None,
        reference: str,
        progress: Progress,
        max_attempts: int,
        forget: bool = False,
    ) -> Status | None:
        """Record that an attempt failed: `error`, or `failed` for good; None if it no longer owns the task.

        With `forget` a task that is retried begins anew: what was kept can't be read.
        """
        now = self._clock()

        def change(task: LongTask) -> bool:
            if not _owns(task, fence):
                return False
            task.failures += 1
            task.progress_stored = progress.stored()
            task.error_reference = reference
            if forget:
                task.state_manifest = task.state_blob = task.result_manifest = task.result_blob = None
            if permanent or _is_hopeless(task, max_attempts, now):
                _end(task, Status.FAILED, now)
                task.error = error
            else:
                task.status_name = Status.ERROR.value
                task.lease_until = None
                task.due_at = now + ERROR_PATIENCE
            return True

        task, done = self._change(task_id, change)
        if task is None or not done:
            return None
        self.tell(Event.FAILED if task.status is Status.FAILED else Event.ATTEMPT_FAILED, task)
        return task.status

    def show(self, task_id: str) -> LongTask | None:
        """Give the task to somebody who is about to show its result: the first time `done` becomes `finished`.

        One read, and one write the first time.
        """
        now = self._clock()

        def change(task: LongTask) -> bool:
            if task.status is not Status.DONE:
                return False
            task.status_name = Status.FINISHED.value
            task.last_accessed_at = now
            return True

        task, _ = self._change(task_id, change)
        return task

    def refuse(self, task_id: str, reference: str) -> None:
        """End a task that the queue has certainly not taken; nothing else may have happened to it since."""
        now = self._clock()

        def change(task: LongTask) -> bool:
            if task.status is not Status.READY:
                return False
            _end(task, Status.FAILED, now)
            task.error_reference = reference
            return True

        task, done = self._change(task_id, change)
        if task is not None and done:
            self.tell(Event.REFUSED, task)

    def cancel(self, task_id: str) -> LongTask | None:
        """End a task that has not ended, whoever works on it; gives the task as it is then."""
        now = self._clock()

        def change(task: LongTask) -> bool:
            if task.status.ended:
                return False
            _end(task, Status.CANCELLED, now)
            task.fence += 1
            return True

        task, done = self._change(task_id, change)
        if task is not None and done:
            self.tell(Event.CANCELLED, task)
        return task

    def retry(self, task_id: str, *, damaged_fence: int | None = None) -> tuple[LongTask | None, bool]:
        """Lead a task that failed or was cancelled back to `ready`; the caller enqueues it if this says True.

        `damaged_fence` names the run whose result can't be read any more: it may be repeated as well.
        """
        now = self._clock()

        def change(task: LongTask) -> bool:
            may = task.status.may_retry or (task.status.has_result and task.fence == damaged_fence)
            if not may or task.purged or task.expires_at <= now:
                return False
            task.status_name = Status.READY.value
            task.fence += 1
            task.failures = task.forgiven = task.heals = 0
            task.requested_at = now
            task.due_at = now + READY_PATIENCE
            task.ended_at = task.expires_at = task.lease_until = None
            task.error = task.error_reference = None
            if task.state_manifest is None:  # otherwise the next attempt goes on from there
                task.progress_stored = dict(STARTING)
                task.result_manifest = task.result_blob = task.run_seconds = None
            return True

        return self._change(task_id, change)

    def heal(self, task_id: str) -> LongTask | None:
        """Pick who enqueues a task again that is past its `due_at`: the caller, if the task is given back.

        One that is too old for that is `failed` then.
        """
        now = self._clock()

        def change(task: LongTask) -> bool:
            if task.due_at is None or task.due_at > now:
                return False
            if _is_too_old(task, now):
                _give_up(task, now)
                return True
            often = min(timedelta(minutes=2 ** min(task.heals, 6)), LONGEST_HEALING)
            task.due_at = now + (often if task.heals < HEALED_HOURLY else SELDOM_HEALING)
            task.heals += 1
            return True

        task, done = self._change(task_id, change, publish=False)
        if task is None or not done:
            return None
        if task.status.ended:
            self.publish(task)
            self.tell(Event.FAILED, task)
            return None
        if task.status is not Status.STARTED:  # a silent owner's own news say more than the entity does
            self.publish(task)
        self.tell(Event.HEALED, task)
        return task

    def due(self, limit: int) -> list[str]:
        """Give the ids of tasks that have gone too long without news, the longest first."""
        query = LongTask.query(LongTask.due_at > _EPOCH, LongTask.due_at <= self._clock(), namespace=NAMESPACE)
        # Whole tasks, with a quarter of a megabyte of parameters in each, would be more than one answer may hold.
        return [key.id() for key in query.order(LongTask.due_at).fetch(limit, keys_only=True)]

    def expired(self, limit: int) -> list[str]:
        """Give the ids of tasks that are not kept any longer, the oldest first."""
        query = LongTask.query(LongTask.expires_at > _EPOCH, LongTask.expires_at <= self._clock(), namespace=NAMESPACE)
        return [key.id() for key in query.order(LongTask.expires_at).fetch(limit, keys_only=True)]

    def last_runs(self, endpoint: str, limit: int) -> list[float]:
        """Give how many seconds those of an endpoint's last tasks took that came to a result; one small query."""
        query = LongTask.query(LongTask.endpoint == endpoint, namespace=NAMESPACE).order(-LongTask.expires_at)
        # The status is for the index alone: the statistics need it, and share the index.
        projection = [LongTask.run_seconds, LongTask.status_name]
        found = query.fetch(limit, projection=projection, timeout=_PATIENCE_SECONDS)
        return [task.run_seconds for task in found if task.run_seconds is not None]

    def begin_purge(self, task_id: str) -> bool:
        """Mark a task as going for good, so that nothing brings it back half-deleted; False if it is to stay."""
        now = self._clock()

        def change(task: LongTask) -> bool:
            if not task.status.ended or task.expires_at > now:
                return False
            task.purged = True
            return True

        return self._change(task_id, change, publish=False)[1]

    def end_purge(self, task_id: str) -> None:
        """Delete a task whose chunks are gone, with all that leads to it."""
        task = self.get(task_id)
        if task is None or not task.purged:
            return

        def free_name() -> None:
            unique = LongTaskUnique.load(task.unique_name)
            if unique is not None and unique.task_id == task_id:  # else the name leads to a later task
                unique.key.delete()

        if task.unique_name:
            ndb.transaction(free_name, retries=_RETRIES)
        ndb.delete_multi([LongTaskProgress.key_of(task_id), task.key])
        self.tell(Event.PURGED, task)

    def publish(self, task: LongTask, *, beats: bool = False) -> None:
        """Tell the progress store of a state that is durable."""
        beat_seconds = self._progress.interval_seconds if beats and task.status is Status.STARTED else 0
        self._progress.write(Snapshot.of(task, now=self._clock(), beat_seconds=beat_seconds))

    def _tell_created(self, task: LongTask) -> None:
        self.publish(task)
        self.tell(Event.CREATED, task)

    def tell(self, event: Event, task: LongTask) -> None:
        """Tell what has happened to a task, once that is certain."""
        emit(event, task, self._clock(), trace=self._trace())

    def _change(
        self, task_id: str, change: Callable[[LongTask], bool], *, beats: bool = False, publish: bool = True
    ) -> tuple[LongTask | None, bool]:
        """Apply `change` to the task if there is one and `change` agrees; say whether it is applied."""
        token = new_token()

        def transact() -> tuple[LongTask | None, bool]:
            task = self.get(task_id)
            if task is None:
                return None, False
            if task.token != token:  # else an earlier run was committed, and its reply lost
                if not change(task):
                    return task, False
                task.token = token
                task.updated_at = self._clock()
                task.save()
            return task, True

        try:
            task, done = ndb.transaction(transact, retries=_RETRIES)
        except STORE_ERRORS:
            task = self.get(task_id)
            done = task is not None and task.token == token
            if not done:
                raise
        if done and publish:
            self.publish(task, beats=beats)
        return task, done


def new_reference() -> str:
    """Draw what joins a visitor's page to a log line: short enough to be read out on the telephone."""
    return secrets.token_hex(4)


def _is_hopeless(task: LongTask, max_attempts: int, now: datetime) -> bool:
    """Tell whether a task has failed too often, in a row or altogether, or has taken too long."""
    altogether = task.failures + task.forgiven
    return bool(
        task.failures >= max_attempts or altogether >= max(MOST_FAILURES, max_attempts) or _is_too_old(task, now)
    )


def _is_too_old(task: LongTask, now: datetime) -> bool:
    return bool(now - task.requested_at >= LONGEST_RUN)


def _owns(task: LongTask, fence: int) -> bool:
    return task.status is Status.STARTED and bool(task.fence == fence)


def _forget_pace(task: LongTask) -> None:
    """Keep the progress, but not what was only meant for an attempt that goes on at once."""
    task.progress_stored = task.progress.stored()


def _give_up(task: LongTask, now: datetime) -> None:
    _end(task, Status.FAILED, now)
    task.error, task.error_reference = None, new_reference()


def _end(task: LongTask, status: Status, now: datetime) -> None:
    _forget_pace(task)
    task.status_name = status.value
    task.ended_at = now
    task.due_at = task.lease_until = None
    task.expires_at = now + timedelta(seconds=task.keep_result_seconds)
