"""The tested application: short and long tasks. Each result depends only on the number in the task's URL."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import shake_128, shake_256
from pathlib import Path
from typing import Any

from flask import Flask

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager, PermanentTaskFailure

#: The path of a file that contains how many seconds the application's clock is ahead.
AHEAD_VARIABLE = "CHAOS_CLOCK_AHEAD"
#: Set for an instance that runs another version, in which a URL has moved and another handler has taken its place.
MOVED_VARIABLE = "CHAOS_MOVED"

#: The path of a file to which each handler that was told of an end adds a line.
TOLD_VARIABLE = "CHAOS_TOLD"

PIECES = 20


def noise(number: int, size: int) -> bytes:
    """Return bytes that can't be compressed. The same number always leads to the same bytes."""
    return shake_128(b"%d" % number).digest(size)


def large_size(number: int) -> int:
    """Return a size from 1 to 2 MB."""
    return 1_000_000 + number * 104_729 % 1_000_000


def piece(number: int, index: int) -> bytes:
    """Return one piece of a yielded result."""
    return noise(1_000 * number + index, 20_000 + 1_000 * index)


def part_count(number: int) -> int:
    """Return how many parts a task in parts has: from 3 to 20."""
    return 3 + number * 5 % 18


def slow_seconds(number: int) -> float:
    """Return a duration from 1 to 5 seconds."""
    return 1 + number * 7 % 41 / 10


def digest(data: bytes) -> str:
    """Return a hash of an upload."""
    return shake_256(data).hexdigest(16)


def now() -> datetime:
    """Return the time. The test can set it ahead for all processes at once."""
    try:
        ahead = float(Path(os.environ[AHEAD_VARIABLE]).read_text(encoding="ascii"))
    except (KeyError, OSError, ValueError):
        ahead = 0.0
    return datetime.now(UTC) + timedelta(seconds=ahead)


class Telling(LongRunningTaskHandler):
    """Notes each end that it is told of, but fails to do so in a quarter of the calls."""

    def task_ended(self, task: LongTask) -> None:
        if not secrets.randbelow(4):
            message = "Not this time."
            raise OSError(message)
        with Path(os.environ[TOLD_VARIABLE]).open("a", encoding="ascii") as file:
            file.write(f"{task.id} {task.fence}\n")


class Quick(Telling):
    """Ends at once."""

    def execute_task(self, parameters: Any) -> Any:
        return {"square": parameters["number"] ** 2}


class Slow(LongRunningTaskHandler):
    """Works for some seconds, step by step. The progress message contains the process id."""

    def execute_task(self, parameters: Any) -> Any:
        seconds = float(parameters.get("seconds", slow_seconds(parameters["number"])))
        for _ in self.track(range(100), f"pid {os.getpid()} fence {self.task.fence}"):  # type: ignore[union-attr]  # set during an attempt
            time.sleep(seconds / 100)
        return f"slow {parameters['number']}"


