"""Long-running tasks for websites on Google App Engine: start, watch, collect."""

from gaetk_longtask.exceptions import (
    DamagedDataError,
    LongTaskError,
    PermanentTaskFailure,
    SerializationError,
    TaskCancelled,
    TooLargeError,
)
from gaetk_longtask.models import LongTask, TaskInfo
from gaetk_longtask.payloads.serializers import JSONSerializer, PickleSerializer, Serializer, Signer
from gaetk_longtask.payloads.yielded import YieldedResult
from gaetk_longtask.progress.stores import ProgressStore
from gaetk_longtask.queues import TaskQueue
from gaetk_longtask.status import Status
from gaetk_longtask.web.deliveries import is_queue_request
from gaetk_longtask.web.extension import LongTaskManager
from gaetk_longtask.web.handler import LongRunningTaskHandler
from gaetk_longtask.web.pages import StatusPage

__all__ = [
    "DamagedDataError",
    "JSONSerializer",
    "LongRunningTaskHandler",
    "LongTask",
    "LongTaskError",
    "LongTaskManager",
    "PermanentTaskFailure",
    "PickleSerializer",
    "ProgressStore",
    "SerializationError",
    "Serializer",
    "Signer",
    "Status",
    "StatusPage",
    "TaskCancelled",
    "TaskInfo",
    "TaskQueue",
    "TooLargeError",
    "YieldedResult",
    "is_queue_request",
]
