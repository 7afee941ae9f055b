"""Compares our estimate of the time left with tqdm's, on the recorded progress of real jobs.

``python -m benchmarks.estimate`` prints the table of ``docs/waiting-page.md``. For each recording in
``tests/data/traces/``, it shows the errors of both estimates at 25, 50 and 75 % of the job's duration, within five
percentage points. Each error is a median, in per cent of the time that was really left. Our estimate sees what the
reporter sees: two samples a second. tqdm, with its default settings, was asked just as often while the job ran, but it
saw every step.
"""

from __future__ import annotations

from statistics import median

from tests.progress_traces import Shape, Trace, recorded

SHARES = (0.25, 0.5, 0.75)


def main() -> None:
    """Print the table."""
    print("| recording | what ran | at 25 % | at 50 % | at 75 % |\n|---|---|---|---|---|")
    for shape in Shape:
        rows = [_errors(trace) for trace in recorded(shape)]
        for trace, row in zip(recorded(shape), rows, strict=True):
            ran = f"{trace.what.rstrip('.')}: {trace.seconds:.0f} seconds"
            print(f"| {trace.name} | {ran} | {' | '.join(_cell(*pair) for pair in row)} |")
        columns = [tuple(zip(*column, strict=True)) for column in zip(*rows, strict=True)]
        medians = [_cell(*(median(each for each in who if each is not None) for who in column)) for column in columns]
        print(f"| **{shape}: the median** | | {' | '.join(medians)} |")


def _errors(trace: Trace) -> list[tuple[float | None, float | None]]:
    ours, tqdms = trace.ours(), trace.tqdms()
    return [(trace.median_error(ours, share), trace.median_error(tqdms, share)) for share in SHARES]


def _cell(ours: float | None, tqdms: float | None) -> str:
    a, b = ("–" if error is None else f"{100 * error:.0f}" for error in (ours, tqdms))
    better = ours is not None and tqdms is not None and ours < tqdms
    return f"**{a}** / {b}" if better else f"{a} / {b}"


if __name__ == "__main__":
    main()
