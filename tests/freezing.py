"""Suspends a process, as it happens on an overloaded machine or a paused virtual machine."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

_POLL_SECONDS = 0.001
_TIMEOUT_SECONDS = 10


def freeze(pid: int) -> None:
    """Suspend a process. Return when all threads have stopped, which may be a moment after `kill` returns."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while any(state != "T" for state in _states_of_threads(pid)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} still runs")
        time.sleep(_POLL_SECONDS)


def thaw(pid: int) -> None:
    """Resume a suspended process."""
    os.kill(pid, signal.SIGCONT)


def _states_of_threads(pid: int) -> list[str]:
    # proc(5): "pid (name) state …". The name may contain any character.
    stats = (thread / "stat" for thread in Path(f"/proc/{pid}/task").iterdir())
    return [stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] for stat in stats]
