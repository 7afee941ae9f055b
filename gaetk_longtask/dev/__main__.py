"""``python -m gaetk_longtask.dev MODULE:APP``: runs the local stack until Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from gaetk_longtask.dev.app import NoAppError
from gaetk_longtask.dev.options import Parser, accept_any_text, data_directory, existing_file, port, project
from gaetk_longtask.dev.processes import StackError
from gaetk_longtask.dev.stack import Stack

_END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Ended(BaseException):
    """A signal asked the stack to end."""


def main(arguments: list[str] | None = None) -> int:
    """Run the stack and return the exit code: 0 after a signal, 1 after an error, 2 if an argument is wrong."""
    accept_any_text()
    stack = stack_of(arguments, say=_say, log=_log)
    for number in _END_SIGNALS:
        # SIGINT, too: a shell that starts us in the background makes us ignore it.
        signal.signal(number, _end)
    try:
        stack.start()
        _say(f"ready: {stack.url}")
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


def stack_of(arguments: list[str] | None, **outputs: Any) -> Stack:
    """Return the stack that the arguments ask for; `SystemExit` if they are wrong. `outputs` go to `Stack`."""
    parser = Parser(prog="python -m gaetk_longtask.dev", description=__doc__)
    parser.add_argument("app", metavar="MODULE:APP", help="the WSGI application, as for gunicorn")
    parser.add_argument("--port", type=port, default=8080, help="the app's port; 0 for a free one")
    parser.add_argument("--project", type=project, default="demo", help="the project's id")
    parser.add_argument("--queue-yaml", type=existing_file, help="the queues (default: queue.yaml, if it exists)")
    parser.add_argument("--data-dir", type=data_directory, help="keep the data here between runs")
    options = parser.parse_args(arguments)
    queue_yaml: Path | None = options.queue_yaml
    if queue_yaml is None and Path("queue.yaml").exists():
        queue_yaml = Path("queue.yaml")
    return Stack(
        options.app,
        port=options.port,
        project=options.project,
        queue_yaml=queue_yaml,
        data_dir=options.data_dir,
        **outputs,
    )


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
