"""Fixtures: a handler, and an application that needs no service."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from gaetk_longtask import LongRunningTaskHandler, LongTaskManager
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue


def make(*bases: type, **attributes: Any) -> type[LongRunningTaskHandler]:
    """Return a handler class named Report with the given attributes."""
    own = {"execute_task": lambda self, parameters: None}
    return type("Report", bases or (LongRunningTaskHandler,), own | attributes)


@pytest.fixture
def app() -> Flask:
    app = Flask("tests")
    LongTaskManager(app, queue=InMemoryQueue(), progress=InMemoryProgressStore())
    return app
