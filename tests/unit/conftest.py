"""Keeps unit tests from opening sockets, and creates snapshots for them."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import Any, NoReturn

import grpc
import pytest

from gaetk_longtask.info import TaskInfo
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.status import Status

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ID = "Ym9va21hcmtlZC1ieS1hbm"


@pytest.fixture(autouse=True)
def no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail tests that open a socket, look up a host or create a gRPC channel (which has its own sockets).

    The error is no `Exception`, so code that tolerates a missing service does not hide it. ``socketpair`` is allowed,
    because it stays within the process.
    """
    make = socket.socket.__init__

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        pytest.fail("A unit test opens no socket: use an in-memory service, or write an integration test.")

    def only_what_is_open(self: socket.socket, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("fileno", args[3] if len(args) > 3 else None) is None:
            refuse()
        make(self, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "__init__", only_what_is_open)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(grpc, "insecure_channel", refuse)
    monkeypatch.setattr(grpc, "secure_channel", refuse)


def info_of(**values: Any) -> TaskInfo:
    """Return the info of a task that has just started, with the given values."""
    ordinary: dict[str, Any] = {
        "id": ID,
        "endpoint": "report",
        "path": "/report",
        "base_url": "https://www.example.com",
        "status": Status.STARTED,
        "attempt": 1,
        "created_at": NOW,
        "requested_at": NOW,
    }
    return TaskInfo(**ordinary | values)


def snapshot_of(status: Status = Status.STARTED, **values: Any) -> Snapshot:
    """Return a snapshot of a task in its first attempt, with the given values of the snapshot or of the task."""
    news = {name: values.pop(name) for name in ("fence", "due_at", "beat_at", "beat_seconds") if name in values}
    return Snapshot(info=info_of(status=status, **values), **{"fence": 1} | news)
