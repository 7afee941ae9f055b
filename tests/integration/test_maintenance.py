"""The cron jobs: sweep due tasks, and purge expired ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager, Status, maintenance
from gaetk_longtask.limits import READY_PATIENCE
from gaetk_longtask.maintenance import begin_purge
from gaetk_longtask.models import LongTaskChunk, LongTaskUnique
from gaetk_longtask.payloads.chunks import INLINE_BYTES
from gaetk_longtask.testing import InMemoryQueue, ManualClock
from tests.support import services_of, start

CRON = {"X-Appengine-Cron": "true"}


class Work(LongRunningTaskHandler):
    keep_result = timedelta(days=1)

    def execute_task(self, parameters: dict[str, Any]) -> bytes:
        return os.urandom(2_500_000)

    def unique_key(self, parameters: dict[str, Any]) -> str | None:
        return parameters.get("key")


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app(Work)


def load(app: Flask, task: LongTask) -> LongTask | None:
    with services_of(app).ndb_context():
        return services_of(app).store.get(task.id)


def cron(app: Flask, job: str) -> Any:
    answer = app.test_client().get(f"/_longtask/{job}", headers=CRON)
    assert answer.status_code == 200
    return answer.json


def count(app: Flask, kind: type[ndb.Model]) -> int:
    with services_of(app).ndb_context():
        return len(kind.query().fetch(keys_only=True))


@pytest.mark.parametrize("job", ["sweep", "purge"])
def test_only_cron_may_ask(job: str, app: Flask) -> None:
    assert app.test_client().get(f"/_longtask/{job}").status_code == 403


def test_a_sweep_enqueues_due_tasks_that_no_visitor_watches(
    app: Flask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    task = start(app)
    queue.tasks.clear()
    assert cron(app, "sweep") == {"done": 0, "left": False}
    clock.advance(READY_PATIENCE)
    assert cron(app, "sweep") == {"done": 1, "left": False}
    queue.deliver_all(app.test_client())
    done = load(app, task)
    assert done is not None
    assert done.status is Status.DONE


def test_a_sweep_takes_tasks_with_more_parameters_than_one_answer_of_datastore_holds(
    app: Flask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    with app.app_context():
        for _ in range(20):
            LongTaskManager.start("work", {"file": os.urandom(INLINE_BYTES - 100)})
    queue.tasks.clear()
    clock.advance(READY_PATIENCE)
    assert cron(app, "sweep") == {"done": 20, "left": False}
    assert len(queue.tasks) == 20


def test_a_sweep_reads_no_ended_tasks(app: Flask, queue: InMemoryQueue, clock: ManualClock) -> None:
    start(app)
    queue.deliver_all(app.test_client())
    clock.advance(READY_PATIENCE)
    with services_of(app).ndb_context():
        assert services_of(app).store.due(10) == []


def test_sweeping_again_at_once_does_nothing(app: Flask, queue: InMemoryQueue, clock: ManualClock) -> None:
    start(app)
    clock.advance(READY_PATIENCE)
    cron(app, "sweep")
    assert cron(app, "sweep")["done"] == 0
    assert len(queue.tasks) == 2


def test_a_sweep_finds_tasks_of_every_namespace(
    app: Flask, queue: InMemoryQueue, clock: ManualClock, ndb_client: ndb.Client
) -> None:
    with app.app_context(), ndb_client.context(namespace="other"):
        LongTaskManager.start("work", {})
        clock.advance(READY_PATIENCE)
        assert maintenance.sweep(services_of(app)).done == 1


def test_a_purge_deletes_what_has_expired_with_all_that_belongs_to_it(
    app: Flask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    task = start(app, "work", {"key": "k"})
    queue.deliver_all(app.test_client())
    assert count(app, LongTaskChunk) == 3
    clock.advance(timedelta(days=1))
    assert cron(app, "purge") == {"done": 1, "left": False}
    assert load(app, task) is None
    assert count(app, LongTaskChunk) == count(app, LongTaskUnique) == 0


def test_a_purge_keeps_tasks_that_have_not_expired_or_ended(
    app: Flask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    kept = start(app)
    queue.deliver_all(app.test_client())
    alive = start(app)
    clock.advance(timedelta(hours=23))
    assert cron(app, "purge")["done"] == 0
    clock.advance(timedelta(days=400))
    cron(app, "purge")
    assert load(app, kept) is None
    assert load(app, alive) is not None


def test_a_purge_leaves_the_key_to_a_later_task(app: Flask, queue: InMemoryQueue, clock: ManualClock) -> None:
    start(app, "work", {"key": "k"})
    queue.deliver_all(app.test_client())
    clock.advance(timedelta(days=1))
    later = start(app, "work", {"key": "k"})
    cron(app, "purge")
    assert start(app, "work", {"key": "k"}).id == later.id


def test_a_purge_continues_where_the_last_one_was_interrupted(
    app: Flask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    for _ in range(3):
        start(app)
    queue.deliver_all(app.test_client())
    clock.advance(timedelta(days=1))
    with services_of(app).ndb_context():
        assert maintenance.purge(services_of(app), limit=2) == maintenance.Report(done=2, left=True)
        assert maintenance.purge(services_of(app), limit=2) == maintenance.Report(done=1, left=False)


def test_a_purge_ends_when_its_time_is_over(app: Flask, queue: InMemoryQueue, clock: ManualClock) -> None:
    for _ in range(3):
        start(app)
    queue.deliver_all(app.test_client())
    clock.advance(timedelta(days=1))
    ticks = iter(range(0, 1000, 20))
    with services_of(app).ndb_context():
        report = maintenance.purge(services_of(app), monotonic=lambda: next(ticks))
    assert report == maintenance.Report(done=1, left=True)


def test_an_expired_task_can_not_be_retried(app: Flask, clock: ManualClock) -> None:
    task = start(app)
    with services_of(app).ndb_context():
        store = services_of(app).store
        store.cancel(task.id)
        clock.advance(timedelta(days=1))
        assert store.retry(task.id).applied is False


def test_a_task_whose_purge_was_interrupted_can_not_be_retried(app: Flask, clock: ManualClock) -> None:
    task = start(app)
    with services_of(app).ndb_context():
        store = services_of(app).store
        store.cancel(task.id)
        clock.advance(timedelta(days=1))
        assert store.change(task.id, begin_purge).applied
        clock.advance(timedelta(days=-1))  # even by an instance whose clock is behind
        assert store.retry(task.id).applied is False


def test_a_purge_does_not_take_the_name_of_a_task_that_begins_meanwhile(
    app: Flask, queue: InMemoryQueue, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = start(app, "work", {"key": "a"})
    queue.deliver_all(app.test_client())
    clock.advance(timedelta(days=1))
    load_unique = LongTaskUnique.load
    later: list[Future[LongTask]] = []

    with ThreadPoolExecutor() as other:

        def load_and_be_overtaken(name: str) -> LongTaskUnique | None:
            found = load_unique(name)
            if not later:
                later.append(other.submit(start, app, "work", {"key": "a"}))
                wait(later, timeout=5)  # a Datastore with locks makes it wait for us instead
            return found  # type: ignore[no-any-return]  # ndb is untyped

        monkeypatch.setattr(LongTaskUnique, "load", load_and_be_overtaken)
        cron(app, "purge")
    assert load(app, old) is None
    assert start(app, "work", {"key": "a"}).id == later[0].result().id
