"""Unit tests open no socket; and a snapshot to begin with."""

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
    """Fail a test that opens a socket, looks up a host or makes a gRPC channel (which has sockets of its own).

    What fails is no `Exception`, so that no code that survives a missing service hides it. ``socketpair`` stays
    possible: it stays within the process.
    """
    make = socket.socket.__init__

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        pytest.fail("A unit test opens no socket: pass a twin, or write an integration test.")

    def only_what_is_open(self: socket.socket, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("fileno", args[3] if len(args) > 3 else None) is None:
            refuse()
        make(self, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "__init__", only_what_is_open)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(grpc, "insecure_channel", refuse)
    monkeypatch.setattr(grpc, "secure_channel", refuse)


def info_of(**values: Any) -> TaskInfo:
    """What is known of a task that has just been started, but for the values given."""
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
    """News of a task in its first attempt, but for the values given: those of the snapshot and those of its task."""
    news = {name: values.pop(name) for name in ("fence", "due_at", "beat_at", "beat_seconds") if name in values}
    return Snapshot(info=info_of(status=status, **values), **{"fence": 1} | news)
