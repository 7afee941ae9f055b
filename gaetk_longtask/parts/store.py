"""The only writer of LongTaskPart; queries for parts that are not done. Works on the parts of one task."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from google.cloud import ndb

from gaetk_longtask import failures, limits, transitions
from gaetk_longtask.datastore import calls as datastore_calls
from gaetk_longtask.datastore.entities import NAMESPACE
from gaetk_longtask.events import Event, emit
from gaetk_longtask.models import LongTask, LongTaskPart, LongTaskTraceback
from gaetk_longtask.parts import transitions as rules
from gaetk_longtask.parts.progress import LaneProgress
from gaetk_longtask.payloads.manifests import Stored, set_stored
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.queues import Delivery, Objection
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.splits import Split, lane_id, lane_in, number_in
from gaetk_longtask.status import Status
from gaetk_longtask.transitions import Checkpoint, Effect
from gaetk_longtask.units import Claim, Units

#: How events of a task are called when they happen to a part; the others are not worth a line for each part.
_EVENTS = {
    Event.FINISHED: Event.PART_FINISHED,
    Event.ATTEMPT_FAILED: Event.PART_FAILED,
    Event.FAILED: Event.PART_FAILED,
}
#: A thousand parts that expire in the same moment would be a hot spot.
_SPREAD = timedelta(days=1)
_AT_ONCE = 500  #: keys in one request
#: What says how a part is: all but its payloads, which may be large.
_SHOWN = [
    prop._name  # noqa: SLF001  # of NDB, whose names of stored properties are there
    for prop in (LongTaskPart._properties or {}).values()  # noqa: SLF001  # the same
    if not prop._name.endswith(("_blob", "_manifest"))  # noqa: SLF001  # the same
]


class PartStore(Units[LongTaskPart]):
    """The parts of one task, as the task was when it was read. Needs an NDB context, outside of any transaction."""

    _kind = LongTaskPart

    def __init__(self, runtime: Runtime, task: LongTask, split: Split) -> None:
        super().__init__(runtime.clock)
        self._runtime = runtime
        self.task = task
        self.split = split
        #: Where an attempt at a part reports to.
        self.progress = LaneProgress(
            runtime.progress,
            task,
            split,
            done_in_lanes=self.done_in_lanes,
            task_lost=self._task_lost,
            clock=runtime.clock,
        )

    def new(self, number: int, given: Stored, name: str) -> LongTaskPart:
        """Return a new part, for `store`."""
        now, task = self._clock(), self.task
        keep_result = timedelta(seconds=task.keep_result_seconds)
        part = LongTaskPart(
            key=LongTaskPart.key_of(name),
            task_fence=task.fence,
            updated_at=now,
            requested_at=task.requested_at,
            progress_stored=dict(transitions.STARTING),
            due_at=now + limits.READY_PATIENCE,
            time_limit_seconds=task.time_limit_seconds,
            keep_result_seconds=task.keep_result_seconds,
            expires_at=self._runtime.chunk_expiry(keep_result) + _SPREAD * random.random(),  # noqa: S311  # no secret
        )
        set_stored(part, "parameters", given)
        return part

    def store(self, parts: Sequence[LongTaskPart]) -> None:
        """Store new parts in one request, once. If it is not certain that they are stored, the attempt has to end."""
        datastore_calls.insert_all_once(parts)

    def claim(
        self, delivery: Delivery, number: int, *, max_attempts: int, silent_fence: int | None = None
    ) -> Claim[LongTaskPart]:
        """Claim a part for an attempt, or end it; one read, and one write if the state changes."""
        name = self.split.name(self.task.id, number)
        claim = partial(
            rules.claim,
            task=self.task,
            delivery=delivery,
            max_attempts=max_attempts,
            silent_fence=silent_fence,
            worker=failures.worker(self._runtime.store.trace()),
        )
        change = self.change(name, claim)
        part = change.task
        if part is None:
            return Claim(task=None, objection=Objection.ENDED)
        if change.applied:
            return Claim(task=part, objection=None)
        found = rules.objection(part, self._clock(), task=self.task, delivery=delivery, silent_fence=silent_fence)
        return Claim(task=part, objection=found or Objection.BUSY)

    def renew(self, name: str, fence: int) -> Status | None:
        """Renew an attempt's lease, unless the task does not want its parts any more; one read more than a task's."""
        return self._task_lost() or super().renew(name, fence)

    def owner_status(self, name: str, fence: int) -> Status | None:
        """Return what `renew` returns; two reads, in an active transaction if there is one."""
        return self._task_lost() or super().owner_status(name, fence)

    def keep(self, name: str, fence: int, checkpoint: Checkpoint) -> Status | None:
        """Store what an attempt has reached; return what `renew` returns."""
        return self._task_lost() or super().keep(name, fence, checkpoint)

    def _task_lost(self) -> Status | None:
        """Return the status of a task that has ended or was retried since it was read; None if it still waits."""
        task = self._runtime.store.get(self.task.id)
        if task is None:
            return Status.CANCELLED
        waits = transitions.works_in_parts(task) and task.fence == self.task.fence
        return None if waits else task.status

    def first_open(self, lane: int | None = None) -> str | None:
        """Return the name of the first part that is not done, in a lane or in any; one query, for one key."""
        return next((str(key.id()) for key in self._open(lane).fetch(1, keys_only=True)), None)

    def firsts_open(self, lanes: Sequence[int]) -> dict[int, str]:
        """Return the name of the first part that is not done, by lane; one query for each lane, side by side."""
        asked = [self._open(lane).fetch_async(1, keys_only=True) for lane in lanes]
        ndb.wait_all(asked)
        return {lane_in(key.id()): key.id() for each in asked for key in each.result()}

    def done_in_lanes(self, lanes: Sequence[int]) -> dict[int, int]:
        """Return how many parts are done, by lane; as expensive as `firsts_open`."""
        firsts = self.firsts_open(lanes)
        return {lane: self.split.done(lane, firsts.get(lane)) for lane in lanes}

    def load(self, names: Sequence[str]) -> list[LongTaskPart]:
        """Return the parts of these names that there are, without what is stored for them and by them; one request."""
        return [part for part in LongTaskPart.load_all(names, properties=_SHOWN) if part is not None]

    def _open(self, lane: int | None) -> Any:
        first, last = (
            self.split.range_of_all(self.task.id) if lane is None else self.split.range_of_lane(self.task.id, lane)
        )
        is_open = LongTaskPart.open == True  # noqa: E712  # a filter
        return LongTaskPart.between(first, last).filter(is_open).order(LongTaskPart.key)

    def news(self, part: LongTaskPart, *, beat_seconds: float = 0) -> Snapshot:
        """Return the news of a part's lane."""
        return news_of(self.task, part, now=self._clock(), beat_seconds=beat_seconds)

    def _announce(self, unit: LongTaskPart, effect: Effect) -> None:
        if effect.publishes:
            seconds = self.progress.interval_seconds if effect.beats else 0
            self.progress.write(self.news(unit, beat_seconds=seconds))
        for event in effect.events:
            self.tell(event, unit)

    def tell(self, event: Event, unit: LongTaskPart) -> None:
        """Emit an event about a part."""
        if (name := _EVENTS.get(event)) is not None:
            emit(name, self.task, self._clock(), trace=self._runtime.store.trace(), part=unit)


