"""The example from the README: the smallest useful task."""
# ruff: noqa: D101, D102  # the README shows exactly this code and explains it

from __future__ import annotations

import time
from typing import Any

from gaetk_longtask import LongRunningTaskHandler


class Count(LongRunningTaskHandler):
    def execute_task(self, parameters: dict[str, Any]) -> str:
        for _ in self.track(range(parameters["seconds"]), "Counting"):
            time.sleep(1)
        return f"Counted {parameters['seconds']} seconds."
