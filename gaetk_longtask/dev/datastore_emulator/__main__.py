"""``python -m gaetk_longtask.dev.datastore_emulator --port 8081 [--data-dir DIR]``: runs the embedded Datastore."""

from __future__ import annotations

import asyncio
import logging
import signal
import sqlite3
import sys
from pathlib import Path

from gaetk_longtask.dev.datastore_emulator.front import Front
from gaetk_longtask.dev.options import Parser, accept_any_text, address, data_directory, host, port, warn_of


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM, and return the exit code: 1 if the port or the data are in use."""
    accept_any_text()
    parser = Parser(prog="python -m gaetk_longtask.dev.datastore_emulator", description=__doc__)
    parser.add_argument(
        "--host", type=host, default="127.0.0.1", help="the address to listen on; 0.0.0.0 for all (%(default)s)"
    )
    parser.add_argument("--port", type=port, default=8081, help="0 for a free one")
    parser.add_argument("--data-dir", type=data_directory, help="keep the data here between runs")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.ERROR)  # the stub's warnings are about the old API
    if warning := warn_of(options.host, "read and change all data"):
        print(warning, file=sys.stderr)
    path = None
    if options.data_dir is not None:
        path = options.data_dir / "datastore.sqlite"
    try:
        asyncio.run(_serve(options.host, options.port, path))
    except ModuleNotFoundError as exc:
        print(f"{exc.name} is not installed; pip install appengine-python-standard", file=sys.stderr)
        return 1
    except (OSError, sqlite3.Error) as exc:
        where = f" with the data in {options.data_dir}" if path else ""
        print(f"The Datastore emulator cannot start on port {options.port}{where}: {exc}", file=sys.stderr)
        return 1
    return 0


async def _serve(host: str, port: int, path: Path | None) -> None:
    from gaetk_longtask.dev.datastore_emulator import stand_in  # noqa: PLC0415 - needs an extra that may be missing

    stand_in.install()
    from gaetk_longtask.dev.datastore_emulator.service import DatastoreService  # noqa: PLC0415 - the stand-in first

    end = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    service = DatastoreService(path)
    grpc_server, grpc_port = service.serve()
    front = await asyncio.start_server(Front(grpc_port, reset=service.reset).accept, host, port)
    print(f"ready: {address(host, front.sockets[0].getsockname()[1])}", flush=True)
    await end.wait()
    front.close()
    grpc_server.stop(grace=None).wait()


if __name__ == "__main__":
    sys.exit(main())