def news_of(task: LongTask, part: LongTaskPart, *, now: datetime, beat_seconds: float = 0) -> Snapshot:
    """Return the news of the lane of a part, for a progress store."""
    lane = lane_id(task.id, lane_in(part.id))
    return Snapshot(
        info=replace(task.info, id=lane, status=part.status, progress=part.progress),
        fence=part.task_fence,
        part=number_in(part.id),
        part_fence=part.fence,
        beat_at=now if beat_seconds else None,
        beat_seconds=beat_seconds,
    )


def delete_some(task_id: str) -> bool:
    """Delete some parts of a task that is being purged, of any run, with their tracebacks; False if there were none."""
    found = False
    for kind in (LongTaskPart, LongTaskTraceback):
        keys = kind.below(task_id).fetch(_AT_ONCE, keys_only=True)
        datastore_calls.delete(keys)
        found = found or bool(keys)
    return found


def delete_expired(now: datetime, limit: int) -> int:
    """Delete parts that have expired, because the purge of their task has missed them; return how many."""
    query = LongTaskPart.query(LongTaskPart.expires_at <= now, namespace=NAMESPACE).order(LongTaskPart.expires_at)
    keys = query.fetch(min(limit, _AT_ONCE), keys_only=True)
    datastore_calls.delete(keys)
    return len(keys)
