"""The command line: runs the emulator until a signal ends it."""

from __future__ import annotations

import argparse
import logging
import resource
import signal
import sys
import urllib.parse
from collections.abc import Sequence

from gaetk_longtask.dev.options import (
    Parser,
    accept_any_text,
    data_directory,
    existing_file,
    host,
    port,
    positive,
    warn_of,
)
from gaetk_longtask.dev.tasks_emulator import PortTakenError, QueueYamlError, StoreError, serve
from gaetk_longtask.dev.tokens import KEY_SET_PATH

logger = logging.getLogger(__name__)

_MAX_FILES = 16384
_ENDING = {signal.SIGTERM, signal.SIGINT}  #: the signals that end the emulator


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the emulator until SIGTERM or SIGINT and return the exit code."""
    accept_any_text()
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    _allow_many_files()
    # Before any thread starts, because threads inherit it. A handler could come too early to wake the main thread.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        return _run(options)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run(options: argparse.Namespace) -> int:
    try:
        emulator = serve(
            app_url=options.app,
            host=options.host,
            port=options.port,
            queue_yaml=options.queue_yaml,
            data_dir=options.data_dir,
            routes=dict(options.route),
            at_once=options.at_once,
        )
    except (PortTakenError, QueueYamlError, StoreError) as exc:
        print(f"tasks emulator: {exc}", file=sys.stderr)
        return 1
    if warning := warn_of(options.host, "read, change and create tasks"):
        print(warning, file=sys.stderr)
    with emulator:
        logger.info("the keys for OIDC tokens are at http://%s%s", emulator.host, KEY_SET_PATH)
        print(f"ready: {emulator.host}", flush=True)
        signal.sigwait(_ENDING)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m gaetk_longtask.dev.tasks_emulator",
        description="Cloud Tasks for one machine. Point the client's transport, or CLOUD_TASKS_EMULATOR_HOST, at it.",
    )
    parser.add_argument(
        "--host", type=host, default="127.0.0.1", help="the address to listen on; 0.0.0.0 for all (%(default)s)"
    )
    parser.add_argument("--port", type=port, default=8123, help="the port; 0 for a free one (%(default)s)")
    parser.add_argument(
        "--app",
        type=_url,
        default="http://127.0.0.1:8080",
        metavar="URL",
        help="where App Engine tasks go (%(default)s)",
    )
    parser.add_argument(
        "--route",
        type=_route,
        action="append",
        default=[],
        metavar="NAME=URL",
        help='where tasks for a service ("worker") or one of its versions ("v2.worker") go; may be repeated',
    )
    parser.add_argument(
        "--queue-yaml", type=existing_file, metavar="FILE", help="the queues; read again when the file changes"
    )
    parser.add_argument(
        "--data-dir", type=data_directory, metavar="DIR", help="keep queues and tasks there across restarts"
    )
    parser.add_argument(
        "--at-once", type=positive, metavar="N", help="run at most N tasks at a time, whatever the queues allow"
    )
    return parser


def _url(text: str) -> str:
    try:
        parts = urllib.parse.urlsplit(text)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return text
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not an http:// or https:// URL")


def _route(text: str) -> tuple[str, str]:
    name, separator, url = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=URL")
    return name, _url(url)


def _allow_many_files() -> None:
    """Raise the limit of open files as far as the system allows: each running attempt needs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())
