"""Fixtures for pytest. Set ``pytest_plugins = ["gaetk_longtask.pytest_plugin"]`` in the top ``conftest.py``."""

from gaetk_longtask.dev.fixtures import (
    LocalStack,
    longtask_datastore_host,
    longtask_memcached,
    longtask_memcached_host,
    longtask_stack,
    longtask_tasks,
    longtask_tasks_app_url,
    longtask_tasks_host,
)
from gaetk_longtask.testing.plugin import (
    longtask,
    longtask_clock,
    longtask_datastore,
    longtask_faults,
    longtask_progress,
    longtask_queue,
)

__all__ = [
    "LocalStack",
    "longtask",
    "longtask_clock",
    "longtask_datastore",
    "longtask_datastore_host",
    "longtask_faults",
    "longtask_memcached",
    "longtask_memcached_host",
    "longtask_progress",
    "longtask_queue",
    "longtask_stack",
    "longtask_tasks",
    "longtask_tasks_app_url",
    "longtask_tasks_host",
]
