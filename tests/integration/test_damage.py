"""Damaged or incomplete results are never shown; the work Try again to repeat the work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response

from gaetk_longtask import LongRunningTaskHandler, LongTask
from gaetk_longtask.models import LongTaskChunk
from gaetk_longtask.payloads.yielded import YieldedResult
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue
from tests.support import Work, job, services_of, start


class Reading(LongRunningTaskHandler):
    def execute_task(self, parameters: dict[str, Any]) -> Iterator[bytes]:
        yield os.urandom(2_500_000)

    def display_result(self, parameters: dict[str, Any], result: YieldedResult) -> Response:
        return Response(b"".join(piece for piece in result if isinstance(piece, bytes)))


@pytest.fixture
def app(make_app: Callable[..., Flask], work: type[Work]) -> Flask:
    work.do = lambda handler: os.urandom(2_500_000)
    return make_app(work, Reading)


@pytest.fixture
def task(app: Flask, queue: InMemoryQueue) -> LongTask:
    task = start(app)
    queue.deliver_all(app.test_client())
    return task


def lose_a_chunk(app: Flask, task: LongTask) -> None:
    with services_of(app).ndb_context():
        LongTaskChunk.key_of(f"{task.id}.1.1").delete()


def test_a_result_that_lacks_a_chunk_is_not_shown(app: Flask, task: LongTask) -> None:
    lose_a_chunk(app, task)
    answer = app.test_client().get(job(task.url, "showresult"))
    assert answer.status_code == 500
    assert "damaged" in answer.text
    assert job(task.url, "retry").replace("&", "&amp;") in answer.text


def test_a_damaged_result_can_be_made_again(app: Flask, task: LongTask, queue: InMemoryQueue) -> None:
    lose_a_chunk(app, task)
    client = app.test_client()
    client.get(job(task.url, "showresult"))
    assert client.post(job(task.url, "retry")).status_code == 303
    queue.deliver_all(client)
    assert len(client.get(job(task.url, "showresult")).data) == 2_500_000


def test_a_sound_result_is_not_made_again(app: Flask, task: LongTask, queue: InMemoryQueue) -> None:
    client = app.test_client()
    client.get(job(task.url, "showresult"))
    client.post(job(task.url, "retry"))
    assert queue.tasks == []
    assert client.get(job(task.url, "showresult")).status_code == 200


def test_damage_that_only_display_result_finds_is_answered_the_same_way(app: Flask, queue: InMemoryQueue) -> None:
    task = start(app, "reading")
    client = app.test_client()
    queue.deliver_all(client)
    with services_of(app).ndb_context():
        chunk = LongTaskChunk.load(f"{task.id}.1.1")
        chunk.data = b"damaged"
        chunk.save()
    answer = client.get(job(task.url, "showresult"))
    assert answer.status_code == 500
    assert "Try again to repeat the work" in answer.text


def test_a_task_with_damaged_parameters_can_not_be_retried(app: Flask, task: LongTask) -> None:
    with services_of(app).ndb_context():
        stored = services_of(app).store.get(task.id)
        assert stored is not None
        stored.parameters_blob = b"damaged"
        stored.save()
    answer = app.test_client().get(job(task.url, "showresult"))
    assert answer.status_code == 500
    assert "Start again" in answer.text
    assert "retry" not in answer.text
    assert 'href="/work"' in answer.text


def test_a_result_of_which_only_the_progress_store_knows_is_unknown(app: Flask, task: LongTask) -> None:
    with services_of(app).ndb_context():
        task.key.delete()
    answer = app.test_client().get(job(task.url, "query"), follow_redirects=True)
    assert answer.status_code == 404


def test_a_page_with_a_stale_snapshot_is_corrected_by_the_task(
    app: Flask, task: LongTask, progress: InMemoryProgressStore, queue: InMemoryQueue
) -> None:
    lose_a_chunk(app, task)
    client = app.test_client()
    progress.is_down = True
    client.post(job(task.url, "retry"))
    progress.is_down = False
    answer = client.get(job(task.url, "query"), follow_redirects=True)
    assert answer.status_code == 200
    assert "Waiting to start" in answer.text
    queue.deliver_all(client)
    assert len(client.get(job(task.url, "query"), follow_redirects=True).data) == 2_500_000
