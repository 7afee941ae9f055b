"""Measures the import of the library on top of Flask, NDB and the Cloud Tasks client, and a cold start."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import Row, Table, side_by_side

_ALONE = "import flask, google.cloud.ndb, google.cloud.tasks_v2"
_MEMORY = """
def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
"""
_IMPORT = f"""
import time
{_ALONE}
{_MEMORY}
before, began = resident(), time.process_time()
import gaetk_longtask
print((time.process_time() - began) * 1000, resident() - before)
"""
_HELLO = """
from flask import Flask
app = Flask("cold")
app.config["LONGTASK_PROJECT"] = "cold"
app.add_url_rule("/hello", view_func=lambda: "Hello")
{more}
assert app.test_client().get("/hello").text == "Hello"
"""
_MANAGER = "from gaetk_longtask import LongTaskManager; LongTaskManager(app)"
WITHOUT, WITH = "Flask, NDB and Cloud Tasks only", "with gaetk_longtask"


def measure(*, quick: bool) -> list[Table]:
    """Return the tables."""
    repetitions = 2 if quick else 7
    _cold_start(f"{_ALONE}\n" + _HELLO.format(more=_MANAGER))  # compiles the modules, as pip does at installation
    pairs = [[float(word) for word in _python(_IMPORT).split()] for _ in range(repetitions)]
    times, sizes = ([pair[place] for pair in pairs] for place in (0, 1))
    starts = side_by_side(
        repetitions,
        {
            WITHOUT: lambda: _cold_start(f"{_ALONE}\n" + _HELLO.format(more="")),
            WITH: lambda: _cold_start(f"{_ALONE}\n" + _HELLO.format(more=_MANAGER)),
        },
    )
    added = "import gaetk_longtask"
    rows = [Row(name=WITHOUT, values=starts[WITHOUT]), Row(name=WITH, values=starts[WITH], beside=(WITHOUT,))]
    return [
        Table(
            name="import-time",
            unit="ms of CPU time",
            rows=[Row(name=added, values=times, target="≤ 30")],
        ),
        Table(name="import-memory", unit="MiB", rows=[Row(name=added, values=sizes, target="≤ 5")]),
        Table(name="cold-start", unit="ms to the first response", digits=0, rows=rows),
    ]


def _python(code: str) -> str:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = str(Path(tempfile.gettempdir()) / "gaetk-longtask-bench")
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=env).stdout


def _cold_start(code: str) -> float:
    timed = "import time\nbegan = time.perf_counter()\n" + code + "\nprint((time.perf_counter() - began) * 1000)"
    return float(_python(timed))
