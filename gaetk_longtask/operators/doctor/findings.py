"""What a check has found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a check ended."""

    OK = "ok"
    PROBLEM = "problem"
    NOT_CHECKED = "not checked"  #: and the text says why


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of the report."""

    check: str  #: what was looked at
    outcome: Outcome
    text: str  #: what was found
    remedy: str = ""  #: what to do about it

    def document(self) -> dict[str, Any]:
        """Give it for a machine to read."""
        return asdict(self)


def ok(check: str, text: str) -> Finding:
    """Find nothing wrong."""
    return Finding(check=check, outcome=Outcome.OK, text=text)


def problem(check: str, text: str, remedy: str) -> Finding:
    """Find something that has to be mended."""
    return Finding(check=check, outcome=Outcome.PROBLEM, text=text, remedy=remedy)


def not_checked(check: str, text: str, remedy: str = "") -> Finding:
    """Find out nothing."""
    return Finding(check=check, outcome=Outcome.NOT_CHECKED, text=text, remedy=remedy)
