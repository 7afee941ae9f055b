"""The parts of a task that are at work, for operators."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gaetk_longtask.failures import last_failure
from gaetk_longtask.models import LongTask
from gaetk_longtask.parts.store import PartStore
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.splits import Split, lane_in, number_in
from gaetk_longtask.status import Status


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenPart:
    """The part that comes first in its lane, of those that are not done."""

    number: int
    lane: int
    status: Status
    attempts: int  #: so far, including the one that is running or comes next
    started_at: datetime | None
    reason: str | None  #: why its last attempt ended badly
    reference: str | None


def open_parts(runtime: Runtime, task: LongTask) -> list[OpenPart]:
    """Return the first open part of each lane, in the order of their numbers; a part that has failed is one of them.

    One query for each lane, side by side, and one read of the parts. An NDB context must be active.
    """
    split = Split.of(task)
    if split is None:
        return []
    store = PartStore(runtime, task, split)
    found = []
    for part in store.load(list(store.firsts_open(split.used_lanes()).values())):
        failure = last_failure(part) if part.failures else None
        found.append(
            OpenPart(
                number=number_in(part.id),
                lane=lane_in(part.id),
                status=part.status,
                attempts=part.attempt,
                started_at=part.started_at,
                reason=failure.reason if failure else None,
                reference=failure.reference if failure else None,
            )
        )
    return sorted(found, key=lambda part: part.number)
