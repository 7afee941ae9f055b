"""Damaged or incomplete results are never shown; the work can be done again."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager
from gaetk_longtask.models import LongTaskChunk
from gaetk_longtask.testing import InMemoryQueue
from tests.integration.conftest import services_of


class Work(LongRunningTaskHandler):
    def execute_task(self, parameters: dict[str, Any]) -> bytes:
        return os.urandom(2_500_000)


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app(Work)


@pytest.fixture
def task(app: Flask, queue: InMemoryQueue) -> LongTask:
    with app.app_context():
        task = LongTaskManager.start("work", {})
    queue.deliver_all(app.test_client())
    return task


def lose_a_chunk(app: Flask, task: LongTask) -> None:
    with services_of(app).ndb_context():
        LongTaskChunk.key_of(f"{task.id}.1.1").delete()


def url(task: LongTask, job: str) -> str:
    return f"/work?_longtaskjob={job}&_longtaskid={task.id}"


def test_a_result_that_lacks_a_chunk_is_not_shown(app: Flask, task: LongTask) -> None:
    lose_a_chunk(app, task)
    answer = app.test_client().get(url(task, "showresult"))
    assert answer.status_code == 500
    assert "damaged" in answer.text
    assert url(task, "retry").replace("&", "&amp;") in answer.text


def test_a_damaged_result_can_be_made_again(app: Flask, task: LongTask, queue: InMemoryQueue) -> None:
    lose_a_chunk(app, task)
    client = app.test_client()
    client.get(url(task, "showresult"))
    assert client.post(url(task, "retry")).status_code == 303
    queue.deliver_all(client)
    assert len(client.get(url(task, "showresult")).data) == 2_500_000


def test_a_sound_result_is_not_made_again(app: Flask, task: LongTask, queue: InMemoryQueue) -> None:
    client = app.test_client()
    client.get(url(task, "showresult"))
    client.post(url(task, "retry"))
    assert queue.tasks == []
    assert client.get(url(task, "showresult")).status_code == 200
