"""Runs the chaos test once and prints a table. The exit code is 0 if every promise was kept."""

from __future__ import annotations

import argparse
import secrets
import sys
from contextlib import ExitStack
from pathlib import Path

from gaetk_longtask.dev.pieces import DatastoreKind
from gaetk_longtask.dev.processes import Log, StackError, discard
from tests.chaos.battlefield import Battlefield
from tests.chaos.campaign import Campaign, Plan


def main() -> int:
    """Run the chaos test and print its report."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--tasks", type=int, default=200, help="number of visitors (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=90, help="duration of the faults (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, help="repeat the faults of a run, not the timing of processes (default: random)"
    )
    parser.add_argument("--datastore", choices=[kind.value for kind in DatastoreKind], help="Datastore to use")
    parser.add_argument("--hurry", action="store_true", help="set the clock ahead instead of waiting for leases")
    parser.add_argument("--log", type=Path, help="file for the output of the processes")
    options = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    hurry = 7.0 if options.hurry else None
    plan = Plan(tasks=options.tasks, seed=seed, fire_seconds=options.seconds, hurry_after_seconds=hurry)
    print(f"seed {seed}", flush=True)
    with ExitStack() as opened:
        log: Log = discard
        if options.log:
            file = opened.enter_context(options.log.open("w", encoding="utf-8"))
            log = lambda name, line: print(name, line, file=file)  # noqa: E731  # a def would be longer
        try:
            field = opened.enter_context(
                Battlefield(seed=seed, datastore=options.datastore, with_cut_off=True, log=log)
            )
        except StackError as exc:
            print(exc, file=sys.stderr)
            return 1
        outcome = Campaign(field, plan, say=lambda line: print(line, flush=True)).run()
    for complaint in outcome.complaints():
        print(complaint)
    print(outcome.table())
    print(f"{outcome.seconds:.0f} s in total, {outcome.quiet_seconds:.0f} s of them without faults")
    return 0 if outcome.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
