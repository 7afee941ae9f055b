"""The bar that a job of `tools/trace_jobs.py` moves on, in a terminal that nobody looks at."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm  # type: ignore[import-untyped]  # it ships no annotations

T = TypeVar("T")


class Bar:
    """How far a job is, and what a bar of tqdm's says to that; whoever records it looks from another thread."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self._bar = tqdm(file=io.StringIO(), disable=True)

    @property
    def step(self) -> int:
        """How many steps are done."""
        return int(self._bar.n)

    @property
    def total_steps(self) -> int:
        """How many there are."""
        return int(self._bar.total)

    @property
    def tqdms_seconds_left(self) -> float | None:
        """What tqdm, with its defaults, would print now as the time left, calculated as its `format_meter` does."""
        now = self._bar.format_dict
        rate = now["rate"] or (now["n"] / now["elapsed"] if now["elapsed"] else None)
        return (now["total"] - now["n"]) / rate if rate else None

    def report(self, step: int, total_steps: int) -> None:
        """Say that so many steps are done."""
        if self.begun.is_set():
            self.advance(step - self.step)
        else:
            self._bar = tqdm(total=total_steps, initial=step, file=io.StringIO())
            self.begun.set()

    def advance(self, steps: int = 1) -> None:
        """Say that so many more steps are done."""
        self._bar.update(steps)

    def track(self, items: Sequence[T]) -> Iterator[T]:
        """Go through all the steps."""
        self.report(0, len(items))
        yield from self.phase(items)

    def phase(self, items: Iterable[T]) -> Iterator[T]:
        """Go through some of the steps."""
        for item in items:
            yield item
            self.advance()
