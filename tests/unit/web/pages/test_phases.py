"""Phases and facts on the page and in the status document."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gaetk_longtask import Status, StatusPage
from gaetk_longtask.info import Phase, Progress
from gaetk_longtask.web.languages.language import Language
from tests.unit.conftest import NOW, snapshot_of

NAMES = ("Reading", "Checking", "Storing")
LABELS = {"imported": "Imported", "skipped": "Skipped"}
IN_CHECKING = Progress(
    message="Line 3", step=3, total_steps=4, phase=Phase(name="Checking", number=2, count=3), share=0.45
)


def page_of(progress: Progress | None = None, **more: Any) -> StatusPage:
    snapshot = snapshot_of(Status.STARTED, progress=progress or Progress())
    return StatusPage.of(snapshot, title="Import", now=NOW, progress_html=str, **more)


def states(page: StatusPage) -> list[tuple[str, str]]:
    return [(phase.name, phase.state.value) for phase in page.phases]


def test_phases_are_done_now_or_next() -> None:
    assert states(page_of(IN_CHECKING, phases=NAMES)) == [("Reading", "done"), ("Checking", "now"), ("Storing", "next")]


def test_before_the_first_phase_all_are_to_come() -> None:
    assert {state for _, state in states(page_of(phases=NAMES))} == {"next"}


def test_a_class_without_phases_and_facts_shows_none() -> None:
    page = page_of()
    assert (page.phases, page.facts) == ((), ())
    assert "facts" not in page.document()
    assert "phase" not in page.document()["progress"]


@pytest.mark.parametrize("names", [(), ("Loading", "Saving")])
def test_if_the_class_has_other_phases_by_now_only_the_present_one_is_shown(names: tuple[str, ...]) -> None:
    assert states(page_of(IN_CHECKING, phases=names)) == [("Checking", "now")]


def test_the_names_are_those_of_the_visitors_language() -> None:
    page = page_of(IN_CHECKING, phases=("Lesen", "Prüfen", "Speichern"))
    assert page.document()["progress"]["phase"] == {"name": "Prüfen", "number": 2, "count": 3}


def test_the_document_has_the_phase_and_the_percentage_of_the_whole_task() -> None:
    progress = page_of(IN_CHECKING, phases=NAMES).document()["progress"]
    assert progress["phase"] == {"name": "Checking", "number": 2, "count": 3}
    assert (progress["step"], progress["total_steps"], progress["percent"]) == (3, 4, 45)


def test_before_the_first_phase_the_document_has_null() -> None:
    assert page_of(phases=NAMES).document()["progress"]["phase"] is None


def test_the_document_has_the_facts_by_name() -> None:
    progress = Progress(facts={"imported": 12_000})
    assert page_of(progress, facts=LABELS).document()["facts"] == {"imported": 12_000}
    assert page_of(facts=LABELS).document()["facts"] == {}


def test_facts_are_shown_with_their_labels_and_in_the_order_of_the_class() -> None:
    progress = Progress(facts={"skipped": "a few", "gone": 1, "imported": 12_000})
    page = page_of(progress, facts=LABELS)
    assert [(fact.label, fact.text) for fact in page.facts] == [
        ("Imported", "12,000"),
        ("Skipped", "a few"),
        ("gone", "1"),
    ]


def test_a_fact_that_was_not_reported_yet_is_a_dash() -> None:
    assert [fact.text for fact in page_of(facts=LABELS).facts] == ["–", "–"]


@pytest.mark.parametrize(
    ("value", "english", "german"),
    [
        (0, "0", "0"),
        (1_234_567, "1,234,567", "1.234.567"),
        (-1234.5678, "-1,234.568", "-1.234,568"),
        (0.25, "0.25", "0,25"),
    ],
)
def test_numbers_have_the_separators_of_the_language(value: float, english: str, german: str) -> None:
    assert [Language.best_of([code]).number(value) for code in ("en", "de")] == [english, german]


def test_phase_and_facts_add_at_most_1_kb_to_the_document() -> None:
    values = {f"{number:x>30}": 0.12345678901234568 for number in range(10)}
    full = Progress(phase=Phase(name="ü" * 60, number=20, count=20), facts=values)
    phases = [*map(str, range(19)), "ü" * 60]
    sizes = [
        len(json.dumps(page.document(), separators=(",", ":")))
        for page in (page_of(), page_of(full, phases=phases, facts=dict.fromkeys(values, "A fact")))
    ]
    assert sizes[1] - sizes[0] <= 1000