class Large(LongRunningTaskHandler):
    """Returns a result that has to be stored in chunks. ``form`` chooses its type."""

    def execute_task(self, parameters: Any) -> Any:
        size = int(parameters.get("bytes", large_size(parameters["number"])))
        if parameters.get("form") == "text":
            return noise(parameters["number"], size // 2).hex()
        if parameters.get("form") == "pieces":
            return (noise(index, 100_000) for index in range(size // 100_000))
        return noise(parameters["number"], size)


class Yielding(LongRunningTaskHandler):
    """Yields its result piece by piece."""

    def execute_task(self, parameters: Any) -> Iterator[bytes]:
        for index in self.track(range(PIECES), "Yielding"):
            time.sleep(0.1)
            yield piece(parameters["number"], index)


class Upload(LongRunningTaskHandler):
    """Has parameters that have to be stored in chunks."""

    def execute_task(self, parameters: Any) -> Any:
        self.log_progress("Reading")
        time.sleep(0.5)
        return digest(parameters["file"])


class Echo(LongRunningTaskHandler):
    """Returns the uploaded file."""

    def execute_task(self, parameters: Any) -> Any:
        return parameters["file"]


class Parts(Telling):
    """Works in parts: long and short ones. Some yield, have checkpoints or fail at random, a few of them for good."""

    parallel = 3

    def split_task(self, parameters: Any) -> Iterator[int]:
        for index in range(part_count(parameters["number"])):
            time.sleep(0.02)
            yield index

    def execute_part(self, parameters: Any, part: int) -> Any:
        data = piece(parameters["number"], part)
        seconds = slow_seconds(part) / 4
        for step in self.track(range(10), f"part {part}", start=self.resumed_from or 0):
            time.sleep(seconds / 10)
            if part % 5 == 0:
                self.checkpoint(step + 1)
        if part == 2 and not secrets.randbelow(6):
            message = "Not in this run."
            raise PermanentTaskFailure(message)
        if part % 4 == 1 and not secrets.randbelow(5):
            message = "Not this time."
            raise OSError(message)
        return (data[start : start + 5_000] for start in range(0, len(data), 5_000)) if part % 3 == 2 else data

    def join_parts(self, parameters: Any, results: Any) -> Iterator[bytes]:
        for result in self.track(results, "Joining"):
            yield from [result] if isinstance(result, bytes) else result


class Rowing(LongRunningTaskHandler):
    """Works in eight parts at the same time, each of ``seconds``, step by step."""

    parallel = 8

    def split_task(self, parameters: Any) -> range:
        return range(8)

    def execute_part(self, parameters: Any, part: int) -> int:
        for _ in self.track(range(100), f"part {part}"):
            time.sleep(float(parameters["seconds"]) / 100)
        return part

    def join_parts(self, parameters: Any, results: Any) -> str:
        return " ".join(map(str, results))


class Flaky(Telling):
    """Fails in half of its attempts, at random."""

    def execute_task(self, parameters: Any) -> Any:
        time.sleep(0.3)
        if secrets.randbelow(2):
            message = "Not this time."
            raise OSError(message)
        return f"flaky {parameters['number']}"


class Hopeless(Telling):
    """Fails permanently at once."""

    def execute_task(self, parameters: Any) -> Any:
        message = f"There is no number {parameters['number']}."
        raise PermanentTaskFailure(message)


class Moved(LongRunningTaskHandler):
    """Has another URL in the other version."""

    def execute_task(self, parameters: Any) -> Any:
        time.sleep(0.2)
        return f"moved {parameters['number']}"


class Gone(Moved):
    """Has no URL in the other version."""

    def execute_task(self, parameters: Any) -> Any:
        return f"gone {parameters['number']}"


class Thief(LongRunningTaskHandler):
    """Has the URL of `Moved` in the other version."""

    def execute_task(self, parameters: Any) -> Any:
        return "stolen"


HANDLERS = (Quick, Slow, Large, Yielding, Parts, Rowing, Upload, Echo, Flaky, Hopeless)

app = Flask(__name__)
LongTaskManager(app, clock=now)
for handler in HANDLERS:
    endpoint = handler.__name__.lower()
    app.add_url_rule(f"/{endpoint}/<int:number>", view_func=handler.as_view(endpoint))


if MOVED_VARIABLE in os.environ:
    app.add_url_rule("/elsewhere/<int:number>", view_func=Moved.as_view("moved"))
    app.add_url_rule("/moved/<int:number>", view_func=Thief.as_view("thief"))
else:
    app.add_url_rule("/moved/<int:number>", view_func=Moved.as_view("moved"))
    app.add_url_rule("/gone/<int:number>", view_func=Gone.as_view("gone"))


@app.get("/memory")
def memory() -> dict[str, int]:
    """Return the process id, and the current and the peak memory of this process in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    found = {words[0]: int(words[1]) * 1024 for line in lines if (words := line.split())[0] in ("VmHWM:", "VmRSS:")}
    return {"pid": os.getpid(), "peak": found["VmHWM:"], "now": found["VmRSS:"]}
