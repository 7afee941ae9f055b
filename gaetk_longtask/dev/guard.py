"""Runs a program so that neither it nor its children outlive the process that started the guard.

``guard.py PROGRAM [ARGUMENT...]``: the first line on standard output is the program's process id; the rest is the
program's own output. Only the starter holds the other end of the guard's standard input. A byte on it, or its end,
ends the program's process group; the end comes however the starter died. The guard ignores the usual signals, so
there is only one way to end a program, and no race.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

#: The time between SIGTERM and SIGKILL: to write data and to finish short requests.
GRACE_SECONDS = 3.0


def main(command: list[str]) -> int:
    """Run ``command`` until it ends or the starter is gone; return its exit code as a shell would."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A handler, not SIG_IGN: the program would inherit that.
        signal.signal(number, lambda *_: None)
    try:
        program = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            process_group=0,
            # Written by the child itself, so it comes before the program's output.
            preexec_fn=lambda: os.write(1, b"%d\n" % os.getpid()),  # noqa: PLW1509 - there is no other thread yet
        )
    except OSError as exc:
        print(exc, flush=True)
        return 127
    try:
        threading.Thread(target=_end_with_starter, args=(program.pid,), daemon=True).start()
        code = program.wait()
    finally:
        _signal_group(program.pid, signal.SIGKILL)
    return code if code >= 0 else 128 - code


def _end_with_starter(group: int) -> None:
    os.read(0, 1)
    _signal_group(group, signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    _signal_group(group, signal.SIGKILL)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # the latter is macOS's answer for zombies
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
