"""Fixtures for the doctor: files, a queue, and a deployed application."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.serving import make_server

from gaetk_longtask.dev.pieces import Piece
from gaetk_longtask.dev.tasks_emulator import Emulator, serve
from gaetk_longtask.operators.doctor import Finding, examine
from tests.integration.doctor.planting import (
    PROJECT,
    ROOT,
    Doctor,
    Plant,
    problems,
)


class Server:
    """The deployed application. It may differ from the examined one."""

    def __init__(self) -> None:
        self.app: Any = None
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def _answer(self, environ: Any, start_response: Any) -> Any:
        return self.app(environ, start_response)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A copy of the sample application's files, which tests can change."""
    for name in ("app.yaml", "cron.yaml", "queue.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture
def start_queue(server: Server, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Emulator]]:
    started: list[Emulator] = []

    def start() -> Emulator:
        emulator = serve(app_url=server.url, queue_yaml=directory / "queue.yaml")
        started.append(emulator)
        monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", emulator.host)
        return emulator

    yield start
    for emulator in started:
        emulator.stop()


@pytest.fixture
def environment(datastore_piece: Piece, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", datastore_piece.host)
    monkeypatch.delenv("MEMCACHED_HOSTS", raising=False)


@pytest.fixture
def doctor(environment: None, server: Server, directory: Path, start_queue: Callable[[], Emulator]) -> Doctor:
    """A function that examines an application. The same application is deployed, unless another one is given."""

    def look(app: Flask, *, deployed: Any = None) -> list[Finding]:
        start_queue()
        server.app = deployed or app
        return list(examine(app, directory=directory, patience=timedelta(seconds=2)))

    return look


@pytest.fixture
def assert_found(doctor: Doctor, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Assert that exactly the given checks find a mistake, and that they name the remedy."""

    def assert_found(plant: Plant, expected: set[str], remedy: str) -> None:
        found = problems(doctor(plant(monkeypatch, directory)))
        assert set(found) == expected
        for finding in found.values():
            assert finding.text
            assert finding.remedy
        assert any(remedy in finding.remedy for finding in found.values())

    return assert_found


@pytest.fixture
def in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    for name in ("CLOUD_TASKS_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
