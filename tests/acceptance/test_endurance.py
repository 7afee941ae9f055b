"""A small run of what `nox -s endurance` does for many minutes."""

from __future__ import annotations

import random

from tests.endurance.app import BATCH_LINES, invoice_lines, relayed
from tests.endurance.hunter import draw
from tests.endurance.judge import NOTHING_WRONG, judge, receipts_are_right
from tests.endurance.runs import Course


def test_work_that_is_handed_over_and_killed_on_the_way_gives_the_result_byte_for_byte(course: Course) -> None:
    run = course.relay(units=60, seconds=6, shots=draw(random.Random(1), steps=60, kills=1, delay_seconds=0.5))

    assert run.handed_over >= 3
    assert run.kills == 1
    assert run.body == relayed(60)
    assert course.broken_laws() == []


def test_an_import_with_a_kill_and_a_zombie_enters_every_line_once(course: Course) -> None:
    rows = invoice_lines(1_000)
    shots = draw(random.Random(2), steps=len(rows) // BATCH_LINES, kills=1, freezes=1, delay_seconds=0.1)

    run = course.booking(lines=len(rows), shots=shots)

    assert (run.kills, run.freezes) == (1, 1)
    assert judge(rows, course.entries(run), result_is_right=receipts_are_right(rows, run.body)) == NOTHING_WRONG
    assert course.broken_laws() == []
