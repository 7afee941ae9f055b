"""The journal, in which attempts record their steps."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A step of a task."""

    fence: int  #: identifies the attempt
    pid: int
    number: int
    at: float  #: seconds since the epoch


class Journal:
    """The directory to which all processes write."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def of(self, task_id: str) -> list[Step]:
        """Return the steps of a task, in the order in which they were written."""
        try:
            lines = (self.directory / task_id).read_text(encoding="ascii").splitlines()
        except FileNotFoundError:
            return []
        return [
            Step(fence=int(fence), pid=int(pid), number=int(number), at=float(at))
            for fence, pid, number, at in map(str.split, lines)
        ]


def repeated(steps: list[Step]) -> int:
    """Return how many steps were repeated."""
    return len(steps) - len({step.number for step in steps})


def pauses(steps: list[Step]) -> list[float]:
    """Return the seconds between the steps before and after each hand-over that repeated no step."""
    return [
        after.at - before.at
        for before, after in pairwise(steps)
        if after.fence > before.fence and after.number == before.number + 1
    ]
