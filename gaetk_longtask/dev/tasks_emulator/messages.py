"""The API's messages as plain protobuf classes, which are fast and keep even odd values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from google.cloud.tasks_v2 import types
from google.protobuf import duration_pb2, timestamp_pb2

#: A protobuf message; the client library's classes carry no types for these.
Message: TypeAlias = Any

Queue: Message = types.Queue.pb()
Task: Message = types.Task.pb()
RetryConfig: Message = types.RetryConfig.pb()
HttpMethod: Message = types.HttpMethod
#: The requests of the calls that the emulator answers.
REQUESTS: dict[str, Message] = {
    name: getattr(types, f"{name}Request").pb()
    for name in (
        *("ListQueues", "GetQueue", "CreateQueue", "UpdateQueue", "DeleteQueue"),
        *("PurgeQueue", "PauseQueue", "ResumeQueue"),
        *("ListTasks", "GetTask", "CreateTask", "DeleteTask", "RunTask", "BatchCreateTasks", "BatchDeleteTasks"),
    )
}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NANOS_PER_SECOND = 1_000_000_000
#: What the protobuf documentation allows a Duration: ten thousand years.
_MAX_DURATION_SECONDS = 315_576_000_000


def moment_of(timestamp: timestamp_pb2.Timestamp) -> datetime:
    """Return the time, to the microsecond; the timestamp must be in range."""
    return _EPOCH + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // 1000)


def set_moment(timestamp: timestamp_pb2.Timestamp, moment: datetime) -> None:
    """Write the time into the timestamp."""
    micros = (moment - _EPOCH) // _MICROSECOND
    timestamp.seconds, timestamp.nanos = micros // 1_000_000, micros % 1_000_000 * 1000


def duration_of(duration: duration_pb2.Duration) -> timedelta | None:
    """Return the duration, to the microsecond, or None if the protobuf documentation forbids it."""
    seconds, nanos = duration.seconds, duration.nanos
    if abs(seconds) > _MAX_DURATION_SECONDS or abs(nanos) >= _NANOS_PER_SECOND or seconds * nanos < 0:
        return None
    return timedelta(seconds=seconds, microseconds=nanos // 1000)


def is_timestamp(timestamp: timestamp_pb2.Timestamp) -> bool:
    """Return whether the nanoseconds are in range; the caller checks the seconds."""
    return bool(0 <= timestamp.nanos < _NANOS_PER_SECOND)
