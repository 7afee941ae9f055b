"""The recorded progress of real jobs, for tests and a benchmark of the estimate. See `tools/record_traces.py`."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

from gaetk_longtask.progress.durations import median as median_of_runs
from gaetk_longtask.progress.estimate import Estimator
from gaetk_longtask.progress.phases import Phases
from gaetk_longtask.progress.time_left import TimeLeft
from gaetk_longtask.testing import ManualClock

FOLDER = Path(__file__).parent / "data" / "traces"
#: The interval in which the reporter thread reads the progress if it is kept in memcache, in seconds.
BEAT_SECONDS = 0.5
#: How many phases of equally many steps a job has, see `tools/trace_jobs.py`.
PHASES = {
    "phased-archive": 2,
    "phased-import": 3,
    "phased-months": 12,
    "phased-report": 3,
    "phased-sources": 3,
}
#: How much longer than the recorded run the earlier runs took as a whole.
EARLIER_RUNS = (0.8, 1.1, 1.3)
#: How much each of their phases may differ from that.
VARIATION = 0.2


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

    def phase_begins(self) -> list[float]:
        """Return when each phase began, in seconds."""
        count = PHASES[self.name]
        ends = [self.total_steps * number / count for number in range(1, count)]
        return [0.0, *(next(sample.at for sample in self.samples if sample.step >= end) for end in ends)]

    def earlier_runs(self) -> list[list[float]]:
        """Return the seconds that each phase took in three earlier runs, which are this run at other speeds."""
        chance = random.Random(self.name)
        lasted = [after - before for before, after in pairwise([*self.phase_begins(), self.seconds])]
        return [
            [each * speed * chance.uniform(1 - VARIATION, 1 + VARIATION) for each in lasted] for speed in EARLIER_RUNS
        ]

    def in_phases(self, runs: list[list[float]], every: float = BEAT_SECONDS) -> list[tuple[float | None, float]]:
        """Return our estimate of the seconds left and the share of the bar at every beat, after some earlier runs."""
        begins, size = self.phase_begins(), self.total_steps / PHASES[self.name]
        names = [str(number) for number in range(len(begins))]
        usual = {name: median_of_runs([run[int(name)] for run in runs]) for name in names} if runs else {}
        clock = ManualClock()
        began = clock()
        phases = Phases(names, clock=clock, usual_seconds=lambda: usual)
        time_left = TimeLeft(requested_at=began, clock=clock, phases=phases, monotonic=lambda: clock().timestamp())
        answers = []
        for beat in self.beats(every):
            while phases.number < len(begins) and begins[phases.number] <= beat.at:
                clock.now = began + timedelta(seconds=begins[phases.number])
                phases.begin(phases.number + 1)
            clock.now = began + timedelta(seconds=beat.at)
            step = min(max(beat.step - (phases.number - 1) * size, 0), size)
            time_left.update(step, size)
            share = phases.share(phases.number, step, size)
            assert share is not None
            answers.append((time_left.seconds(size), share))
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
