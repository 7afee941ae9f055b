"""The progress that the work reports: a message, steps, loops, phases and facts. Kept in memory, without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import islice
from math import isfinite
from typing import TypeVar

from gaetk_longtask.info import Facts, Progress
from gaetk_longtask.ownership import Ownership
from gaetk_longtask.progress.facts import presentable_facts
from gaetk_longtask.progress.phases import Phases
from gaetk_longtask.progress.snapshot import presentable

T = TypeVar("T")


class _Initial(str):
    """The message of a task whose work has not reported one yet; an author can write the same text, but not this."""

    __slots__ = ()


class _Loop:
    """A tracked loop that has not ended."""

    __slots__ = ("done", "outer", "part", "total")

    def __init__(self, done: float, total: float, outer: _Loop | None) -> None:
        self.done = done
        self.part = 0.0  #: the share of the current item that is done
        self.total = total
        self.outer = outer

    @property
    def fraction(self) -> float:
        """The share of the loop that is done, from 0 to 1."""
        return _share(self.done + self.part, self.total)


class Bar:
    """The latest progress of an attempt. Only the work's thread writes; any thread may read."""

    def __init__(self, progress: Progress, ownership: Ownership, phases: Phases) -> None:
        message = _Initial(progress.message) if progress.initial else progress.message
        self._latest: tuple[str, float, float] = (message, progress.step, progress.total_steps)
        self._innermost: _Loop | None = None
        self._ownership = ownership
        self._phases = phases
        self._facts: dict[str, object] = dict(progress.facts)

    def report(self, message: str, step: float = 0, total_steps: float = 0) -> None:
        """Store the reported progress, or raise `TaskCancelled` if the attempt no longer owns the task."""
        if self._ownership.lost is not None:
            self._ownership.check()
        loop = self._innermost
        if loop is not None:  # inside a loop, the steps belong to its current item
            loop.part = max(loop.part, _share(step, total_steps))
            self._latest = (message, 0, 0)
        elif step or total_steps:
            self._latest = (message, step, total_steps or self._latest[2])
        else:
            self._latest = (message, *self._latest[1:])

    def begin_phase(self, number: int) -> None:
        """Begin a phase, in which steps and loops count from 0. Raise `TaskCancelled` as `report` does.

        Raise `LongTaskError` if a later phase of this attempt has begun.
        """
        self._ownership.check()
        if self._phases.begins(number):
            # The steps first: for a moment, another thread may see the old phase with the new steps. This does no harm.
            self._innermost = None
            self._latest = (self._phases.names[number - 1], 0, 0)
        self._phases.begin(number)

    def log_facts(self, facts: Mapping[str, object]) -> None:
        """Store facts beside those reported earlier. Raise `TaskCancelled` as `report` does."""
        if self._ownership.lost is not None:
            self._ownership.check()
        self._facts = {**self._facts, **facts}  # a new one, because other threads read it

    def track(
        self, iterable: Iterable[T], message: str = "", total: float | None = None, *, start: int = 0
    ) -> Iterator[T]:
        """Yield and count the items after the first `start` ones. Raise `TaskCancelled` as `report` does."""
        if total is None:
            total = _length(iterable)
        outer, said = self._innermost, self._latest[0]
        ownership = self._ownership
        ownership.check()
        self._innermost = loop = _Loop(start, total, outer)
        if message:
            self._latest = (message, 0, 0)
        try:
            for done, item in enumerate(islice(iterable, start, None) if start else iterable, start + 1):
                yield item
                if ownership.lost is not None:
                    ownership.check()
                self._innermost = loop  # drops inner loops that the item left unfinished
                loop.done = done
                loop.part = 0.0
        finally:
            if loop in _outward(self._innermost):
                self._innermost = outer
                if outer is None:
                    self._latest = (self._latest[0], loop.done, loop.total)
                else:
                    outer.part = max(outer.part, loop.fraction)  # the bar never goes back
                    self._latest = (said, 0, 0)

    def said(self) -> tuple[str, bool]:
        """Return the latest message, safe for every page and store, and whether it is still the initial one."""
        message = self._latest[0]
        return presentable(message), type(message) is _Initial

    @property
    def facts(self) -> Facts:
        """The facts reported so far, safe for every page and store."""
        return presentable_facts(self._facts)

    def position(self) -> tuple[float, float]:
        """Return step and total: those of the outermost loop, including its inner loops, or those reported."""
        _, step, total_steps = self._latest
        share = 0.0
        for loop in _outward(self._innermost):
            step, total_steps = loop.done + max(loop.part, share), loop.total
            share = _share(step, total_steps)
        return _finite(step), _finite(total_steps)


def _length(iterable: Iterable[object]) -> int:
    """Return the length, or 0 if it is unknown or, like that of ``range(10**20)``, too large for Python."""
    try:
        return len(iterable) if isinstance(iterable, Sized) else 0
    except (OverflowError, TypeError):
        return 0


def _outward(loop: _Loop | None) -> Iterator[_Loop]:
    while loop is not None:
        yield loop
        loop = loop.outer


def _share(step: float, total: float) -> float:
    step, total = _finite(step), _finite(total)
    return max(0.0, min(1.0, step / total)) if total > 0 else 0.0


def _finite(value: float) -> float:
    """Return `value` as a finite number, or 0.0: a bad report must not fail the work."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if isfinite(number) else 0.0
