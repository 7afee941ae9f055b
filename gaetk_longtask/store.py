"""The only writer of LongTask: one transaction around one transition, and queries."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from gaetk_longtask import failures, transitions
from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.datastore import calls as datastore_calls
from gaetk_longtask.datastore.entities import NAMESPACE
from gaetk_longtask.events import Event, emit
from gaetk_longtask.models import LongTask, LongTaskProgress, LongTaskUnique
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.progress.stores import ProgressStore
from gaetk_longtask.queues import Delivery, Objection
from gaetk_longtask.splits import Split, lane_id
from gaetk_longtask.status import Status
from gaetk_longtask.transitions import Effect
from gaetk_longtask.units import RETRIES, Change, Claim, Transaction, Units, new_token

_EPOCH = datetime.fromtimestamp(0, UTC)  #: excludes tasks without a time: Datastore sorts them before every time

_STATISTICS_SECONDS = 5  #: the timeout, in seconds, of a query whose answer is not essential


class TaskStore(Units[LongTask]):
    """The tasks of one application. Needs an NDB context, outside of any transaction except for `create`."""

    _kind = LongTask

    def __init__(
        self, progress: ProgressStore, clock: Callable[[], datetime], *, trace: Callable[[], str | None] = lambda: None
    ) -> None:
        """Publish to `progress`. `trace` names the trace of the current request, see `events.emit`."""
        super().__init__(clock)
        self._progress = progress
        self.trace = trace  #: returns the trace of the current request, as Cloud Logging names it

    def create(self, task: LongTask) -> None:
        """Store a new task, `ready`; one write, and one read in an author's transaction.

        It never overwrites: a write that arrives late, after its repetition, changes nothing.
        """
        transitions.begin(task, self._clock())
        task.trace = self.trace()
        task.token = new_token()
        if datastore_calls.in_transaction():
            if self.get(task.id) is None:
                task.save()
        else:
            try:
                task.insert()
            except STORE_ERRORS:
                found = self.get(task.id)
                if found is None or found.token != task.token:
                    raise
        datastore_calls.call_on_commit(lambda: self._announce(task, Effect(events=(Event.CREATED,))))

    def claim(self, delivery: Delivery, *, max_attempts: int, silent_fence: int | None = None) -> Claim[LongTask]:
        """Claim the task for an attempt; one read, and one write if the state changes.

        `silent_fence` names an owner that has missed its beats, see `transitions.claim`.
        """
        claim = partial(
            transitions.claim,
            delivery=delivery,
            max_attempts=max_attempts,
            silent_fence=silent_fence,
            worker=failures.worker(self.trace()),
        )
        change = self.change(delivery.task_id, claim)
        if change.task is None:
            return Claim(task=None, objection=Objection.ENDED)
        if change.applied and not change.status.ended:
            return Claim(task=change.task, objection=None)
        objection = transitions.objection(change.task, self._clock(), delivery, silent_fence=silent_fence)
        return Claim(task=change.task, objection=objection or Objection.BUSY)

    def show(self, task_id: str) -> LongTask | None:
        """Return a task whose result is about to be shown; one read, and one write the first time."""
        return self.change(task_id, transitions.show).task

    def cancel(self, task_id: str, *, latest: Snapshot | None = None) -> LongTask | None:
        """End a task that has not ended; return the task as it is after that.

        The task keeps the progress of its `latest` snapshot, which is read if it is not given.
        """
        cancel = partial(transitions.cancel, latest=latest or self._progress.read(task_id))
        return self._published(self.change(task_id, cancel)).task

    def retry(self, task_id: str, *, damaged_fence: int | None = None, alone: bool = False) -> Change[LongTask]:
        """Make a failed or cancelled task `ready` again; the caller enqueues it if this was applied.

        If another task of the same unique name has not ended, nothing changes and the change has that task; `alone`
        leaves the name to it.
        """
        retry = partial(transitions.retry, damaged_fence=damaged_fence, trace=self.trace())
        make = Transaction if alone else _NamedTransaction
        return self._published(self.commit(make(LongTask, task_id, retry, self._clock())))

    def _published(self, change: Change[LongTask]) -> Change[LongTask]:
        """Publish a task that a visitor's request did not change: the progress store may have missed its state."""
        if change.task is not None and not change.applied:
            self.publish(change.task)
        return change

    def living(self, unique_name: str) -> LongTask | None:
        """Return the task of this name that has not ended; two reads, or one if there is none."""
        unique = LongTaskUnique.load(unique_name)
        task = self.get(unique.task_id) if unique else None
        return task if task is not None and not task.status.ended else None

    def heal(self, task_id: str, *, early: bool = False) -> LongTask | None:
        """Return the task if it was due, or waits and `early` is set; the caller must then enqueue it again.

        A task that has ended is due while its handler has not been told.
        """
        change = self.change(task_id, partial(transitions.heal, early=early))
        return change.task if change.applied and change.task is not None and change.task.due_at is not None else None

    def end_purge(self, task_id: str, *, works: bool = False) -> None:
        """Delete a task whose chunks are gone, with its progress, its tracebacks and its unique name.

        If an attempt still works on it, the news of its end stays, so that the attempt can't publish progress again.
        """
        task = self.get(task_id)
        if task is None or not task.purged:
            return

        def free_name() -> None:
            unique = LongTaskUnique.load(task.unique_name)
            if unique is not None and unique.task_id == task_id:  # else a later task uses the name
                datastore_calls.delete([unique.key])

        if task.unique_name:
            datastore_calls.transaction(free_name, retries=RETRIES)
        split = Split.of(task)
        lanes = [lane_id(task_id, lane) for lane in split.used_lanes()] if split is not None else []
        news = [LongTaskProgress.key_of(name) for name in [*lanes, *([] if works else [task_id])]]
        datastore_calls.delete([*news, *failures.traceback_keys(task), task.key])
        self.tell(Event.PURGED, task)

    def due(self, limit: int) -> list[str]:
        """Return the ids of tasks that are due, because they were silent for too long; the longest overdue first."""
        query = LongTask.query(LongTask.due_at > _EPOCH, LongTask.due_at <= self._clock(), namespace=NAMESPACE)
        # Keys only: tasks with up to 256 KiB of parameters each would not fit into one response.
        return [key.id() for key in query.order(LongTask.due_at).fetch(limit, keys_only=True)]

    def unended(self, limit: int) -> list[str]:
        """Return the ids of tasks that have not ended or were not told, the one that is due first at the beginning."""
        query = LongTask.query(LongTask.due_at > _EPOCH, namespace=NAMESPACE)
        return [key.id() for key in query.order(LongTask.due_at).fetch(limit, keys_only=True)]

    def expired(self, limit: int) -> list[str]:
        """Return the ids of expired tasks, the oldest first."""
        query = LongTask.query(LongTask.expires_at > _EPOCH, LongTask.expires_at <= self._clock(), namespace=NAMESPACE)
        return [key.id() for key in query.order(LongTask.expires_at).fetch(limit, keys_only=True)]

    def last_runs(self, endpoint: str, limit: int) -> list[float]:
        """Return how many seconds an endpoint's last successful tasks took; one small query."""
        query = LongTask.query(LongTask.endpoint == endpoint, namespace=NAMESPACE).order(-LongTask.expires_at)
        # The status is only projected to use the same index as the statistics.
        projection = [LongTask.run_seconds, LongTask.status_name]
        found = query.fetch(limit, projection=projection, timeout=_STATISTICS_SECONDS)
        return [task.run_seconds for task in found if task.run_seconds is not None]

    def publish(self, task: LongTask, *, beats: bool = False) -> None:
        """Write a durable state to the progress store."""
        beat_seconds = self._progress.interval_seconds if beats and task.status is Status.STARTED else 0
        self._progress.write(Snapshot.of(task, now=self._clock(), beat_seconds=beat_seconds))

    def tell(self, event: Event, task: LongTask) -> None:
        """Emit an event about a change that is committed."""
        emit(event, task, self._clock(), trace=self.trace())

    def _announce(self, task: LongTask, effect: Effect) -> None:
        if effect.publishes:
            self.publish(task, beats=effect.beats)
        for event in effect.events:
            self.tell(event, task)


class _NamedTransaction(Transaction[LongTask]):
    """A transition that gives a task its unique name back, unless another task has the name and has not ended."""

    def __call__(self) -> LongTask | None:
        task: LongTask | None = LongTask.load(self.name)
        if task is None or not task.unique_name:
            return self.apply(task)
        unique = LongTaskUnique.load(task.unique_name)
        if unique is not None and unique.task_id != self.name:
            holder: LongTask | None = LongTask.load(unique.task_id)
            if holder is not None and not holder.status.ended:
                self.effect = None
                return holder
        self.apply(task)
        if self.effect is not None:
            LongTaskUnique(key=LongTaskUnique.key_of(task.unique_name), task_id=self.name).save()
        return task
