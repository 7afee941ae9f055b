"""The rules for what becomes of a task by its parts, and of a part by its task, without any service."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from google.cloud import ndb
from hypothesis import given
from hypothesis import strategies as st

from gaetk_longtask import LongTask, Status
from gaetk_longtask.events import Event
from gaetk_longtask.failures import Cause, failures_of, record
from gaetk_longtask.info import Parts, Progress
from gaetk_longtask.limits import LEASE, LONGEST_RUN, READY_PATIENCE
from gaetk_longtask.models import LongTaskPart
from gaetk_longtask.parts.transitions import (
    claim,
    fail_by_part,
    hasten,
    join,
    note,
    objection,
    reopen,
    resume,
    split,
    with_parts,
)
from gaetk_longtask.payloads.manifests import Manifest, Stored, set_stored
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.queues import Delivery, Objection
from gaetk_longtask.splits import Split, Stage, part_name
from gaetk_longtask.transitions import Effect, finish

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
RUN, FENCE = 1, 3  #: a task that was split in its first run, and retried once since
DELIVERY = Delivery(task_id="id", execute_key="key", task_name="mine", retry_count=2)
WORKING = Split(run=RUN, count=8, lanes=3, stage=Stage.WORKING, open_at_last_tend=8)
JOINING = WORKING.with_stage(Stage.JOINING)

PROGRESS = Progress(message="Reading", share=0.5, parts=Parts(done=4, total=8))

Transition = Callable[[LongTask, datetime], Effect | None]


def a_task(found: Split | None = WORKING, *, status: Status = Status.STARTED, leased: bool = False) -> LongTask:
    return LongTask(
        key=ndb.Key("LongTask", "id", project="project", namespace="", database=""),
        status_name=status.value,
        fence=FENCE,
        execute_key="key",
        keep_result_seconds=86_400.0,
        created_at=NOW,
        requested_at=NOW,
        started_at=NOW,
        delivered_by="splits it",
        due_at=None if status.ended else NOW + READY_PATIENCE,
        expires_at=NOW + LONGEST_RUN if status.ended else None,
        lease_until=NOW + LEASE if leased else None,
        progress_stored={"message": "Reading", "step": 1, "total_steps": 2, "share": 0.25},
        parts=found.stored() if found else None,
    )


def a_part(
    status: Status = Status.READY,
    *,
    number: int = 4,
    task_fence: int = FENCE,
    leased: bool | None = None,
    **values: Any,
) -> LongTaskPart:
    name = part_name("id", RUN, WORKING.lanes, number)
    part = LongTaskPart(
        key=ndb.Key("LongTaskPart", name, project="project", namespace="", database=""),
        status_name=status.value,
        task_fence=task_fence,
        requested_at=NOW,
        started_at=NOW,
        keep_result_seconds=86_400.0,
        progress_stored={"message": "Starting"},
        open=status is not Status.DONE,
    )
    if status is Status.STARTED:
        part.fence, part.delivered_by = 1, "another"
        part.lease_until = NOW + LEASE if leased is not False else None
    for name, value in values.items():
        setattr(part, name, value)
    return part


def split_of(task: LongTask) -> Split:
    found = Split.of(task)
    assert found is not None
    return found


def events(effect: Effect | None) -> tuple[Event, ...]:
    assert effect is not None
    return effect.events


def stored(data: bytes = b"data") -> Stored:
    return Stored(manifest=Manifest(layout={"kind": "bytes"}, fence=1, chunks=0, blocks=()), inline=data)


# What applies when.

committed = partial(split, fence=FENCE, split=WORKING, progress=Progress(message="Reading"))
joined = partial(join, run=RUN, fence=FENCE)
noted = partial(note, run=RUN, fence=FENCE, open_parts=5)
hastened = partial(hasten, fence=FENCE)
reopened = partial(reopen, fence=FENCE)
resumed = partial(resume, delivery=DELIVERY)


def failed_by_part(task: LongTask, now: datetime) -> Effect | None:
    return fail_by_part(
        task, now, part=a_part(Status.FAILED), fence=FENCE, forget_parts=False, raised=None, progress=PROGRESS
    )


#: Each transition, the status and the stages that it applies to, and whether an attempt works on the task then. A split
#: and the end of a join trust their attempt about the stage: it has the lease.
APPLIES: list[tuple[str, Transition, set[Status], set[Stage | None], bool]] = [
    ("split", committed, {Status.STARTED}, {None, *Stage}, True),
    ("join", joined, {Status.STARTED}, {Stage.WORKING}, False),
    ("note", noted, {Status.STARTED}, {Stage.WORKING}, False),
    ("reopen", reopened, {Status.STARTED}, {*Stage}, True),
    ("resume", resumed, {Status.READY, Status.ERROR}, {Stage.WORKING}, False),
    ("fail_by_part", failed_by_part, {Status.STARTED}, {Stage.WORKING}, False),
]


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("stage", [None, *Stage])
@pytest.mark.parametrize(
    ("transition", "applies", "stages", "leased"), [row for _, *row in APPLIES], ids=[name for name, *_ in APPLIES]
)
def test_a_transition_applies_in_its_status_and_stages_and_changes_no_other(
    transition: Transition,
    applies: set[Status],
    stages: set[Stage | None],
    leased: bool,
    status: Status,
    stage: Stage | None,
) -> None:
    found = WORKING.with_stage(stage) if stage else None
    task = a_task(found, status=status, leased=leased and status is Status.STARTED)
    before = task.to_dict()
    effect = transition(task, NOW + SECOND)
    assert (effect is not None) == (status in applies and stage in stages)
    assert (task.to_dict() != before) == (effect is not None)


@pytest.mark.parametrize(
    "transition",
    [
        partial(committed, fence=FENCE - 1),
        partial(joined, fence=FENCE - 1),
        partial(joined, fence=FENCE + 1),
        partial(joined, run=RUN + 1),
        partial(noted, fence=FENCE - 1),
        partial(noted, run=RUN + 1),
        partial(hastened, fence=FENCE - 1),
        partial(reopened, fence=FENCE - 1),
        lambda task, now: fail_by_part(
            task,
            now,
            part=a_part(Status.FAILED),
            fence=FENCE - 1,
            forget_parts=False,
            raised=None,
            progress=PROGRESS,
        ),
    ],
)
def test_whoever_has_seen_another_run_changes_nothing(transition: Transition) -> None:
    for leased in (True, False):
        task = a_task(leased=leased)
        before = task.to_dict()
        assert transition(task, NOW + SECOND) is None
        assert task.to_dict() == before


# The split.


def test_a_split_frees_the_task_and_forgets_what_its_attempts_had_stored() -> None:
    task = a_task(None, leased=True)
    task.failures, task.forgiven, task.heals = 2, 1, 4
    set_stored(task, "state", stored())
    set_stored(task, "result", stored())
    assert events(committed(task, NOW + SECOND)) == (Event.SPLIT,)
    assert (task.failures, task.forgiven, task.heals, task.lease_until) == (0, 0, 0, None)
    assert (task.status, task.fence, task.due_at) == (Status.STARTED, FENCE, NOW + SECOND + READY_PATIENCE)
    assert (Stored.of(task, "state"), Stored.of(task, "result")) == (None, None)
    assert split_of(task) == WORKING
    assert task.progress.parts == Parts(done=0, total=8)


def test_a_split_into_nothing_waits_for_its_join_alone() -> None:
    task = a_task(None, leased=True)
    nothing = Split(run=FENCE, count=0, lanes=3, stage=Stage.JOINING, open_at_last_tend=0)
    assert events(committed(task, NOW, split=nothing)) == (Event.SPLIT, Event.JOINING)
    assert split_of(task).stage is Stage.JOINING


def test_a_split_that_an_attempt_has_handed_over_can_not_be_committed() -> None:
    assert committed(a_task(None, leased=False), NOW) is None


# The join.


def test_a_join_begins_once_and_counts_its_own_failures() -> None:
    task = a_task()
    task.heals, task.failures = 7, 2
    assert events(joined(task, NOW + SECOND)) == (Event.JOINING,)
    assert (split_of(task).stage, split_of(task).open_at_last_tend) == (Stage.JOINING, 0)
    assert (task.heals, task.failures) == (0, 0)
    assert (task.fence, task.due_at) == (FENCE, NOW + SECOND + READY_PATIENCE)
    assert task.progress.parts == Parts(done=8, total=8)
    assert task.progress.share == pytest.approx(8 / 9)
    assert joined(task, NOW + SECOND) is None


def test_a_join_that_meets_an_open_part_counts_no_failure_and_is_due_at_once() -> None:
    task = a_task(JOINING, leased=True)
    task.failures = 1
    assert reopened(task, NOW + SECOND) is not None
    assert (split_of(task).stage, task.failures, task.lease_until) == (Stage.WORKING, 1, None)
    assert task.due_at == NOW + SECOND


# Looking after the lanes.


def test_fewer_open_parts_than_before_end_the_long_pauses() -> None:
    task = a_task()
    task.heals = 6
    effect = noted(task, NOW)
    assert effect is not None
    assert not effect.publishes
    assert (task.heals, split_of(task).open_at_last_tend, task.progress.parts) == (0, 5, Parts(done=3, total=8))


def test_a_look_that_had_no_time_for_all_lanes_is_followed_by_the_next_one_in_a_minute() -> None:
    task = a_task()
    task.due_at = NOW + timedelta(minutes=15)
    assert hastened(a_task(JOINING), NOW) is None
    assert hastened(task, NOW) is not None
    assert task.due_at == NOW + timedelta(minutes=1)
    assert hastened(task, NOW) is None


def test_as_many_open_parts_as_before_change_nothing() -> None:
    task = a_task()
    task.heals = 6
    assert noted(task, NOW, open_parts=8) is None
    assert task.heals == 6


def test_a_late_look_at_the_lanes_says_nothing_about_a_join_that_has_begun() -> None:
    task = a_task()
    joined(task, NOW)
    assert noted(task, NOW + SECOND) is None
    assert task.progress.parts == Parts(done=8, total=8)


def test_a_retry_is_resumed_once_without_a_lease_or_a_new_fence() -> None:
    task = a_task(status=Status.READY)
    assert Event.CLAIMED in events(resumed(task, NOW + SECOND))
    assert (task.status, task.lease_until, task.fence) == (Status.STARTED, None, FENCE)
    assert (task.delivered_by, task.delivery_retries) == ("mine", 2)
    assert resumed(task, NOW + SECOND) is None


def test_parts_are_worked_on_again_after_a_version_without_parts_has_failed_on_their_task() -> None:
    task = a_task(status=Status.ERROR)
    task.failures = 1
    before = Snapshot.of(task, now=NOW).order
    assert Event.RESUMED in events(resumed(task, NOW + SECOND))
    assert (task.status, task.lease_until, task.failures) == (Status.STARTED, None, 1)
    assert Snapshot.of(task, now=NOW).order > before
    assert resumed(task, NOW + SECOND) is None


# A part that has failed.


@pytest.mark.parametrize("forget", [True, False])
def test_a_failed_part_fails_its_task_with_its_own_error_and_reference(forget: bool) -> None:
    task, part = a_task(), a_part(Status.FAILED, number=4, error="no May today", permanent=True, failures=2)
    record(part, NOW, Cause.PERMANENT, reference="abcd1234")
    effect = fail_by_part(
        task, NOW + SECOND, part=part, fence=FENCE, forget_parts=forget, raised=None, progress=PROGRESS
    )
    assert events(effect) == (Event.FAILED,)
    assert (task.status, task.error, task.permanent) == (Status.FAILED, "no May today", True)
    assert (task.error_reference, task.due_at, task.lease_until) == ("abcd1234", None, None)
    [failure] = failures_of(task)
    assert (failure.part, failure.reference, failure.cause) == (4, "abcd1234", Cause.PERMANENT)
    assert "abcd1234" in task.references
    assert (task.parts is None) == forget


def test_a_task_that_fails_by_a_part_keeps_what_its_lanes_have_told() -> None:
    task = a_task()
    seen = with_parts(task.progress, WORKING, 7)
    part = a_part(Status.FAILED)
    assert fail_by_part(task, NOW, part=part, fence=FENCE, forget_parts=False, raised=None, progress=seen) is not None
    assert task.progress == seen


# Claims.


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (a_part(Status.READY), None),
        (a_part(Status.ERROR), None),
        (a_part(Status.DONE), Objection.ENDED),
        (a_part(Status.FAILED), Objection.ENDED),
        (a_part(Status.STARTED), Objection.BUSY),
        (a_part(Status.STARTED, leased=False), None),
        (a_part(Status.STARTED, lease_until=NOW), None),
        # Of an earlier run.
        (a_part(Status.DONE, task_fence=RUN), Objection.ENDED),
        (a_part(Status.FAILED, task_fence=RUN), None),
        (a_part(Status.STARTED, task_fence=RUN), None),
        (a_part(Status.ERROR, task_fence=RUN), None),
        # Of a later run: the task was read before a retry.
        (a_part(Status.DONE, task_fence=FENCE + 2), Objection.ENDED),
        (a_part(Status.FAILED, task_fence=FENCE + 2), Objection.BUSY),
        (a_part(Status.READY, task_fence=FENCE + 2), Objection.BUSY),
        (a_part(Status.STARTED, leased=False, task_fence=FENCE + 2), Objection.BUSY),
    ],
    ids=lambda value: f"{value.status}-{value.task_fence}" if isinstance(value, LongTaskPart) else value,
)
def test_a_part_may_be_claimed_in_these_states_and_stays_as_it_is_in_others(
    part: LongTaskPart, expected: Objection | None
) -> None:
    task = a_task()
    assert objection(part, NOW, task=task, delivery=DELIVERY) is expected
    before = part.to_dict()
    effect = claim(part, NOW, task=task, delivery=DELIVERY, max_attempts=3)
    assert (effect is None) == (expected is not None)
    assert (part.to_dict() == before) == (expected is not None)


def test_a_silent_owner_is_taken_over_and_counts_as_a_failure() -> None:
    part = a_part(Status.STARTED)
    assert claim(part, NOW, task=a_task(), delivery=DELIVERY, max_attempts=3, silent_fence=0) is None
    assert claim(part, NOW, task=a_task(), delivery=DELIVERY, max_attempts=3, silent_fence=1) is not None
    assert (part.fence, part.failures, part.delivered_by) == (2, 1, "mine")


@pytest.mark.parametrize("status", [Status.READY, Status.STARTED, Status.ERROR, Status.FAILED])
def test_what_was_begun_in_an_earlier_run_begins_again_without_its_failures(status: Status) -> None:
    task = a_task()
    task.requested_at = NOW + 10 * SECOND
    part = a_part(status, task_fence=RUN, failures=2, forgiven=99, error="no", error_reference="r", permanent=True)
    before = part.fence
    assert claim(part, NOW + 20 * SECOND, task=task, delivery=DELIVERY, max_attempts=3) is not None
    assert (part.status, part.fence, part.task_fence) == (Status.STARTED, before + 1, FENCE)
    assert (part.failures, part.forgiven, part.error, part.error_reference, part.permanent) == (0, 0, None, None, False)
    assert (part.requested_at, part.delivered_by) == (task.requested_at, "mine")
    assert part.open


def test_a_part_keeps_its_checkpoint_over_a_retry() -> None:
    part = a_part(Status.FAILED, task_fence=RUN)
    set_stored(part, "state", stored(b"half of it"))
    effect = claim(part, NOW, task=a_task(), delivery=DELIVERY, max_attempts=3)
    assert Event.RESUMED in events(effect)
    assert Stored.of(part, "state") == stored(b"half of it")


def test_a_part_that_has_failed_too_often_fails_at_its_next_claim() -> None:
    part = a_part(Status.STARTED, failures=2, lease_until=NOW)
    assert events(claim(part, NOW, task=a_task(), delivery=DELIVERY, max_attempts=3)) == (Event.FAILED,)
    assert (part.status, part.open, part.failures) == (Status.FAILED, True, 3)


def test_only_a_part_that_is_done_is_not_open() -> None:
    part = a_part(Status.STARTED)
    progress = Progress(message="Reading")
    assert finish(part, NOW, fence=0, result=stored(), progress=progress) is None
    assert part.open
    assert finish(part, NOW, fence=1, result=stored(), progress=progress) is not None
    assert (part.open, part.status) == (False, Status.DONE)


# Progress.


@given(count=st.integers(1, 1000), done=st.integers(0, 1000), share=st.none() | st.floats(0, 1))
def test_the_bar_shows_the_parts_that_are_done_and_never_goes_back(count: int, done: int, share: float | None) -> None:
    done = min(done, count)
    found = Split(run=1, count=count, lanes=8, stage=Stage.WORKING, open_at_last_tend=count)
    progress = with_parts(Progress(message="Reading", share=share), found, done)
    assert progress.parts == Parts(done=done, total=count)
    assert progress.share is not None
    assert (share or 0.0) <= progress.share <= 1
    assert progress.share >= done / (count + 1)
    if not share:
        assert progress.share < 1  # the join is one more step
