"""A program of the local stack that a test run starts beside itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

#: Ends the program when we are gone, however that came.
_GUARD = Path(__file__).parents[1] / "dev" / "guard.py"
_STOP_SECONDS = 30


class ProgramError(Exception):
    """The program has ended before it was ready; what it wrote says why."""


class Program:
    """A module that says ``ready: ADDRESS`` on standard output and then serves until it is stopped.

    What it writes to standard error goes where ours does, so that pytest shows it where a test fails.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        """Start it, and return when it is ready.

        Raises:
            ProgramError: it has ended instead.

        """
        self._process = subprocess.Popen(  # noqa: S603  # a module of ours
            [sys.executable, "-P", str(_GUARD), sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        #: What it has written on standard output before it was ready.
        self.lines: list[str] = []
        try:
            #: Where it answers.
            self.address = self._wait_until_ready(module)
        except BaseException:
            self.stop()
            raise

    def _wait_until_ready(self, module: str) -> str:
        for line in self._process.stdout or ():
            if line.startswith("ready: "):
                return line.removeprefix("ready: ").strip()
            self.lines.append(line.rstrip())
        message = "\n".join([f"python -m {module} has ended; standard error says why", *self.lines[1:]])
        raise ProgramError(message)

    def stop(self) -> None:
        """End it, and what it has started."""
        try:
            self._process.communicate(timeout=_STOP_SECONDS)
        finally:
            self._process.kill()
