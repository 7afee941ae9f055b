"""Creates messages for the tests of the Cloud Tasks emulator."""

from __future__ import annotations

from datetime import UTC, datetime

from gaetk_longtask.dev.tasks_emulator.acceptance import accept
from gaetk_longtask.dev.tasks_emulator.messages import Message, Queue, Task
from gaetk_longtask.dev.tasks_emulator.names import QueueName
from gaetk_longtask.dev.tasks_emulator.queues import TaskQueue
from gaetk_longtask.dev.tasks_emulator.scheduler import Attempt
from gaetk_longtask.dev.tasks_emulator.settings import created
from gaetk_longtask.dev.tasks_emulator.tasks import Previous

NOW = datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)
PARENT = "projects/p/locations/l"
DEFAULT = QueueName(project="p", location="l", queue="default")


def app_engine_task(name: str = "", uri: str = "/work", **request) -> Message:
    return Task(name=name, app_engine_http_request={"relative_uri": uri, **request})


def http_task(name: str = "", url: str = "http://127.0.0.1:8080/work", **request) -> Message:
    return Task(name=name, http_request={"url": url, **request})


def queue(short: str = "q", **settings) -> Message:
    return Queue(name=f"{PARENT}/queues/{short}", **settings)


def attempt(given: Message, *, previous: Previous | None = None, settings: Message | None = None) -> Attempt:
    record = accept(given, name=f"{DEFAULT}/tasks/t", queue=DEFAULT, now=NOW)
    retries = 0 if previous is None else 3
    return Attempt(
        queue=TaskQueue(DEFAULT, created(settings or queue("default"), str(DEFAULT)), from_yaml=False, now=NOW),
        record=record,
        task=record.message,
        retries=retries,
        executions=retries,
        previous=previous,
        began=NOW,
        forced=False,
    )
