"""Hands requests to a queue that delivers each of them to this application, later and at least once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

import grpc
from google.api_core import exceptions as api_exceptions
from google.auth.exceptions import GoogleAuthError
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport
from google.protobuf import duration_pb2

from gaetk_longtask.exceptions import EnqueueRefusedError, EnqueueUncertainError

#: Of a task's URL, in characters (documentation of `AppEngineHttpRequest`).
LONGEST_URI = 2083
#: Deadlines that App Engine targets take (documentation of `Task.dispatch_deadline`).
SHORTEST_DEADLINE, LONGEST_DEADLINE = timedelta(seconds=15), timedelta(hours=24, seconds=15)
#: How long CreateTask may take. It has been seen hanging for minutes (python-tasks issue 161).
CREATE_SECONDS = 10.0

EMULATOR_VARIABLE = "CLOUD_TASKS_EMULATOR_HOST"


#: The header of a delivery that carries the task's execute key.
KEY_HEADER = "X-Longtask-Execute-Key"


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueRequest:
    """A GET that the queue is to send."""

    queue: str  #: the queue's short name
    uri: str  #: path and query
    headers: Mapping[str, str] = field(default_factory=dict)
    service: str | None = None  #: App Engine service; None for the default one
    version: str | None = None  #: version of that service; None for the one that gets the traffic
    deadline: timedelta | None = None  #: when an attempt counts as failed; None for the platform's default


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """What a request from the queue says of itself."""

    task_id: str
    execute_key: str
    task_name: str = ""  #: the Cloud Tasks name: the same for every delivery of one task
    retry_count: int = 0  #: rises with its deliveries


class TaskQueue(Protocol):
    """Delivers at least once, in any order, until the answer is 2xx."""

    def check(self) -> None:
        """Find what is wrong with the settings before anything is stored.

        Raises:
            ConfigurationError: says what to set.

        """

    def enqueue(self, request: QueueRequest) -> None:
        """Take the request.

        Raises:
            EnqueueRefusedError: it has certainly not been taken.
            EnqueueUncertainError: it may have been taken; a second delivery must do no harm.

        """


class CloudTasksQueue:
    """Google Cloud Tasks with App Engine targets."""

    # The call was not carried out; anything else that goes wrong may have left a task behind.
    _REFUSALS = (
        api_exceptions.BadRequest,
        api_exceptions.Unauthorized,
        api_exceptions.Forbidden,
        api_exceptions.NotFound,
        api_exceptions.MethodNotImplemented,
        api_exceptions.TooManyRequests,
        GoogleAuthError,
    )

    def __init__(self, *, project: Callable[[], str], location: Callable[[], str]) -> None:
        """Take where the queues are, found out when first needed."""
        self._project = project
        self._location = location
        self._lock = threading.Lock()
        self._place: tuple[str, str] | None = None
        self._client: tasks_v2.CloudTasksClient | None = None
        self._pid = 0

    def check(self) -> None:
        """Find out project and location."""
        self.path_of("")

    def enqueue(self, request: QueueRequest) -> None:
        """Create the Cloud Tasks task; unnamed, because names cost latency and our deliveries need none."""
        if len(request.uri) > LONGEST_URI:
            message = f"The URL {request.uri[:80]}… is longer than the {LONGEST_URI} characters of Cloud Tasks."
            raise EnqueueRefusedError(message)
        parent = self.path_of(request.queue)
        try:
            self.client().create_task(parent=parent, task=cloud_task(request), timeout=CREATE_SECONDS)
        except self._REFUSALS as exc:
            message = f"Cloud Tasks refuses a task for {parent}: {exc}"
            raise EnqueueRefusedError(message) from exc
        except (api_exceptions.GoogleAPIError, grpc.RpcError) as exc:
            message = f"No answer from Cloud Tasks about a task for {parent}: {exc}"
            raise EnqueueUncertainError(message) from exc

    def path_of(self, queue: str) -> str:
        """Give the full name of a queue; asks for project and location until they are known.

        Raises:
            ConfigurationError: one of them is not, says what to set.

        """
        if self._place is None:
            self._place = self._project(), self._location()
        return tasks_v2.CloudTasksClient.queue_path(*self._place, queue)

    def client(self) -> tasks_v2.CloudTasksClient:
        """One client for each process: a gRPC channel does not outlive a fork."""
        with self._lock:
            if self._client is None or self._pid != os.getpid():
                self._client, self._pid = _connect(), os.getpid()
            return self._client


def _connect() -> tasks_v2.CloudTasksClient:
    """Connect to Cloud Tasks or, where the variable says so, to an emulator (the client reads none)."""
    emulator = os.environ.get(EMULATOR_VARIABLE)
    if not emulator:
        return tasks_v2.CloudTasksClient()
    channel = grpc.insecure_channel(emulator)
    return tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))


def cloud_task(request: QueueRequest) -> tasks_v2.Task:
    """Give the Cloud Tasks task that sends the request."""
    task = tasks_v2.Task(
        app_engine_http_request=tasks_v2.AppEngineHttpRequest(
            http_method=tasks_v2.HttpMethod.GET,
            relative_uri=request.uri,
            headers=dict(request.headers),
            app_engine_routing=tasks_v2.AppEngineRouting(service=request.service or "", version=request.version or ""),
        )
    )
    if request.deadline is not None:
        deadline = min(max(request.deadline, SHORTEST_DEADLINE), LONGEST_DEADLINE)
        task.dispatch_deadline = duration_pb2.Duration(seconds=int(deadline.total_seconds()))
    return task
