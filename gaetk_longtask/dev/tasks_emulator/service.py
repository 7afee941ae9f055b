"""Answers the calls of google.cloud.tasks.v2."""

from __future__ import annotations

import base64
import binascii
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import grpc
from google.cloud.tasks_v2 import types
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2

from gaetk_longtask.dev.tasks_emulator.errors import CallError, invalid
from gaetk_longtask.dev.tasks_emulator.messages import Message, Queue, set_moment
from gaetk_longtask.dev.tasks_emulator.names import parse_queue
from gaetk_longtask.dev.tasks_emulator.registry import Registry
from gaetk_longtask.dev.tasks_emulator.scheduler import Attempt, Scheduler
from gaetk_longtask.dev.tasks_emulator.settings import parse_state_filter
from gaetk_longtask.dev.tasks_emulator.tasks import TaskRecord

logger = logging.getLogger(__name__)

_MAX_QUEUES_PAGE, _MAX_TASKS_PAGE = 9800, 1000
#: The largest page of tasks; clients accept 4 MiB by default.
_MAX_PAGE_BYTES = 3 * 1024 * 1024
_MAX_CREATIONS, _MAX_DELETIONS = 100, 1000


class CloudTasksService:
    """The API. `send` gets the attempts that a call begins; `wake` is called when something may be due."""

    def __init__(
        self,
        registry: Registry,
        scheduler: Scheduler,
        *,
        lock: threading.Lock,
        clock: Callable[[], datetime],
        send: Callable[[Attempt], None],
        wake: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._scheduler = scheduler
        self._lock = lock
        self._clock = clock
        self._send = send
        self._wake = wake
        self._methods: dict[str, Callable[[Message, datetime], Message]] = {
            "ListQueues": self._list_queues,
            "GetQueue": self._get_queue,
            "CreateQueue": self._create_queue,
            "UpdateQueue": self._update_queue,
            "DeleteQueue": self._delete_queue,
            "PurgeQueue": self._purge_queue,
            "PauseQueue": self._pause_queue,
            "ResumeQueue": self._resume_queue,
            "ListTasks": self._list_tasks,
            "GetTask": self._get_task,
            "CreateTask": self._create_task,
            "DeleteTask": self._delete_task,
            "RunTask": self._run_task,
            "BatchCreateTasks": self._batch_create_tasks,
            "BatchDeleteTasks": self._batch_delete_tasks,
        }

    def answer(self, name: str, request: Message) -> Message:
        """Answer a call, such as ``GetQueue``; raise `CallError` if it is refused."""
        try:
            with self._lock:
                return self._methods[name](request, self._clock())
        except CallError:
            raise
        except Exception as exc:  # neither a full disk nor a bug may close the connection without an answer
            logger.exception("%s failed", name)
            raise CallError(grpc.StatusCode.INTERNAL, f"The emulator failed: {type(exc).__name__}: {exc}") from exc

    def reset(self) -> None:
        """Delete everything except the queues of queue.yaml and `default`."""
        with self._lock:
            self._registry.reset()

    def _list_queues(self, request: Message, now: datetime) -> Message:
        queues = [queue.message for queue in self._registry.list(request.parent, now)]
        wanted = parse_state_filter(request.filter)
        if wanted is not None:
            queues = [queue for queue in queues if (queue.state == wanted[0]) == wanted[1]]
        page, token = _page(queues, request, _MAX_QUEUES_PAGE)
        return types.ListQueuesResponse.pb()(queues=page, next_page_token=token)

    def _get_queue(self, request: Message, now: datetime) -> Message:
        return _copy(self._registry.find(parse_queue(request.name), now).message)

    def _create_queue(self, request: Message, now: datetime) -> Message:
        return _copy(self._registry.create(request.parent, request.queue, now).message)

    def _update_queue(self, request: Message, now: datetime) -> Message:
        queue = self._registry.update(request.queue, request.update_mask.paths, now)
        self._wake()
        return _copy(queue.message)

    def _delete_queue(self, request: Message, now: datetime) -> Message:
        self._registry.delete(parse_queue(request.name), now)
        return empty_pb2.Empty()

    def _purge_queue(self, request: Message, now: datetime) -> Message:
        queue = self._registry.find(parse_queue(request.name), now)
        self._registry.purge(queue, now)
        return _copy(queue.message)

    def _pause_queue(self, request: Message, now: datetime) -> Message:
        queue = self._registry.find(parse_queue(request.name), now)
        self._registry.set_state(queue, Queue.PAUSED)
        return _copy(queue.message)

    def _resume_queue(self, request: Message, now: datetime) -> Message:
        queue = self._registry.find(parse_queue(request.name), now)
        self._registry.set_state(queue, Queue.RUNNING)
        self._wake()
        return _copy(queue.message)

    def _list_tasks(self, request: Message, now: datetime) -> Message:
        records, token = _page(self._scheduler.tasks(request.parent, now), request, _MAX_TASKS_PAGE)
        views = [record.view(request.response_view) for record in records]
        return types.ListTasksResponse.pb()(tasks=views, next_page_token=token)

    def _get_task(self, request: Message, now: datetime) -> Message:
        return self._scheduler.get(request.name, now).view(request.response_view)

    def _create_task(self, request: Message, now: datetime) -> Message:
        record = self._scheduler.create(request.parent, request.task, now)
        self._wake()
        return record.view(request.response_view)

    def _delete_task(self, request: Message, now: datetime) -> Message:
        self._scheduler.delete(request.name, now)
        return empty_pb2.Empty()

    def _run_task(self, request: Message, now: datetime) -> Message:
        attempt = self._scheduler.run(request.name, now)
        self._send(attempt)
        return attempt.record.view(request.response_view)

    def _batch_create_tasks(self, request: Message, now: datetime) -> Message:
        if len(request.requests) > _MAX_CREATIONS:
            raise invalid(f"A batch can create no more than {_MAX_CREATIONS} tasks.")
        if any(item.parent not in ("", request.parent) for item in request.requests):
            raise invalid("Every request's parent must be that of the batch.")
        response = types.BatchCreateTasksResponse.pb()()

        def create(item: Message) -> None:
            record = self._scheduler.create(request.parent, item.task, now)
            response.tasks.append(record.view(item.response_view))

        operation = _operation(request, types.BatchCreateTasksMetadata.pb(), response, create, request.requests, now)
        self._wake()
        return operation

    def _batch_delete_tasks(self, request: Message, now: datetime) -> Message:
        if len(request.names) > _MAX_DELETIONS:
            raise invalid(f"A batch can delete no more than {_MAX_DELETIONS} tasks.")
        queue = self._registry.find(parse_queue(request.parent), now)

        def delete(name: str) -> None:
            if not name.startswith(f"{queue.name}/tasks/"):
                raise invalid("Every task must be in the queue of the batch.")
            self._scheduler.delete(name, now)

        metadata = types.BatchDeleteTasksMetadata.pb()
        return _operation(request, metadata, empty_pb2.Empty(), delete, request.names, now)


def _copy(message: Message) -> Message:
    # It is serialised after the lock is released, when another call may change the original.
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _page(items: Sequence[Message | TaskRecord], request: Message, largest: int) -> tuple[list[Message], str]:
    """Return the items after the token, which is the name of the last page's last item, and the next token."""
    if request.page_size < 0:
        raise invalid("The page size cannot be negative.")
    try:
        last = base64.b64decode(request.page_token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError) as exc:
        raise invalid("The page token is not one that this call has returned.") from exc
    page: list[Message] = []
    room = _MAX_PAGE_BYTES
    size = min(request.page_size or largest, largest)
    for item in items:
        if item.name <= last:
            continue
        message = item.message if isinstance(item, TaskRecord) else item
        room -= message.ByteSize()
        if page and (len(page) == size or room < 0):
            return page, base64.urlsafe_b64encode(page[-1].name.encode()).decode()
        page.append(item)
    return page, ""


def _operation(
    request: Message,
    metadata_type: Message,
    response: Message,
    act: Callable[[Message], None],
    items: Iterable[Message],
    now: datetime,
) -> Message:
    """Execute a batch item by item, and return its long-running operation, which is done."""
    metadata = metadata_type()
    count = 0
    for count, item in enumerate(items, start=1):
        try:
            act(item)
        except CallError as exc:
            failure = metadata.failed_requests[count - 1]
            failure.code, failure.message = exc.code.value[0], exc.message
    set_moment(metadata.start_time, now)
    set_moment(metadata.end_time, now)
    operation = operations_pb2.Operation(name=f"{request.parent}/operations/{request.request_id or 'batch'}", done=True)
    failed = len(metadata.failed_requests)
    if count and failed == count:
        metadata.state = metadata_type.FAILED
        operation.error.code = grpc.StatusCode.ABORTED.value[0]
        operation.error.message = (
            f"None of the requests succeeded, refer to {metadata_type.DESCRIPTOR.name}.failed_requests"
            " for individual error details"
        )
    else:
        metadata.state = metadata_type.PARTIALLY_SUCCEEDED if failed else metadata_type.SUCCEEDED
        operation.response.Pack(response)
    operation.metadata.Pack(metadata)
    return operation
