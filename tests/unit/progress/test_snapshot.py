"""Snapshots of a task: their JSON, their order, and their age."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.cloud import ndb
from hypothesis import given
from hypothesis import strategies as st

from gaetk_longtask import LongTask, Status
from gaetk_longtask.info import Phase, Progress, TaskInfo
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.web.pages.status_page import StatusPage
from tests.unit.conftest import ID, NOW, snapshot_of

MOMENTS = st.integers(0, 7_258_118_400 * 10**6).map(
    lambda us: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
)
NUMBERS = st.integers(0, 10**12) | st.floats(0, 1e12)
OPTIONAL_TEXTS = st.none() | st.text()
SNAPSHOTS = st.builds(
    Snapshot,
    info=st.builds(
        TaskInfo,
        id=st.text("abcXYZ019-_", min_size=22, max_size=64),
        endpoint=st.text(),
        path=st.text(),
        base_url=st.text(),
        status=st.sampled_from(Status),
        attempt=st.integers(1, 100),
        progress=st.builds(
            Progress,
            message=st.text(),
            step=NUMBERS,
            total_steps=NUMBERS,
            eta_seconds=st.none() | st.floats(0, 1e9),
            phase=st.none() | st.builds(Phase, name=st.text(), number=st.integers(1, 20), count=st.integers(1, 20)),
            share=st.none() | st.floats(0, 1),
            facts=st.dictionaries(st.text(), NUMBERS | st.text()),
        ),
        created_at=MOMENTS,
        created_by=OPTIONAL_TEXTS,
        namespace=OPTIONAL_TEXTS,
        requested_at=MOMENTS,
        ended_at=st.none() | MOMENTS,
        expires_at=st.none() | MOMENTS,
        error=OPTIONAL_TEXTS,
        error_reference=OPTIONAL_TEXTS,
        title=OPTIONAL_TEXTS,
    ),
    fence=st.integers(0, 10**6),
    due_at=st.none() | MOMENTS,
    beat_at=st.none() | MOMENTS,
    beat_seconds=st.floats(0, 60),
)
HALF_WAY = Progress(message="Reading invoices of December", step=120, total_steps=240, eta_seconds=60)
WITH_PHASES = replace(
    HALF_WAY, phase=Phase(name="Reading", number=1, count=3), share=0.5, facts={"imported": 120, "file": "a.csv"}
)
#: A snapshot with a value in every field.
WHOLE = snapshot_of(
    **dict.fromkeys(("created_by", "namespace", "error", "error_reference", "title"), "text"),
    **dict.fromkeys(("due_at", "beat_at", "ended_at", "expires_at"), NOW),
    progress=WITH_PHASES,
    beat_seconds=5,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
NEEDED = ["info", "fence"]
NEEDED_OF_TASK = ["id", "endpoint", "path", "base_url", "status", "attempt", "created_at", "requested_at"]


@given(SNAPSHOTS)
def test_what_is_written_is_read_as_it_was(snapshot: Snapshot) -> None:
    assert Snapshot.from_json(snapshot.to_json(), snapshot.info.id) == snapshot


@given(SNAPSHOTS)
def test_what_is_written_is_plain_ascii_json(snapshot: Snapshot) -> None:
    assert json.loads(snapshot.to_json().decode("ascii"))["info"]["id"] == snapshot.info.id


def test_an_ordinary_snapshot_is_small() -> None:
    assert len(snapshot_of(progress=HALF_WAY, beat_at=NOW, beat_seconds=0.5).to_json()) < 400


def test_a_snapshot_of_another_task_is_ignored() -> None:
    assert Snapshot.from_json(snapshot_of().to_json(), "A" * 22) is None


@pytest.mark.parametrize(
    "data",
    [None, b"", b"null", b"[]", b"5", b'{"id": 1}', b'"text"', b"\xff\xfe", b"[" * 100_000, b"9" * 5000],
    ids=["None", "empty", "null", "[]", "5", "object", "text", "no text", "deep", "long number"],
)
def test_what_is_no_snapshot_is_no_news(data: bytes | None) -> None:
    assert Snapshot.from_json(data, ID) is None


@given(st.binary())
def test_bytes_that_mean_nothing_are_no_news(data: bytes) -> None:
    assert Snapshot.from_json(data, ID) is None


@given(JSON)
def test_json_that_is_no_snapshot_is_no_news(value: Any) -> None:
    assert Snapshot.from_json(json.dumps(value).encode(), ID) is None


def test_what_an_older_version_wrote_by_position_is_no_news() -> None:
    data = [ID, "report", "/report", "", "started", 1, 0, None, None, 1, "", 0, 0, None, 0, *[None] * 6, 0.5]
    assert Snapshot.from_json(json.dumps(data).encode(), ID) is None


def test_a_store_may_give_text_instead_of_bytes() -> None:
    snapshot = snapshot_of()
    assert Snapshot.from_json(snapshot.to_json().decode(), ID) == snapshot


@pytest.mark.parametrize("data", [7, ["a"], object(), ""])
def test_what_is_neither_is_no_news(data: Any) -> None:
    assert Snapshot.from_json(data, ID) is None


def test_what_another_version_adds_is_ignored() -> None:
    data = json.loads(snapshot_of().to_json())
    for part in (data, data["info"], data["info"]["progress"]):
        part["new"] = {"unknown": 1}
    assert Snapshot.from_json(json.dumps(data).encode(), ID) == snapshot_of()


def test_what_another_version_leaves_out_has_its_default() -> None:
    data = json.loads(snapshot_of(progress=HALF_WAY, error="no", beat_at=NOW, beat_seconds=5).to_json())
    data = {name: data[name] for name in NEEDED}
    data["info"] = {name: data["info"][name] for name in NEEDED_OF_TASK}
    assert Snapshot.from_json(json.dumps(data).encode(), ID) == snapshot_of()


@pytest.mark.parametrize("name", [*NEEDED, *NEEDED_OF_TASK])
def test_a_snapshot_without_what_it_needs_is_no_news(name: str) -> None:
    data = json.loads(snapshot_of().to_json())
    del (data if name in NEEDED else data["info"])[name]
    assert Snapshot.from_json(json.dumps(data).encode(), ID) is None


def test_what_comes_after_a_snapshot_makes_it_no_news() -> None:
    assert Snapshot.from_json(snapshot_of().to_json() + b" []", ID) is None


@given(st.data(), JSON)
def test_a_snapshot_with_a_field_of_another_type_is_no_news_or_fit_to_be_shown(data: st.DataObject, value: Any) -> None:
    stored = json.loads(WHOLE.to_json())
    part = data.draw(st.sampled_from([stored, stored["info"], stored["info"]["progress"]]))
    part[data.draw(st.sampled_from(list(part)))] = value
    snapshot = Snapshot.from_json(json.dumps(stored).encode(), ID)
    if snapshot is not None:
        snapshot.needs_check(NOW)
        page = StatusPage.of(snapshot, title="", now=NOW, progress_html=lambda **_: "")
        json.dumps(page.document(), allow_nan=False)


# Order.


def test_a_higher_fence_is_later_whatever_the_states() -> None:
    assert snapshot_of(Status.READY, fence=2).order > snapshot_of(Status.FINISHED, fence=1).order


def test_under_the_same_fence_the_later_state_is_later() -> None:
    assert snapshot_of(Status.DONE).order > snapshot_of(Status.STARTED).order


def test_the_owners_next_beat_is_neither_earlier_nor_later() -> None:
    snapshot = snapshot_of(beat_at=NOW, beat_seconds=0.5)
    assert snapshot.beating(Progress(message="next"), NOW + timedelta(seconds=0.5)).order == snapshot.order


# Heartbeats.


def beating(seconds: float = 0.5) -> Snapshot:
    return snapshot_of(beat_at=NOW, beat_seconds=seconds)


def test_a_beat_carries_the_progress_and_its_time() -> None:
    later = NOW + timedelta(seconds=3)
    beat = beating().beating(Progress(message="Half-way", step=1, total_steps=2), later)
    assert (beat.info.progress.message, beat.beat_at, beat.beat_seconds) == ("Half-way", later, 0.5)


@pytest.mark.parametrize("beat_seconds", [0.5, 5])
def test_an_owner_is_silent_after_three_missed_beats_and_no_sooner(beat_seconds: float) -> None:
    limit = NOW + timedelta(seconds=3 * beat_seconds)
    assert not beating(beat_seconds).is_silent(limit)
    assert beating(beat_seconds).is_silent(limit + timedelta(milliseconds=1))


def test_a_task_at_work_has_no_due_time() -> None:
    task = LongTask(
        key=ndb.Key(LongTask, ID, project="tests", database="tests", namespace="tests"),
        created_at=NOW,
        requested_at=NOW,
        due_at=NOW,
    )
    waiting, working = Snapshot.of(task, now=NOW), Snapshot.of(task, now=NOW, beat_seconds=5)
    assert (waiting.due_at, waiting.beat_at) == (NOW, None)
    assert (working.due_at, working.beat_at) == (None, NOW)


def test_without_heartbeats_no_owner_is_silent() -> None:
    assert not snapshot_of(Status.READY).is_silent(NOW + timedelta(days=1))


def test_a_task_whose_owner_beats_needs_no_check_even_past_its_time() -> None:
    snapshot = snapshot_of(beat_at=NOW, beat_seconds=0.5, due_at=NOW - timedelta(hours=1))
    assert not snapshot.needs_check(NOW + timedelta(seconds=1))


def test_a_task_whose_owner_is_silent_needs_a_check_even_before_its_time() -> None:
    snapshot = snapshot_of(beat_at=NOW, beat_seconds=0.5, due_at=NOW + timedelta(hours=1))
    assert snapshot.needs_check(NOW + timedelta(seconds=2))


def test_a_task_without_an_owner_needs_a_check_once_it_is_due() -> None:
    snapshot = snapshot_of(Status.READY, due_at=NOW)
    assert not snapshot.needs_check(NOW - timedelta(microseconds=1))
    assert snapshot.needs_check(NOW)


@pytest.mark.parametrize("status", [Status.DONE, Status.FINISHED])
def test_a_task_with_a_result_needs_no_check_ever(status: Status) -> None:
    snapshot = snapshot_of(status, due_at=NOW, beat_at=NOW, beat_seconds=0.5)
    assert not snapshot.needs_check(NOW + timedelta(days=1))


def test_a_task_with_a_result_needs_a_check_once_its_handler_should_have_been_told() -> None:
    snapshot = snapshot_of(Status.FINISHED, due_at=NOW)
    assert not snapshot.needs_check(NOW - timedelta(microseconds=1))
    assert snapshot.needs_check(NOW)


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_an_end_that_a_retry_may_undo_is_always_checked(status: Status) -> None:
    assert snapshot_of(status).needs_check(NOW)


def test_a_task_that_is_neither_due_nor_owned_needs_no_check() -> None:
    assert not snapshot_of(Status.READY, due_at=None).needs_check(NOW)
