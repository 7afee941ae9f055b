"""The queues by name: created by calls, those of queue.yaml, and `default`, which always exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import grpc

from gaetk_longtask.dev.tasks_emulator import settings
from gaetk_longtask.dev.tasks_emulator.errors import CallError, already_exists, failed_precondition, invalid, not_found
from gaetk_longtask.dev.tasks_emulator.messages import Message, Queue, set_moment
from gaetk_longtask.dev.tasks_emulator.names import QueueName, parse_location, parse_queue
from gaetk_longtask.dev.tasks_emulator.queues import TaskQueue
from gaetk_longtask.dev.tasks_emulator.store import Store

DEFAULT_QUEUE = "default"
#: How long the name of a deleted queue can't be used again (documentation of DeleteQueue).
QUEUE_TOMBSTONE = timedelta(days=3)
#: Per location (quotas page).
MAX_QUEUES = 1000
_NO_QUEUE = "Queue does not exist. If you just created the queue, wait at least a minute for the queue to initialize."
_TOO_RECENT = "The queue cannot be created because a queue with this name existed too recently."


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """The queues of a queue.yaml, by short name, as messages without a name."""

    queues: Mapping[str, Message]
    #: Whether queues that are paused run again.
    resume_paused: bool = True


class Registry:
    """All queues. `default` and those of queue.yaml exist in every project and location that a call names."""

    def __init__(self, store: Store, now: datetime) -> None:
        self._store = store
        self._queues: dict[str, TaskQueue] = {}
        self._deployed: Mapping[str, Message] = {}
        for stored in store.queues():
            name = parse_queue(stored.message.name)
            queue = TaskQueue(name, stored.message, from_yaml=stored.from_yaml, now=now)
            self._queues[str(name)] = queue
            for record in store.tasks(str(name)):
                queue.add(record)

    def all(self) -> list[TaskQueue]:
        """Return the queues that exist."""
        return list(self._queues.values())

    def find(self, name: QueueName, now: datetime) -> TaskQueue:
        """Return the queue; raise `CallError` if it does not exist."""
        queue = self._queues.get(str(name)) or self._from_template(name, now)
        if queue is None:
            raise not_found(_NO_QUEUE)
        return queue

    def list(self, parent: str, now: datetime) -> list[TaskQueue]:
        """Return the queues of a location, by name."""
        project, location = parse_location(parent).split("/")[1::2]
        for short in (DEFAULT_QUEUE, *self._deployed):
            name = QueueName(project=project, location=location, queue=short)
            if str(name) not in self._queues:
                self._from_template(name, now)
        prefix = f"{parent}/queues/"
        return [self._queues[name] for name in sorted(self._queues) if name.startswith(prefix)]

    def create(self, parent: str, given: Message, now: datetime) -> TaskQueue:
        """Create a queue."""
        name = parse_queue(given.name)
        if name.parent != parse_location(parent):
            raise invalid(f"The queue's name must begin with the location from the request, '{parent}'.")
        if str(name) in self._queues or self._from_template(name, now) is not None:
            raise already_exists("Queue already exists")
        return self._make(name, settings.created(given, str(name)), now, from_yaml=False)

    def update(self, given: Message, paths: Sequence[str], now: datetime) -> TaskQueue:
        """Change a queue's settings, or create it if it does not exist (documentation of UpdateQueue)."""
        name = parse_queue(given.name)
        queue = self._queues.get(str(name)) or self._from_template(name, now)
        if queue is None:
            blank = settings.created(Queue(), str(name))
            return self._make(name, settings.updated(blank, given, paths), now, from_yaml=False)
        self._change(queue, settings.updated(queue.message, given, paths), now)
        return queue

    def delete(self, name: QueueName, now: datetime) -> None:
        """Delete a queue with its tasks; running attempts go on."""
        if str(name) not in self._queues and self._from_template(name, now) is None:
            raise not_found()
        if name.queue == DEFAULT_QUEUE:
            raise failed_precondition("The default queue cannot be deleted.")
        self._queues.pop(str(name)).tasks.clear()  # so that running attempts do not find their task
        self._store.bury_queue(str(name), now + QUEUE_TOMBSTONE)

    def set_state(self, queue: TaskQueue, state: int) -> None:
        """Pause or resume a queue."""
        queue.message.state = state
        self._save(queue)

    def purge(self, queue: TaskQueue, now: datetime) -> None:
        """Delete the tasks of a queue, paused or not; running attempts go on."""
        self._store.bury_tasks(str(queue.name), list(queue.tasks), now + queue.tombstone_ttl)
        queue.tasks.clear()
        set_moment(queue.message.purge_time, now)
        self._save(queue)

    def reset(self) -> None:
        """Delete all queues, tasks and names that may not be used again; those of queue.yaml are made again."""
        for queue in self._queues.values():
            queue.tasks.clear()  # so that running attempts do not find their task
        self._queues.clear()
        self._store.clear()

    def deploy(self, deployment: Deployment, now: datetime, *, pause_others: bool) -> None:
        """Apply a queue.yaml as `gcloud app deploy queue.yaml` does.

        With ``pause_others``, pause the queues that are not listed, except `default`.
        """
        self._deployed = deployment.queues
        for queue in self.all():
            wanted = deployment.queues.get(queue.name.queue)
            if wanted is not None:
                self._redeploy(queue, wanted, now, resume=deployment.resume_paused)
            elif pause_others and queue.name.queue != DEFAULT_QUEUE and queue.message.state == Queue.RUNNING:
                self.set_state(queue, Queue.PAUSED)

    def _redeploy(self, queue: TaskQueue, wanted: Message, now: datetime, *, resume: bool) -> None:
        message = Queue()
        message.CopyFrom(queue.message)
        for field in ("rate_limits", "retry_config", "app_engine_routing_override"):
            message.ClearField(field)
            if wanted.HasField(field):
                getattr(message, field).CopyFrom(getattr(wanted, field))
        if wanted.state == Queue.PAUSED or resume:
            message.state = wanted.state
        self._change(queue, message, now)

    def _from_template(self, name: QueueName, now: datetime) -> TaskQueue | None:
        deployed = self._deployed.get(name.queue)
        if (deployed is None and name.queue != DEFAULT_QUEUE) or self._store.is_buried(str(name), now):
            return None
        if deployed is None:
            return self._make(name, settings.created(Queue(), str(name)), now, from_yaml=False)
        message = Queue()
        message.CopyFrom(deployed)
        message.name = str(name)
        return self._make(name, message, now, from_yaml=True)

    def _make(self, name: QueueName, message: Message, now: datetime, *, from_yaml: bool) -> TaskQueue:
        if self._store.is_buried(str(name), now):
            raise failed_precondition(_TOO_RECENT)
        if len(self._queues) >= MAX_QUEUES:
            raise CallError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"There are {MAX_QUEUES} queues, which is the limit.")
        queue = TaskQueue(name, message, from_yaml=from_yaml, now=now)
        self._set_hosts(queue)
        self._queues[str(name)] = queue
        self._save(queue)
        return queue

    def _change(self, queue: TaskQueue, message: Message, now: datetime) -> None:
        queue.change(message, now)
        self._set_hosts(queue)
        self._save(queue)

    def _set_hosts(self, queue: TaskQueue) -> None:
        if queue.message.HasField("app_engine_routing_override"):
            settings.set_host(queue.message.app_engine_routing_override, queue.name.project)

    def _save(self, queue: TaskQueue) -> None:
        self._store.put_queue(queue.message, from_yaml=queue.from_yaml)
