"""Recorded progress of real jobs, for the estimate's tests and its benchmark; `tools/record_traces.py` recorded it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from statistics import median
from typing import NamedTuple

from gaetk_longtask.progress.estimate import Estimator

FOLDER = Path(__file__).parent / "data" / "traces"
#: How often the reporter thread looks at the progress while memcache keeps it, in seconds.
BEAT_SECONDS = 0.5


class Shape(StrEnum):
    """How the pace goes; what a recording's name begins with."""

    #: Steps of equal size.
    LINEAR = "linear"
    #: Each step takes a bit longer than the one before.
    SLOWING = "slowing"
    #: Many steps at once, then none for a while; or steps of very different sizes.
    BURSTY = "bursty"
    #: One kind of step after another, each with a pace of its own.
    PHASED = "phased"
    #: Equal steps, and twice none at all for a long time.
    STALLED = "stalled"


class Sample(NamedTuple):
    """What was seen of a job at one moment."""

    #: Seconds since the job began.
    at: float
    #: How many steps were done.
    step: int
    #: The seconds left as a bar of tqdm's gave them that saw every step.
    tqdms: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """One run of a job."""

    name: str
    #: What ran.
    what: str
    total_steps: int
    samples: tuple[Sample, ...]

    @property
    def seconds(self) -> float:
        """How long the job took."""
        return self.samples[-1].at

    def beats(self, every: float = BEAT_SECONDS) -> list[Sample]:
        """Give what the reporter sees: at which moment how many steps were done."""
        following = iter(self.samples)
        seen, upcoming = self.samples[0], next(following)
        beats = []
        for beat in range(int(self.seconds / every)):
            while upcoming.at <= beat * every:
                seen, upcoming = upcoming, next(following)
            beats.append(seen._replace(at=beat * every))
        return beats

    def ours(self, every: float = BEAT_SECONDS) -> list[float | None]:
        """Give the seconds left as our estimate gives them at every beat."""
        estimator, answers = Estimator(), []
        for beat in self.beats(every):
            estimator.update(beat.step, self.total_steps, beat.at)
            answers.append(estimator.seconds_left(beat.at))
        return answers

    def tqdms(self, every: float = BEAT_SECONDS) -> list[float | None]:
        """Give the seconds left as tqdm gave them at every beat."""
        return [beat.tqdms for beat in self.beats(every)]

    def median_error(self, answers: list[float | None], share: float, *, around: float = 0.05) -> float | None:
        """Tell by what part of the time really left the answers were off when about `share` of the time was over.

        None if there was no answer.
        """
        errors = []
        for beat, answer in zip(self.beats(), answers, strict=True):
            left = self.seconds - beat.at
            if answer is not None and abs(beat.at / self.seconds - share) <= around:
                errors.append(abs(answer - left) / left)
        return median(errors) if errors else None


@cache
def recorded(shape: Shape) -> tuple[Trace, ...]:
    """Read the recordings of one shape."""
    return tuple(_read(path) for path in sorted(FOLDER.glob(f"{shape}-*.json")))


def _read(path: Path) -> Trace:
    said = json.loads(path.read_text(encoding="utf-8"))
    return Trace(
        name=path.stem,
        what=said["what"],
        total_steps=said["total_steps"],
        samples=tuple(Sample(*sample) for sample in said["samples"]),
    )
