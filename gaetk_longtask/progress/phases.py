"""The phases of an attempt: how long each took, and what follows for the bar and the time left of the whole task.

A phase is as long on the bar as it usually takes. Does no I/O of its own, except for asking what is usual.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from gaetk_longtask.exceptions import LongTaskError
from gaetk_longtask.info import Phase, Progress

_NEARLY_DONE = 0.9999  #: the bar is only full once the task has ended
#: The part of the usual time of all phases that a comparison has in common with earlier runs: so little of a run shows
#: at first that it can't be compared with others.
_PRIOR = 0.05


class Phases:
    """The phases of one attempt. Only the work's thread calls `begin`; any thread may call the rest."""

    def __init__(
        self,
        names: Sequence[str] = (),
        *,
        clock: Callable[[], datetime],
        usual_seconds: Callable[[], Mapping[str, float]] = dict,
        progress: Progress | None = None,
        kept: Mapping[str, Any] | None = None,
        complete: bool = True,
    ) -> None:
        """Start in the phase that `progress` names, until the work says which phase it begins with.

        `usual_seconds` returns what each phase usually takes. It is called once. `kept` is what `kept` returned in the
        previous attempt, if this attempt continues where that one has stopped. `complete` says whether this attempt
        measures the whole task, and not only what an earlier attempt has left.
        """
        self.names = tuple(names)
        self._clock = clock
        self._usual_seconds = usual_seconds
        progress = progress or Progress()
        if kept is not None and kept.get("names") != list(self.names):  # another version of the application
            kept = None
        self._continues = kept is not None
        self._complete = kept["complete"] if kept is not None else complete
        self._usual: list[float | None] | None = kept["usual"] if kept is not None else None
        spent = tuple(kept["spent"]) if kept is not None else (0.0,) * len(self.names)
        self._state = _known_number(self.names, progress.phase), clock(), spent  # one tuple, for other threads
        self._begun = False
        self._floor = progress.share or 0.0 if kept is not None else 0.0

    @property
    def number(self) -> int:
        """The number of the phase, from 1; 0 before the first one."""
        return self._state[0]

    def phase(self, number: int) -> Phase | None:
        """Return the phase with a number; None for 0."""
        return Phase(name=self.names[number - 1], number=number, count=len(self.names)) if number else None

    def begins(self, number: int) -> bool:
        """Return whether a phase is not the present one. Raise `LongTaskError` if it is an earlier one."""
        if self._begun and number < self.number:
            earlier, present = self.names[number - 1], self.names[self.number - 1]
            raise LongTaskError(
                f"phase({earlier!r}) was called after phase({present!r}). Call the phases in the order of the class; "
                "only a new attempt may begin with any of them."
            )
        return number != self.number or not (self._begun or self._continues)

    def begin(self, number: int) -> None:
        """Begin a phase. Phases between the last one and this one count as done."""
        if self.begins(number):
            measured = self._begun or self._continues
            if not measured:
                self._floor = 0.0  # what the previous attempt has reached is lost
            self._state = number, self._clock(), self.seconds() if measured else self._state[2]
        self._begun = True

    def seconds(self) -> tuple[float, ...]:
        """Return how many seconds each phase has taken so far."""
        number, since, spent = self._state
        lasted = max(0.0, (self._clock() - since).total_seconds())
        return tuple(each + lasted if index == number - 1 else each for index, each in enumerate(spent))

    def measured(self) -> dict[str, float] | None:
        """Return how many seconds each phase of the whole task has taken, or None if that is not known."""
        if not self.names or not self._complete or not (self._begun or self._continues):
            return None
        return dict(zip(self.names, self.seconds(), strict=True))

    def kept(self) -> dict[str, Any]:
        """Return what the next attempt needs to continue, as JSON values."""
        spent = [round(each, 3) for each in self.seconds()]
        return {"names": list(self.names), "spent": spent, "usual": self._usual, "complete": self._complete}

    def ask(self) -> None:
        """Ask what is usual, once. The bar must not change its scale afterwards."""
        if self.names and self._usual is None:
            usual = self._usual_seconds()
            self._usual = [usual.get(name) for name in self.names]

    def share(self, number: int, step: float, total_steps: float) -> float | None:
        """Return the share of the whole task that is done, which never goes back; None without phases."""
        if not self.names:
            return None
        weights = self._weights()
        done = sum(weights[: number - 1]) if number else 0.0
        if number and total_steps > 0:
            done += weights[number - 1] * max(0.0, min(1.0, step / total_steps))
        share = max(self._floor, min(done / sum(weights), _NEARLY_DONE))
        if self._usual is not None:
            self._floor = share
        return share

    def seconds_left(self, by_pace: float | None) -> float | None:
        """Return the seconds left of the whole task, or None if too little is known.

        `by_pace` are the seconds left of the present phase, as the pace of its steps says; None if it says nothing.
        """
        number, seconds, usual = self.number, self.seconds(), self._usual or [None] * len(self.names)
        before, after = max(number - 1, 0), usual[number:]
        if None in after or (by_pace is None and number and usual[before] is None):
            return None
        elapsed = seconds[before] if number else 0.0
        known = [each or 0.0 for each in usual]
        prior = _PRIOR * sum(known)
        taken = sum(seconds[:before]) + prior
        expected = sum(known[index] for index in range(before) if seconds[index]) + prior  # not what was left out
        if number and usual[before] is not None:
            whole = max(elapsed, known[before] * _ratio(taken, expected))
            whole = elapsed + by_pace if by_pace is not None else whole
            taken, expected = taken + whole, expected + known[before]
        else:
            whole = elapsed + (by_pace or 0.0)
        left = whole - elapsed + sum(known[number:]) * _ratio(taken, expected)
        return left if left > 0 else None

    def _weights(self) -> list[float]:
        """Return the length of each phase on the bar: what it usually takes. Unknown ones have the average length."""
        usual = self._usual or []
        known = [each for each in usual if each is not None]
        if sum(known) <= 0:
            return [1.0] * len(self.names)
        return [sum(known) / len(known) if each is None else each for each in usual]


def _known_number(names: Sequence[str], phase: Phase | None) -> int:
    """Return the number of a phase, or 0 if the application has changed its phases."""
    return names.index(phase.name) + 1 if phase is not None and phase.name in names else 0


def _ratio(taken: float, expected: float) -> float:
    return taken / expected if expected > 0 else 1.0
