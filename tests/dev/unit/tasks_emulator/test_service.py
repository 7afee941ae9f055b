"""The calls of the Cloud Tasks emulator, without its threads."""

from __future__ import annotations

import threading

import grpc
import pytest

from gaetk_longtask.dev.tasks_emulator.errors import CallError
from gaetk_longtask.dev.tasks_emulator.messages import REQUESTS
from gaetk_longtask.dev.tasks_emulator.registry import Registry
from gaetk_longtask.dev.tasks_emulator.scheduler import Scheduler
from gaetk_longtask.dev.tasks_emulator.service import CloudTasksService
from gaetk_longtask.dev.tasks_emulator.store import Store
from tests.dev.unit.tasks_emulator.messages import DEFAULT, NOW, app_engine_task


def test_an_error_of_the_database_is_an_answer(caplog):
    store = Store()
    registry = Registry(store, NOW)
    service = CloudTasksService(
        registry,
        Scheduler(registry, store, NOW),
        lock=threading.Lock(),
        clock=lambda: NOW,
        send=lambda attempt: None,
        wake=lambda: None,
    )
    request = REQUESTS["CreateTask"](parent=str(DEFAULT), task=app_engine_task())
    service.answer("CreateTask", request)
    store.close()

    with pytest.raises(CallError, match="The emulator failed: ProgrammingError") as caught:
        service.answer("CreateTask", request)
    assert caught.value.code == grpc.StatusCode.INTERNAL
    assert "CreateTask failed" in caplog.text
