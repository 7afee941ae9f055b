"""What the client prints in a terminal and elsewhere."""

from __future__ import annotations

import io
import unicodedata
from typing import Any

import pytest

from gaetk_longtask.client import ProgressBar, progress_text


def document(**changes: Any) -> dict[str, Any]:
    progress = {"message": "Counting", "step": 1, "total_steps": 4, "percent": 25, "eta_seconds": 3.2}
    progress |= changes.pop("progress", {})
    links = {"self": "/", "result": None, "cancel": None, "retry": None}
    return {"status": "started", "done": False, "progress": progress, "links": links, "error": None, **changes}


def test_progress_is_shown_as_percent_message_and_time_left() -> None:
    assert progress_text(document(), bar_width=0) == "   25 %  Counting  (3 s left)"


def test_the_bar_is_as_full_as_the_work_is_done() -> None:
    assert progress_text(document(), bar_width=8).startswith("  ##------  ")


def test_numbers_that_are_unknown_are_not_made_up() -> None:
    unknown = document(progress={"message": "", "percent": None, "eta_seconds": None})

    assert progress_text(unknown, bar_width=0) == "      -  started"


def test_an_attempt_that_failed_does_not_look_like_one_that_works() -> None:
    assert progress_text(document(status="error"), bar_width=0) == "   25 %  error"


def test_a_task_that_has_a_result_is_full() -> None:
    ended = document(status="done", done=True, links={"result": "/result"})

    assert progress_text(ended, bar_width=4) == "  ####  100 %  done"


def test_what_has_not_changed_is_not_printed_again_where_nothing_moves() -> None:
    out = io.StringIO()
    bar = ProgressBar(out)

    bar(document())
    bar(document(progress={"eta_seconds": 2}))

    assert out.getvalue().count("\n") == 1


class Terminal(io.StringIO):
    """A terminal of 80 columns."""

    def isatty(self) -> bool:
        return True


def columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("message", ["Reading", "x" * 500, "請求書を読み込んでいます" * 20])
def test_a_line_in_a_terminal_is_as_wide_as_the_terminal(message: str) -> None:
    out = Terminal()
    ProgressBar(out)(document(progress={"message": message}))
    assert out.getvalue().startswith("\r  ######------------------   25 %  ")
    assert 78 <= columns(out.getvalue()[1:]) <= 79


def test_the_line_in_a_terminal_ends_with_the_task() -> None:
    out = Terminal()
    bar = ProgressBar(out)
    bar(document())
    bar(document(done=True, status="cancelled"))
    assert out.getvalue().count("\n") == 1
    assert out.getvalue().endswith("\n")


def test_a_message_can_not_control_the_terminal() -> None:
    text = progress_text(document(progress={"message": "\x1b[2Jgone\r\nnew\u202e"}))
    assert text == "   25 %   [2Jgone  new   (3 s left)"


def test_a_message_that_the_output_can_not_encode_is_printed_all_the_same() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    ProgressBar(out)(document(progress={"message": "Prüfe 請求書"}))
    out.seek(0)
    assert "Pr?fe ???" in out.read()


def test_the_parts_that_are_done_are_shown_while_the_task_works() -> None:
    parts = {"done": 3, "total": 12}
    assert progress_text(document(parts=parts)) == "   25 %  Counting  (3 of 12 parts done)  (3 s left)"
    assert "parts" not in progress_text(document(status="ready", parts=parts))


def test_the_phase_is_shown_with_its_number() -> None:
    phase = {"name": "Checking", "number": 2, "count": 3}
    assert progress_text(document(progress={"phase": phase})) == "   25 %  2/3 Checking  Counting  (3 s left)"


def test_a_task_that_failed_says_why() -> None:
    failed = document(status="failed", done=True, error="There are no invoices.")
    assert progress_text(failed) == "   25 %  There are no invoices."
