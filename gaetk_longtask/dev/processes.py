"""A child process of the local stack: its guard, its output, its end."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import SystemRandom

from gaetk_longtask.dev.guard import GRACE_SECONDS
from gaetk_longtask.dev.options import LOCAL, listen

#: Receives a piece's name and a line of its output.
Log = Callable[[str, str], None]

_TAIL_LINES = 20
_POLL_SECONDS = 0.02
#: Where to look for a free port: below those that operating systems take for outgoing connections, any of which could
#: take the port before its server does.
_PORTS, _TRIES = range(20_000, 32_768), 20


class StackError(Exception):
    """The local stack cannot start or go on; the message says what to do about it."""


class MissingPieceError(StackError):
    """A program or package that a piece needs is not installed."""


class PieceEndedError(StackError):
    """A piece ended by itself or was not ready in time; the message shows its last lines of output."""

    #: The piece's name, for instance ``memcached``.
    piece: str

    def __init__(self, message: str, *, piece: str) -> None:
        super().__init__(message)
        self.piece = piece


def discard(name: str, line: str) -> None:
    """Ignore a line of output; the last lines still appear in errors."""


class Process:
    """A program and its children, from start to stop."""

    def __init__(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str] | None = None, log: Log = discard
    ) -> None:
        self.name = name
        self._log = log
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._ready_line: str | None = None
        guard = str(Path(__file__).with_name("guard.py"))
        self._guard = subprocess.Popen(
            [sys.executable, "-P", guard, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Not in the terminal's process group: Ctrl-C is for the stack, which then ends the rest in order.
            start_new_session=True,
            env={**(os.environ if env is None else env), "PYTHONUNBUFFERED": "1"},
        )
        assert self._guard.stdin is not None  # noqa: S101 - for the type checker, as the next
        assert self._guard.stdout is not None  # noqa: S101  # it was started with a pipe
        self._stdin, self._stdout = self._guard.stdin, self._guard.stdout
        #: The program's process id and process group; 0 if it did not start, and then its first line says why.
        self.pid = 0
        self._reader = threading.Thread(target=self._read, name=f"output of {name}", daemon=True)
        try:
            first = self._stdout.readline().decode(errors="replace").strip()
            if first.isdecimal():
                self.pid = int(first)
            else:
                self._tail.append(first)
            self._reader.start()
        except BaseException:  # Ctrl-C, while no other code knows this process
            self.stop()
            raise

    def _read(self) -> None:
        for raw in self._stdout:
            line = raw.decode(errors="replace").rstrip()
            self._tail.append(line)
            if self._ready_line is None and line.startswith("ready: "):
                self._ready_line = line.removeprefix("ready: ")
            self._log(self.name, line)

    @property
    def exit_code(self) -> int | None:
        """``None`` while it runs; after a signal, 128 plus its number, as in a shell."""
        code = self._guard.poll()
        if code is not None and code < 0:
            self._end_what_the_guard_left()
        return code

    def wait_until_ready(self, is_ready: Callable[[], bool], *, timeout_seconds: float) -> None:
        """Return when ``is_ready`` does; raise :class:`PieceEndedError` if the program ends or takes too long."""
        deadline = time.monotonic() + timeout_seconds
        while not is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise PieceEndedError(
                    f"{self.name} was not ready after {timeout_seconds:.0f} seconds{self._last_words()}",
                    piece=self.name,
                )
            time.sleep(_POLL_SECONDS)

    def ready_line(self, *, timeout_seconds: float) -> str:
        """Wait for the line ``ready: …`` of its output, and return the rest of that line."""
        self.wait_until_ready(lambda: self._ready_line is not None, timeout_seconds=timeout_seconds)
        return self._ready_line or ""

    def check(self) -> None:
        """Raise :class:`PieceEndedError` unless it runs."""
        code = self.exit_code
        if code is not None:
            self._reader.join(1.0)
            raise PieceEndedError(f"{self.name} ended with exit code {code}{self._last_words()}", piece=self.name)

    def stop(self) -> None:
        """End the program and its children by SIGTERM, and those that remain by SIGKILL after the grace period."""
        if not self._stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._stdin.fileno(), b"\n")
            self._stdin.close()
        try:
            self._guard.wait(GRACE_SECONDS + 2)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
            self._end_what_the_guard_left()
        if self._reader.is_alive():
            self._reader.join(1.0)
        if not self._reader.is_alive():
            self._stdout.close()

    def _end_what_the_guard_left(self) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _last_words(self) -> str:
        lines = [f"\n    {line}" for line in self._tail]
        return "; its last lines:" + "".join(lines) if lines else "; it wrote nothing"


def free_port(host: str = LOCAL, wanted: int = 0, *, name: str = "") -> int:
    """Return a TCP port that is free now; raise :class:`StackError` if the wanted one is not. 0 stands for any."""
    taken: OSError | None = None
    for port in [wanted] if wanted else SystemRandom().sample(_PORTS, _TRIES):
        try:
            with listen(host, port):
                return port
        except OSError as exc:
            if exc.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise StackError(f"{name}: can't listen on {host} ({exc.strerror})") from exc
            taken = exc
    reason = taken.strerror if taken is not None else ""
    raise StackError(f"{name}: port {wanted} is not free ({reason}); 0 takes one that is") from taken


def answers(host: str) -> bool:
    """Return whether anything accepts connections at ``host:port``."""
    name, _, port = host.rpartition(":")
    try:
        socket.create_connection((name.strip("[]"), int(port)), timeout=1.0).close()
    except (OSError, ValueError):
        return False
    return True
