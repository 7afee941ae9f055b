"""A custom progress store, queue and serializer, with public names only. mypy checks them, and they never run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import ClassVar, assert_type

from flask import Flask

from gaetk_longtask import (
    ConfigurationError,
    EnqueueRefusedError,
    EnqueueUncertainError,
    LongRunningTaskHandler,
    LongTaskError,
    LongTaskManager,
    PermanentTaskFailure,
    ProgressStore,
    QueueRequest,
    SerializationError,
    Serializer,
    Snapshot,
    TaskInfo,
    TaskQueue,
    TooLargeError,
    Written,
)


class DictStore(ProgressStore):
    """Keeps snapshots in this process."""

    interval_seconds = 1.0

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def read(self, task_id: str) -> Snapshot | None:
        return Snapshot.from_json(self._kept.get(task_id), task_id)

    def read_many(self, task_ids: Sequence[str]) -> dict[str, Snapshot]:
        found = {task_id: self.read(task_id) for task_id in task_ids}
        return {task_id: snapshot for task_id, snapshot in found.items() if snapshot is not None}

    def write(self, snapshot: Snapshot) -> Written:
        assert_type(snapshot.info, TaskInfo)
        assert_type(snapshot.order, tuple[float, ...])
        stored = self.read(snapshot.info.id)
        if stored is not None and stored.order > snapshot.order:
            return Written.OUTDATED
        self._kept[snapshot.info.id] = snapshot.to_json()
        return Written.YES

    def add(self, snapshot: Snapshot, *, seconds: int) -> None:
        self._kept.setdefault(snapshot.info.id, snapshot.to_json())

    def for_reporter(self) -> ProgressStore:
        return self


class PrintingQueue:
    """Delivers nothing."""

    def __init__(self, host: str) -> None:
        self._host = host

    def check(self) -> None:
        if not self._host:
            message = "Set QUEUE_HOST."
            raise ConfigurationError(message, key="QUEUE_HOST")

    def enqueue(self, request: QueueRequest) -> None:
        assert_type(request.queue, str)
        assert_type(request.uri, str)
        assert_type(request.headers, Mapping[str, str])
        assert_type(request.service, str | None)
        assert_type(request.version, str | None)
        assert_type(request.deadline, timedelta | None)
        if len(request.uri) > 2000:
            raise EnqueueRefusedError(request.uri)
        raise EnqueueUncertainError(request.uri)


class Text:
    """Supports only text."""

    name = "text"

    def dumps(self, value: object, signer: object) -> bytes:
        if not isinstance(value, str):
            message = "not a text"
            raise SerializationError(message, path="result", type_name=type(value).__name__)
        return value.encode()

    def loads(self, data: bytes, signer: object) -> str:
        return bytes(data).decode()


class Report(LongRunningTaskHandler):
    serializer: ClassVar[Serializer] = Text()


def make(app: Flask) -> None:
    """Set up an application, and start a task that the queue may refuse."""
    queue: TaskQueue = PrintingQueue("example.com")
    LongTaskManager(app, queue=queue, progress=DictStore())
    try:
        LongTaskManager.start("report", {})
    except SerializationError as exc:
        assert_type(exc.path, str)
    except TooLargeError as exc:
        assert_type(exc.limit, int)
    except PermanentTaskFailure:
        pass
    except EnqueueRefusedError as exc:
        assert_type(exc.task_id, str | None)
    except ConfigurationError as exc:
        assert_type(exc.key, str | None)
    except LongTaskError:
        pass
