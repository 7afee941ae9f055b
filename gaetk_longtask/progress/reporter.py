"""What an attempt reports of itself, and the thread that carries it out of the process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import Context
from datetime import datetime, timedelta
from itertools import islice
from math import isfinite
from typing import Any, NoReturn, TypeVar

from google.cloud import ndb
from google.cloud.ndb import _datastore_api

from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.exceptions import TaskCancelled
from gaetk_longtask.info import Progress
from gaetk_longtask.progress.estimate import Estimator
from gaetk_longtask.progress.snapshot import Snapshot, presentable
from gaetk_longtask.progress.stores import ProgressStore, Written
from gaetk_longtask.status import Status

log = logging.getLogger(__name__)

T = TypeVar("T")

#: How often the task itself is looked at while the progress store is out of reach.
BLIND_CHECK = timedelta(seconds=5)
#: A task that has reported no steps for so long is compared with earlier ones; shorter ones are not worth a query.
STEPLESS = timedelta(seconds=3)


class _Track:
    """A loop that is being gone through."""

    __slots__ = ("done", "outer", "part", "total")

    def __init__(self, done: float, total: float, outer: _Track | None) -> None:
        self.done = done
        self.part = 0.0  #: how much of the present item is done with
        self.total = total
        self.outer = outer

    @property
    def fraction(self) -> float:
        """How much of the loop is done with, from 0 to 1."""
        return _share(self.done + self.part, self.total)


class Reporter:
    """Reports one attempt's progress, keeps its lease and notices when it has lost its task.

    The work calls `report` and `track`, which only store; all input and output happens on a daemon thread of its own,
    at the progress store's pace.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        store: ProgressStore,
        *,
        renew: Callable[[], Status | None],
        renew_every: timedelta,
        stop_at: datetime,
        clock: Callable[[], datetime],
        typical_seconds: Callable[[], float | None] = lambda: None,
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
        monotonic: Callable[[], float] = time.monotonic,
        pace: dict[str, Any] | None = None,
    ) -> None:
        """Report for the attempt that owns `snapshot`.

        `renew` prolongs the lease and gives None, or the status of a task that is no longer ours. Beats cease at
        `stop_at`, when the request that the attempt runs in is over by the platform's rules. `typical_seconds` tells
        how long such tasks usually take; it is asked once, if the work reports no steps. Every beat happens in a
        `context` of its own, on the reporter's thread. `pace` is what `stored` gave for the attempt that handed over.
        """
        self._snapshot = snapshot
        self._store = store
        self._renew = renew
        self._renew_every = renew_every
        self._began_at = self._renewed_at = clock()
        self._stop_at = stop_at
        self._clock = clock
        self._context = context
        self._monotonic = monotonic
        self._estimator = Estimator()
        if pace:
            self._estimator.resume(pace["points"], pace["total"], monotonic() - (clock().timestamp() - pace["at"]))
        self._typical_seconds = typical_seconds
        self._usual: float | None = pace.get("usual") if pace else None
        # After an attempt that failed, what a task usually takes is no measure any more.
        self._compares = snapshot.info.attempt == 1 and self._usual is None
        progress = snapshot.info.progress
        self._latest: tuple[str, float, float] = (progress.message, progress.step, progress.total_steps)
        self._innermost: _Track | None = None
        self._beating = threading.Lock()
        self._lost: Status | None = None
        self._stopped = threading.Event()
        # In some places a thread inherits context variables (wrap_wsgi_app of App Engine's SDK, free-threaded Python),
        # and with them the request's NDB context, beside which no other can be entered.
        self._thread = threading.Thread(
            target=Context().run, args=(self._run,), name=f"longtask-{snapshot.info.id[:8]}", daemon=True
        )

    def start(self) -> None:
        """Begin to report."""
        self._thread.start()

    def stop(self, *, seconds: float = 5) -> None:
        """End the thread; waits no longer than `seconds` for a store that hangs."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def report(self, message: str, step: float = 0, total_steps: float = 0) -> None:
        """Store what the work says.

        Raises:
            TaskCancelled: the attempt no longer owns the task.

        """
        self.check_owner()
        track = self._innermost
        if track is not None:  # within a loop, steps are those of its present item
            track.part = max(track.part, _share(step, total_steps))
            self._latest = (message, 0, 0)
        elif step or total_steps:
            self._latest = (message, step, total_steps or self._latest[2])
        else:
            self._latest = (message, self._latest[1], self._latest[2])

    def track(
        self, iterable: Iterable[T], message: str = "", total: float | None = None, *, start: int = 0
    ) -> Iterator[T]:
        """Go through `iterable`, but for the first `start` items, and count what is done with."""
        if total is None:
            total = len(iterable) if isinstance(iterable, Sized) else 0
        outer, said = self._innermost, self._latest[0]
        self.check_owner()
        self._innermost = track = _Track(start, total, outer)
        if message:
            self._latest = (message, 0, 0)
        try:
            for done, item in enumerate(islice(iterable, start, None) if start else iterable, start + 1):
                yield item
                if self._lost is not None:
                    self._leave()
                self._innermost = track  # whatever the item has begun and not ended
                track.done = done
                track.part = 0.0
        finally:
            if track in _outward(self._innermost):
                self._innermost = outer
                if outer is None:
                    self._latest = (self._latest[0], track.done, track.total)
                else:
                    outer.part = max(outer.part, track.fraction)  # the bar goes back for nothing
                    self._latest = (said, 0, 0)

    @property
    def progress(self) -> Progress:
        """The latest that the work has said, made presentable, with the time left."""
        step, total_steps = self._position()
        return Progress(
            message=presentable(self._latest[0]),
            step=step,
            total_steps=total_steps,
            eta_seconds=self._estimator.seconds_left(self._monotonic()) if total_steps else self._usual_left(),
        )

    def stored(self, *, with_pace: bool) -> dict[str, Any]:
        """Give what outlives the attempt; with the pace for the one that goes on at once."""
        progress = self.progress
        if not with_pace:
            return progress.stored()
        points, total = self._estimator.points(self._monotonic())
        pace = {"points": points, "total": total, "at": self._clock().timestamp(), "usual": self._usual}
        return progress.stored() | {"eta_seconds": progress.eta_seconds, "pace": pace}

    def check_owner(self) -> None:
        """Raise `TaskCancelled` if the attempt no longer owns the task, as far as is known here."""
        if self._lost is not None:
            self._leave()

    def lose(self, status: Status) -> NoReturn:
        """Learn that the task is not this attempt's any more, but in `status`; raises `TaskCancelled`."""
        self._lost = status
        self._leave()

    def renewed(self, now: datetime) -> None:
        """Learn that the lease has been prolonged."""
        self._renewed_at = now

    @property
    def lost(self) -> bool:
        """Whether the attempt no longer owns its task."""
        return self._lost is not None

    def beat(self) -> None:
        """Report once, prolong the lease if it is time to, and find out whether the task is still ours."""
        with self._beating:  # the last word is the work's own, on its own thread
            self._beat()

    def _beat(self) -> None:
        now = self._clock()
        step, total_steps = self._position()
        self._estimator.update(step, total_steps, self._monotonic())
        worked = now - self._began_at
        if self._compares and not total_steps and worked >= STEPLESS and not self._stopped.is_set():
            self._compares = False
            self._usual = self._typical_seconds()
        written = self._store.write(self._snapshot.beating(self.progress, now))
        match written:
            case Written.OUTDATED:
                patience = timedelta(0)
            case Written.LOST:
                patience = min(BLIND_CHECK, self._renew_every)
            case Written.YES:
                patience = self._renew_every
        if now - self._renewed_at >= patience:
            try:
                self._lost = self._renew()
            except STORE_ERRORS as exc:
                log.warning("lease not renewed, trying again: %s", exc)
            else:
                self._renewed_at = now

    def _usual_left(self) -> float | None:
        if self._usual is None:
            return None
        left = self._usual - (self._clock() - self._snapshot.info.requested_at).total_seconds()
        return left if left > 0 else None

    def _run(self) -> None:
        while not self._stopped.wait(self._store.interval_seconds):
            if self._lost is not None or self._clock() >= self._stop_at:
                return
            try:
                with self._context():
                    self.beat()
            except Exception:  # a store of the application's own: one beat is missed, not all
                log.exception("no report of %s", self._snapshot.info.id[:8])

    def _leave(self) -> NoReturn:
        _roll_back()
        superseded = self._lost is not Status.CANCELLED
        reason = "a later attempt has taken the task over" if superseded else "the task was cancelled"
        raise TaskCancelled(reason, superseded=superseded)

    def _position(self) -> tuple[float, float]:
        """Give step and total: of the outermost loop, with what runs within it, or as they were reported."""
        _, step, total_steps = self._latest
        share = 0.0
        for track in _outward(self._innermost):
            step, total_steps = track.done + max(track.part, share), track.total
            share = _share(step, total_steps)
        return _finite(step), _finite(total_steps)


def _roll_back() -> None:
    """End the author's transaction: ndb does that for an `Exception` alone, and its locks would hold up the owner."""
    context = ndb.context.get_context(raise_context_error=False)
    if context is not None and context.in_transaction():
        with suppress(*STORE_ERRORS):  # it expires by itself then
            _datastore_api.rollback(context.transaction, retries=0).result()


def _outward(track: _Track | None) -> Iterator[_Track]:
    while track is not None:
        yield track
        track = track.outer


def _share(step: float, total: float) -> float:
    step, total = _finite(step), _finite(total)
    return max(0.0, min(1.0, step / total)) if total > 0 else 0.0


def _finite(value: float) -> float:
    """Make of whatever an author calls a number one that can be shown; the work must not fail for its report."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if isfinite(number) else 0.0
