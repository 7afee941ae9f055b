"""The news of a task in parts: each lane has its own, and the attempt that finds those of the task old adds all up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.info import Progress
from gaetk_longtask.models import LongTask
from gaetk_longtask.parts.transitions import with_parts
from gaetk_longtask.progress.estimate import Estimator
from gaetk_longtask.progress.reporter import BLIND_CHECK
from gaetk_longtask.progress.snapshot import Overall, Snapshot
from gaetk_longtask.progress.stores import ProgressStore, Written
from gaetk_longtask.splits import Split, lane_id
from gaetk_longtask.status import Status

#: How old the news of a task may become, unless the store's own interval is longer.
_FRESH_SECONDS = 1.0
#: How often Datastore is asked about lanes without news: at most once in so many seconds.
_ASK_EVERY_SECONDS = 60.0

_INSTANT = 0.001  #: in seconds

#: Returns how many parts of some lanes are done, as Datastore knows it.
DoneInLanes = Callable[[Sequence[int]], Mapping[int, int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Heard:
    """What the lanes of a task have said."""

    told: Snapshot | None  #: the news of the task in this run, as the last attempt has told them
    done: list[int]  #: how many parts are done in each lane
    working: list[Snapshot]  #: the news of parts that are at work
    ended: list[Snapshot]  #: the news of parts that have ended, and after which no other part of the lane has begun
    asked_at: float  #: when Datastore was asked about silent lanes, in Unix seconds


class LaneProgress(ProgressStore):
    """Where an attempt at a part reports to: writes the news of its lane and, when they are old, those of the task."""

    def __init__(
        self,
        store: ProgressStore,
        task: LongTask,
        split: Split,
        *,
        done_in_lanes: DoneInLanes,
        task_lost: Callable[[], Status | None],
        clock: Callable[[], datetime],
    ) -> None:
        """Report to `store`. `task_lost` reads the status of a task that does not want its parts any more."""
        self.interval_seconds = store.interval_seconds
        self._store = store
        self._task = task
        self._split = split
        self._done_in_lanes = done_in_lanes
        self._task_lost = task_lost
        self._wanted_at: datetime | None = None  #: when Datastore was last asked whether the task wants its parts
        self._clock = clock
        self._beat_seconds = max(_FRESH_SECONDS, store.interval_seconds)
        self._floor = 0.0  #: the longest bar that was told while this attempt worked; the store may have lost it

    def write(self, snapshot: Snapshot) -> Written:
        """Store the news of a lane. They are outdated as soon as the task does not want its parts any more.

        Those of the task are written when they are old, and when an attempt has ended and no other one would do so.
        """
        written = self._store.write(snapshot)
        if written is not Written.YES:
            return written
        told = self._store.read(self._task.id)
        if told is None:
            if (found := self._look_whether_wanted()) is not Written.YES:
                return found
        else:
            if told.fence > snapshot.fence or (told.fence == snapshot.fence and told.info.status.ended):
                return Written.OUTDATED
            self._floor = max(self._floor, told.info.progress.share or 0.0)
        is_old = told is None or told.fence < snapshot.fence or self._is_old(told)
        if is_old or snapshot.info.status is not Status.STARTED:
            heard = self._listen(snapshot.fence)
            now = self._clock()
            if is_old or all(each.beat_at is None or each.is_silent(now) for each in heard.working):
                self._store.write(self._sum(snapshot.fence, heard))
        return written

    def _look_whether_wanted(self) -> Written:
        """Look whether the store has lost the news of a cancel, or of a retry; Datastore is asked every few seconds."""
        now = self._clock()
        if self._wanted_at is None or now - self._wanted_at >= BLIND_CHECK:
            try:
                if self._task_lost() is not None:
                    return Written.OUTDATED
            except STORE_ERRORS:
                return Written.LOST
            self._wanted_at = now
        return Written.YES

    def latest(self) -> Progress:
        """Return the progress of the task, as all lanes have told it until now."""
        return self._sum(self._task.fence, self._listen(self._task.fence)).info.progress

    def _is_old(self, told: Snapshot) -> bool:
        if told.beat_at is None:  # by the split, or by a retry: the store may have missed that its parts are at work
            return True
        return (self._clock() - told.beat_at).total_seconds() >= self._beat_seconds

    def _listen(self, fence: int) -> _Heard:
        """Read what all lanes have said; ask Datastore about silent ones, but seldom."""
        lanes = {lane_id(self._task.id, lane): lane for lane in self._split.used_lanes()}
        found = self._store.read_many([self._task.id, *lanes])
        told = found.pop(self._task.id, None)
        # An earlier run of the same parts may have said what is done; what was done of a part then is lost.
        run = self._split.run
        news = {lanes[name]: each for name, each in found.items() if name in lanes and each.fence >= run}
        before = told.overall if told is not None and told.fence >= run else None
        done = list(before.done) if before and len(before.done) == self._split.lanes else [0] * self._split.lanes
        for lane, each in news.items():
            done[lane] = max(done[lane], self._before(each) + (each.info.status is Status.DONE))
        now = self._clock().timestamp()
        # The news of the split say that nothing is done. Without any news, the store has lost them.
        has_begun = told is not None and told.fence == run and told.info.progress.parts is not None
        asked_at = before.asked_at if before else now if has_begun else 0.0
        silent = [lane for lane in self._split.used_lanes() if lane not in news]
        if silent and now - asked_at >= _ASK_EVERY_SECONDS:
            asked_at = now
            with suppress(*STORE_ERRORS):
                for lane, known in self._done_in_lanes(silent).items():
                    done[lane] = max(done[lane], known)
        now_here = [(lane, each) for lane, each in news.items() if each.fence == fence]
        working = [
            each for lane, each in now_here if each.info.status is Status.STARTED and done[lane] == self._before(each)
        ]
        ended = [each for _, each in now_here if each.info.status.ended]
        current = told if told is not None and told.fence == fence else None
        return _Heard(told=current, done=done, working=working, ended=ended, asked_at=asked_at)

    def _sum(self, fence: int, heard: _Heard) -> Snapshot:
        """Return the news of the task, from those of all lanes."""
        now, told, steps = self._clock(), heard.told, self._split.count + 1
        moment = now.timestamp()
        progress = self._progress(told.info.progress if told is not None else self._task.progress, heard)
        estimator = Estimator()
        if told is not None and told.overall is not None:
            estimator.resume(told.overall.points, steps, told.overall.at)
        estimator.update((progress.share or 0.0) * steps, steps, moment)
        points, _ = estimator.points(moment + _INSTANT)  # the last one is among them
        return Snapshot(
            info=replace(self._task.info, progress=replace(progress, eta_seconds=estimator.seconds_left(moment))),
            fence=fence,
            beat_at=now,
            beat_seconds=self._beat_seconds,
            overall=Overall(
                done=heard.done, points=[list(each) for each in points], at=moment, asked_at=heard.asked_at
            ),
        )

    def _progress(self, last: Progress, heard: _Heard) -> Progress:
        """Return the progress of the task; its bar never goes back."""
        done = sum(heard.done)
        reached = done + sum(_share(each.info.progress) for each in heard.working)
        share = max(last.share or 0.0, self._floor, reached / (self._split.count + 1))
        most = last.parts.done if last.parts is not None else 0
        progress = replace(with_parts(last, self._split, max(most, done)), share=share)
        # Of the part that comes first: the message of the attempt that reports would change all the time. Where parts
        # are short, none may have said anything yet; then that of the one that came last.
        said = _spoken(heard.working)[:1] or _spoken(heard.ended)[-1:]
        return replace(progress, message=said[0].info.progress.message, initial=False) if said else progress

    def _before(self, news: Snapshot) -> int:
        return self._split.before(news.part or 0)

    def for_reporter(self) -> ProgressStore:
        """Return the store for a thread that the current request starts."""
        return LaneProgress(
            self._store.for_reporter(),
            self._task,
            self._split,
            done_in_lanes=self._done_in_lanes,
            task_lost=self._task_lost,
            clock=self._clock,
        )

    def read(self, task_id: str) -> Snapshot | None:
        """Return what the store has."""
        return self._store.read(task_id)

    def add(self, snapshot: Snapshot, *, seconds: int) -> None:
        """Store the snapshot if there is none."""
        self._store.add(snapshot, seconds=seconds)


def _spoken(news: Sequence[Snapshot]) -> list[Snapshot]:
    """Return the news whose work has reported a message, in the order of the parts."""
    return sorted((each for each in news if not each.info.progress.initial), key=lambda each: each.part or 0)


def _share(progress: Progress) -> float:
    if progress.share is not None:
        return max(0.0, min(1.0, progress.share))
    return max(0.0, min(1.0, progress.step / progress.total_steps)) if progress.total_steps > 0 else 0.0
