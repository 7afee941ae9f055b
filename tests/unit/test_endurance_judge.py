"""The checks of the endurance test detect lost, duplicated and wrong lines."""

from __future__ import annotations

import pytest

from tests.endurance.app import invoice_lines, receipt
from tests.endurance.judge import NOTHING_WRONG, Verdict, import_is_right, judge, receipts_are_right

ROWS = invoice_lines(300)
NAMES = [row.key_name for row in ROWS]


def test_no_two_lines_have_the_same_name() -> None:
    assert len(set(NAMES)) == len(ROWS) == 300


def test_every_line_once_is_fine() -> None:
    assert judge(ROWS, dict.fromkeys(NAMES, 1), result_is_right=True) == NOTHING_WRONG
    assert not NOTHING_WRONG


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (dict.fromkeys(NAMES[1:], 1), Verdict(lost=1, doubled=0, wrong_results=0)),
        (dict.fromkeys(NAMES, 1) | {NAMES[0]: 0}, Verdict(lost=1, doubled=0, wrong_results=0)),
        (dict.fromkeys(NAMES, 1) | {NAMES[0]: 2}, Verdict(lost=0, doubled=1, wrong_results=0)),
        (dict.fromkeys(NAMES, 1) | {"foreign": 1}, Verdict(lost=0, doubled=1, wrong_results=0)),
        (dict.fromkeys(NAMES[2:], 1) | {NAMES[0]: 2}, Verdict(lost=1, doubled=1, wrong_results=0)),
    ],
)
def test_a_line_that_is_lost_or_there_twice_is_found(found: dict[str, int], verdict: Verdict) -> None:
    assert judge(ROWS, found, result_is_right=True) == verdict
    assert verdict


def test_a_wrong_result_is_found() -> None:
    assert judge(ROWS, dict.fromkeys(NAMES, 1), result_is_right=False)


def test_a_receipt_that_is_missing_doubled_or_out_of_order_is_found() -> None:
    receipts = [receipt(row).encode() for row in ROWS]
    assert receipts_are_right(ROWS, b"".join(receipts))
    assert not receipts_are_right(ROWS, b"".join(receipts[1:]))
    assert not receipts_are_right(ROWS, b"".join([receipts[0], *receipts]))
    assert not receipts_are_right(ROWS, b"".join([receipts[1], receipts[0], *receipts[2:]]))


def test_an_import_that_has_counted_wrong_is_found() -> None:
    assert import_is_right(ROWS, b'{"skipped": [], "imported": 300}')
    assert not import_is_right(ROWS, b'{"skipped": [], "imported": 550}')
    assert not import_is_right(ROWS, b'{"skipped": [[2, "why"]], "imported": 300}')
