"""Measures the memory of the process that stores a large value and of the one that shows it.

``python -m benchmarks.memory [--mebibytes 30]``. Each line is a process of its own (one gunicorn worker on the local
stack), idle after a first small task; its peak is what the kernel calls VmHWM, so it runs on Linux alone. The value
does not compress, and comes out of the author's hands without a copy.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from tests.chaos.app import noise
from tests.chaos.battlefield import Battlefield
from tests.chaos.visitors import Answer, ask, upload, wait_for
from tests.endurance.app import TIME_LIMIT_VARIABLE

MIB = 1024 * 1024
_SECONDS = 180.0
_RESULTS = {
    "makes and stores a result of bytes": "/large/1?form=bytes",
    "makes and stores a text": "/large/1?form=text",
    "yields bytes": "/large/1?form=pieces",
    "yields bytes and calls checkpoint": "/volume?",
    "yields text and calls checkpoint": "/volume?text=yes",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Bytes that the worker occupied."""

    idle: int
    peak: int


class Worker:
    """The one worker of a fresh application."""

    def __init__(self, field: Battlefield) -> None:
        """Warm it up: every module is imported and every connection made that a task needs."""
        self._field = field
        field.restart_app()
        self.show(self.finish(self.answered(ask("GET", f"{field.url}/quick/1"))))
        self.show(self.finish(self.answered(upload(f"{field.url}/echo/2", b"small"))))
        self._idle = self._memory()["peak"]

    def measured(self) -> Measured:
        """Give the peak since the start."""
        return Measured(idle=self._idle, peak=self._memory()["peak"])

    def answered(self, answer: Answer | None) -> dict[str, Any]:
        """Give the status document of a start."""
        assert answer is not None
        assert answer.status == 202, answer.body
        document: dict[str, Any] = answer.json
        return document

    def finish(self, document: dict[str, Any]) -> dict[str, Any]:
        """Wait for the end."""
        done = wait_for(self._field.url + document["links"]["self"], seconds=_SECONDS)
        assert done["links"]["result"], done
        return done

    def show(self, document: dict[str, Any]) -> bytes:
        """Give the result."""
        answer = ask("GET", self._field.url + document["links"]["result"], timeout=_SECONDS)
        assert answer is not None
        assert answer.status == 200, answer.body[:300]
        return answer.body

    def _memory(self) -> dict[str, int]:
        answer = ask("GET", f"{self._field.url}/memory")
        assert answer is not None
        found: dict[str, int] = answer.json
        return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mebibytes", type=int, default=30, help="how large the value is (30)")
    size = parser.parse_args().mebibytes * MIB
    print("| what the process does | idle, MiB | peak, MiB | above idle, times the value |")
    print("|---|---:|---:|---:|")
    with Battlefield(workers=1, app="tests.endurance.app:app", env={TIME_LIMIT_VARIABLE: "3"}) as field:
        for what, path in _RESULTS.items():
            worker = Worker(field)
            done = worker.finish(worker.answered(ask("GET", f"{field.url}{path}&bytes={size}")))
            handed_over = field.history.steps(done["id"])["handed over"]
            in_turns = f", {handed_over + 1} attempts in turn" if handed_over else ""
            _say(f"{what}{in_turns}", worker.measured(), size)
            worker = Worker(field)
            shown = worker.show(done)
            assert len(shown) // 100_000 == size // 100_000
            _say("shows it", worker.measured(), size)
        worker = Worker(field)
        sent = noise(1, size)
        field.deliveries.held = "/echo/1?"
        started = worker.answered(upload(f"{field.url}/echo/1", sent, timeout=_SECONDS))
        _say("receives and stores an upload", worker.measured(), size)
        worker = Worker(field)
        field.deliveries.held = None
        done = worker.finish(started)
        _say("loads the upload and stores it as the result", worker.measured(), size)
        worker = Worker(field)
        assert worker.show(done) == sent
        _say("loads the upload and shows the result", worker.measured(), size)


def _say(what: str, measured: Measured, size: int) -> None:
    above = measured.peak - measured.idle
    figures = f"{measured.idle / MIB:.0f} | {measured.peak / MIB:.0f} | {above / size:.2f}"
    print(f"| {what} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
