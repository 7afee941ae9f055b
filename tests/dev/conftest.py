"""Fixtures: the Cloud Tasks emulator in this process, with a manual clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from google.cloud import tasks_v2

from gaetk_longtask.dev.tasks_emulator import Emulator, serve
from gaetk_longtask.testing import ManualClock
from tests.dev.tasks_support import App, connected


@pytest.fixture
def tasks_app() -> Iterator[App]:
    app = App()
    yield app
    app.stop()


@pytest.fixture
def tasks_clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def start_emulator(tasks_app: App, tasks_clock: ManualClock) -> Iterator[Callable[..., Emulator]]:
    """A function that starts an emulator, which is stopped after the test."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Emulator:
            return stack.enter_context(serve(**{"app_url": tasks_app.url, "clock": tasks_clock} | settings))

        yield start


@pytest.fixture
def emulator(start_emulator: Callable[..., Emulator]) -> Emulator:
    return start_emulator()


@pytest.fixture
def client(emulator: Emulator) -> Iterator[tasks_v2.CloudTasksClient]:
    with connected(emulator.host) as client:
        yield client


@pytest.fixture
def queue_yaml(tmp_path: Path) -> Path:
    return tmp_path / "queue.yaml"
