"""Fixtures: a task, and snapshots of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from gaetk_longtask import Status
from gaetk_longtask.info import Progress, TaskInfo
from gaetk_longtask.progress.snapshot import Snapshot

NOW = datetime(2026, 1, 1, tzinfo=UTC)

News = Callable[..., Snapshot]


@pytest.fixture
def task_id() -> str:
    return secrets.token_urlsafe(16)


@pytest.fixture
def news(task_id: str) -> News:
    """A function that creates snapshots of one task."""

    def news(message: str = "", *, fence: int = 1, status: Status = Status.STARTED) -> Snapshot:
        info = TaskInfo(
            id=task_id,
            endpoint="report",
            path="/report",
            base_url="https://www.example.com",
            status=status,
            attempt=1,
            progress=Progress(message=message, step=1, total_steps=3),
            created_at=NOW,
            created_by="anna",
            requested_at=NOW,
        )
        return Snapshot(info=info, fence=fence)

    return news
