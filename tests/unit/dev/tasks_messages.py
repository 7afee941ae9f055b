"""Creates messages for the tests of the Cloud Tasks emulator."""

from __future__ import annotations

from datetime import UTC, datetime

from gaetk_longtask.dev.tasks_emulator.messages import Message, Queue, Task
from gaetk_longtask.dev.tasks_emulator.names import QueueName

NOW = datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)
PARENT = "projects/p/locations/l"
DEFAULT = QueueName(project="p", location="l", queue="default")


def app_engine_task(name: str = "", uri: str = "/work", **request) -> Message:
    return Task(name=name, app_engine_http_request={"relative_uri": uri, **request})


def http_task(name: str = "", url: str = "http://127.0.0.1:8080/work", **request) -> Message:
    return Task(name=name, http_request={"url": url, **request})


def queue(short: str = "q", **settings) -> Message:
    return Queue(name=f"{PARENT}/queues/{short}", **settings)
