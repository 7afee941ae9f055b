"""Kills or freezes the worker of a task as soon as the task has reached a certain step."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import Self

from tests.chaos.battlefield import Battlefield
from tests.endurance.journal import Journal, Step

#: How long to wait for the next attempt.
_PATIENCE_SECONDS = 60.0
#: Longer than the heartbeats that an owner may miss, and than the start of an attempt.
_FROZEN_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """A planned fault."""

    step: int
    delay_seconds: float  #: after the start of the step
    freezes: bool = False  #: freeze the worker instead of killing it


def draw(rng: random.Random, *, steps: int, kills: int, freezes: int = 0, delay_seconds: float) -> list[Shot]:
    """Return random shots at different steps, but not at the first or the last one."""
    at = sorted(rng.sample(range(1, steps - 1), kills + freezes))
    frozen = rng.sample(at, freezes)
    return [Shot(step=step, delay_seconds=rng.uniform(0, delay_seconds), freezes=step in frozen) for step in at]


class Hunter:
    """Fires at the workers of one task, in its own thread, while the context is open."""

    def __init__(self, field: Battlefield, journal: Journal, task_id: str, shots: list[Shot]) -> None:
        self.kills = 0
        self.freezes = 0
        self._field = field
        self._journal = journal
        self._task_id = task_id
        self._shots = shots
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._hunt, name="hunter", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _hunt(self) -> None:
        hit = 0  # the fence of the last hit; the next shot waits for a later attempt
        for shot in self._shots:
            step = self._wait_for(shot.step, hit)
            if step is None:
                return
            self._over.wait(shot.delay_seconds)
            step = self._journal.of(self._task_id)[-1]
            try:
                if shot.freezes:
                    self._freeze(step)
                else:
                    self._field.kill(step.pid)
                    self.kills += 1
            except ProcessLookupError:  # an earlier shot has killed it
                continue
            hit = step.fence

    def _wait_for(self, number: int, hit: int) -> Step | None:
        while not self._over.wait(0.03):
            steps = self._journal.of(self._task_id)
            if steps and steps[-1].fence > hit and steps[-1].number >= number:
                return steps[-1]
        return None

    def _freeze(self, step: Step) -> None:
        """Freeze a worker until another attempt has taken over, then let it continue."""
        self._field.freeze(step.pid)
        self.freezes += 1
        try:
            self._over.wait(_FROZEN_SECONDS)
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while not self._has_successor(step.fence) and time.monotonic() < deadline:
                self._field.run_early()  # like after the deadline, so that the queue delivers again
        finally:
            self._field.thaw(step.pid)

    def _has_successor(self, fence: int) -> bool:
        """Wait a little for a later attempt."""
        deadline = time.monotonic() + _FROZEN_SECONDS
        while time.monotonic() < deadline and not self._over.wait(0.05):
            steps = self._journal.of(self._task_id)
            if steps and steps[-1].fence > fence:
                return True
        return self._over.is_set()
