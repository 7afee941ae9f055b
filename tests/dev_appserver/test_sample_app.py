"""The sample app under the Cloud SDK's dev_appserver.py; ``nox -s dev_appserver`` runs this."""

from __future__ import annotations

import json
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from gaetk_longtask.dev.cloud_sdk import find_emulator
from gaetk_longtask.dev.pieces import start_datastore, start_memcached, start_tasks
from gaetk_longtask.dev.processes import Process, free_port

ROOT = Path(__file__).parents[2]
START_SECONDS = 150  # it makes a virtual environment and installs requirements.txt, at every start
WORK_SECONDS = 60
#: The newest that SDK 528 knows.
RUNTIME = "python313"


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def app(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = find_emulator("google_appengine/dev_appserver.py")
    assert server is not None, "the Cloud SDK's app-engine-python component is not installed"
    folder = tmp_path_factory.mktemp("app")
    for name in ("gaetk_longtask", "sample_app"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "requirements.txt", folder)
    settings = (ROOT / "app.yaml").read_text().replace("runtime: python314", f"runtime: {RUNTIME}")
    (folder / "app.yaml").write_text(settings)
    url = f"http://127.0.0.1:{port}"
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


def ended(url: str, started: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + WORK_SECONDS
    state = started
    while not state["done"]:
        assert time.monotonic() < deadline, state
        time.sleep(state["poll_after_seconds"])
        state = document(url + state["links"]["self"])
    return state


def test_a_task_is_started_watched_and_collected(app: str) -> None:
    state = ended(app, document(f"{app}/count/2"))
    assert state["status"] == "done"
    with urllib.request.urlopen(app + state["links"]["result"], timeout=30) as response:
        assert response.read() == b"Counted 2 seconds."


def test_a_delivery_that_somebody_else_makes_up_is_refused(app: str, port: int) -> None:
    state = document(f"{app}/count/1")
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    # This server passes such a header on; only the task's execute key, which nobody else has, proves a delivery.
    headers = {"X-AppEngine-QueueName": "default", "X-Longtask-Execute-Key": "A" * 22}
    connection.request("GET", state["links"]["self"].replace("=query", "=execute"), headers=headers)
    assert connection.getresponse().status == 403
    connection.close()
