"""The result of a check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

LOGIN = "Log in: gcloud auth application-default login."


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


def ok(check: str, text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check=check, outcome=Outcome.OK, text=text)


def problem(check: str, text: str, remedy: str) -> Finding:
    """Return a finding that something must be fixed."""
    return Finding(check=check, outcome=Outcome.PROBLEM, text=text, remedy=remedy)


def not_checked(check: str, text: str, remedy: str = "") -> Finding:
    """Return a finding that nothing could be found out."""
    return Finding(check=check, outcome=Outcome.NOT_CHECKED, text=text, remedy=remedy)


def one_line(exc: Exception) -> str:
    """Return an error in one line."""
    return f"{type(exc).__name__}: {' '.join(str(exc).split())[:300]}"
