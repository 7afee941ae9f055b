"""Runs one program so that neither it nor its children outlive the process that started the guard.

``guard.py PROGRAM [ARGUMENT...]``: the first line on standard output is the program's process id, everything after
it is the program's own output. The guard's standard input is a pipe whose other
end is held by the starter alone; a byte or its end, however the starter died, ends the program's process group.
The guard itself is deaf to the usual signals, so that there is one way to end a program and no race between two.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

#: How long a program may take to end on SIGTERM (write its data, finish short requests) before SIGKILL.
GRACE_SECONDS = 3.0


def main(command: list[str]) -> int:
    """Run ``command`` until it ends or the starter is gone; return its exit code as a shell would."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A handler, not SIG_IGN: that would be inherited by the program.
        signal.signal(number, lambda *_: None)
    try:
        program = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            process_group=0,
            # Told by the child itself, so that it comes before whatever the program writes.
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
