"""Fixtures for pytest. Set ``pytest_plugins = ["gaetk_longtask.pytest_plugin"]`` in the top ``conftest.py``."""

from gaetk_longtask.testing.plugin import (
    LocalStack,
    longtask,
    longtask_clock,
    longtask_datastore,
    longtask_datastore_host,
    longtask_faults,
    longtask_progress,
    longtask_queue,
    longtask_stack,
)

__all__ = [
    "LocalStack",
    "longtask",
    "longtask_clock",
    "longtask_datastore",
    "longtask_datastore_host",
    "longtask_faults",
    "longtask_progress",
    "longtask_queue",
    "longtask_stack",
]
