"""Compares our estimate of the time left with tqdm's, on the recorded progress of real jobs.

``python -m benchmarks.estimate`` prints the tables of ``docs/waiting-page.md``. For each recording in
``tests/data/traces/``, it shows the errors of both estimates at 25, 50 and 75 % of the job's duration, within five
percentage points. Each error is a median, in per cent of the time that was really left. Our estimate sees what the
reporter sees: two samples a second. tqdm, with its default settings, was asked just as often while the job ran, but it
saw every step.

A second table adds our estimate for recordings with phases, if the class names the phases, after three earlier runs.
These runs are made from the recording itself, see `Trace.earlier_runs`.
"""

from __future__ import annotations

from statistics import median

from tests.progress_traces import Shape, Trace, recorded

SHARES = (0.25, 0.5, 0.75)


def main() -> None:
    """Print the tables."""
    print("| recording | what ran | at 25 % | at 50 % | at 75 % |\n|---|---|---|---|---|")
    for shape in Shape:
        rows = [_errors(trace) for trace in recorded(shape)]
        for trace, row in zip(recorded(shape), rows, strict=True):
            ran = f"{trace.what.rstrip('.')}: {trace.seconds:.0f} seconds"
            print(f"| {trace.name} | {ran} | {' | '.join(_cell(*pair) for pair in row)} |")
        columns = [tuple(zip(*column, strict=True)) for column in zip(*rows, strict=True)]
        medians = [_cell(*(median(each for each in who if each is not None) for who in column)) for column in columns]
        print(f"| **{shape}: the median** | | {' | '.join(medians)} |")
    _print_phases()


def _print_phases() -> None:
    """Print the errors with phases after three earlier runs, beside those without phases and tqdm's."""
    print("\n| recording | at 25 % | at 50 % | at 75 % |\n|---|---|---|---|")
    traces = recorded(Shape.PHASED)
    rows = []
    for trace in traces:
        left = [each for each, _ in trace.in_phases(trace.earlier_runs())]
        rows.append(
            [(trace.median_error(left, share), *pair) for share, pair in zip(SHARES, _errors(trace), strict=True)]
        )
    names = [*(trace.name for trace in traces), "**the median**"]
    medians = [tuple(median(who) for who in zip(*column, strict=True)) for column in zip(*rows, strict=True)]
    for name, row in zip(names, [*rows, medians], strict=True):
        print(f"| {name} | {' | '.join(_trio(*errors) for errors in row)} |")


def _errors(trace: Trace) -> list[tuple[float | None, float | None]]:
    ours, tqdms = trace.ours(), trace.tqdms()
    return [(trace.median_error(ours, share), trace.median_error(tqdms, share)) for share in SHARES]


def _cell(ours: float | None, tqdms: float | None) -> str:
    better = ours is not None and tqdms is not None and ours < tqdms
    return f"**{_percent(ours)}** / {_percent(tqdms)}" if better else f"{_percent(ours)} / {_percent(tqdms)}"


def _trio(with_phases: float, without: float, tqdms: float) -> str:
    return f"**{_percent(with_phases)}** / {_percent(without)} / {_percent(tqdms)}"


def _percent(error: float | None) -> str:
    return "–" if error is None else f"{100 * error:.0f}"


if __name__ == "__main__":
    main()
