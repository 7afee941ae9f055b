"""The rules for a task whose parts work and for the parts themselves, without any service."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from google.cloud import ndb
from hypothesis import given
from hypothesis import strategies as st

from gaetk_longtask import LongTask, Status
from gaetk_longtask import transitions as main
from gaetk_longtask.events import Event
from gaetk_longtask.failures import Cause, Raised, last_failure, record
from gaetk_longtask.info import Parts, Progress
from gaetk_longtask.limits import ERROR_PATIENCE, LEASE, LONGEST_RUN, LONGEST_TENDING, READY_PATIENCE
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


# The split.


def test_a_split_gives_the_lease_back_and_forgets_what_its_attempts_have_left() -> None:
    task = a_task(split=None, lease_until=NOW + LEASE, failures=2, forgiven=3, heals=4)
    set_stored(task, "state", stored())
    set_stored(task, "result", stored())
    assert events(rules.split(task, NOW, fence=1, split=SPLIT, progress=PROGRESS)) == (Event.SPLIT,)
    assert (task.status, task.lease_until, task.due_at) == (Status.STARTED, None, NOW + READY_PATIENCE)
    assert (task.failures, task.forgiven, task.heals) == (0, 0, 0)
    assert (task.state_manifest, task.result_manifest) == (None, None)
    assert split_of(task) == SPLIT
    assert (task.progress.step, task.progress.total_steps, task.progress.parts) == (0, 0, Parts(done=0, total=8))


def test_a_split_without_parts_tells_of_the_join_as_well() -> None:
    task = a_task(split=None, lease_until=NOW + LEASE)
    nothing = Split(run=1, count=0, lanes=3, stage=Stage.JOINING, open_at_last_tend=0)
    effect = rules.split(task, NOW, fence=1, split=nothing, progress=PROGRESS)
    assert events(effect) == (Event.SPLIT, Event.JOINING)
    assert not main.works_in_parts(task)


@pytest.mark.parametrize(
    "values",
    [
        {"fence": 2},
        {"lease_until": None},
        *({"status_name": status.value} for status in [*ENDS, Status.READY, Status.ERROR]),
    ],
    ids=str,
)
def test_only_the_attempt_that_owns_the_task_splits_it(values: dict[str, Any]) -> None:
    task = a_task(split=None, **{"lease_until": NOW + LEASE} | values)
    assert rules.split(task, NOW, fence=1, split=SPLIT, progress=PROGRESS) is None
    assert task.parts is None


# A retry.


def test_the_delivery_of_a_retry_makes_the_task_started_under_the_same_fence() -> None:
    task = a_task(Status.READY, fence=3, deliveries=5)
    assert events(rules.resume(task, NOW + SECOND, delivery=DELIVERY)) == (Event.CLAIMED, Event.RESUMED)
    assert (task.status, task.fence, task.lease_until) == (Status.STARTED, 3, None)
    assert (task.delivered_by, task.delivery_retries, task.deliveries) == ("own", 2, 6)
    assert (task.started_at, task.due_at) == (NOW + SECOND, NOW + SECOND + READY_PATIENCE)


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.READY])
def test_a_task_that_does_not_wait_for_its_retry_is_not_begun_again(status: Status) -> None:
    assert rules.resume(a_task(status), NOW, delivery=DELIVERY) is None


@pytest.mark.parametrize("split", [None, SPLIT.with_stage(Stage.JOINING)], ids=["not split", "joining"])
def test_a_retry_of_a_split_or_of_a_join_is_claimed_as_any_work(split: Split | None) -> None:
    assert rules.resume(a_task(Status.READY, split=split), NOW, delivery=DELIVERY) is None


def test_a_retry_keeps_the_split_and_raises_the_fence() -> None:
    task = a_task(Status.FAILED, fence=4, expires_at=NOW + KEEP_RESULT)
    assert main.retry(task, NOW) is not None
    assert (task.fence, split_of(task)) == (5, SPLIT)


# Looking after the parts.


def test_fewer_open_parts_than_before_let_the_task_be_looked_after_sooner() -> None:
    task = a_task(heals=7)
    effect = rules.note(task, NOW, run=1, fence=1, open_parts=5)
    assert (events(effect), task.heals, split_of(task).open_at_last_tend) == ((), 0, 5)
    assert task.progress.parts == Parts(done=3, total=8)
    assert not effect or not effect.publishes


def test_more_open_parts_than_before_are_noted_and_the_pause_stays() -> None:
    task = a_task(heals=7, split=Split(run=1, count=8, lanes=3, stage=Stage.WORKING, open_at_last_tend=2))
    assert rules.note(task, NOW, run=1, fence=1, open_parts=5) is not None
    assert (task.heals, split_of(task).open_at_last_tend) == (7, 5)


@pytest.mark.parametrize(
    ("run", "fence", "open_parts", "values"),
    [(2, 1, 5, {}), (1, 2, 5, {}), (1, 1, 8, {}), (1, 1, 5, {"status_name": "cancelled"}), (1, 1, 5, {"parts": None})],
    ids=["another run", "another fence", "nothing new", "cancelled", "not split"],
)
def test_what_is_of_another_run_or_nothing_new_is_not_noted(
    run: int, fence: int, open_parts: int, values: dict[str, Any]
) -> None:
    task = a_task(heals=7, **values)
    before = everything(task)
    assert rules.note(task, NOW, run=run, fence=fence, open_parts=open_parts) is None
    assert (everything(task), task.heals) == (before, 7)


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


# The join.


def test_the_join_begins_once() -> None:
    task = a_task(heals=3)
    assert events(rules.join(task, NOW + SECOND, run=1, fence=1)) == (Event.JOINING,)
    found = split_of(task)
    assert (found.stage, found.open_at_last_tend, task.heals) == (Stage.JOINING, 0, 0)
    assert (task.lease_until, task.due_at) == (None, NOW + SECOND + READY_PATIENCE)
    assert task.progress.share == pytest.approx(8 / 9)
    assert rules.join(task, NOW, run=1, fence=1) is None


@pytest.mark.parametrize(
    ("run", "fence", "values"),
    [
        (2, 1, {}),
        (1, 2, {}),
        (1, 1, {"parts": None}),
        *((1, 1, {"status_name": status.value}) for status in [*ENDS, Status.READY, Status.ERROR]),
    ],
    ids=str,
)
def test_no_join_begins_for_another_run_or_fence_or_after_the_end(run: int, fence: int, values: dict[str, Any]) -> None:
    task = a_task(**values)
    before = everything(task)
    assert rules.join(task, NOW, run=run, fence=fence) is None
    assert everything(task) == before


def test_a_join_that_meets_an_open_part_gives_the_task_back_and_counts_no_failure() -> None:
    task = a_task(fence=2, split=SPLIT.with_stage(Stage.JOINING), lease_until=NOW + LEASE, failures=1)
    assert events(rules.reopen(task, NOW, fence=2)) == ()
    assert (split_of(task).stage, task.lease_until, task.due_at, task.failures) == (Stage.WORKING, None, NOW, 1)


@pytest.mark.parametrize("values", [{"fence": 3}, {"lease_until": None}, {"status_name": "cancelled"}], ids=str)
def test_a_join_that_has_lost_its_task_reopens_nothing(values: dict[str, Any]) -> None:
    task = a_task(**{"fence": 2, "split": SPLIT.with_stage(Stage.JOINING), "lease_until": NOW + LEASE} | values)
    assert rules.reopen(task, NOW, fence=2) is None
    assert split_of(task).stage is Stage.JOINING


# A part that has failed fails its task.


def a_failed_part(**values: Any) -> LongTaskPart:
    part = a_part(Status.STARTED, **values)
    record(part, NOW, Cause.EXCEPTION, reference="abc", raised=RAISED)
    part.failures += 1
    main.end(part, Status.FAILED, NOW)
    part.error, part.permanent = "no d today", True
    return part


def test_a_task_fails_with_the_error_and_the_reference_of_its_part() -> None:
    task = a_task()
    failing = partial(rules.fail_by_part, part=a_failed_part(), fence=1, forget_parts=False, raised=RAISED)
    effect = failing(task, NOW)
    assert events(effect) == (Event.FAILED,)
    assert effect is not None
    assert effect.raised is RAISED
    assert (task.status, task.error, task.permanent, task.error_reference) == (
        Status.FAILED,
        "no d today",
        True,
        "abc",
    )
    latest = last_failure(task)
    assert latest is not None
    assert (latest.part, latest.message, split_of(task)) == (3, "no", SPLIT)
    assert failing(task, NOW) is None


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
    assert rules.fail_by_part(task, NOW, part=a_failed_part(), fence=1, forget_parts=False, raised=None) is None
    assert everything(task) == before


def test_after_a_damaged_input_nothing_is_left_of_the_split_nor_of_a_join_that_has_met_an_open_part() -> None:
    task = a_task()
    set_stored(task, "state", stored())
    set_stored(task, "result", stored())
    assert rules.fail_by_part(task, NOW, part=a_failed_part(), fence=1, forget_parts=True, raised=None) is not None
    assert (task.parts, task.state_manifest, task.result_manifest) == (None, None, None)


# The claim of a part.


@pytest.mark.parametrize("status", OPEN)
@pytest.mark.parametrize("lease", [None, NOW], ids=["given back", "over"])
def test_a_part_that_no_attempt_works_on_is_claimed(status: Status, lease: datetime | None) -> None:
    part = a_part(status, fence=4, started_at=NOW - LEASE, lease_until=lease)
    assert events(claimed(part, NOW, task=a_task())) == (Event.CLAIMED,)
    assert (part.status, part.fence, part.lease_until) == (Status.STARTED, 5, NOW + LEASE * (1 + part.failures))
    assert (part.delivered_by, part.delivery_retries) == ("own", 2)
    assert part.failures == (status is Status.STARTED and lease is not None)


def test_a_part_under_a_live_lease_is_not_claimed_unless_its_owner_is_silent() -> None:
    part = a_part(Status.STARTED)
    assert objected(part, NOW, task=a_task()) is Objection.BUSY
    assert claimed(part, NOW, task=a_task()) is None
    assert objected(part, NOW, task=a_task(), silent_fence=1) is None
    assert claimed(part, NOW, task=a_task(), silent_fence=1) is not None
    assert (part.fence, part.failures) == (2, 1)


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
def test_what_was_begun_before_a_retry_is_taken_over_whatever_its_lease_and_does_not_count(status: Status) -> None:
    part = a_part(status, failures=2, forgiven=97, lease_until=NOW + LEASE, started_at=NOW)
    set_stored(part, "state", stored())
    task = a_task(fence=3, requested_at=NOW + SECOND)
    assert events(claimed(part, NOW + SECOND, task=task)) == (Event.CLAIMED, Event.RESUMED)
    assert (part.task_fence, part.failures, part.forgiven, part.requested_at) == (3, 0, 0, NOW + SECOND)
    assert part.state_manifest is not None


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


# The end of a part.


def test_a_part_that_is_done_is_not_open_and_one_that_has_failed_stays_open() -> None:
    done, failed = a_part(Status.STARTED), a_part(Status.STARTED)
    assert main.finish(done, NOW, fence=1, result=stored(), progress=PROGRESS) is not None
    failing = partial(main.fail, fence=1, error=None, reference="abc", progress=PROGRESS, max_attempts=3)
    assert events(failing(failed, NOW, permanent=False)) == (Event.ATTEMPT_FAILED,)
    assert (failed.status, failed.open, failed.due_at) == (Status.ERROR, True, NOW + ERROR_PATIENCE)
    failed = a_part(Status.STARTED)
    assert events(failing(failed, NOW, permanent=True)) == (Event.FAILED,)
    assert [(part.open, part.due_at, part.lease_until) for part in (done, failed)] == [
        (False, None, None),
        (True, None, None),
    ]


def test_the_result_of_an_attempt_from_before_a_retry_is_kept_until_its_part_is_taken_over() -> None:
    kept, taken = a_part(Status.STARTED), a_part(Status.STARTED)
    claimed(taken, NOW, task=a_task(fence=2))
    late = partial(main.finish, fence=1, result=stored(), progress=PROGRESS)
    assert [late(part, NOW) is not None for part in (kept, taken)] == [True, False]
    assert (kept.task_fence, taken.status) == (1, Status.STARTED)


# The bar.


@given(st.integers(0, 8), st.one_of(st.none(), st.floats(0, 1)))
def test_the_bar_never_goes_back_whatever_is_done(done: int, share: float | None) -> None:
    found = rules.with_parts(Progress(share=share), SPLIT, done)
    assert found.share is not None
    assert max(share or 0.0, done / 9) == found.share
    assert found.parts == Parts(done=done, total=8)
