"""Runs an application under the Cloud SDK's dev_appserver.py, with our local services."""

from __future__ import annotations

import json
import shutil
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from gaetk_longtask.dev.cloud_sdk import find_emulator
from gaetk_longtask.dev.pieces import start_datastore, start_memcached, start_tasks
from gaetk_longtask.dev.processes import Process, free_port

ROOT = Path(__file__).parents[2]
START_SECONDS = 150  # it creates a virtual environment and installs requirements.txt at every start
WORK_SECONDS = 60
#: The newest runtime that SDK 528 supports.
RUNTIME = "python313"


def copy_sample_app(folder: Path) -> None:
    """Copy the files of a deployment into a folder."""
    for name in ("gaetk_longtask", "sample_app"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "requirements.txt", folder)
    settings = (ROOT / "app.yaml").read_text().replace("runtime: python314", f"runtime: {RUNTIME}")
    (folder / "app.yaml").write_text(settings)


@contextmanager
def dev_appserver(folder: Path) -> Iterator[str]:
    """Run the application in a folder, and yield its URL."""
    server = find_emulator("google_appengine/dev_appserver.py")
    assert server is not None, "the Cloud SDK's app-engine-python component is not installed"
    url = f"http://127.0.0.1:{(port := free_port())}"
    with ExitStack() as pieces:
        environment = {
            "GOOGLE_CLOUD_PROJECT": "demo",
            "DATASTORE_EMULATOR_HOST": pieces.enter_context(start_datastore()).host,
            "MEMCACHED_HOSTS": pieces.enter_context(start_memcached()).host,
            "CLOUD_TASKS_EMULATOR_HOST": pieces.enter_context(start_tasks(url)).host,
        }
        process = Process(
            "dev_appserver",
            [
                str(server.parents[1] / "bundledpythonunix/bin/python3"),
                str(server),
                "--application=demo",
                "--host=127.0.0.1",
                f"--port={port}",
                f"--admin_port={free_port()}",
                "--support_datastore_emulator=false",
                "--automatic_restart=no",
                f"--runtime_python_path={sys.executable}",
                *(f"--env_var={name}={value}" for name, value in environment.items()),
                str(folder / "app.yaml"),
            ],
        )
        pieces.callback(process.stop)
        process.wait_until_ready(lambda: answers(url), timeout_seconds=START_SECONDS)
        yield url


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def document(url: str) -> dict[str, Any]:
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        found = json.load(response)
    assert isinstance(found, dict)
    return found


def documents(url: str, started: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the status documents of a task until it has ended."""
    deadline = time.monotonic() + WORK_SECONDS
    yield (state := started)
    while not state["done"]:
        assert time.monotonic() < deadline, state
        time.sleep(state["poll_after_seconds"])
        yield (state := document(url + state["links"]["self"]))
