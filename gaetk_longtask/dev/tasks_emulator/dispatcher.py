"""The thread that sends what is due: an event loop, so that a thousand hanging handlers cost only sockets."""

from __future__ import annotations

import asyncio
import logging
import resource
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from gaetk_longtask.dev.tasks_emulator.answers import Answer
from gaetk_longtask.dev.tasks_emulator.exchange import exchange
from gaetk_longtask.dev.tasks_emulator.log_line import describe
from gaetk_longtask.dev.tasks_emulator.requests import Outgoing, Routes, outgoing
from gaetk_longtask.dev.tasks_emulator.scheduler import Attempt, Scheduler
from gaetk_longtask.dev.tokens import Signer

logger = logging.getLogger(__name__)

#: The longest pause between two looks at the clock and at queue.yaml, which may change at any time.
TICK_SECONDS = 1.0
_MAX_ATTEMPTS_UNDER_WAY = 5000


class Dispatcher:
    """Sends attempts and reports how they ended; `lock` guards the scheduler."""

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        lock: threading.Lock,
        clock: Callable[[], datetime],
        routes: Routes,
        signer: Signer,
        default_deadline: timedelta,
        at_once: int | None = None,
        on_tick: Callable[[], None],
    ) -> None:
        self._scheduler = scheduler
        self._lock = lock
        self._clock = clock
        self._routes = routes
        self._signer = signer
        self._default_deadline = default_deadline
        self._on_tick = on_tick
        self._under_way: set[asyncio.Task[Answer]] = set()
        self._capacity = _capacity() if at_once is None else min(at_once, _capacity())
        self._loop: asyncio.AbstractEventLoop
        self._woken = asyncio.Event()
        self._main: asyncio.Task[None]
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="tasks-dispatcher", daemon=True)

    def start(self) -> None:
        """Begin to dispatch; call this before the other methods."""
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    def stop(self) -> None:
        """Stop, and cancel running attempts; with a data directory the next emulator repeats them."""
        self._loop.call_soon_threadsafe(self._cancel)
        self._thread.join()
        self._loop.close()

    def wake(self) -> None:
        """Look at once for what is due. Any thread may call this."""
        self._loop.call_soon_threadsafe(self._woken.set)

    def send(self, attempt: Attempt) -> None:
        """Send an attempt that a call has begun. Any thread may call this."""
        self._loop.call_soon_threadsafe(self._begin, attempt)

    def _run(self) -> None:
        while not self._stopping:
            self._main = self._loop.create_task(self._dispatch())
            self._loop.run_until_complete(asyncio.wait([self._main]))
            if not self._main.cancelled():  # neither a full disk nor a bug may end the emulator
                logger.error("the dispatcher failed and goes on", exc_info=self._main.exception())
                self._loop.run_until_complete(asyncio.sleep(TICK_SECONDS))
        self._loop.run_until_complete(self._close_connections())

    async def _close_connections(self) -> None:
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await asyncio.sleep(0)  # the loop closes aborted connections in its next iteration

    def _cancel(self) -> None:
        self._stopping = True
        for task in self._under_way:
            task.cancel()
        self._main.cancel()

    async def _dispatch(self) -> None:
        last_tick = time.monotonic()
        while True:
            self._woken.clear()
            if time.monotonic() - last_tick >= TICK_SECONDS:
                last_tick = time.monotonic()
                self._on_tick()
            room = self._capacity - len(self._under_way)
            with self._lock:
                now = self._clock()
                attempts = self._scheduler.due(now, limit=room) if room > 0 else []
                wakes_at = self._scheduler.wakes_at(now)
            for attempt in attempts:
                self._begin(attempt)
            pause = TICK_SECONDS
            if wakes_at is not None and len(attempts) < room:
                pause = min(pause, max(0.0, (wakes_at - now).total_seconds()))
            try:
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            except TimeoutError:
                pass

    def _begin(self, attempt: Attempt) -> None:
        request = outgoing(attempt, self._routes, self._signer)
        started = time.monotonic()
        task = self._loop.create_task(exchange(request, attempt.record.deadline(self._default_deadline)))
        self._under_way.add(task)
        task.add_done_callback(lambda task: self._finish(task, attempt, request, started))

    def _finish(self, task: asyncio.Task[Answer], attempt: Attempt, request: Outgoing, started: float) -> None:
        self._under_way.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:  # a bug must neither end the emulator nor block the task
            logger.error("%s: the emulator failed", attempt.task.name, exc_info=error)
        answer = task.result() if error is None else Answer(detail=f"the emulator failed: {type(error).__name__}")
        with self._lock:
            ending = self._scheduler.finish(attempt, answer, self._clock())
        took = timedelta(seconds=time.monotonic() - started)
        logger.info("%s", describe(attempt, request, answer, ending, took))
        self._woken.set()


def _capacity() -> int:
    """Return how many attempts may run at a time: each needs an open file, and so do the API's callers."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_ATTEMPTS_UNDER_WAY if files == resource.RLIM_INFINITY else min(_MAX_ATTEMPTS_UNDER_WAY, files // 2)
