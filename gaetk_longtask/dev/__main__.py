"""``python -m gaetk_longtask.dev MODULE:APP``: runs the local stack until Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from gaetk_longtask.dev.app import NoAppError
from gaetk_longtask.dev.options import (
    LOCAL,
    Parser,
    accept_any_text,
    data_directory,
    existing_file,
    host,
    port,
    project,
)
from gaetk_longtask.dev.processes import StackError
from gaetk_longtask.dev.stack import Ports, Stack

_END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Ended(BaseException):
    """A signal asked the stack to end."""


def main(arguments: list[str] | None = None) -> int:
    """Run the stack and return the exit code: 0 after a signal, 1 after an error, 2 if an argument is wrong."""
    accept_any_text()
    stack = stack_of(arguments, cron_yaml=_if_there("cron.yaml"), say=_say, log=_log)
    for number in _END_SIGNALS:
        # SIGINT, too: a shell that starts us in the background makes us ignore it.
        signal.signal(number, _end)
    try:
        stack.start()
        _say(stack.ready)
        stack.watch()
    except _Ended:
        return 0
    except NoAppError as exc:
        _complain(f"python -m gaetk_longtask.dev: {exc}")
        return 2
    except StackError as exc:
        _log("stack", str(exc))
        return 1
    finally:
        for number in _END_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        stack.stop()


def stack_of(arguments: list[str] | None, *, cron_yaml: Path | None = None, **outputs: Any) -> Stack:
    """Return the stack that the arguments ask for; `SystemExit` if they are wrong.

    ``cron_yaml`` is used unless they name another; `outputs` go to `Stack`.
    """
    parser = Parser(prog="python -m gaetk_longtask.dev", description=__doc__)
    parser.add_argument("app", metavar="MODULE:APP", nargs="?", help="the WSGI application, as for gunicorn")
    parser.add_argument(
        "--services-only", action="store_true", help="do not run the app: flask run or a debugger runs it, on --port"
    )
    parser.add_argument(
        "--host", type=host, default=LOCAL, help="the address to listen on; 0.0.0.0 for all (%(default)s)"
    )
    parser.add_argument("--port", type=port, default=8080, help="the app's port; 0 for a free one (%(default)s)")
    for name in ("datastore", "memcached", "tasks"):
        parser.add_argument(f"--{name}-port", type=port, default=0, help="that service's port (default: a free one)")
    parser.add_argument("--project", type=project, default="demo", help="the project's id (%(default)s)")
    for name, what, default in (
        ("queue", "the queues", _if_there("queue.yaml")),
        ("cron", "the cron jobs", cron_yaml),
    ):
        text = f"{what} (default: {name}.yaml, if it exists)"
        parser.add_argument(f"--{name}-yaml", type=existing_file, default=default, help=text)
    parser.add_argument("--env-file", type=Path, metavar="FILE", help="write the variables for other programs there")
    parser.add_argument("--data-dir", type=data_directory, help="keep the data here between runs")
    options = parser.parse_args(arguments)
    if options.app is None and not options.services_only:
        parser.error("name the application as MODULE:APP, such as main:app, or use --services-only")
    if options.services_only and not options.port:
        parser.error("--services-only needs the --port on which the application will answer")
    return Stack(
        options.app,
        services_only=options.services_only,
        host=options.host,
        port=options.port,
        ports=Ports(datastore=options.datastore_port, memcached=options.memcached_port, tasks=options.tasks_port),
        project=options.project,
        queue_yaml=options.queue_yaml,
        cron_yaml=options.cron_yaml,
        env_file=options.env_file,
        data_dir=options.data_dir,
        **outputs,
    )


def _if_there(name: str) -> Path | None:
    return Path(name) if Path(name).exists() else None


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise _Ended


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # the reader is gone; the stack goes on
        print(line, flush=True)


def _log(name: str, line: str) -> None:
    _complain(f"{name:<10} | {line}")


def _complain(line: str) -> None:
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
