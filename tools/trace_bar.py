"""The progress bar of a job in `tools/trace_jobs.py`. It prints nothing."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm  # type: ignore[import-untyped]  # it ships no annotations

T = TypeVar("T")


class Bar:
    """The progress of a job, and the time left according to tqdm. The recorder reads both from another thread."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self._bar = tqdm(file=io.StringIO(), disable=True)

    @property
    def step(self) -> int:
        """The number of steps done."""
        return int(self._bar.n)

    @property
    def total_steps(self) -> int:
        """The number of all steps."""
        return int(self._bar.total)

    @property
    def tqdms_seconds_left(self) -> float | None:
        """The time left that tqdm would print now, with its default settings, calculated as in its `format_meter`."""
        now = self._bar.format_dict
        rate = now["rate"] or (now["n"] / now["elapsed"] if now["elapsed"] else None)
        return (now["total"] - now["n"]) / rate if rate else None

    def report(self, step: int, total_steps: int) -> None:
        """Report the number of steps done."""
        if self.begun.is_set():
            self.advance(step - self.step)
        else:
            self._bar = tqdm(total=total_steps, initial=step, file=io.StringIO())
            self.begun.set()

    def advance(self, steps: int = 1) -> None:
        """Report that some more steps are done."""
        self._bar.update(steps)

    def track(self, items: Sequence[T]) -> Iterator[T]:
        """Yield the items and count each as a step. These are all steps of the job."""
        self.report(0, len(items))
        yield from self.phase(items)

    def phase(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items and count each as a step. These are some steps of the job."""
        for item in items:
            yield item
            self.advance()
