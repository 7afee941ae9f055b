"""``python -m gaetk_longtask.dev.datastore_emulator --port 8081 [--data-dir DIR]``: runs the embedded Datastore."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sqlite3
import sys

from gaetk_longtask.dev.datastore_emulator.database import DataError
from gaetk_longtask.dev.datastore_emulator.server import serve
from gaetk_longtask.dev.options import LOCAL, Parser, accept_any_text, address, data_directory, host, port, warn_of


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT, SIGTERM or ``POST /shutdown``, and return the exit code: 1 if it can't start."""
    accept_any_text()
    parser = Parser(prog="python -m gaetk_longtask.dev.datastore_emulator", description=__doc__)
    parser.add_argument(
        "--host", type=host, default=LOCAL, help="the address to listen on; 0.0.0.0 for all (%(default)s)"
    )
    parser.add_argument("--port", type=port, default=8081, help="0 for a free one (%(default)s)")
    parser.add_argument("--data-dir", type=data_directory, help="keep the data here between runs")
    options = parser.parse_args(arguments)
    if warning := warn_of(options.host, "read and change all data"):
        print(warning, file=sys.stderr)
    try:
        asyncio.run(_serve(options))
    except (OSError, sqlite3.Error, DataError) as exc:
        where = f" with the data in {options.data_dir}" if options.data_dir else ""
        print(f"The Datastore emulator cannot start on port {options.port}{where}: {exc}", file=sys.stderr)
        return 1
    return 0


async def _serve(options: argparse.Namespace) -> None:
    end = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end.set)

    def ready(bound: int) -> None:
        print(f"ready: {address(options.host, bound)}", flush=True)

    await serve(options.host, options.port, options.data_dir, end=end, ready=ready)


if __name__ == "__main__":
    sys.exit(main())
