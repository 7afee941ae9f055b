"""The recorded progress of real jobs, for tests and a benchmark of the estimate. See `tools/record_traces.py`."""

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
#: The interval in which the reporter thread reads the progress if it is kept in memcache, in seconds.
BEAT_SECONDS = 0.5


class Shape(StrEnum):
    """The shape of the progress. The name of a recording begins with it."""

    #: Steps of equal size.
    LINEAR = "linear"
    #: Each step takes slightly longer than the previous one.
    SLOWING = "slowing"
    #: Many steps at once, then none for a while, or steps of very different sizes.
    BURSTY = "bursty"
    #: Several kinds of steps, one kind after the other, each with its own pace.
    PHASED = "phased"
    #: Equal steps, with two long pauses.
    STALLED = "stalled"


class Sample(NamedTuple):
    """The progress of a job at one moment."""

    #: Seconds since the job began.
    at: float
    #: The number of steps done.
    step: int
    #: The seconds left according to a tqdm bar that saw every step.
    tqdms: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """One run of a job."""

    name: str
    #: A description of the job.
    what: str
    total_steps: int
    samples: tuple[Sample, ...]

    @property
    def seconds(self) -> float:
        """The duration of the job."""
        return self.samples[-1].at

    def beats(self, every: float = BEAT_SECONDS) -> list[Sample]:
        """Return the samples that the reporter sees."""
        following = iter(self.samples)
        seen, upcoming = self.samples[0], next(following)
        beats = []
        for beat in range(int(self.seconds / every)):
            while upcoming.at <= beat * every:
                seen, upcoming = upcoming, next(following)
            beats.append(seen._replace(at=beat * every))
        return beats

    def ours(self, every: float = BEAT_SECONDS) -> list[float | None]:
        """Return our estimate of the seconds left at every beat."""
        estimator, answers = Estimator(), []
        for beat in self.beats(every):
            estimator.update(beat.step, self.total_steps, beat.at)
            answers.append(estimator.seconds_left(beat.at))
        return answers

    def tqdms(self, every: float = BEAT_SECONDS) -> list[float | None]:
        """Return tqdm's estimate of the seconds left at every beat."""
        return [beat.tqdms for beat in self.beats(every)]

    def median_error(self, answers: list[float | None], share: float, *, around: float = 0.05) -> float | None:
        """Return the median error of the answers when about `share` of the time had passed, relative to the time left.

        Return None if there was no answer.
        """
        errors = []
        for beat, answer in zip(self.beats(), answers, strict=True):
            left = self.seconds - beat.at
            if answer is not None and abs(beat.at / self.seconds - share) <= around:
                errors.append(abs(answer - left) / left)
        return median(errors) if errors else None


@cache
def recorded(shape: Shape) -> tuple[Trace, ...]:
    """Return the recordings of one shape."""
    return tuple(_read(path) for path in sorted(FOLDER.glob(f"{shape}-*.json")))


def _read(path: Path) -> Trace:
    said = json.loads(path.read_text(encoding="utf-8"))
    return Trace(
        name=path.stem,
        what=said["what"],
        total_steps=said["total_steps"],
        samples=tuple(Sample(*sample) for sample in said["samples"]),
    )
