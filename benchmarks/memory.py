"""Measures the memory that a process needs to store or to show a large value: ``python -m benchmarks.memory``.

Each row is a separate process: one gunicorn worker on the local stack, idle after a small first task. The peak is the
kernel's VmHWM, so this runs on Linux only. The value can't be compressed, and the author's code keeps no copy of it.
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
    """The memory that the worker has used, in bytes."""

    idle: int
    peak: int


class Worker:
    """The only worker of a freshly started application."""

    def __init__(self, field: Battlefield) -> None:
        """Start it and run small tasks, so that all modules are imported and all connections are open."""
        self._field = field
        field.restart_app()
        self.show(self.finish(self.answered(ask("GET", f"{field.url}/quick/1"))))
        self.show(self.finish(self.answered(upload(f"{field.url}/echo/2", b"small"))))
        self._idle = self._memory()["peak"]

    def measured(self) -> Measured:
        """Return the memory when idle, and the peak since the start."""
        return Measured(idle=self._idle, peak=self._memory()["peak"])

    def answered(self, answer: Answer | None) -> dict[str, Any]:
        """Return the status document of a started task."""
        assert answer is not None
        assert answer.status == 202, answer.body
        document: dict[str, Any] = answer.json
        return document

    def finish(self, document: dict[str, Any]) -> dict[str, Any]:
        """Wait for the end of a task, and return its status document."""
        done = wait_for(self._field.url + document["links"]["self"], seconds=_SECONDS)
        assert done["links"]["result"], done
        return done

    def show(self, document: dict[str, Any]) -> bytes:
        """Return the result of a task."""
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
    parser.add_argument("--mebibytes", type=int, default=30, help="size of the value (default: 30)")
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
