"""Runs the checklist for Cloud Tasks on our emulator, or on another one, and prints a table.

``python -m tests.peers.tasks [--host HOST:PORT] [--only TEXT] [--reasons]``. The exit code is 1 if ours lacks a
behaviour. Another emulator must be running, and its App Engine tasks must go to http://127.0.0.1:8080.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from contextlib import ExitStack

from gaetk_longtask.dev.tasks_emulator import serve
from tests.dev.tasks_support import App
from tests.peers.checklist import Behaviour, Checklist, failure_of
from tests.peers.tasks_calls import CALLS
from tests.peers.tasks_client import Transport, peer_at
from tests.peers.tasks_clients import CLIENTS, has_node
from tests.peers.tasks_deliveries import DELIVERIES

#: Where another emulator finds the application.
_PORT = 8080
_CHECKLISTS = {"calls": CALLS, "deliveries": DELIVERIES}


def main() -> int:
    """Print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--host", help="another emulator, instead of ours")
    parser.add_argument("--only", default="", help="run only the behaviours that contain this text")
    parser.add_argument("--reasons", action="store_true", help="also print why a behaviour is missing")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of the clients
    if not has_node():
        print("The client for Node is not installed: `nox -s peers` installs it.", file=sys.stderr)
    with ExitStack() as stack:
        app = App(port=_PORT if options.host else 0)
        stack.callback(app.stop)
        host = options.host or stack.enter_context(serve(app_url=app.url)).host
        table = _Table(host, app, only=options.only, with_reasons=options.reasons)
        for name, checklist in _CHECKLISTS.items():
            table.add(name, checklist, list(Transport))
        table.add("clients", CLIENTS, [Transport.GRPC])
    print(f"\nOf {table.total} behaviours: {table.total - len(table.missing)}")
    return 1 if table.missing and not options.host else 0


class _Table:
    def __init__(self, host: str, app: App, *, only: str, with_reasons: bool) -> None:
        self._host = host
        self._app = app
        self._only = only
        self._with_reasons = with_reasons
        self.total = 0
        self.missing: list[Behaviour] = []

    def add(self, name: str, checklist: Checklist, transports: list[Transport]) -> None:
        """Run a checklist over each of the transports, and print its table."""
        print(f"\n| {name} | {' | '.join(transports)} |\n|---|{'---|' * len(transports)}")
        for behaviour in checklist:
            if self._only not in behaviour.what:
                continue
            reasons = {}
            for transport in transports:
                self.total += 1
                with peer_at(self._host, self._app, transport) as peer:
                    reasons[transport] = failure_of(behaviour, peer)
                if reasons[transport] is not None:
                    self.missing.append(behaviour)
            marks = " | ".join("yes" if reason is None else "–" for reason in reasons.values())
            print(f"| {behaviour} | {marks} |", flush=True)
            for transport, reason in reasons.items() if self._with_reasons else ():
                if reason is not None:
                    print(f"    {transport}: {reason}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
