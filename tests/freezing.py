"""Stops a process in the middle of what it does, as an overloaded machine or a paused virtual one would."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

_POLL_SECONDS = 0.001
_TIMEOUT_SECONDS = 10


def freeze(pid: int) -> None:
    """Stop it, and return when it has stopped: `kill` returns before, and its threads still answer for a moment."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while any(state != "T" for state in _states_of_threads(pid)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} still runs")
        time.sleep(_POLL_SECONDS)


def thaw(pid: int) -> None:
    """Let it go on as if nothing had happened."""
    os.kill(pid, signal.SIGCONT)


def _states_of_threads(pid: int) -> list[str]:
    # proc(5): "pid (name) state …", and the name may have any character in it.
    stats = (thread / "stat" for thread in Path(f"/proc/{pid}/task").iterdir())
    return [stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] for stat in stats]
