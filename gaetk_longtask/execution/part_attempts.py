"""Attempts at a task that is done in parts: to split it, at one of its parts, and to join their results."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from gaetk_longtask.exceptions import DamagedDataError, LongTaskError, describe_type
from gaetk_longtask.execution.attempts import Attempt
from gaetk_longtask.execution.authors_code import of_author
from gaetk_longtask.execution.checkpoints import Checkpoints
from gaetk_longtask.execution.errands import Errand, ExecutePart, Join, SplitUp
from gaetk_longtask.execution.outcomes import Committed, Failed, Lost, Outcome
from gaetk_longtask.execution.replies import Reply, following
from gaetk_longtask.failures import Cause
from gaetk_longtask.info import Part
from gaetk_longtask.models import LongTask, LongTaskPart
from gaetk_longtask.parts import tending, transitions
from gaetk_longtask.parts.following import follow_up, request_for_part
from gaetk_longtask.parts.results import Missed, OpenPart, PartResults
from gaetk_longtask.parts.store import PartStore
from gaetk_longtask.payloads import chunks
from gaetk_longtask.payloads.encoding import encode
from gaetk_longtask.progress.phases import Phases
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.progress.stores import ProgressStore
from gaetk_longtask.progress.time_left import TimeLeft
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.splits import MOST_PARTS, Split, Stage, input_field, number_in, part_name
from gaetk_longtask.starting import hand_on, send_certainly
from gaetk_longtask.status import Status

#: Parts in one request to Datastore: its limits are 500 entities and 10 MiB, and 4 MiB in the Cloud SDK's emulators.
_BATCH, _BATCH_BYTES = 500, 2_000_000
_NO_PARTS = (str, bytes, bytearray, Mapping)  #: can be iterated over, but hardly are the parts that were meant


class ImpossibleSplitError(LongTaskError):
    """``split_task`` has returned or called something that it must not. Another attempt would not help."""


class _WithoutCheckpoints(Checkpoints):
    def offer(self, state: Any) -> None:
        """Refuse a checkpoint."""
        raise ImpossibleSplitError("split_task can't call checkpoint(). Call it in execute_part and join_parts.")


class SplitAttempt(Attempt[LongTask]):
    """Cuts a task into parts, and starts them."""

    _kind_of_checkpoints = _WithoutCheckpoints

    def _share(self) -> float | None:
        return 0.0  # its steps are none of the whole task

    def _errand(self, parameters: Any) -> Errand:
        return SplitUp(parameters=parameters)

    def _outcome(self, result: Any) -> Outcome:
        if result is None or isinstance(result, _NO_PARTS) or not isinstance(result, Iterable):
            message = f"split_task must return or yield parts, such as a list; not {describe_type(result)}."
            return Failed(cause=ImpossibleSplitError(message), permanent=True)
        try:
            count = self._store_parts(of_author(iter(result)))
        finally:
            if inspect.isgenerator(result):
                self._close(result)
        return Committed(reply=partial(self._commit_split, count))

    def _outcome_of(self, exc: BaseException) -> Outcome:
        if isinstance(exc, ImpossibleSplitError):
            return Failed(cause=exc, permanent=True)
        return super()._outcome_of(exc)

    @property
    def _lanes(self) -> int:
        return self._options.parallel or 1

    def _store_parts(self, pieces: Iterator[object]) -> int:
        """Store the parts under the names of a run that becomes real by its commit alone; return how many."""
        empty = Split(run=self._task.fence, count=0, lanes=self._lanes, stage=Stage.WORKING, open_at_last_tend=0)
        store = PartStore(self._runtime, self._task, empty)
        batch: list[LongTaskPart] = []
        count = size = 0
        for piece in pieces:
            self._ownership.check()
            if count == MOST_PARTS:
                raise ImpossibleSplitError(
                    f"split_task has returned more than {MOST_PARTS:,} parts. Put more work into each part."
                )
            name = part_name(self._task.id, self._task.fence, self._lanes, count)
            encoded = encode(piece, self._options.serializer, self._runtime.signer(name, input_field(count)))
            names = self._runtime.chunk_names(name, 0, self._options)
            stored = chunks.write(encoded, names, what="parameters")
            inline = len(stored.inline or b"")
            if batch and (len(batch) == _BATCH or size + inline > _BATCH_BYTES):
                store.store(batch)
                batch, size = [], 0
            batch.append(store.new(count, stored, name))
            count, size = count + 1, size + inline
        if batch:
            store.store(batch)
        return count

    def _commit_split(self, count: int) -> Reply:
        self._reporter.stop()
        stage = Stage.WORKING if count else Stage.JOINING
        split = Split(run=self._task.fence, count=count, lanes=self._lanes, stage=stage, open_at_last_tend=count)
        commit = partial(transitions.split, fence=self._task.fence, split=split, progress=self._reporter.progress)
        change = self._runtime.store.change(self._task.id, commit)
        if not change.applied or change.task is None:
            return self._leave()
        task = change.task
        certain = tending.begin(self._runtime, task, split) if count else hand_on(self._runtime, task)
        return Reply(code=200 if certain else 409, reason="split")


class PartAttempt(Attempt[LongTaskPart]):
    """Does one part of a task."""

    _units: PartStore
    _input_is_damaged = False

    def _progress_store(self) -> ProgressStore:
        return self._units.progress.for_reporter()

    def _first_news(self, *, beat_seconds: float) -> Snapshot:
        return self._units.news(self._unit, beat_seconds=beat_seconds)

    def _time_left(self) -> TimeLeft:
        # How much of a part is left is not shown. The task's time left follows from the pace of all lanes.
        clock = self._runtime.clock
        return TimeLeft(requested_at=self._unit.requested_at, clock=clock, phases=Phases(clock=clock), compares=False)

    def _errand(self, parameters: Any) -> Errand:
        try:
            given = self._runtime.load(self._unit, "parameters", self._options.serializer)
        except DamagedDataError:
            self._input_is_damaged = True
            raise
        part = Part(number=number_in(self._unit.id), total=self._units.split.count)
        return ExecutePart(parameters=parameters, part=part, given=given)

    def _damaged(self, exc: DamagedDataError) -> Outcome:
        if self._input_is_damaged:
            return Failed(cause=exc, why=Cause.DAMAGED_INPUT, permanent=True)
        return super()._damaged(exc)

    def _done(self, unit: LongTaskPart) -> Reply:
        return followed(self._runtime, self._task, unit)

    def _failed(self, unit: LongTaskPart) -> Reply:
        return followed(self._runtime, self._task, unit)

    def _hand_on(self) -> bool:
        return send_certainly(self._runtime, request_for_part(self._task, self._units.split, number_in(self._unit.id)))

    def _leave(self) -> Reply:
        """End without a commit. The next attempt may use the same Cloud Tasks task, which 200 would delete."""
        task, part = self._runtime.store.get(self._task.id), self._units.get(self._unit.id)
        if task is None or part is None or task.status.ended or part.status is Status.DONE:
            return Reply(code=200, reason="the part is not needed any more")
        if part.delivered_by != self._unit.delivered_by:
            return Reply(code=200, reason="another delivery works on the part")
        return Reply(code=409, reason="another attempt has taken the part over")


class _JoinCheckpoints(Checkpoints):
    missed: Missed | None = None  #: what the work did not get of its parts

    def offer(self, state: Any) -> None:
        """Store a state, unless it may lack a part."""
        if self.missed is not None:
            self.missed.check()
        super().offer(state)


class JoinAttempt(Attempt[LongTask]):
    """Makes the task's result of the results of its parts."""

    _kind_of_checkpoints = _JoinCheckpoints
    _checkpoints: _JoinCheckpoints

    def _share(self) -> float | None:
        return self._task.progress.share

    def _errand(self, parameters: Any) -> Errand:
        split = Split.of(self._task)
        assert split is not None  # noqa: S101  # such a task is joined
        results = PartResults(self._runtime, self._task.id, split, self._options.serializer)
        self._checkpoints.missed = results.missed
        return Join(parameters=parameters, results=results)

    def _commit(self, outcome: Outcome) -> Reply:
        missed = self._checkpoints.missed
        if missed is None or isinstance(outcome, Lost):
            return super()._commit(outcome)
        match missed.worst():  # even if the author's code has gone on without it
            case None:
                return super()._commit(outcome)
            case DamagedDataError() as exc:
                return self._fail(Failed(cause=exc, why=Cause.DAMAGED, permanent=True, forget=True, forget_parts=True))
            case OpenPart():
                return self._reopen()
            case exc:  # as if Datastore had not stored the outcome
                raise exc

    def _reopen(self) -> Reply:
        """Let the parts that are not done be worked on; the join begins again after them."""
        self._reporter.stop()
        reopen = partial(transitions.reopen, fence=self._task.fence)
        change = self._runtime.store.change(self._task.id, reopen)
        if not change.applied or change.task is None:
            return self._leave()
        return following(tending.tend(self._runtime, change.task), "a part is not done")


def followed(runtime: Runtime, task: LongTask, part: LongTaskPart, *, again: bool = False) -> Reply:
    """Do what follows after a part has ended, and return the reply to its delivery."""
    reason = "done" if part.status is Status.DONE else "failed for good"
    return following(follow_up(runtime, task.id, part, again=again), reason)
