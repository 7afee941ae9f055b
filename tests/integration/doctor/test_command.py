"""The command ``flask longtask doctor``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gaetk_longtask.dev.tasks_emulator import Emulator
from tests.integration.doctor.conftest import Server
from tests.integration.doctor.planting import (
    NOWHERE,
    Doctor,
    make,
)


def test_without_problems_the_command_exits_with_0(
    doctor: Doctor,
    start_queue: Callable[[], Emulator],
    server: Server,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = server.app = make()
    start_queue()
    monkeypatch.chdir(directory)
    result = app.test_cli_runner().invoke(args=["longtask", "doctor"])
    assert result.exit_code == 0, result.output
    assert "ok          datastore" in result.output
    assert "problem" not in result.output


def test_with_a_problem_the_command_prints_advice_and_exits_with_1(
    environment: None, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", NOWHERE)
    monkeypatch.chdir(directory)
    runner = make().test_cli_runner()
    result = runner.invoke(args=["longtask", "doctor"])
    assert result.exit_code == 1
    assert "problem     queue default" in result.output
    assert "→ Switch it on:" in result.output
    result = runner.invoke(args=["longtask", "doctor", "--json"])
    assert result.exit_code == 1
    [found] = [finding for finding in json.loads(result.output) if finding["outcome"] == "problem"]
    assert found["check"] == "queue default"
    assert set(found) == {"check", "outcome", "text", "remedy"}
