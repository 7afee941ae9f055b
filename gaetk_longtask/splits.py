"""How a task was cut into parts: its lanes, and the names of its parts; pure.

A lane is a row of parts that are worked on one after the other; the lanes are at work at the same time. Each `lanes`
consecutive parts are in different lanes, and the order of the lanes moves on by one each time, so that input in which
every tenth part is long does not fill one lane with long parts.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from gaetk_longtask.models import LongTask

MOST_PARTS = 1000
_ADDRESS = re.compile(r"([0-9]{1,9})\.([0-9]{1,4})", re.ASCII)


class Stage(StrEnum):
    """What a task that was split waits for."""

    WORKING = "working"  #: its parts
    JOINING = "joining"  #: its join


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Which part of a task a delivery is for."""

    run: int  #: the fence under which the task was split
    number: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` returns; anything else leads to no part."""
        found = _ADDRESS.fullmatch(text)
        return cls(run=int(found[1]), number=int(found[2])) if found else cls(run=0, number=0)  # no run is 0

    def __str__(self) -> str:
        return f"{self.run}.{self.number}"


#: The one with the longest text.
LONGEST_ADDRESS = Address(run=999_999_999, number=MOST_PARTS - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """How a task was split, as its entity keeps it."""

    run: int  #: the fence under which the task was split
    count: int  #: how many parts there are
    lanes: int  #: the handler's `parallel` at that time
    stage: Stage
    open_at_last_tend: int  #: how many parts were not done when the task was last looked after

    @classmethod
    def of(cls, task: LongTask) -> Self | None:
        """Return how a task was split; None if it was not."""
        stored: dict[str, Any] | None = task.parts
        if not stored:
            return None
        known = {each.name: stored[each.name] for each in fields(cls)}  # a later version may have added others
        return cls(**known | {"stage": Stage(stored["stage"])})

    def stored(self) -> dict[str, Any]:
        """Return what the entity keeps."""
        return asdict(self)

    def with_stage(self, stage: Stage) -> Self:
        """Return the same split at another stage."""
        return replace(self, stage=stage)

    def name(self, task_id: str, number: int) -> str:
        """Return the name of a part's entity."""
        return part_name(task_id, self.run, self.lanes, number)

    def used_lanes(self) -> range:
        """Return the numbers of the lanes that have parts."""
        return range(min(self.lanes, self.count))

    def size(self, lane: int) -> int:
        """Return how many parts a lane has."""
        rows, rest = divmod(self.count, self.lanes)
        # The last row has `rest` parts: those whose lane is not more than `rest` places behind the row's first one.
        return rows + ((lane - rows) % self.lanes < rest)

    def before(self, number: int) -> int:
        """Return how many parts come before this one in its lane: each row has one part of each lane."""
        return number // self.lanes

    def done(self, lane: int, first_open: str | None) -> int:
        """Return how many parts of a lane are done, by the name of its first part that is not."""
        return self.size(lane) if first_open is None else self.before(number_in(first_open))

    def range_of_lane(self, task_id: str, lane: int) -> tuple[str, str]:
        """Return two names that the names of all parts of a lane are between."""
        prefix = f"{task_id}.{self.run:09}.{lane:03}"
        return f"{prefix}.", f"{prefix}/"

    def range_of_all(self, task_id: str) -> tuple[str, str]:
        """Return two names that the names of all parts are between."""
        prefix = f"{task_id}.{self.run:09}"
        return f"{prefix}.", f"{prefix}/"


def lane_of(number: int, lanes: int) -> int:
    """Return the lane of a part."""
    return (number + number // lanes) % lanes


def part_name(task_id: str, run: int, lanes: int, number: int) -> str:
    """Return the name of a part's entity; names sort by run, lane and number."""
    return f"{task_id}.{run:09}.{lane_of(number, lanes):03}.{number:04}"


def input_field(number: int) -> str:
    """Return how a `Signer`, and its messages, call what ``split_task`` has returned for a part."""
    return f"part {number}"


def lane_id(task_id: str, lane: int) -> str:
    """Return the id under which a progress store keeps the news of a lane."""
    return f"{task_id}.{lane}"


def number_in(name: str) -> int:
    """Return the number in the name of a part."""
    return int(name.rpartition(".")[2])


def run_in(name: str) -> int:
    """Return the run in the name of a part."""
    return int(name.split(".")[1])


def lane_in(name: str) -> int:
    """Return the lane in the name of a part."""
    return int(name.split(".")[2])
