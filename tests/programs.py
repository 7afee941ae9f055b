"""Programs of the project that tests run in processes of their own."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from tests.missing import missing

ROOT = Path(__file__).parents[1]
START_SECONDS = 120


class Program:
    """A module that runs in its own process. Its output is read line by line. A context manager that stops it."""

    def __init__(self, module: str, *arguments: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=cwd,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.lines: list[str] = []
        self._unread: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._read, args=[self.process.stdout, self._unread.put], daemon=True),
            threading.Thread(target=self._read, args=[self.process.stderr, lambda _: None], daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, output: IO[str], tell: Callable[[str | None], None]) -> None:
        with output:
            for line in output:
                self.lines.append(line.rstrip())
                tell(line)
        tell(None)

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, start: str, *, seconds: float = START_SECONDS) -> str:
        """Wait for a line of standard output that begins with `start`, and return its rest."""
        deadline = time.monotonic() + seconds
        while line := self._next_line(deadline):
            if line.startswith(start):
                return line.removeprefix(start).rstrip()
        if "is not installed" in self.output and self.process.poll():
            missing(self.output)
        raise AssertionError(f"no line that starts with {start!r} in {seconds} seconds:\n{self.output}")

    def _next_line(self, deadline: float) -> str | None:
        """Return the next line with its line break, or None if there is no more line, or none in time."""
        try:
            return self._unread.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            return None

    def wait(self, *, seconds: float = 30) -> int:
        """Wait for the end of the process and of its output, and return the exit code."""
        code = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(10)
        return code

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.wait()

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        self.process.terminate()
        try:
            self.process.wait(60)  # it ends several programs, one after the other
        finally:
            self.kill()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
