"""The phases and the facts of a task, as its pages show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from gaetk_longtask.info import Progress
from gaetk_longtask.web.languages.language import Language

_UNKNOWN = "–"  #: stands for a fact that the work has not reported yet; `longtask.js` uses it too


class PhaseState(StrEnum):
    """The state of a phase; the values are those of ``data-state``."""

    DONE = "done"
    NOW = "now"
    NEXT = "next"

    def word(self, language: Language) -> str:
        """Return the state in words, for screen readers."""
        match self:
            case PhaseState.DONE:
                return language.gettext("done")
            case PhaseState.NOW:
                return language.gettext("in progress")
            case PhaseState.NEXT:
                return language.gettext("to come")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownPhase:
    """A phase in the list of a page."""

    name: str
    number: int  #: from 1
    state: PhaseState

    @classmethod
    def all_of(cls, progress: Progress, names: Sequence[object]) -> tuple[Self, ...]:
        """Return the phases of a task whose class has these names; only the present one if it has others by now.

        Lazy names are translated.
        """
        present = progress.phase
        if present is not None and present.count != len(names):
            return (cls(name=present.name, number=present.number, state=PhaseState.NOW),)
        return tuple(
            cls(name=str(name), number=number, state=_state(number, present.number if present else 0))
            for number, name in enumerate(names, 1)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownFact:
    """A fact in the list of a page."""

    name: str
    label: str
    value: float | str | None  #: None if the work has not reported it
    text: str  #: the value in the visitor's language

    @classmethod
    def all_of(cls, progress: Progress, labels: Mapping[str, object], language: Language) -> tuple[Self, ...]:
        """Return the facts of a task whose class has these labels, also those that the class no longer has."""
        facts = []
        for name, label in {**labels, **{name: name for name in progress.facts if name not in labels}}.items():
            value = progress.facts.get(name)
            text = _UNKNOWN if value is None else value if isinstance(value, str) else language.number(value)
            facts.append(cls(name=name, label=str(label), value=value, text=text))
        return tuple(facts)


def _state(number: int, present: int) -> PhaseState:
    if number < present:
        return PhaseState.DONE
    return PhaseState.NOW if number == present else PhaseState.NEXT
