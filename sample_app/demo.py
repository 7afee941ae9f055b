"""The demo. It starts the local stack, runs the import and the report, and prints their progress and result."""

from __future__ import annotations

import argparse
import csv
import io
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

from gaetk_longtask.client import Client, ClientError, ProgressBar

_DEFAULT_PORT = 8080
_START_SECONDS = 180.0
_STOP_SECONDS = 30.0
_JOB_SECONDS = 900.0
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ROOT = Path(__file__).resolve().parents[1]


class StackError(Exception):
    """The local stack did not start, or it stopped unexpectedly."""


class Stack:
    """The local stack in its own process. Its output is printed unless it is muted."""

    def __init__(self, port: int) -> None:
        command = [sys.executable, "-m", "gaetk_longtask.dev", "sample_app.main:app", "--port", str(port)]
        self._process = subprocess.Popen(
            command,
            cwd=_ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # Ctrl-C must reach only the demo, which then stops the stack.
            start_new_session=True,
        )
        self.muted = False
        self._url: str | None = None
        self._last_lines: deque[str] = deque(maxlen=20)
        outputs = (self._process.stdout, self._process.stderr)
        self._readers = [threading.Thread(target=self._read, args=[output], daemon=True) for output in outputs]
        for reader in self._readers:
            reader.start()

    def _read(self, output: Iterable[str]) -> None:
        for raw in output:
            line = raw.rstrip()
            self._last_lines.append(line)
            if not self.muted:
                print(f"  {line}\n", end="", flush=True)  # In one call, because another thread prints too.
            if self._url is None and line.startswith("ready: http"):
                self._url = line.removeprefix("ready: ").rstrip("/")

    def wait_until_ready(self) -> str:
        """Wait for the local stack, and return the URL of the site."""
        deadline = time.monotonic() + _START_SECONDS
        while self._url is None:
            self.check()
            if time.monotonic() > deadline:
                raise StackError(f"The local stack was not ready after {_START_SECONDS:.0f} seconds.")
            time.sleep(0.05)
        return self._url

    def check(self) -> None:
        """Raise `StackError` if the local stack has stopped."""
        code = self._process.poll()
        if code is not None:
            self._hear_out()
            raise StackError(f"The local stack has stopped with exit code {code}.")

    def unseen_lines(self) -> str:
        """Return the last output for an error message, unless it was printed already."""
        if not self.muted:
            return ""
        return "\nThe last output of the local stack:" + "".join(f"\n  {line}" for line in list(self._last_lines))

    def stop(self) -> None:
        """Stop the local stack and everything that it has started."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._hear_out()

    def _hear_out(self) -> None:
        for reader in self._readers:
            reader.join(timeout=1)


def report_table(report: str) -> str:
    """Return the report as a table, with totals in the last line."""
    header, *rows = csv.reader(io.StringIO(report))
    quantity = sum(int(row[2]) for row in rows)
    value = sum((Decimal(row[3]) for row in rows), Decimal())
    lines = [[date, country, f"{int(number):,}", f"{Decimal(amount):,}"] for date, country, number, amount in rows]
    lines = [header, *lines, ["", "Total", f"{quantity:,}", f"{value:,}"]]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return "\n".join(
        f"  {date:<{widths[0]}}  {country:<{widths[1]}}  {number:>{widths[2]}}  {amount:>{widths[3]}}"
        for date, country, number, amount in lines
    )


def free_port(wanted: int | None) -> int:
    """Return the requested port, or else the default port if it is free, or else any free port."""
    if wanted is not None:
        return wanted
    for port in (_DEFAULT_PORT, 0):
        try:
            with socket.create_server(("127.0.0.1", port)) as server:
                number: int = server.getsockname()[1]
        except OSError:
            print(f"Port {port} is in use. Using another one.")
            continue
        return number
    raise StackError("There is no free port on 127.0.0.1.")


@contextmanager
def _running_stack(port: int) -> Iterator[Stack]:
    stack = Stack(port)
    try:
        yield stack
    except (ClientError, StackError) as exc:
        raise StackError(f"{exc}{stack.unseen_lines()}") from exc
    finally:
        for number in _ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # A second Ctrl-C must not leave processes behind.
        stack.stop()


def _run_job(url: str, **fields: Any) -> str:
    """Start a job, print its progress until it is done, and return its result."""
    task = Client().start(url, **fields)
    task.follow(ProgressBar(sys.stdout), timeout_seconds=_JOB_SECONDS)
    return task.result().text


def _run_demo(*, port: int, once: bool) -> None:
    print("Starting the local stack", flush=True)
    with _running_stack(port) as stack:
        site = stack.wait_until_ready()
        stack.muted = True
        print("\nImporting the bundled invoices", flush=True)
        _run_job(f"{site}/import", data={"bundled": "yes"})
        print("\nCreating the INTRASTAT report for December 2010", flush=True)
        report = _run_job(f"{site}/intrastat", params={"month": "2010-12"})
        print(f"\n{report_table(report)}\n", flush=True)
        if once:
            return
        print(f"The site is still running at {site}/\nPress Ctrl-C to stop it.", flush=True)
        stack.muted = False
        with suppress(KeyboardInterrupt):
            while True:
                stack.check()
                time.sleep(0.5)


def _port(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= 65_535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text[:50]!r} is not a port; use a number up to 65535")


def main() -> int:
    """Run the demo. Return 0 if it succeeded, 1 if it failed, and 130 if it was interrupted."""
    parser = argparse.ArgumentParser(prog="python -m sample_app.demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop after the report instead of keeping the site running")
    default = f"{_DEFAULT_PORT} if it is free, otherwise any free port"
    parser.add_argument("--port", type=_port, help=f"port of the site (default: {default})")
    arguments = parser.parse_args()
    for number in _ENDING_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    try:
        _run_demo(port=free_port(arguments.port), once=arguments.once)
    except StackError as exc:
        print(f"\nThe demo failed: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
