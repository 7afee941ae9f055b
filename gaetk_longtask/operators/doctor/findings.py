"""The result of a check."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a check ended."""

    OK = "ok"
    PROBLEM = "problem"
    NOT_CHECKED = "not checked"  #: the text says why


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of the report."""

    check: str  #: what was checked
    outcome: Outcome
    text: str  #: what was found
    remedy: str = ""  #: what to do about it

    def document(self) -> dict[str, Any]:
        """Return the finding as JSON takes it."""
        return asdict(self)


def ok(check: str, text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check=check, outcome=Outcome.OK, text=text)


def problem(check: str, text: str, remedy: str) -> Finding:
    """Return a finding that something must be fixed."""
    return Finding(check=check, outcome=Outcome.PROBLEM, text=text, remedy=remedy)


def not_checked(check: str, text: str, remedy: str = "") -> Finding:
    """Return a finding that nothing could be found out."""
    return Finding(check=check, outcome=Outcome.NOT_CHECKED, text=text, remedy=remedy)
