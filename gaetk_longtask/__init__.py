"""Long-running tasks for websites on Google App Engine: start, watch, collect."""

from gaetk_longtask.exceptions import LongTaskError, PermanentTaskFailure, TaskCancelled
from gaetk_longtask.info import TaskInfo
from gaetk_longtask.models import LongTask
from gaetk_longtask.payloads.serializers import JSONSerializer, PickleSerializer
from gaetk_longtask.payloads.yielded import YieldedResult
from gaetk_longtask.progress.stores import ProgressStore
from gaetk_longtask.queues import TaskQueue
from gaetk_longtask.status import Status
from gaetk_longtask.web.extension import LongTaskManager
from gaetk_longtask.web.handler import LongRunningTaskHandler, is_queue_request
from gaetk_longtask.web.pages import StatusPage

__all__ = [
    "JSONSerializer",
    "LongRunningTaskHandler",
    "LongTask",
    "LongTaskError",
    "LongTaskManager",
    "PermanentTaskFailure",
    "PickleSerializer",
    "ProgressStore",
    "Status",
    "StatusPage",
    "TaskCancelled",
    "TaskInfo",
    "TaskQueue",
    "YieldedResult",
    "is_queue_request",
]
