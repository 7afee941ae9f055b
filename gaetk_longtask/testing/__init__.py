"""What tests of an application's tasks need: twins of the services, faults, and a runner."""

from gaetk_longtask.exceptions import Crash
from gaetk_longtask.testing.faults import Faults, RpcFault, put_between
from gaetk_longtask.testing.runner import StartedTask, TaskRunner
from gaetk_longtask.testing.twins import InMemoryProgressStore, InMemoryQueue, ManualClock, QueuedTask

__all__ = [
    "Crash",
    "Faults",
    "InMemoryProgressStore",
    "InMemoryQueue",
    "ManualClock",
    "QueuedTask",
    "RpcFault",
    "StartedTask",
    "TaskRunner",
    "put_between",
]
