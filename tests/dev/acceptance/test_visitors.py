"""On the local stack, visitors are served while as many tasks run as can."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from gaetk_longtask.dev.stack import Stack

ROOT = Path(__file__).parents[3]
APP = """
import time
from flask import Flask
from gaetk_longtask import LongRunningTaskHandler, LongTaskManager

app = Flask(__name__)
LongTaskManager(app)


class Wait(LongRunningTaskHandler):
    def execute_task(self, parameters):
        for _ in self.track(range(600)):
            time.sleep(0.1)


app.add_url_rule("/wait", view_func=Wait.as_view("wait"))


@app.route("/page")
def page():
    return "page"
"""
QUEUE_YAML = "queue:\n- name: default\n  rate: 100/s\n  bucket_size: 100\n  max_concurrent_requests: 40\n"


def ask(url: str, *, data: bytes | None = None) -> tuple[Any, float]:
    """Return the answer as JSON or text, and the seconds that it took."""
    began = time.monotonic()
    with urlopen(Request(url, data, {"Accept": "application/json"}), timeout=60) as answer:
        body = answer.read().decode()
    took = time.monotonic() - began
    return (json.loads(body) if body.startswith("{") else body), took


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[str, list[str]]]]:
    """Start the stack for an entrypoint, and return the application's URL and what the stack has said."""
    stacks: list[Stack] = []

    def start(entrypoint: str | None, queue_yaml: str | None) -> tuple[str, list[str]]:
        (tmp_path / "main.py").write_text(APP)
        if entrypoint:
            (tmp_path / "app.yaml").write_text(f"runtime: python313\nentrypoint: {entrypoint}\n")
        if queue_yaml:
            (tmp_path / "queue.yaml").write_text(queue_yaml)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        for name in ("DATASTORE_EMULATOR_HOST", "MEMCACHED_HOSTS", "CLOUD_TASKS_EMULATOR_HOST"):
            monkeypatch.delenv(name, raising=False)
        said: list[str] = []
        yaml = tmp_path / "queue.yaml" if queue_yaml else None
        stack = Stack("main:app", port=0, queue_yaml=yaml, datastore="embedded", say=said.append)
        stack.start()
        stacks.append(stack)
        return stack.url, said

    yield start
    for stack in stacks:
        stack.stop()


@pytest.mark.parametrize(
    ("entrypoint", "queue_yaml", "at_once"),
    [
        (None, QUEUE_YAML, 8),
        (None, None, 8),
        ("gunicorn -b :$PORT main:app", QUEUE_YAML, 2),
        ("gunicorn -b :$PORT --workers 2 --threads 4 main:app", QUEUE_YAML, 8),
    ],
)
def test_every_page_poll_and_cancel_is_answered_within_a_second(
    start: Callable[..., tuple[str, list[str]]], entrypoint: str | None, queue_yaml: str | None, at_once: int
) -> None:
    url, said = start(entrypoint, queue_yaml)
    assert any(f"at most {at_once} tasks at a time" in line for line in said), said
    tasks = [ask(f"{url}/wait")[0] for _ in range(12)]
    links = [url + task["links"]["self"] for task in tasks]
    deadline = time.monotonic() + 60
    while sum(ask(link)[0]["status"] == "started" for link in links) < at_once:
        assert time.monotonic() < deadline
        time.sleep(0.1)

    seconds = [ask(f"{url}/page")[1] for _ in range(5)]
    with ThreadPoolExecutor(6) as visitors:  # as many as a browser has connections
        answers = list(visitors.map(ask, [*links, f"{url}/page", *links]))
    seconds += [took for _, took in answers]
    assert sum(answer["status"] == "started" for answer, _ in answers[:12]) == at_once
    running = [answer for answer, _ in answers[:12] if answer["status"] == "started"]
    seconds.append(ask(url + running[0]["links"]["cancel"], data=b"")[1])
    assert max(seconds) < 1, seconds
