"""The queue: takes requests, and delivers each of them to this application later, at least once."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol

import grpc
from google.api_core import exceptions as api_exceptions
from google.auth.exceptions import GoogleAuthError
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport
from google.protobuf import duration_pb2, timestamp_pb2

from gaetk_longtask.exceptions import EnqueueRefusedError, EnqueueUncertainError
from gaetk_longtask.splits import Address

log = logging.getLogger(__name__)

LONGEST_URI = 2083  #: the longest URL of a Cloud Tasks task, in characters (documentation of `AppEngineHttpRequest`)
#: The deadlines that App Engine targets accept (documentation of `Task.dispatch_deadline`).
SHORTEST_DEADLINE, LONGEST_DEADLINE = timedelta(seconds=15), timedelta(hours=24, seconds=15)
LONGEST_DELAY = timedelta(days=30)  #: how far ahead Cloud Tasks accepts a task (documentation of its quotas)
#: The timeout of CreateTask in seconds. Without one it may hang for minutes (python-tasks issue 161).
CREATE_SECONDS = 10.0

EMULATOR_VARIABLE = "CLOUD_TASKS_EMULATOR_HOST"

#: The header of a delivery that was enqueued because its task was due, and of what such a delivery enqueues.
HEALING_HEADER = "X-Longtask-Healing"
KEY_HEADER = "X-Longtask-Execute-Key"  #: the header of a delivery that carries the task's execute key


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueRequest:
    """A GET request for the queue to send."""

    queue: str  #: the queue's short name
    uri: str = field(repr=False)  #: path and query; has the task's whole id
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  #: one is a secret
    service: str | None = None  #: App Engine service; None for the default one
    version: str | None = None  #: version of that service; None for the one that receives the traffic
    #: Unique in the queue, which drops a second request of the same name; None: no name.
    name: str | None = field(default=None, repr=False)
    #: The name of an earlier request, which the queue forgets if it still has it.
    replaces: str | None = field(default=None, repr=False)
    not_before: datetime | None = None  #: when to send it, at most 30 days ahead; None or a time in the past: at once
    deadline: timedelta | None = None  #: when the queue gives up waiting for an answer; None for the platform's default


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """What a request from the queue says about itself."""

    task_id: str = field(repr=False)
    execute_key: str = field(repr=False)
    #: The name of the Cloud Tasks task, the same for each of its deliveries; empty if a queue does not say.
    task_name: str = ""
    retry_count: int = 0  #: rises with each of its deliveries
    part: Address | None = None  #: the part of the task that it is for; None: the task itself
    endpoint: str | None = None  #: the handler that it has reached; empty if it is none; None: not known, not checked
    healing: bool = False  #: whether it comes from a healing, directly or as a follow-up; there will be another one

    def is_named(self, name: str | None) -> bool:
        """Return whether it is a delivery of the Cloud Tasks task of this name."""
        return bool(self.task_name) and self.task_name == name


class Objection(Enum):
    """Why a delivery must not work on a task."""

    FORBIDDEN = "the execute key is wrong"
    UNTOLD = "the task has ended, and its handler has yet to be told"
    ENDED = "there is nothing left to do"
    IN_PARTS = "the parts of the task are at work"
    ELSEWHERE = "the task's handler is not at this URL"
    BUSY = "another attempt owns the task, try again later"


class TaskQueue(Protocol):
    """Delivers at least once, in any order, until the answer is 2xx.

    All deliveries of one request have the same header ``X-AppEngine-TaskName``, and ``X-AppEngine-TaskRetryCount``
    counts them from 0. Without these headers, work is taken over only when its lease has expired.
    """

    def check(self) -> None:
        """Check the settings before anything is stored.

        Raises:
            ConfigurationError: the message says what to set.
        """

    def enqueue(self, request: QueueRequest) -> None:
        """Enqueue the request.

        Raises:
            EnqueueRefusedError: the queue has certainly not taken it.
            EnqueueUncertainError: the queue may have taken it; a second delivery must do no harm.
        """


@dataclass(frozen=True, slots=True)
class FollowingQueue:
    """The queue as a healing uses it, and the deliveries that follow.

    It sends each request to the version with the traffic, because that of the task may be gone.
    """

    queue: TaskQueue  #: the application's

    def check(self) -> None:
        """Check the settings."""
        self.queue.check()

    def enqueue(self, request: QueueRequest) -> None:
        """Enqueue the request."""
        self.queue.enqueue(replace(request, version=None, headers={**request.headers, HEALING_HEADER: "1"}))


class CloudTasksQueue:
    """Google Cloud Tasks with App Engine targets."""

    # The call had no effect. After any other error there may be a task.
    _REFUSALS = (
        api_exceptions.BadRequest,
        api_exceptions.Unauthorized,
        api_exceptions.Forbidden,
        api_exceptions.NotFound,
        api_exceptions.MethodNotImplemented,
        GoogleAuthError,
    )

    def __init__(self, *, project: Callable[[], str], location: Callable[[], str]) -> None:
        """Use the queues of a project and location, which are determined when first needed."""
        self._project = project
        self._location = location
        self._lock = threading.Lock()
        self._place: tuple[str, str] | None = None
        self._client: tasks_v2.CloudTasksClient | None = None
        self._pid = 0

    def check(self) -> None:
        """Determine project and location."""
        self.path_of("")

    def enqueue(self, request: QueueRequest) -> None:
        """Create the Cloud Tasks task, without a name: names cost latency, and our deliveries need none."""
        if len(request.uri) > LONGEST_URI:
            message = f"The URL {request.uri[:80]}… is longer than the {LONGEST_URI} characters of Cloud Tasks."
            raise EnqueueRefusedError(message)
        parent = self.path_of(request.queue)
        if request.replaces is not None:
            self._delete(f"{parent}/tasks/{request.replaces}")
        task = cloud_task(request)
        if request.name is not None:
            task.name = f"{parent}/tasks/{request.name}"
        try:
            self.client().create_task(parent=parent, task=task, timeout=CREATE_SECONDS)
        except self._REFUSALS as exc:
            raise EnqueueRefusedError(f"Cloud Tasks refused a task for {parent}: {exc}") from exc
        except (api_exceptions.GoogleAPIError, grpc.RpcError) as exc:
            if request.name is not None and isinstance(exc, api_exceptions.AlreadyExists):
                return  # an earlier call was carried out
            raise EnqueueUncertainError(f"No answer from Cloud Tasks about a task for {parent}: {exc}") from exc

    def _delete(self, name: str) -> None:
        """Delete a Cloud Tasks task if it is still there; it does no harm if it stays."""
        try:
            self.client().delete_task(name=name, timeout=CREATE_SECONDS)
        except api_exceptions.NotFound:
            pass
        except (api_exceptions.GoogleAPIError, grpc.RpcError, GoogleAuthError) as exc:
            log.warning("an earlier delivery stays in the queue: %s", exc)

    def path_of(self, queue: str) -> str:
        """Return the full name of a queue; raise `ConfigurationError` if project or location is unknown."""
        if self._place is None:
            self._place = self._project(), self._location()
        return tasks_v2.CloudTasksClient.queue_path(*self._place, queue)

    def client(self) -> tasks_v2.CloudTasksClient:
        """Return this process's client; a gRPC channel does not survive a fork."""
        with self._lock:
            if self._client is None or self._pid != os.getpid():
                self._client, self._pid = _connect(), os.getpid()
            return self._client


def _connect() -> tasks_v2.CloudTasksClient:
    """Connect to Cloud Tasks, or to the emulator that the variable names (the client itself does not read it)."""
    emulator = os.environ.get(EMULATOR_VARIABLE)
    if not emulator:
        return tasks_v2.CloudTasksClient()
    channel = grpc.insecure_channel(emulator)
    return tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))


def cloud_task(request: QueueRequest) -> tasks_v2.Task:
    """Return the Cloud Tasks task that sends the request."""
    task = tasks_v2.Task(
        app_engine_http_request=tasks_v2.AppEngineHttpRequest(
            http_method=tasks_v2.HttpMethod.GET,
            relative_uri=request.uri,
            headers=dict(request.headers),
            app_engine_routing=tasks_v2.AppEngineRouting(service=request.service or "", version=request.version or ""),
        )
    )
    if request.not_before is not None:
        moment = timestamp_pb2.Timestamp()
        moment.FromDatetime(request.not_before)
        task.schedule_time = moment
    if request.deadline is not None:
        deadline = min(max(request.deadline, SHORTEST_DEADLINE), LONGEST_DEADLINE)
        task.dispatch_deadline = duration_pb2.Duration(seconds=int(deadline.total_seconds()))
    return task
