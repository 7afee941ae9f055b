"""The contents of the waiting page, also under the names of the original library, and the status document."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, nodes
from markupsafe import Markup

import gaetk_longtask
from gaetk_longtask import Status, StatusPage
from gaetk_longtask.info import Parts, Progress
from gaetk_longtask.operators.access import OperatorPage
from gaetk_longtask.operators.many_pages import ManyPage
from gaetk_longtask.operators.pages import StatisticsPage, TaskPage, TasksPage
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.web.languages.language import Language
from gaetk_longtask.web.pages.base import Page, StartPage, TextPage, as_title
from gaetk_longtask.web.pages.links import Links
from gaetk_longtask.web.pages.mine import MinePage
from gaetk_longtask.web.problems import ProblemPage
from tests.unit.conftest import ID, NOW, snapshot_of

HALF_WAY = Progress(message="Reading invoices", step=120, total_steps=240, eta_seconds=59.6)


def page_of(snapshot: Snapshot, *, seconds: float = 0, language: Language | None = None) -> StatusPage:
    """Return the page of a task that was requested some seconds ago."""

    def progress_html(*, page: StatusPage) -> str:
        return f"<p>{page.percent} %</p>"

    return StatusPage.of(
        snapshot,
        title="Making the report",
        now=NOW + timedelta(seconds=seconds),
        progress_html=progress_html,
        language=language,
    )


def document_of(status: Status = Status.STARTED, *, seconds: float = 0, **values: Any) -> dict[str, Any]:
    return page_of(snapshot_of(status, **values), seconds=seconds).document()


# The names of the original.


def test_info_is_the_progress_as_escaped_html() -> None:
    info = page_of(snapshot_of(progress=HALF_WAY))["info"]
    assert info == "<p>50 %</p>"
    assert isinstance(info, Markup)


def test_info_is_rendered_once() -> None:
    rendered = []
    page = StatusPage.of(
        snapshot_of(), title="", now=NOW, progress_html=lambda **context: rendered.append(context) or ""
    )
    page["info"]
    assert len(rendered) == 1


def test_refresh_is_the_seconds_until_the_next_poll() -> None:
    assert page_of(snapshot_of())["refresh"] == 1


def test_statusinfo_is_the_message_of_the_work() -> None:
    page = page_of(snapshot_of(progress=HALF_WAY))
    assert page["statusinfo"] == {"message": "Reading invoices", "step": 120, "total_steps": 240}


@pytest.mark.parametrize("name", ["nonsense", "__class__", "_error"])
def test_other_attributes_are_not_available(name: str) -> None:
    with pytest.raises(KeyError):
        page_of(snapshot_of())[name]


# The polling interval and the times.


@pytest.mark.parametrize(
    ("seconds", "pace"), [(0, 1), (9.9, 1), (10, 2), (59, 2), (60, 3), (599, 3), (600, 5), (100_000, 5)]
)
def test_the_longer_a_task_takes_the_longer_is_the_interval(seconds: float, pace: int) -> None:
    assert page_of(snapshot_of(), seconds=seconds).refresh == pace


@pytest.mark.parametrize("status", list(Status))
def test_an_ended_task_need_not_be_polled(status: Status) -> None:
    page = page_of(snapshot_of(status, ended_at=NOW if status.ended else None))
    assert (page.refresh is None) == page.done == status.ended


def test_time_elapses_since_the_visitor_asked() -> None:
    assert page_of(snapshot_of(), seconds=12.5).elapsed_seconds == 12.5


def test_time_stands_still_once_the_task_has_ended() -> None:
    ended = snapshot_of(Status.DONE, ended_at=NOW + timedelta(seconds=7))
    assert page_of(ended, seconds=3600).elapsed_seconds == 7


def test_a_clock_that_goes_backwards_makes_no_negative_time() -> None:
    assert page_of(snapshot_of(), seconds=-5).elapsed_seconds == 0


def test_a_task_that_has_ended_has_no_time_left() -> None:
    assert page_of(snapshot_of(Status.CANCELLED, progress=HALF_WAY, ended_at=NOW)).eta_seconds is None


# Texts.


GERMAN = Language.best_of(["de"])


@pytest.mark.parametrize(
    ("language", "words"),
    [(Language(), "about 1 minute left"), (GERMAN, "noch etwa 1 Minute")],
)
def test_the_time_left_is_shown_in_words(language: Language, words: str) -> None:
    assert page_of(snapshot_of(progress=HALF_WAY), language=language).time_left == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, ""), (0.94, ""), (0.96, "1 second"), (1.4, "1 second"), (59.44, "59 seconds")]
)
def test_the_elapsed_time_is_shown_from_the_first_second_on(seconds: float, words: str) -> None:
    assert page_of(snapshot_of(), seconds=seconds).elapsed == words


@pytest.mark.parametrize("seconds", [1.49, 7.46, 59.46, 89.6, 89.96, 3569.96, 7169.97])
def test_the_words_are_those_of_the_numbers_in_the_document(seconds: float) -> None:
    """`longtask.js` makes the words of these numbers."""
    progress = Progress(step=1, total_steps=2, eta_seconds=seconds)
    page, language = page_of(snapshot_of(progress=progress), seconds=seconds), Language()
    document = page.document()
    assert page.elapsed == language.duration(document["elapsed_seconds"])
    assert page.time_left == f"about {language.estimate(document['progress']['eta_seconds'])} left"


def test_a_guess_is_not_shown() -> None:
    assert page_of(snapshot_of(progress=Progress(step=1, total_steps=2))).time_left == ""


def test_a_task_without_steps_shows_a_constant_usual_duration() -> None:
    beat = snapshot_of(progress=Progress(eta_seconds=32), beat_at=NOW + timedelta(seconds=8), beat_seconds=5)
    pages = [page_of(beat, seconds=seconds) for seconds in (8, 11.4, 39.9)]
    assert {page.time_left for page in pages} == {"usually takes about 40 seconds"}
    assert [round(page.document()["progress"]["eta_seconds"]) for page in pages] == [32, 29, 0]
    assert page_of(beat, seconds=40).time_left == ""


@pytest.mark.parametrize(
    ("status", "attempt", "state", "announced"),
    [
        (Status.READY, 1, "Waiting to start", ""),
        (Status.STARTED, 1, "Working", "The work has started."),
        (Status.ERROR, 2, "Attempt 2 starts shortly", ""),
        (Status.STARTED, 2, "Working, attempt 2", "Attempt 2 has started."),
        (Status.DONE, 2, "Finished", "The result is ready"),
        (Status.FINISHED, 2, "Finished", "The result is ready"),
        (Status.FAILED, 6, "Failed", "The task failed"),
        (Status.CANCELLED, 1, "Cancelled", "The task was cancelled"),
    ],
)
def test_each_state_has_its_texts(status: Status, attempt: int, state: str, announced: str) -> None:
    page = page_of(snapshot_of(status, attempt=attempt))
    assert (page.state, page.announcement) == (state, announced)


def test_our_own_texts_are_translated_and_the_authors_are_not() -> None:
    snapshot = snapshot_of(Status.READY, progress=Progress(message="Starting", initial=True))
    page = StatusPage.of(snapshot, title="Please wait", now=NOW, progress_html=str, language=GERMAN)
    assert (page.title, page.message) == ("Bitte warten", "Wird gestartet")
    assert page_of(snapshot_of(progress=HALF_WAY), language=GERMAN).message == "Reading invoices"


def test_work_that_has_reported_nothing_is_no_longer_starting() -> None:
    nothing = Progress(message="Starting", initial=True)
    assert page_of(snapshot_of(Status.READY, progress=nothing)).message == "Starting"
    assert page_of(snapshot_of(Status.STARTED, progress=nothing)).message == "Working"
    assert document_of(Status.STARTED, progress=nothing)["progress"]["message"] == "Working"


@pytest.mark.parametrize("message", ["Starting", "Working", ""])
@pytest.mark.parametrize("status", Status)
def test_the_authors_message_is_shown_as_it_is(status: Status, message: str) -> None:
    page = page_of(snapshot_of(status, progress=Progress(message=message)), language=GERMAN)
    assert page.message == page.statusinfo["message"] == page.document()["progress"]["message"] == message


@pytest.mark.parametrize(
    ("values", "explanation"),
    [
        ({"attempt": 0}, "The work could not be started."),
        ({"attempt": 1}, "Something went wrong."),
        ({"attempt": 5}, "Something went wrong. We tried 5 times."),
        ({"attempt": 1, "permanent": True}, "The work can't be completed. Another attempt would not help."),
        (
            {"attempt": 3, "permanent": True, "error": ""},
            "The work can't be completed. Another attempt would not help.",
        ),
        ({"attempt": 1, "permanent": True, "error": "No invoices."}, "No invoices."),
    ],
)
def test_a_failed_task_says_what_happened(values: dict[str, Any], explanation: str) -> None:
    assert page_of(snapshot_of(Status.FAILED, **values)).explanation == explanation


def test_a_cancelled_task_may_still_be_working() -> None:
    explanation = page_of(snapshot_of(Status.CANCELLED)).explanation
    assert explanation == "The work stops at its next step, if it has not stopped yet. You can try again."


@pytest.mark.parametrize("status", list(Status))
def test_the_title_of_the_handler_stays_in_the_title_of_the_document(status: Status) -> None:
    page = page_of(snapshot_of(status))
    assert page.document_title.endswith("Making the report")
    assert page.document_title.startswith(page.heading)


def test_a_handler_without_a_title_asks_to_wait_only_while_there_is_something_to_wait_for() -> None:
    def titles(status: Status) -> tuple[str, str]:
        page = StatusPage.of(snapshot_of(status), title="Please wait", now=NOW, progress_html=str)
        return page.document_title, page.subject

    assert titles(Status.READY) == ("Waiting to start", "")
    assert titles(Status.STARTED) == ("Working", "")
    assert titles(Status.FAILED) == ("The task failed", "")
    assert StatusPage.of(snapshot_of(), title="Please wait", now=NOW, progress_html=str).heading == "Please wait"


@pytest.mark.parametrize("status", list(Status))
def test_the_title_of_the_task_takes_the_place_of_the_handlers(status: Status) -> None:
    page = page_of(snapshot_of(status, title="Invoices of May"), language=GERMAN)
    assert page.document_title in ("Invoices of May", f"{page.heading} – Invoices of May")
    assert (page.title, page.subject) == ("Invoices of May", "Invoices of May")
    assert page.document()["title"] == "Invoices of May"


def test_the_title_of_a_task_is_not_translated() -> None:
    pages = [page_of(snapshot_of(title=title), language=GERMAN) for title in ("Cancel", "Please wait")]
    assert [page.subject for page in pages] == ["Cancel", "Please wait"]


class Lazy:
    """As Flask-Babel's lazy texts, which are no `str`."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("Making the report", "Making the report"),
        (Lazy("Der Bericht"), "Der Bericht"),
        (Lazy("x" * 121), "x" * 119 + "…"),
        (Lazy("Cancel"), "Abbrechen"),
        (Lazy("Please wait"), None),
        (Lazy(" "), None),
        ("Please wait", None),
        (None, None),
    ],
)
def test_the_document_has_the_handlers_title_in_the_visitors_language(title: Any, shown: str | None) -> None:
    page = StatusPage.of(snapshot_of(), title=title, now=NOW, progress_html=str, language=GERMAN)
    assert page.document()["title"] == shown
    assert page.title == (shown or "Bitte warten")


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Invoices of May", "Invoices of May"),
        (" Invoices\r\n\tof\x00\x1b\x9b\u2028 May\xa0", "Invoices of May"),
        ("Łódź – 五月 👩‍💻", "Łódź – 五月 👩‍💻"),
        ("می‌خواهم", "می‌خواهم"),
        ("\ud800", "?"),
        ("x" * 120, "x" * 120),
        ("x" * 121, "x" * 119 + "…"),
        ("x" * 118 + " yy", "x" * 118 + "…"),
        ("x " * 10**6, "x " * 59 + "x…"),
        (" \n\0", ""),
        ("", ""),
    ],
    ids=ascii,
)
def test_a_title_is_one_line_of_at_most_120_characters(text: str, title: str) -> None:
    assert as_title(text) == title
    assert len(as_title(text)) <= 120


