"""Who takes a part over, and what is left for the next run, without any service."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from google.cloud import ndb

from gaetk_longtask import LongTask, Status
from gaetk_longtask import transitions as main
from gaetk_longtask.events import Event
from gaetk_longtask.failures import Cause, Raised, record
from gaetk_longtask.info import Progress
from gaetk_longtask.limits import LEASE, LONGEST_RUN, LONGEST_TENDING, READY_PATIENCE
from gaetk_longtask.models import LongTaskPart
from gaetk_longtask.parts import transitions as rules
from gaetk_longtask.payloads.manifests import Manifest, Stored, set_stored
from gaetk_longtask.queues import Delivery, Objection
from gaetk_longtask.splits import Split, Stage, part_name
from gaetk_longtask.transitions import Effect

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
KEEP_RESULT = timedelta(days=30)
DELIVERY = Delivery(task_id="id", execute_key="key", task_name="own", retry_count=2)
SPLIT = Split(run=1, count=8, lanes=3, stage=Stage.WORKING, open_at_last_tend=8)
PROGRESS = Progress(message="Reading", step=5, total_steps=9)
RAISED = Raised(exception="ValueError", message="no", place="here", traceback=b"")
OPEN = [Status.READY, Status.STARTED, Status.ERROR]
ENDS = [Status.DONE, Status.FINISHED, Status.FAILED, Status.CANCELLED]


def stored(data: bytes = b"data") -> Stored:
    return Stored(manifest=Manifest(layout={"kind": "bytes"}, fence=1, chunks=0, blocks=()), inline=data)


def a_task(status: Status = Status.STARTED, *, fence: int = 1, split: Split | None = SPLIT, **values: Any) -> LongTask:
    """Return a task that was split under fence 1, and whose parts work."""
    task = LongTask(
        key=ndb.Key("LongTask", "id", project="project", namespace="", database=""),
        status_name=status.value,
        execute_key="key",
        fence=fence,
        keep_result_seconds=KEEP_RESULT.total_seconds(),
        created_at=NOW,
        requested_at=NOW,
        started_at=NOW,
        progress_stored=Progress(message="Starting", share=0.0).stored(),
        parts=split.stored() if split else None,
        due_at=None if status.ended else NOW + READY_PATIENCE,
    )
    for name, value in values.items():
        setattr(task, name, value)
    return task


def a_part(status: Status = Status.READY, *, task_fence: int = 1, number: int = 3, **values: Any) -> LongTaskPart:
    key = ndb.Key("LongTaskPart", part_name("id", 1, 3, number), project="project", namespace="", database="")
    part = LongTaskPart(
        key=key,
        status_name=status.value,
        task_fence=task_fence,
        requested_at=NOW,
        keep_result_seconds=KEEP_RESULT.total_seconds(),
        progress_stored=PROGRESS.stored(),
        open=status is not Status.DONE,
    )
    if status is Status.STARTED:
        part.fence, part.started_at, part.lease_until = 1, NOW, NOW + LEASE
    for name, value in values.items():
        setattr(part, name, value)
    return part


def events(effect: Effect | None) -> tuple[Event, ...]:
    assert effect is not None
    return effect.events


def split_of(task: LongTask) -> Split:
    found = Split.of(task)
    assert found is not None
    return found


def everything(unit: LongTask | LongTaskPart) -> dict[str, Any]:
    return {name: getattr(unit, name) for name in ("status_name", "fence", "parts", "due_at") if hasattr(unit, name)}


claimed = partial(rules.claim, delivery=DELIVERY, max_attempts=3)
objected = partial(rules.objection, delivery=DELIVERY)


def test_a_retry_keeps_the_split_and_raises_the_fence() -> None:
    task = a_task(Status.FAILED, fence=4, expires_at=NOW + KEEP_RESULT)
    assert main.retry(task, NOW) is not None
    assert (task.fence, split_of(task)) == (5, SPLIT)


def test_a_task_whose_parts_work_is_looked_after_every_fifteen_minutes_at_least() -> None:
    task = a_task()
    now, pauses = NOW, []
    for _ in range(40):
        now = task.due_at
        effect = main.heal(task, now)
        assert events(effect) == ()
        pauses.append(task.due_at - now)
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (timedelta(minutes=1), LONGEST_TENDING)


def a_failed_part(**values: Any) -> LongTaskPart:
    part = a_part(Status.STARTED, **values)
    record(part, NOW, Cause.EXCEPTION, reference="abc", raised=RAISED)
    part.failures += 1
    main.end(part, Status.FAILED, NOW)
    part.error, part.permanent = "no d today", True
    return part


def failed_by(task: LongTask, *, forget_parts: bool) -> Effect | None:
    """Fail a task by one of its parts that has failed in its first run."""
    part = a_failed_part()
    return rules.fail_by_part(task, NOW, part=part, fence=1, forget_parts=forget_parts, raised=None, progress=PROGRESS)


@pytest.mark.parametrize(
    "values",
    [
        {"fence": 2},
        {"parts": None},
        {"parts": SPLIT.with_stage(Stage.JOINING).stored()},
        *({"status_name": status.value} for status in [*ENDS, Status.READY]),
    ],
    ids=str,
)
def test_a_part_fails_no_task_that_does_not_wait_for_it(values: dict[str, Any]) -> None:
    task = a_task(**values)
    before = everything(task)
    assert (
        rules.fail_by_part(task, NOW, part=a_failed_part(), fence=1, forget_parts=False, raised=None, progress=PROGRESS)
        is None
    )
    assert everything(task) == before


def test_after_a_damaged_input_nothing_is_left_of_the_split_nor_of_a_join_that_has_met_an_open_part() -> None:
    task = a_task()
    set_stored(task, "state", stored())
    set_stored(task, "result", stored())
    assert (
        rules.fail_by_part(task, NOW, part=a_failed_part(), fence=1, forget_parts=True, raised=None, progress=PROGRESS)
        is not None
    )
    assert (task.parts, task.state_manifest, task.result_manifest) == (None, None, None)


@pytest.mark.parametrize("fence", [1, 2, 9])
def test_a_part_that_is_done_is_never_claimed_again(fence: int) -> None:
    part = a_part(Status.DONE, task_fence=2)
    assert objected(part, NOW, task=a_task(fence=fence)) is Objection.ENDED
    assert claimed(part, NOW, task=a_task(fence=fence)) is None
    assert part.task_fence == 2


def test_a_part_that_has_failed_is_claimed_after_a_retry_only() -> None:
    part = a_failed_part()
    assert objected(part, NOW, task=a_task()) is Objection.ENDED
    assert claimed(part, NOW, task=a_task()) is None
    assert events(claimed(part, NOW, task=a_task(fence=2))) == (Event.CLAIMED,)
    assert (part.status, part.failures, part.error, part.error_reference, part.permanent, part.ended_at) == (
        Status.STARTED,
        0,
        None,
        None,
        False,
        None,
    )
    assert part.references == ["abc"]


@pytest.mark.parametrize("status", [*OPEN, Status.FAILED])
def test_a_delivery_that_has_read_the_task_before_a_retry_must_come_again(status: Status) -> None:
    part = a_part(status, task_fence=3, lease_until=None)
    assert objected(part, NOW, task=a_task(fence=2)) is Objection.BUSY
    assert claimed(part, NOW, task=a_task(fence=2)) is None
    assert part.task_fence == 3


def test_a_part_that_has_died_too_often_fails_and_names_the_delivery_that_found_it() -> None:
    part = a_part(Status.STARTED, failures=2, lease_until=NOW, delivered_by="another", delivery_retries=7)
    assert events(claimed(part, NOW, task=a_task())) == (Event.FAILED,)
    assert (part.status, part.open, part.failures) == (Status.FAILED, True, 3)
    assert (part.delivered_by, part.delivery_retries) == ("own", 2)


def test_a_part_is_too_old_when_its_task_is() -> None:
    part = a_part()
    assert events(claimed(part, NOW + LONGEST_RUN, task=a_task())) == (Event.FAILED,)
    retried = a_task(fence=2, requested_at=NOW + LONGEST_RUN)
    assert events(claimed(part, NOW + LONGEST_RUN, task=retried)) == (Event.CLAIMED,)


def test_the_result_of_an_attempt_from_before_a_retry_is_kept_until_its_part_is_taken_over() -> None:
    kept, taken = a_part(Status.STARTED), a_part(Status.STARTED)
    claimed(taken, NOW, task=a_task(fence=2))
    late = partial(main.finish, fence=1, result=stored(), progress=PROGRESS)
    assert [late(part, NOW) is not None for part in (kept, taken)] == [True, False]
    assert (kept.task_fence, taken.status) == (1, Status.STARTED)
