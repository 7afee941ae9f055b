"""Long-running tasks for websites on Google App Engine: start, watch, collect."""

try:
    from gaetk_longtask.exceptions import (
        ConfigurationError,
        DamagedDataError,
        EndUntoldError,
        EnqueueRefusedError,
        EnqueueUncertainError,
        LongTaskError,
        PermanentTaskFailure,
        SerializationError,
        TaskCancelled,
        TooLargeError,
        UnknownTaskError,
    )
    from gaetk_longtask.info import Part, Parts, Progress, TaskInfo
    from gaetk_longtask.models import LongTask
    from gaetk_longtask.payloads.serializers import JSONSerializer, PickleSerializer, Serializer, Signer
    from gaetk_longtask.payloads.yielded import YieldedResult
    from gaetk_longtask.progress.snapshot import Snapshot
    from gaetk_longtask.progress.stores import ProgressStore, Written
    from gaetk_longtask.queues import QueueRequest, TaskQueue
    from gaetk_longtask.status import Status
    from gaetk_longtask.web.deliveries import is_queue_request
    from gaetk_longtask.web.extension import LongTaskManager
    from gaetk_longtask.web.handler import LongRunningTaskHandler
    from gaetk_longtask.web.pages.status_page import StatusPage
except ModuleNotFoundError as exc:
    if (exc.name or "").startswith("gaetk_longtask"):
        raise
    # Somebody has cloned or copied the library. It is on no package index yet, so only its dependencies can be named.
    message = f"{exc.name} is not installed. Run: pip install flask google-cloud-ndb google-cloud-tasks pymemcache"
    raise ModuleNotFoundError(message, name=exc.name) from None

__all__ = [
    "ConfigurationError",
    "DamagedDataError",
    "EndUntoldError",
    "EnqueueRefusedError",
    "EnqueueUncertainError",
    "JSONSerializer",
    "LongRunningTaskHandler",
    "LongTask",
    "LongTaskError",
    "LongTaskManager",
    "Part",
    "Parts",
    "PermanentTaskFailure",
    "PickleSerializer",
    "Progress",
    "ProgressStore",
    "QueueRequest",
    "SerializationError",
    "Serializer",
    "Signer",
    "Snapshot",
    "Status",
    "StatusPage",
    "TaskCancelled",
    "TaskInfo",
    "TaskQueue",
    "TooLargeError",
    "UnknownTaskError",
    "Written",
    "YieldedResult",
    "is_queue_request",
]
