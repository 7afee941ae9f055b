"""``python -m gaetk_longtask.dev.memcached --port 11211``: runs the stand-in for memcached."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from gaetk_longtask.dev.memcached.commands import Commands
from gaetk_longtask.dev.memcached.server import Connections
from gaetk_longtask.dev.options import Parser, accept_any_text, address, host, port, positive, warn_of

_MIB = 1024 * 1024


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM, and return the exit code: 1 if it can't start."""
    accept_any_text()
    parser = Parser(prog="python -m gaetk_longtask.dev.memcached", description=__doc__)
    parser.add_argument(
        "--host", type=host, default="127.0.0.1", help="the address to listen on; 0.0.0.0 for all (%(default)s)"
    )
    parser.add_argument("--port", type=port, default=11_211, help="the port; 0 for a free one (%(default)s)")
    parser.add_argument("--memory-mib", type=positive, default=64, help="how much it keeps (%(default)s)")
    options = parser.parse_args(arguments)
    if warning := warn_of(options.host, "read and change everything in the cache"):
        print(warning, file=sys.stderr)
    try:
        asyncio.run(_serve(options))
    except OSError as exc:
        print(f"The stand-in for memcached cannot start on port {options.port}: {exc}", file=sys.stderr)
        return 1
    return 0


async def _serve(options: argparse.Namespace) -> None:
    end = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    connections = Connections(Commands(max_bytes=options.memory_mib * _MIB))
    server = await connections.listen(options.host, options.port)
    print(f"ready: {address(options.host, server.sockets[0].getsockname()[1])}", flush=True)
    await end.wait()
    server.close()


if __name__ == "__main__":
    sys.exit(main())
