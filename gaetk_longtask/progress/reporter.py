"""The heartbeat of an attempt: a thread that stores its progress and renews its lease."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context
from datetime import datetime, timedelta
from typing import Any

from gaetk_longtask.info import Progress
from gaetk_longtask.ownership import Ownership
from gaetk_longtask.progress.bar import Bar
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.progress.stores import ProgressStore, Written
from gaetk_longtask.progress.time_left import TimeLeft

log = logging.getLogger(__name__)

#: How often the task itself is read while the progress store is unavailable.
BLIND_CHECK = timedelta(seconds=5)


class Reporter:
    """Reports one attempt's progress at the progress store's interval, and keeps the ownership up to date.

    The work writes to `bar`. All I/O runs on the reporter's own daemon thread.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        store: ProgressStore,
        *,
        ownership: Ownership,
        time_left: TimeLeft,
        stop_at: datetime,
        clock: Callable[[], datetime],
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
        share: float | None = None,
    ) -> None:
        """Report for the attempt that owns the task of `snapshot`.

        `share` is the share of the whole task that is done while the attempt works, if its own steps do not say.

        Beats stop at `stop_at`, when the platform ends the attempt's request. Each beat enters its own `context` on the
        reporter's thread.
        """
        self.phases = time_left.phases
        self.bar = Bar(snapshot.info.progress, ownership, self.phases)
        self._snapshot = snapshot
        self._sent = snapshot.info.progress
        self._share = share
        self._store = store
        self.ownership = ownership
        self._time_left = time_left
        self._stop_at = stop_at
        self._clock = clock
        self._context = context
        self._beating = threading.Lock()
        self._stopped = threading.Event()
        # Threads may inherit context variables (wrap_wsgi_app of App Engine's SDK, free-threaded Python). With the
        # request's NDB context inherited, the thread could not enter another one.
        self._thread = threading.Thread(
            target=Context().run, args=(self._run,), name=f"longtask-{snapshot.info.id[:8]}", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, *, seconds: float = 5) -> None:
        """Stop the thread. Wait at most `seconds` for a store that hangs."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    @property
    def progress(self) -> Progress:
        """The latest reported progress, with the time left."""
        number = self.phases.number  # before the steps, see `Bar.begin_phase`
        step, total = self.bar.position()
        message, initial = self.bar.said()
        return Progress(
            message=message,
            step=step,
            total_steps=total,
            eta_seconds=self._time_left.seconds(total),
            phase=self.phases.phase(number),
            share=self.phases.share(number, step, total) if self._share is None else self._share,
            facts=self.bar.facts,
            parts=self._snapshot.info.progress.parts,
            initial=initial,
        )

    @property
    def has_news(self) -> bool:
        """Whether the progress differs from what the last beat, or the claim, has published."""
        return self.progress != self._sent

    def stored(self) -> dict[str, Any]:
        """Return the progress, with time left and pace, as the entity stores it for the next attempt."""
        progress = self.progress
        return progress.stored() | {"eta_seconds": progress.eta_seconds, "pace": self._time_left.pace()}

    def beat(self) -> None:
        """Report once, renew the lease if it is due, and check whether the attempt still owns the task."""
        with self._beating:  # the work's own thread makes the last beat
            now = self._clock()
            self._time_left.update(*self.bar.position(), may_ask=not self._stopped.is_set())
            self._sent = self.progress
            written = self._store.write(self._snapshot.beating(self._sent, now))
            self.ownership.renew(now, within=self._patience(written))

    def _patience(self, written: Written) -> timedelta:
        match written:
            case Written.OUTDATED:
                return timedelta(0)
            case Written.LOST:
                return min(BLIND_CHECK, self.ownership.renew_every)
            case Written.YES:
                return self.ownership.renew_every

    def _run(self) -> None:
        while not self._stopped.wait(self._store.interval_seconds):
            if self.ownership.lost is not None or self._clock() >= self._stop_at:
                return
            try:
                with self._context():
                    self.beat()
            except Exception:  # a custom store may raise; the next beat may work
                log.exception("the progress of %s could not be reported", self._snapshot.info.id[:8])
