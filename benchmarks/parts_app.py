"""The application of the benchmarks of work in parts: work that waits, does nothing, or has large results."""

from __future__ import annotations

import time
from typing import Any

from flask import Flask

from gaetk_longtask import LongRunningTaskHandler, LongTaskManager
from tests.chaos.app import memory, noise

KIBIBYTE = 1024


class Empty(LongRunningTaskHandler):
    """Does nothing."""

    def execute_task(self, parameters: Any) -> str:
        """Return at once."""
        return "result"


class Waiting(LongRunningTaskHandler):
    """Waits for ``seconds``, once or in ``parts``."""

    def split_task(self, parameters: Any) -> range:
        """Return as many parts as the URL says."""
        return range(int(parameters["parts"]))

    def execute_part(self, parameters: Any, part: int) -> int:
        """Wait, and report it."""
        steps = int(float(parameters["seconds"]) * 10)
        for _ in self.track(range(steps), "Waiting"):
            time.sleep(0.1)
        return part


class Bulky(LongRunningTaskHandler):
    """Has results that can't be compressed, of ``bytes`` each in ``parts``. The join reads them one after the other."""

    parallel = 8

    def split_task(self, parameters: Any) -> range:
        """Return as many parts as the URL says."""
        return range(int(parameters["parts"]))

    def execute_part(self, parameters: Any, part: int) -> bytes:
        """Return bytes that depend on the part."""
        return noise(part, int(parameters["bytes"]))

    def join_parts(self, parameters: Any, results: Any) -> int:
        """Return the size of all results."""
        return sum(len(result) for result in results)


app = Flask("parts")
LongTaskManager(app)
app.add_url_rule("/memory", view_func=memory)
app.add_url_rule("/empty", view_func=Empty.as_view("empty"))
app.add_url_rule("/bulky", view_func=Bulky.as_view("bulky"))
for lanes in (1, 4, 8):
    waiting = type(f"Waiting{lanes}", (Waiting,), {"parallel": lanes})
    app.add_url_rule(f"/waiting/{lanes}", view_func=waiting.as_view(f"waiting{lanes}"))
