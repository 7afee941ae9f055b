"""The command line's output for a task, as JSON and as text."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gaetk_longtask import Status
from gaetk_longtask.info import Progress
from gaetk_longtask.operators import overview
from gaetk_longtask.operators.cli_output import document, printable, said, span
from gaetk_longtask.operators.overview import Row
from gaetk_longtask.progress.snapshot import Snapshot
from tests.unit.conftest import NOW, snapshot_of


def row_of(live: Snapshot | None) -> Row:
    return Row(id="a", endpoint="report", status=Status.STARTED, attempts=1, created_at=NOW, live=live)


def test_a_document_says_what_the_list_knows() -> None:
    assert document(row_of(None)) == {
        "id": "a",
        "status": "started",
        "endpoint": "report",
        "title": None,
        "created_at": "2026-01-01T00:00:00+00:00",
        "created_by": None,
        "attempts": 1,
        "reason": None,
        "progress": None,
    }


def test_unknown_numbers_are_null_and_never_0() -> None:
    progress = document(row_of(snapshot_of(progress=Progress(message="Reading"))))["progress"]
    assert progress == {"message": "Reading", "step": None, "total_steps": None, "percent": None, "eta_seconds": None}


@pytest.mark.parametrize(
    ("live", "words"),
    [
        (None, ""),
        (snapshot_of(progress=Progress(message="Reading")), "Reading"),
        (snapshot_of(progress=Progress(message="Reading", step=1, total_steps=4)), "25 % Reading"),
    ],
    ids=["unknown", "no steps", "steps"],
)
def test_progress_is_said_in_a_few_words(live: Snapshot | None, words: str) -> None:
    assert said(live) == words


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(seconds=90), "90s"),
        (timedelta(minutes=3), "3m"),
        (timedelta(hours=30), "30h"),
        (timedelta(days=9), "9d"),
    ],
)
def test_a_duration_is_written_as_a_filter_takes_it(duration: timedelta, text: str) -> None:
    assert span(duration) == text
    assert overview.parse_age(text) == duration


def test_what_is_printed_stays_in_its_line_and_leaves_the_terminal_alone() -> None:
    assert printable("Read\ning \x1b[31m\x9b") == "Read ing  [31m "
