"""The resource names of locations, queues and tasks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gaetk_longtask.dev.tasks_emulator.errors import invalid

_LOCATION = r"projects/(?P<project>[A-Za-z0-9.:-]{1,100})/locations/(?P<location>[A-Za-z0-9-]{1,100})"
_LOCATION_NAME = re.compile(_LOCATION)
_QUEUE_NAME = re.compile(_LOCATION + r"/queues/(?P<queue>[A-Za-z0-9-]{1,100})")
_TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,500}")
_TASKS = "/tasks/"


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueName:
    """The parts of a queue's name."""

    project: str
    location: str
    queue: str

    @property
    def parent(self) -> str:
        """The location's name."""
        return f"projects/{self.project}/locations/{self.location}"

    def __str__(self) -> str:
        return f"{self.parent}/queues/{self.queue}"


def parse_location(text: str) -> str:
    """Return the name of a location unchanged; raise `CallError` if it is not valid."""
    if not _LOCATION_NAME.fullmatch(text):
        raise invalid('Location name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>".')
    return text


def parse_queue(text: str) -> QueueName:
    """Return the parts of a queue's name; raise `CallError` if it is not valid."""
    match = _QUEUE_NAME.fullmatch(text)
    if not match:
        raise invalid(
            'Queue name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>".'
        )
    return QueueName(**match.groupdict())


def parse_task(text: str) -> tuple[QueueName, str]:
    """Return the queue and the id in a task's name; raise `CallError` if it is not valid."""
    queue, separator, task_id = text.rpartition(_TASKS)  # a queue may have the name "tasks"
    if not separator:
        raise invalid(
            'Task name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>'
            '/tasks/<TASK_ID>".'
        )
    name = parse_queue(queue)
    if not _TASK_ID.fullmatch(task_id):
        raise invalid(
            f'Task ID "{task_id[:100]}" can contain only letters ([A-Za-z]), numbers ([0-9]), hyphens (-),'
            " or underscores (_). Task ID must between 1 and 500 characters."
        )
    return name, task_id


def task_name(queue: QueueName, task_id: str) -> str:
    """Return the full name of a task."""
    return f"{queue}{_TASKS}{task_id}"


def short_task_name(name: str) -> str:
    """Return the id in a task's full name."""
    return name.rpartition("/")[2]
