"""Checks that every line was stored exactly once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sample_app.invoice_file import InvoiceRow
from tests.endurance.app import receipt


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The number of errors of each kind."""

    lost: int  #: lines that are missing
    doubled: int  #: lines that are there more than once, or were not in the file
    wrong_results: int  #: 1 if the task's result is wrong

    def __bool__(self) -> bool:
        return bool(self.lost or self.doubled or self.wrong_results)

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(
            lost=self.lost + other.lost,
            doubled=self.doubled + other.doubled,
            wrong_results=self.wrong_results + other.wrong_results,
        )


NOTHING_WRONG = Verdict(lost=0, doubled=0, wrong_results=0)


def judge(rows: Iterable[InvoiceRow], found: Mapping[str, int], *, result_is_right: bool) -> Verdict:
    """Compare the lines that were found, by name, with the expected ones."""
    expected = {row.key_name for row in rows}
    return Verdict(
        lost=sum(found.get(name, 0) == 0 for name in expected),
        doubled=sum(times > (name in expected) for name, times in found.items()),
        wrong_results=int(not result_is_right),
    )


def receipts_are_right(rows: Iterable[InvoiceRow], body: bytes) -> bool:
    """Return whether there is one receipt for each line, in the order of the file."""
    return body == "".join(map(receipt, rows)).encode()


def import_is_right(rows: list[InvoiceRow], body: bytes) -> bool:
    """Return whether the import reports that it has imported all lines and skipped none."""
    return bool(json.loads(body) == {"imported": len(rows), "skipped": []})
