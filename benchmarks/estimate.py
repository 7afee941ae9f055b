"""Compares the estimate of the time left with tqdm's, on every kind of progress trace.

``pip install tqdm``, then ``python -m benchmarks.estimate [--traces 101]``. For every trace it takes the median error
of what is said around 25, 50 and 75 % of the steps, in per cent of the time that is really left, and prints the median
over the traces: ours, tqdm's, and on how many of the traces ours was closer. tqdm (defaults, a smoothing of 0.3) sees
every step at once, ours what the reporter sees twice a second.
"""

from __future__ import annotations

import argparse
import io
from statistics import median
from unittest import mock

from tqdm import tqdm  # type: ignore[import-untyped]  # it ships no annotations

from gaetk_longtask.estimate import Estimator
from tests.progress_traces import KINDS, Answers, answers, traces

SHARES = (0.25, 0.5, 0.75)


class Ours:
    """The library's estimate."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._estimator = Estimator()

    def step_done(self, step: int, at: float) -> None:
        """Not needed."""

    def beat(self, step: int, at: float) -> None:
        """Tell the estimator."""
        self._estimator.update(step, self._total, at)

    def seconds_left(self, at: float) -> float | None:
        """Ask it."""
        return self._estimator.seconds_left(at)


class Tqdms:
    """What a tqdm bar prints as the time left, on the trace's clock."""

    def __init__(self, total: int) -> None:
        self._now = 0.0
        with mock.patch("tqdm.std.time", lambda: self._now):
            self._bar = tqdm(total=total, file=io.StringIO())

    def step_done(self, step: int, at: float) -> None:
        """Move the bar."""
        self._now = at
        self._bar.update()

    def beat(self, step: int, at: float) -> None:
        """Not needed."""

    def seconds_left(self, at: float) -> float | None:
        """Calculate as `tqdm.format_meter` does."""
        self._now = at
        bar = self._bar.format_dict
        rate = bar["rate"] or (bar["n"] / bar["elapsed"] if bar["elapsed"] else None)
        return (bar["total"] - bar["n"]) / rate if rate else None


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--traces", type=int, default=101, help="how many traces of each kind (101)")
    number = parser.parse_args().traces
    # Its thread looks at the real time.
    tqdm.monitor_interval = 0
    print("median error in % of the time left: ours / tqdm (ours closer on … % of the traces; said nothing in … %)")
    for kind in KINDS:
        ours, theirs = [], []
        for trace in traces(kind, number):
            ours.append(answers(trace, Ours(trace.total), SHARES))
            theirs.append(answers(trace, Tqdms(trace.total), SHARES))
        cells = [_cell([one[share] for one in ours], [one[share] for one in theirs]) for share in SHARES]
        print(f"{kind:17}", " | ".join(cells))


def _cell(ours: list[Answers], theirs: list[Answers]) -> str:
    pairs = [(median(a.errors), median(b.errors)) for a, b in zip(ours, theirs, strict=True) if a.errors and b.errors]
    closer = sum(a < b for a, b in pairs)
    silent = sum(one.withheld for one in ours)
    beats = silent + sum(len(one.errors) for one in ours)
    our_error, their_error = (100 * median(errors) for errors in zip(*pairs, strict=True))
    return f"{our_error:3.0f} / {their_error:3.0f} ({100 * closer / len(pairs):3.0f}; {100 * silent / beats:2.0f})"


if __name__ == "__main__":
    main()
