"""Runs the endurance test. The exit code is 0 if nothing was lost, duplicated or changed."""

from __future__ import annotations

import argparse
import random
import secrets
import sys
from contextlib import ExitStack
from functools import reduce
from operator import add
from pathlib import Path

from gaetk_longtask.dev.pieces import DatastoreKind
from gaetk_longtask.dev.processes import Log, StackError, discard
from sample_app.importing import BATCH_SIZE
from tests.endurance.app import BATCH_LINES, invoice_lines, relayed
from tests.endurance.hunter import draw
from tests.endurance.judge import NOTHING_WRONG, Verdict, import_is_right, judge, receipts_are_right
from tests.endurance.runs import Course, Run

_ALL_LINES = 10_000
#: The longest random delay between the start of a step and the fault.
_LONGEST_AIM_SECONDS = 0.5


def main() -> int:
    """Run the endurance test and print its report."""
    parser = argparse.ArgumentParser(prog="python -m tests.endurance", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="relay|booking|careless|import", help="parts to run (default: all)")
    parser.add_argument("--seed", type=int, help="repeat the faults of a run, not the timing of processes")
    parser.add_argument("--time-limit", type=float, default=3, help="seconds that an attempt may take (%(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="seconds of work in the relay (default: %(default)s)")
    parser.add_argument("--units", type=int, default=600, help="steps in the relay (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=5, help="SIGKILLs in the relay (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=20, help="runs of booking and of import (default: %(default)s)")
    parser.add_argument("--lines", type=int, default=_ALL_LINES, help="lines in each booking (default: %(default)s)")
    parser.add_argument("--datastore", choices=[kind.value for kind in DatastoreKind], help="Datastore to use")
    parser.add_argument("--log", type=Path, help="file for the output of the processes")
    options = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    rng = random.Random(seed)
    parts = {"relay": _relay, "booking": _booking, "careless": _careless, "import": _importing}
    chosen = options.parts or list(parts)
    if unknown := set(chosen) - set(parts):
        parser.error(f"unknown part: {', '.join(sorted(unknown))}")
    print(f"seed {seed}", flush=True)
    with ExitStack() as opened:
        log: Log = discard
        if options.log:
            file = opened.enter_context(options.log.open("w", encoding="utf-8"))
            log = lambda name, line: print(name, line, file=file, flush=True)  # noqa: E731 - as in tests.chaos
        try:
            course = opened.enter_context(
                Course.open(time_limit_seconds=options.time_limit, datastore=options.datastore, log=log)
            )
        except StackError as exc:
            print(exc, file=sys.stderr)
            return 1
        failed = [part for part in chosen if not parts[part](course, options, random.Random(rng.random()))]
        laws = course.broken_laws()
    for complaint in (*failed, *laws):
        print(f"broken: {complaint}")
    return 1 if failed or laws else 0


def _relay(course: Course, options: argparse.Namespace, rng: random.Random) -> bool:
    units, seconds = options.units, options.seconds
    shots = draw(rng, steps=units, kills=options.kills, delay_seconds=_LONGEST_AIM_SECONDS)
    print("\n| relay | s | attempts | handed over | taken over | SIGKILLs | steps repeated | pause, ms | output |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---|", flush=True)
    undisturbed = course.undisturbed(units=units, seconds=seconds)
    expected = relayed(units)
    is_clean = _say("in one attempt", undisturbed, is_right=undisturbed.body == expected)
    relay = course.relay(units=units, seconds=seconds, shots=[])
    is_clean &= _say("handed over", relay, is_right=relay.body == undisturbed.body)
    killed = course.relay(units=units, seconds=seconds, shots=shots)
    is_clean &= _say("handed over and killed", killed, is_right=killed.body == undisturbed.body)
    more = relay.seconds - undisturbed.seconds
    each = more / relay.handed_over if relay.handed_over else 0.0
    print(f"\nhand-overs added {more:.1f} s ({more / undisturbed.seconds:.1%}), {each * 1000:.0f} ms each")
    return is_clean


def _say(what: str, run: Run, *, is_right: bool) -> bool:
    figures = f"{run.seconds:.1f} | {run.attempts} | {run.handed_over} | {run.taken_over} | {run.kills}"
    pause = f"{run.median_pause_seconds * 1000:.0f}" if run.pauses else "–"
    output = f"{len(run.body):,} bytes, {'identical' if is_right else 'NOT IDENTICAL'}"
    print(f"| {what} | {figures} | {run.repeated_steps} | {pause} | {output} |", flush=True)
    return is_right


def _booking(course: Course, options: argparse.Namespace, rng: random.Random) -> bool:
    judged = _books(course, options, rng, careless=False)
    return not _summarize("booking", judged)


def _careless(course: Course, options: argparse.Namespace, rng: random.Random) -> bool:
    """Show that the check works: without protection, lines must be entered twice."""
    judged = _books(course, options, rng, careless=True)
    return bool(_summarize("careless booking", judged).doubled)


def _books(
    course: Course, options: argparse.Namespace, rng: random.Random, *, careless: bool
) -> list[tuple[Run, Verdict]]:
    rows = invoice_lines(options.lines)
    judged = []
    for number in range(1, (2 if careless else options.runs) + 1):
        steps = -(-len(rows) // BATCH_LINES)
        shots = draw(rng, steps=steps, kills=3, freezes=1, delay_seconds=_LONGEST_AIM_SECONDS)
        run = course.booking(lines=len(rows), shots=shots, careless=careless)
        verdict = judge(rows, course.entries(run, rows), result_is_right=receipts_are_right(rows, run.body))
        _say_judged("careless booking" if careless else "booking", number, run, verdict)
        judged.append((run, verdict))
    return judged


def _importing(course: Course, options: argparse.Namespace, rng: random.Random) -> bool:
    rows = invoice_lines(_ALL_LINES)
    judged = []
    for number in range(1, options.runs + 1):
        shots = draw(rng, steps=len(rows) // BATCH_SIZE, kills=3, delay_seconds=_LONGEST_AIM_SECONDS)
        run = course.importing(shots=shots)
        verdict = judge(rows, course.invoices(), result_is_right=import_is_right(rows, run.body))
        _say_judged("import", number, run, verdict)
        judged.append((run, verdict))
    return not _summarize("import", judged)


def _say_judged(what: str, number: int, run: Run, verdict: Verdict) -> None:
    print(
        f"{what} {number}: {run.seconds:.1f} s, {run.attempts} attempts, {run.handed_over} handed over, "
        f"{run.kills} kills, {run.freezes} freezes, {run.repeated_steps} steps repeated: {verdict}",
        flush=True,
    )


def _summarize(what: str, judged: list[tuple[Run, Verdict]]) -> Verdict:
    runs = [run for run, _ in judged]
    verdict = reduce(add, [verdict for _, verdict in judged], NOTHING_WRONG)
    rows = {
        "attempts": sum(run.attempts for run in runs),
        "handed over": sum(run.handed_over for run in runs),
        "taken over from a killed or frozen worker": sum(run.taken_over for run in runs),
        "SIGKILLs": sum(run.kills for run in runs),
        "workers stopped, and continued after their replacement had started": sum(run.freezes for run in runs),
        "batches repeated": sum(run.repeated_steps for run in runs),
        "**lines lost**": verdict.lost,
        "**lines entered twice**": verdict.doubled,
        "**wrong results**": verdict.wrong_results,
    }
    print(f"\n| {what}, {len(runs)} runs | number |\n|---|---:|")
    for name, number in rows.items():
        print(f"| {name} | {number:,} |", flush=True)
    return verdict


if __name__ == "__main__":
    sys.exit(main())
