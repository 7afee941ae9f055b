"""Progress as jobs make it: when which step was done, for the estimate's tests and its benchmark.

Every trace is made anew from its seed, the same on every machine. A step's time varies as that of calls over a network
does: log-normal, and one in a hundred is tried again after about two seconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

#: How often the reporter thread looks at the progress while memcache keeps it, in seconds.
BEAT_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """One run of a job that counts its steps from 1."""

    #: When each step was done, in seconds since the start.
    done_at: tuple[float, ...]

    @property
    def total(self) -> int:
        """The number of steps."""
        return len(self.done_at)

    @property
    def seconds(self) -> float:
        """How long the job took."""
        return self.done_at[-1]

    def beats(self, every: float = BEAT_SECONDS) -> Iterator[tuple[float, int]]:
        """Give what the reporter sees: at which moment how many steps were done."""
        step = 0
        for beat in range(int(self.seconds / every)):
            while self.done_at[step] <= beat * every:
                step += 1
            yield beat * every, step


def _taking(seconds: Iterable[float]) -> Trace:
    return Trace(done_at=tuple(accumulate(seconds)))


def _step(rng: random.Random, mean: float) -> float:
    seconds = mean * rng.lognormvariate(-0.125, 0.5)
    return seconds + rng.expovariate(0.5) if rng.random() < 0.01 else seconds


def _batched(rng: random.Random, steps: int, mean: float, size: int, commit: float) -> list[float]:
    """Quick steps, and after every `size` of them a wait for a commit or for the next page."""
    return [_step(rng, mean) + (_step(rng, commit) if step % size == 0 else 0) for step in range(1, steps + 1)]


def linear(rng: random.Random) -> Trace:
    """Steps of equal size."""
    return _taking(_step(rng, 0.15) for _ in range(2000))


def slowing_down(rng: random.Random) -> Trace:
    """Each step takes a bit longer than the one before, as where what is there is searched each time."""
    return _taking(_step(rng, 0.04 + 0.3 * step / 1500) for step in range(1500))


def bursty(rng: random.Random) -> Trace:
    """Fifty quick steps, then a commit that takes seconds."""
    return _taking(_batched(rng, 2000, 0.01, 50, 5.0))


_PHASES = {"read": (0.02, 100, 4.0), "compute": (0.15, 1, 0.0), "write": (0.02, 25, 2.0)}


def phased(rng: random.Random) -> Trace:
    """Three phases in some order, each with a rhythm and a pace of its own and 500 to 1,200 steps."""
    phases = list(_PHASES.values())
    rng.shuffle(phases)
    return _taking([seconds for phase in phases for seconds in _batched(rng, rng.randrange(500, 1200), *phase)])


def recurring_phases(rng: random.Random) -> Trace:
    """Four files, each of them read, computed and written."""
    phases = [phase for _ in range(4) for phase in _PHASES.values()]
    return _taking([seconds for phase in phases for seconds in _batched(rng, rng.randrange(100, 300), *phase)])


def stalled(rng: random.Random) -> Trace:
    """Steps of equal size, and twice nothing happens for about forty seconds."""
    seconds = [_step(rng, 0.15) for _ in range(1500)]
    for _ in range(2):
        seconds[rng.randrange(100, 1400)] += rng.uniform(25, 60)
    return _taking(seconds)


def coarse(rng: random.Random) -> Trace:
    """A dozen large steps."""
    return _taking(_step(rng, 25.0) for _ in range(12))


KINDS: dict[str, Callable[[random.Random], Trace]] = {
    "linear": linear,
    "slowing down": slowing_down,
    "bursty": bursty,
    "phased": phased,
    "recurring phases": recurring_phases,
    "stalled": stalled,
    "coarse": coarse,
}


def traces(kind: str, number: int) -> list[Trace]:
    """Make some traces of one kind; the first ones are the same whatever the number."""
    return [KINDS[kind](random.Random(f"{kind} {seed}")) for seed in range(number)]


class Guesser(Protocol):
    """Who says how long it will take."""

    def step_done(self, step: int, at: float) -> None:
        """See every step, as a bar in the same process does."""

    def beat(self, step: int, at: float) -> None:
        """See what the reporter sees."""

    def seconds_left(self, at: float) -> float | None:
        """Say how long it will take from now on; being asked changes nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What a guesser answered around one share of a trace's steps."""

    #: By what part of the time that was really left each answer was off.
    errors: tuple[float, ...]
    #: How often it said nothing.
    withheld: int


def answers(trace: Trace, guesser: Guesser, shares: Iterable[float], *, around: float = 0.025) -> dict[float, Answers]:
    """Play a trace to a guesser, and compare what it says while `shares` of the steps are done with the truth."""
    errors: dict[float, list[float]] = {share: [] for share in shares}
    withheld = dict.fromkeys(errors, 0)
    seen = 0
    for at, step in trace.beats():
        for number in range(seen, step):
            guesser.step_done(number + 1, trace.done_at[number])
        seen = step
        guesser.beat(step, at)
        for share in errors:
            if abs(step / trace.total - share) > around:
                continue
            left = guesser.seconds_left(at)
            if left is None:
                withheld[share] += 1
            else:
                errors[share].append(abs(left - (trace.seconds - at)) / (trace.seconds - at))
    return {share: Answers(errors=tuple(errors[share]), withheld=withheld[share]) for share in errors}
