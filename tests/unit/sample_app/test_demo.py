"""Tests of what the demo prints."""

from __future__ import annotations

import io
from typing import Any

from sample_app.demo import ProgressBar, progress_text, report_table


def document(**changes: Any) -> dict[str, Any]:
    progress = {"message": "Counting", "step": 1, "total_steps": 4, "percent": 25, "eta_seconds": 3.2}
    progress |= changes.pop("progress", {})
    links = {"self": "/", "result": None, "cancel": None, "retry": None}
    return {"status": "started", "done": False, "progress": progress, "links": links, **changes}


def test_progress_is_shown_as_percent_message_and_time_left() -> None:
    assert progress_text(document(), bar_width=0) == "   25 %  Counting  (3 s left)"


def test_the_phase_is_shown_once() -> None:
    phase = {"name": "Storing", "number": 3, "count": 3}
    assert "  Storing: Row 1  " in progress_text(document(progress={"message": "Row 1", "phase": phase}), bar_width=0)
    assert "  Storing  " in progress_text(document(progress={"message": "Storing", "phase": phase}), bar_width=0)


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

    bar.show(document())
    bar.show(document())

    assert out.getvalue().count("\n") == 1


def test_the_table_adds_the_report_up_exactly() -> None:
    report = "Date,Country,Quantity,ValueGBP\n2010-12-01,EIRE,1200,0.10\n2010-12-01,France,-200,1234.25\n"

    assert report_table(report).splitlines() == [
        "  Date        Country  Quantity  ValueGBP",
        "  2010-12-01  EIRE        1,200      0.10",
        "  2010-12-01  France       -200  1,234.25",
        "              Total       1,000  1,234.35",
    ]


def test_an_empty_report_has_a_total_of_nothing() -> None:
    assert report_table("Date,Country,Quantity,ValueGBP\n").splitlines()[-1].split() == ["Total", "0", "0"]
