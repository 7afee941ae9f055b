"""Runs the checklist on every emulator that is installed, and prints a table.

``python -m tests.peers [--only TEXT] [--reasons]``. The exit code is 1 if ours lacks a behaviour that the Cloud SDK's
emulator has.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from contextlib import ExitStack

from gaetk_longtask.dev.pieces import DatastoreKind, Piece, start_datastore
from gaetk_longtask.dev.processes import MissingPieceError
from tests.dev.datastore_client import connected
from tests.peers.checklist import Behaviour, failure_of
from tests.peers.datastore_clients import CLIENTS, has_node
from tests.peers.datastore_entities import ENTITIES
from tests.peers.datastore_queries import QUERIES
from tests.peers.datastore_transactions import TRANSACTIONS

_NAMES = {DatastoreKind.EMBEDDED: "ours", DatastoreKind.SDK: "SDK", DatastoreKind.FIRESTORE: "Firestore"}
_CHECKLISTS = {"entities": ENTITIES, "queries": QUERIES, "transactions": TRANSACTIONS, "clients": CLIENTS}


def main() -> int:
    """Print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="run only the behaviours that contain this text")
    parser.add_argument("--reasons", action="store_true", help="also print why a behaviour is missing")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of the clients
    if not has_node():
        print("The client for Node is not installed: `nox -s peers` installs it.", file=sys.stderr)
    with ExitStack() as stack:
        pieces = _start(stack)
        missing: dict[DatastoreKind, list[Behaviour]] = {kind: [] for kind in pieces}
        total = 0
        for name, checklist in _CHECKLISTS.items():
            print(f"\n| {name} | {' | '.join(_NAMES[kind] for kind in pieces)} |\n|---|{'---|' * len(pieces)}")
            for behaviour in checklist:
                if options.only in behaviour.what:
                    total += 1
                    _report(behaviour, pieces, missing, with_reasons=options.reasons)
    counts = ", ".join(f"{_NAMES[kind]} {total - len(lacking)}" for kind, lacking in missing.items())
    print(f"\nOf {total} behaviours: {counts}")
    behind = [each for each in missing[DatastoreKind.EMBEDDED] if each not in missing.get(DatastoreKind.SDK, [each])]
    for behaviour in behind:
        print(f"Ours is behind the Cloud SDK's: {behaviour}")
    return 1 if behind else 0


def _start(stack: ExitStack) -> dict[DatastoreKind, Piece]:
    pieces = {}
    for kind in _NAMES:
        try:
            pieces[kind] = stack.enter_context(start_datastore(kind))
        except MissingPieceError as exc:
            print(exc, file=sys.stderr)
    return pieces


def _report(
    behaviour: Behaviour,
    pieces: dict[DatastoreKind, Piece],
    missing: dict[DatastoreKind, list[Behaviour]],
    *,
    with_reasons: bool,
) -> None:
    reasons = {}
    for kind, piece in pieces.items():
        piece.reset()
        with connected(piece.host) as client:
            reasons[kind] = failure_of(behaviour, client)
        if reasons[kind] is not None:
            missing[kind].append(behaviour)
    marks = " | ".join("yes" if reason is None else "–" for reason in reasons.values())
    print(f"| {behaviour} | {marks} |", flush=True)
    for kind, reason in reasons.items() if with_reasons else ():
        if reason is not None:
            print(f"    {_NAMES[kind]}: {reason}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