# The contract with templates.


TEMPLATES = sorted(Path(gaetk_longtask.__file__).parent.glob("templates/gaetk_longtask/*.html"))
MANUAL = (Path(__file__).parents[4] / "docs" / "own-page.md").read_text(encoding="utf-8")


def used_of_page(source: str) -> set[str]:
    found = Environment().parse(source).find_all(nodes.Getattr)
    return {each.attr for each in found if isinstance(each.node, nodes.Name) and each.node.name == "page"}


def offered(cls: type[Page]) -> set[str]:
    """Return all public names of a page."""
    return {name for name in dir(cls) if not name.startswith("_")} - {"of", "document"}


def documented(heading: str) -> set[str]:
    """Return the names in the first column of the manual's table under a heading."""
    section = MANUAL.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]+`) \|", section, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(?:page\.)?(\w+)", cell)}


PAGES: dict[str, type[Page]] = {
    "problem.html": ProblemPage,
    "start.html": StartPage,
    "text.html": TextPage,
    "base.html": Page,
    "mine.html": MinePage,
    "overview.html": OperatorPage,
    "overview_many.html": ManyPage,
    "overview_tasks.html": TasksPage,
    "overview_task.html": TaskPage,
    "overview_statistics.html": StatisticsPage,
}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_uses_only_names_of_its_page(path: Path) -> None:
    assert used_of_page(path.read_text(encoding="utf-8")) <= offered(PAGES.get(path.name, StatusPage))


@pytest.mark.parametrize("name", sorted(offered(StatusPage)))
def test_every_name_of_a_status_page_is_available_in_the_originals_syntax_too(name: str) -> None:
    page = page_of(snapshot_of())
    assert page[name] == getattr(page, name)


def test_the_manual_lists_exactly_the_names_of_a_status_page() -> None:
    assert documented("What a template may use") == offered(StatusPage)


def test_the_manual_lists_exactly_the_links_that_there_are() -> None:
    assert documented("Links") == {name for name, member in vars(Links).items() if isinstance(member, property)}


def test_the_manual_lists_exactly_the_blocks_that_there_are() -> None:
    base = next(path for path in TEMPLATES if path.name == "base.html").read_text(encoding="utf-8")
    assert documented("Blocks") == {block.name for block in Environment().parse(base).find_all(nodes.Block)}


def test_the_manual_lists_exactly_the_properties_of_the_stylesheet() -> None:
    css = (TEMPLATES[0].parents[2] / "static" / "longtask.css").read_text(encoding="utf-8")
    root = css.split(":where(:root) {")[1].split("}")[0]
    section = MANUAL.split("\n## Looks\n")[1].split("\n## ")[0]
    assert set(re.findall(r"`(--lt-[a-z-]+)`", section)) == set(re.findall(r"(--lt-[a-z-]+):", root))


# Links.


@pytest.mark.parametrize(
    ("status", "possible"),
    [
        ("ready", {"cancel"}),
        ("started", {"cancel"}),
        ("error", {"cancel"}),
        ("done", {"result"}),
        ("finished", {"result"}),
        ("failed", {"retry"}),
        ("cancelled", {"retry"}),
    ],
)
def test_there_is_a_link_for_every_action_that_the_state_allows(status: str, possible: set[str]) -> None:
    links = document_of(Status(status))["links"]
    assert set(links) == {"self", "result", "cancel", "retry"}
    assert {name for name, url in links.items() if url} == possible | {"self"}


def test_a_link_leads_to_the_same_task() -> None:
    links = document_of(path="/shop/report")["links"]
    assert links["self"] == f"/shop/report?_longtaskjob=query&_longtaskid={ID}"
    assert links["cancel"] == f"/shop/report?_longtaskjob=cancel&_longtaskid={ID}"


# The status document.


def test_the_document_contains_everything_that_is_known() -> None:
    document = document_of(progress=HALF_WAY, attempt=2, seconds=61.25)
    assert document == {
        "id": ID,
        "status": "started",
        "done": False,
        "title": "Making the report",
        "progress": {
            "message": "Reading invoices",
            "step": 120,
            "total_steps": 240,
            "percent": 50,
            "eta_seconds": 60,
        },
        "attempt": 2,
        "elapsed_seconds": 61.2,
        "created_at": "2026-01-01T00:00:00+00:00",
        "poll_after_seconds": 3,
        "error": None,
        "links": {
            "self": f"/report?_longtaskjob=query&_longtaskid={ID}",
            "result": None,
            "cancel": f"/report?_longtaskjob=cancel&_longtaskid={ID}",
            "retry": None,
        },
    }


def test_unknown_numbers_are_null_and_never_0() -> None:
    progress = document_of(Status.READY)["progress"]
    assert progress == {"message": "", "step": None, "total_steps": None, "percent": None, "eta_seconds": None}


def test_a_step_of_0_is_known_where_the_total_is() -> None:
    progress = document_of(progress=Progress(total_steps=3))["progress"]
    assert (progress["step"], progress["total_steps"], progress["percent"]) == (0, 3, 0)


def test_steps_without_a_total_have_no_percent() -> None:
    progress = document_of(progress=Progress(step=3))["progress"]
    assert (progress["step"], progress["total_steps"], progress["percent"]) == (3, None, None)


def test_whole_steps_are_whole_numbers_and_others_are_not() -> None:
    progress = document_of(progress=Progress(step=1.5, total_steps=3.0))["progress"]
    assert json.dumps([progress["step"], progress["total_steps"]]) == "[1.5, 3]"


@pytest.mark.parametrize(
    ("status", "done"),
    [("ready", False), ("started", False), ("error", False), ("done", True), ("failed", True), ("cancelled", True)],
)
def test_done_means_that_nothing_more_will_happen(status: str, done: bool) -> None:
    assert document_of(Status(status))["done"] is done


def test_the_error_is_the_message_of_the_author() -> None:
    document = document_of(Status.FAILED, error="There are no invoices in 2031.", error_reference="00c0ffee")
    assert document["error"] == "There are no invoices in 2031."


def test_an_error_without_a_message_has_a_reference_for_the_operator() -> None:
    assert "00c0ffee" in document_of(Status.FAILED, error_reference="00c0ffee")["error"]


def test_the_error_of_an_attempt_that_is_retried_is_not_the_tasks() -> None:
    assert document_of(Status.ERROR, error_reference="00c0ffee")["error"] is None


def test_the_parts_of_a_task_are_on_the_page_in_its_language_and_in_the_document_as_numbers() -> None:
    snapshot = snapshot_of(progress=Progress(share=0.5, parts=Parts(done=999, total=1000)))
    assert page_of(snapshot).parts_done == "Parts done: 999 of 1,000"
    assert page_of(snapshot, language=GERMAN).parts_done == "Fertige Teile: 999 von 1.000"
    assert page_of(snapshot).document()["parts"] == {"done": 999, "total": 1000}


def test_a_task_in_one_piece_says_nothing_about_parts() -> None:
    page = page_of(snapshot_of(progress=HALF_WAY))
    assert (page.parts, page.parts_done) == (None, "")
    assert "parts" not in page.document()


@pytest.mark.parametrize("parts", [None, Parts(done=999, total=1000)], ids=["in one piece", "in parts"])
@pytest.mark.parametrize("status", list(Status))
def test_the_document_of_an_ordinary_task_has_at_most_650_bytes(status: Status, parts: Parts | None) -> None:
    document = document_of(
        status,
        seconds=599.94,
        path="/reports/intrastat/2010-12",
        attempt=5,
        progress=Progress(
            message="Reading the invoices of 2010-12-31",
            step=0 if parts else 123456,
            total_steps=0 if parts else 541909,
            share=0.998 if parts else None,
            eta_seconds=3,
            parts=parts,
        ),
        error="There are no invoices in December 2031.",
        ended_at=NOW if status.ended else None,
    )
    assert len(json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()) <= 650
