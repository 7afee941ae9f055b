"""The rules for all changes of a task's state, without any service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from google.cloud import ndb

from gaetk_longtask import LongTask, Status
from gaetk_longtask.events import Event
from gaetk_longtask.failures import Cause, failures_of, last_failure, new_reference
from gaetk_longtask.info import Progress
from gaetk_longtask.limits import (
    ERROR_PATIENCE,
    HEALED_HOURLY,
    LEASE,
    LONGEST_HEALING,
    LONGEST_RUN,
    MOST_FAILURES,
    READY_PATIENCE,
    SELDOM_HEALING,
)
from gaetk_longtask.maintenance import begin_purge
from gaetk_longtask.payloads.manifests import Manifest, Stored
from gaetk_longtask.queues import Delivery, Objection
from gaetk_longtask.transitions import (
    Checkpoint,
    Effect,
    begin,
    cancel,
    claim,
    fail,
    finish,
    hand_over,
    heal,
    interrupt,
    keep,
    objection,
    owns,
    refuse,
    renew,
    retry,
    show,
    works,
)

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
KEEP_RESULT = timedelta(days=30)
DELIVERY = Delivery(task_id="id", execute_key="key", task_name="first", retry_count=0)
ENDS = [Status.DONE, Status.FINISHED, Status.FAILED, Status.CANCELLED]
ALIVE = [Status.READY, Status.STARTED, Status.ERROR]


def stored(data: bytes = b"data", fence: int = 1) -> Stored:
    return Stored(manifest=Manifest(layout={"kind": "bytes"}, fence=fence, chunks=0, blocks=()), inline=data)


def a_task(status: Status = Status.READY, **values: Any) -> LongTask:
    task = LongTask(
        key=ndb.Key("LongTask", "id", project="project", namespace="", database=""),
        status_name=status.value,
        execute_key="key",
        keep_result_seconds=KEEP_RESULT.total_seconds(),
        created_at=NOW,
        requested_at=NOW,
        progress_stored={"message": "Reading", "step": 1, "total_steps": 2},
    )
    if status in ALIVE:
        task.due_at = NOW + LEASE
    else:
        task.ended_at, task.expires_at = NOW, NOW + KEEP_RESULT
    if status is Status.STARTED:
        task.fence, task.started_at, task.lease_until = 1, NOW, NOW + LEASE
    for name, value in values.items():
        setattr(task, name, value)
    return task


def events(effect: Effect | None) -> tuple[Event, ...]:
    assert effect is not None
    return effect.events


claimed = partial(claim, delivery=DELIVERY, max_attempts=3)
failed = partial(
    fail, fence=1, permanent=False, error=None, reference="r", progress=Progress(message="Half", step=1), max_attempts=3
)
finished = partial(finish, fence=1, result=stored(), progress=Progress(message="Formatting"))
kept = partial(
    keep, fence=1, checkpoint=Checkpoint(state=stored(), pieces=None, progress={"message": "Half"}, advanced=True)
)
handed_over = partial(hand_over, fence=1, progress={"message": "Half"}, advanced=True, max_attempts=3)
renewed = partial(renew, fence=1)
refused = partial(refuse, reference="r")

#: Each transition, and the states that it applies to.
APPLIES: list[tuple[Callable[[LongTask, datetime], Effect | None], set[Status]]] = [
    (claimed, {Status.READY, Status.ERROR}),
    (failed, {Status.STARTED}),
    (finished, {Status.STARTED}),
    (kept, {Status.STARTED}),
    (handed_over, {Status.STARTED}),
    (renewed, {Status.STARTED}),
    (refused, {Status.READY}),
    (show, {Status.DONE}),
    (cancel, set(ALIVE)),
    (retry, {Status.FAILED, Status.CANCELLED}),
]


def names(value: Any) -> str | None:
    function = value.func if isinstance(value, partial) else value
    return getattr(function, "__name__", None)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize(("transition", "states"), APPLIES, ids=names)
def test_a_transition_applies_to_these_states_and_changes_no_other(transition, states, status):
    task = a_task(status)
    before = task.to_dict()
    effect = transition(task, NOW + SECOND)
    assert (effect is not None) == (status in states)
    assert (task.to_dict() != before) == (status in states)


def test_a_new_task_is_ready_and_due_soon():
    task = LongTask()
    begin(task, NOW)
    assert (task.status, task.created_at, task.requested_at, task.due_at) == (
        Status.READY,
        NOW,
        NOW,
        NOW + READY_PATIENCE,
    )
    assert task.progress.message == "Starting"


# Claims.


def test_a_claim_makes_the_delivery_the_owner():
    task = a_task()
    effect = claimed(task, NOW)
    assert events(effect) == (Event.CLAIMED,)
    assert effect.beats
    assert (task.status, task.fence, task.failures, task.started_at) == (Status.STARTED, 1, 0, NOW)
    assert task.lease_until == task.due_at == NOW + LEASE
    assert (task.delivered_by, task.delivery_retries) == ("first", 0)


def test_a_claim_of_a_task_with_a_state_resumes_it():
    assert events(claimed(a_task(state_manifest={}), NOW)) == (Event.CLAIMED, Event.RESUMED)


@pytest.mark.parametrize("status", Status)
def test_without_the_key_a_delivery_claims_nothing(status):
    forged = Delivery(task_id="id", execute_key="other")
    task = a_task(status)
    assert objection(task, NOW, forged) is Objection.FORBIDDEN
    assert claim(task, NOW, delivery=forged, max_attempts=3) is None


@pytest.mark.parametrize("status", ENDS)
def test_a_task_that_has_ended_is_not_worked_on(status):
    assert objection(a_task(status), NOW, DELIVERY) is Objection.ENDED


def test_an_owner_with_a_lease_is_left_alone():
    assert objection(a_task(Status.STARTED), NOW + LEASE - SECOND, DELIVERY) is Objection.BUSY


def test_a_lapsed_lease_is_taken_over_and_counts_as_a_failure():
    task = a_task(Status.STARTED)
    assert objection(task, NOW + LEASE, DELIVERY) is None
    assert events(claimed(task, NOW + LEASE)) == (Event.CLAIMED,)
    assert (task.fence, task.failures) == (2, 1)


@pytest.mark.parametrize(
    ("lease_until", "now", "cause"),
    [
        (NOW + LEASE, NOW + LEASE, Cause.DIED),  # it has never renewed its lease
        (NOW + LEASE, NOW + timedelta(days=1), Cause.DIED),  # the same, noticed late
        (NOW + timedelta(minutes=9) + LEASE, NOW + timedelta(minutes=11), Cause.DEADLINE),
        (NOW + timedelta(minutes=8) + LEASE, NOW + timedelta(minutes=11), Cause.DIED),
    ],
)
def test_an_owner_that_renewed_its_lease_until_its_time_was_up_has_exceeded_it(lease_until, now, cause):
    task = a_task(Status.STARTED, lease_until=lease_until, time_limit_seconds=600)
    claimed(task, now)
    assert last_failure(task).cause == cause


def test_a_claim_counts_deliveries_and_keeps_who_works():
    task = a_task(deliveries=16)
    claimed(task, NOW, worker={"instance": "i"})
    assert (task.deliveries, task.worker) == (17, {"instance": "i"})


@pytest.mark.parametrize(
    ("transition", "values", "cause"),
    [
        (failed, {}, Cause.EXCEPTION),
        (partial(failed, cause=Cause.SERIALIZATION, permanent=True), {}, Cause.SERIALIZATION),
        (partial(handed_over, advanced=False), {}, Cause.NO_PROGRESS),
        (handed_over, {"requested_at": NOW - LONGEST_RUN}, Cause.GIVEN_UP),
        (partial(interrupt, fence=1, reference="r"), {}, Cause.INTERRUPTED),
        (partial(interrupt, fence=1, reference="r"), {"forgiven": MOST_FAILURES - 1}, Cause.INTERRUPTED),
        (heal, {"requested_at": NOW - LONGEST_RUN, "due_at": NOW}, Cause.GIVEN_UP),
        (claimed, {"failures": 3, "lease_until": None}, Cause.GIVEN_UP),
        (claimed, {"failures": 2, "lease_until": NOW, "time_limit_seconds": 600}, Cause.DIED),
    ],
)
def test_each_bad_end_is_recorded_once_with_the_reference_that_the_visitor_sees(transition, values, cause):
    task = a_task(Status.STARTED, **values)
    transition(task, NOW)
    [failure] = failures_of(task)
    assert failure.cause == cause
    assert task.references == [failure.reference] == [task.error_reference]


@pytest.mark.parametrize("transition", [finished, kept, renewed, handed_over, cancel], ids=names)
def test_what_goes_well_is_not_recorded(transition):
    task = a_task(Status.STARTED)
    transition(task, NOW)
    assert (failures_of(task), task.references) == ([], [])


def test_a_retry_keeps_what_has_failed_and_names_the_new_click():
    task = a_task(Status.STARTED, trace="first")
    failed(task, NOW, permanent=True)
    retry(task, NOW, trace="second")
    assert task.trace == "second"
    assert last_failure(task).reference == task.references[0] == "r"


def test_a_silent_owner_is_taken_over_at_once_and_counts_as_a_failure():
    task = a_task(Status.STARTED)
    assert events(claimed(task, NOW, silent_fence=1)) == (Event.CLAIMED,)
    assert (task.fence, task.failures) == (2, 1)


def test_an_owner_that_came_after_the_silent_one_is_left_alone():
    assert claimed(a_task(Status.STARTED, fence=2), NOW, silent_fence=1) is None


def test_a_released_lease_is_claimed_without_counting():
    task = a_task(Status.STARTED, lease_until=None)
    claimed(task, NOW)
    assert (task.fence, task.failures) == (2, 0)


def test_a_take_over_keeps_the_progress_and_forgets_the_pace():
    task = a_task(Status.STARTED, progress_stored={"message": "Reading", "step": 1, "total_steps": 2, "pace": {}})
    claimed(task, NOW + LEASE)
    assert task.progress_stored == {"message": "Reading", "step": 1, "total_steps": 2}


@pytest.mark.parametrize(
    "values",
    [
        {"failures": 3},
        {"failures": 1, "forgiven": MOST_FAILURES - 1},
        {"requested_at": NOW - LONGEST_RUN},
    ],
)
def test_a_claim_of_a_hopeless_task_ends_it(values):
    task = a_task(Status.ERROR, **values)
    assert events(claimed(task, NOW)) == (Event.FAILED,)
    assert (task.status, task.error) == (Status.FAILED, None)
    assert task.error_reference


def test_a_worker_that_always_dies_fails_the_task_at_the_last_attempt():
    task = a_task()
    now = NOW
    for _ in range(3):
        assert events(claimed(task, now)) == (Event.CLAIMED,)
        now = task.lease_until
    assert events(claimed(task, now)) == (Event.FAILED,)


# Fences.


@pytest.mark.parametrize("transition", [failed, finished, kept, handed_over, renewed], ids=names)
@pytest.mark.parametrize("fence", [0, 2, 9])
def test_another_attempts_fence_writes_nothing(transition, fence):
    task = a_task(Status.STARTED, fence=fence)
    before = task.to_dict()
    assert transition(task, NOW) is None
    assert task.to_dict() == before


@pytest.mark.parametrize("transition", [kept, handed_over, renewed], ids=names)
def test_what_was_handed_over_is_not_taken_back(transition):
    assert transition(a_task(Status.STARTED, lease_until=None), NOW) is None


def test_an_attempt_owns_until_its_commit_and_works_until_it_hands_over():
    task = a_task(Status.STARTED)
    assert owns(task, 1)
    assert works(task, 1)
    handed_over(task, NOW)
    assert owns(task, 1)
    assert not works(task, 1)


@pytest.mark.parametrize("steer", [cancel, partial(claimed, silent_fence=1)], ids=["cancel", "take-over"])
def test_cancel_and_take_over_raise_the_fence(steer):
    task = a_task(Status.STARTED)
    steer(task, NOW)
    assert task.fence == 2
    assert finished(task, NOW) is None


# Checkpoints.


def test_a_checkpoint_that_advances_forgives_and_renews_the_lease():
    task = a_task(Status.STARTED, failures=2)
    effect = kept(task, NOW + SECOND)
    assert effect == Effect(publishes=False)
    assert (task.failures, task.forgiven) == (0, 2)
    assert task.lease_until == task.due_at == NOW + SECOND + LEASE
    assert (task.state_blob, task.progress.message) == (b"data", "Half")


def test_a_checkpoint_without_anything_new_forgives_nothing():
    task = a_task(Status.STARTED, failures=2)
    same = Checkpoint(state=stored(), pieces=None, progress={}, advanced=False)
    keep(task, NOW, fence=1, checkpoint=same)
    assert (task.failures, task.forgiven) == (2, 0)


def test_the_pieces_so_far_are_kept_with_the_state():
    task = a_task(Status.STARTED)
    keep(task, NOW, fence=1, checkpoint=Checkpoint(state=stored(), pieces=stored(b"p"), progress={}, advanced=True))
    assert (task.state_blob, task.result_blob) == (b"data", b"p")


def test_a_hand_over_releases_the_lease():
    task = a_task(Status.STARTED)
    assert events(handed_over(task, NOW)) == (Event.HANDED_OVER,)
    assert (task.status, task.lease_until, task.due_at) == (Status.STARTED, None, NOW + READY_PATIENCE)
    assert task.failures == 0


def test_a_hand_over_without_anything_new_counts_as_a_failure():
    task = a_task(Status.STARTED, failures=1)
    hand_over(task, NOW, fence=1, progress={}, advanced=False, max_attempts=3)
    assert (task.status, task.failures) == (Status.STARTED, 2)


def test_the_last_hand_over_without_anything_new_fails_the_task():
    task = a_task(Status.STARTED, failures=2)
    effect = hand_over(task, NOW, fence=1, progress={}, advanced=False, max_attempts=3)
    assert events(effect) == (Event.FAILED,)
    assert task.status is Status.FAILED


# Ends.


@pytest.mark.parametrize(
    ("transition", "status", "event", "end"),
    [
        (finished, Status.STARTED, Event.FINISHED, Status.DONE),
        (partial(failed, permanent=True), Status.STARTED, Event.FAILED, Status.FAILED),
        (partial(failed, max_attempts=1), Status.STARTED, Event.FAILED, Status.FAILED),
        (cancel, Status.STARTED, Event.CANCELLED, Status.CANCELLED),
        (refused, Status.READY, Event.REFUSED, Status.FAILED),
    ],
    ids=["finish", "fail", "fail at the last attempt", "cancel", "refuse"],
)
def test_an_end_sets_when_the_task_expires_and_nothing_is_due(transition, status, event, end):
    task = a_task(status)
    assert events(transition(task, NOW)) == (event,)
    assert (task.status, task.ended_at, task.expires_at) == (end, NOW, NOW + KEEP_RESULT)
    assert task.due_at is task.lease_until is None


def test_a_result_replaces_the_state_and_an_earlier_error():
    task = a_task(Status.STARTED, state_manifest={}, state_blob=b"s", error="e", error_reference="r")
    finished(task, NOW + SECOND)
    assert task.result_blob == b"data"
    assert task.state_manifest is task.state_blob is task.error is task.error_reference is None
    assert task.run_seconds == 1


def test_a_failed_attempt_is_followed_by_another_one():
    task = a_task(Status.STARTED)
    assert events(failed(task, NOW)) == (Event.ATTEMPT_FAILED,)
    assert (task.status, task.failures, task.error_reference) == (Status.ERROR, 1, "r")
    assert (task.lease_until, task.due_at) == (None, NOW + ERROR_PATIENCE)


def test_a_permanent_failure_keeps_its_message_for_the_visitor():
    task = a_task(Status.STARTED)
    failed(task, NOW, permanent=True, error="No such month.")
    assert task.error == "No such month."


@pytest.mark.parametrize("forget", [True, False])
def test_a_state_that_cant_be_read_is_forgotten(forget):
    task = a_task(Status.STARTED, state_manifest={}, state_blob=b"s", result_manifest={}, result_blob=b"r")
    failed(task, NOW, permanent=True, forget=forget)
    assert (task.state_manifest is None) == (task.result_blob is None) == forget


def test_only_the_first_display_changes_the_task():
    task = a_task(Status.DONE)
    assert show(task, NOW) == Effect()
    assert (task.status, task.last_accessed_at) == (Status.FINISHED, NOW)
    assert show(task, NOW) is None


# Retry.


def test_a_retry_begins_a_new_run_under_a_higher_fence():
    task = a_task(Status.FAILED, fence=4, failures=3, forgiven=2, heals=5, error="e", error_reference="r")
    assert retry(task, NOW + SECOND) == Effect()
    assert (task.status, task.fence, task.failures, task.forgiven, task.heals) == (Status.READY, 5, 0, 0, 0)
    assert task.requested_at == NOW + SECOND
    assert task.due_at == NOW + SECOND + READY_PATIENCE
    assert task.error is task.error_reference is task.ended_at is task.expires_at is None
    assert task.progress.message == "Starting"


def test_a_retry_resumes_from_the_last_state():
    task = a_task(Status.CANCELLED, state_manifest={}, state_blob=b"s", result_manifest={}, result_blob=b"r")
    retry(task, NOW)
    assert (task.state_blob, task.result_blob, task.progress.message) == (b"s", b"r", "Reading")


@pytest.mark.parametrize(("fence", "repeated"), [(1, True), (2, False), (None, False)])
def test_a_run_with_a_damaged_result_may_be_repeated(fence, repeated):
    task = a_task(Status.FINISHED, fence=1, result_manifest={}, result_blob=b"r")
    assert (retry(task, NOW, damaged_fence=fence) is not None) == repeated


@pytest.mark.parametrize("values", [{"purged": True}, {"expires_at": NOW}])
def test_what_is_being_deleted_is_not_brought_back(values):
    assert retry(a_task(Status.FAILED, **values), NOW) is None


# Healing and deleting.


@pytest.mark.parametrize("status", ALIVE)
def test_a_due_task_is_healed_once(status):
    task = a_task(status, due_at=NOW)
    effect = heal(task, NOW)
    assert events(effect) == (Event.HEALED,)
    assert effect.publishes == (status is not Status.STARTED)
    assert heal(task, NOW) is None
    assert (task.status, task.heals) == (status, 1)


def test_healing_waits_longer_each_time_and_then_for_a_day():
    task, now, pauses = a_task(due_at=NOW, requested_at=NOW), NOW, []
    for _ in range(HEALED_HOURLY + 1):
        heal(task, now)
        pauses.append(task.due_at - now)
        now = task.due_at
    minutes = [pause // timedelta(minutes=1) for pause in pauses]
    assert minutes[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert set(pauses[6:-1]) == {LONGEST_HEALING}
    assert pauses[-1] == SELDOM_HEALING


def test_a_task_that_is_too_old_is_not_healed_any_more():
    task = a_task(due_at=NOW, requested_at=NOW - LONGEST_RUN)
    assert events(heal(task, NOW)) == (Event.FAILED,)
    assert task.status is Status.FAILED


@pytest.mark.parametrize("status", ENDS)
def test_only_an_expired_task_is_deleted(status):
    assert begin_purge(a_task(status), NOW + KEEP_RESULT - SECOND) is None
    task = a_task(status)
    assert begin_purge(task, NOW + KEEP_RESULT) == Effect(publishes=False)
    assert task.purged


@pytest.mark.parametrize("status", ALIVE)
def test_a_task_at_work_is_never_deleted(status):
    assert begin_purge(a_task(status), NOW + timedelta(days=999)) is None


def test_a_reference_can_be_read_out():
    assert len(new_reference()) == 8


# Handlers that are told of every end.


ENDINGS: list[tuple[Callable[[LongTask, datetime], Effect | None], Status]] = [
    (refused, Status.READY),
    (finished, Status.STARTED),
    (partial(failed, permanent=True), Status.STARTED),
    (partial(handed_over, advanced=False, max_attempts=1), Status.STARTED),
    (partial(claimed, max_attempts=1), Status.READY),
    (cancel, Status.READY),
    (cancel, Status.STARTED),
]


@pytest.mark.parametrize(("ending", "status"), ENDINGS, ids=names)
@pytest.mark.parametrize("tells_end", [True, False])
def test_every_end_says_whether_the_handler_has_to_be_told(ending, status, tells_end):
    task = a_task(status, tells_end=tells_end, failures=1 if status is Status.READY else 0, heals=4)
    ending(task, NOW)
    assert task.status.ended
    assert (task.end_untold, task.is_untold) == (tells_end, tells_end)
    assert task.due_at == (NOW + READY_PATIENCE if tells_end else None)
    assert task.heals == 0


def an_untold_task(status: Status = Status.CANCELLED, **values: Any) -> LongTask:
    return a_task(status, **{"tells_end": True, "end_untold": True, "due_at": NOW} | values)


@pytest.mark.parametrize("status", ENDS)
def test_a_delivery_to_an_untold_end_tells_and_never_works(status):
    task = an_untold_task(status)
    assert objection(task, NOW, DELIVERY) is Objection.UNTOLD
    assert objection(task, NOW, replace(DELIVERY, endpoint="another")) is Objection.ELSEWHERE
    assert objection(task, NOW, replace(DELIVERY, execute_key="wrong")) is Objection.FORBIDDEN
    assert claimed(task, NOW) is None


@pytest.mark.parametrize("status", ENDS)
def test_healing_an_untold_end_never_changes_how_it_ended(status):
    task = an_untold_task(status, requested_at=NOW - LONGEST_RUN)
    assert events(heal(task, NOW)) == (Event.HEALED,)
    assert (task.status, task.end_untold, task.due_at) == (status, True, NOW + timedelta(minutes=1))


def test_a_healing_that_gives_up_has_a_delivery_of_its_own():
    task = a_task(due_at=NOW, tells_end=True, healings=5)
    assert events(heal(task, NOW + LONGEST_RUN)) == (Event.FAILED,)
    assert (task.is_untold, task.healings) == (True, 6)


def test_a_retry_has_nothing_to_tell():
    task = an_untold_task(Status.FAILED)
    retry(task, NOW + SECOND)
    assert (task.end_untold, task.due_at) == (False, NOW + SECOND + READY_PATIENCE)


def test_an_end_that_is_being_purged_is_told_to_nobody():
    task = an_untold_task()
    assert begin_purge(task, NOW + KEEP_RESULT) is not None
    assert (task.is_untold, task.due_at) == (False, None)
    assert objection(task, NOW, DELIVERY) is Objection.ENDED


# Delayed starts.


def test_a_delayed_task_begins_to_age_when_it_starts():
    task = LongTask(starts_at=NOW + timedelta(days=30))
    begin(task, NOW)
    assert (task.created_at, task.requested_at) == (NOW, NOW + timedelta(days=30))
    assert task.due_at == NOW + timedelta(days=30) + READY_PATIENCE


def test_an_early_delivery_begins_the_run_and_a_late_one_does_not():
    for now, expected in ((NOW, NOW), (NOW + 2 * SECOND, NOW + SECOND)):
        task = a_task(starts_at=NOW + SECOND, requested_at=NOW + SECOND)
        claimed(task, now)
        assert task.requested_at == expected
