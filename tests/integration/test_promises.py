"""Promises under attack: late writes, refused healings, lost chunks, long silences, later versions of the library."""

from __future__ import annotations

import os
import time
import tracemalloc
import zlib
from collections.abc import Callable
from datetime import timedelta
from hashlib import blake2b
from typing import Any, ClassVar

import grpc
import pytest
from flask import Flask
from google.api_core.exceptions import DeadlineExceeded
from google.cloud import ndb

from gaetk_longtask import DamagedDataError, LongRunningTaskHandler, LongTask, LongTaskManager, Status, maintenance
from gaetk_longtask.limits import CHUNK_GRACE, LEASE, READY_PATIENCE
from gaetk_longtask.models import LongTaskChunk
from gaetk_longtask.payloads.cutting import unpack
from gaetk_longtask.payloads.manifests import Block
from gaetk_longtask.progress.datastore import DatastoreProgressStore
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.progress.stores import Written
from gaetk_longtask.queues import Delivery
from gaetk_longtask.testing import Faults, InMemoryProgressStore, InMemoryQueue, ManualClock, RpcFault
from tests.integration.conftest import Stock
from tests.support import JSON, load, services_of


class Work(LongRunningTaskHandler):
    max_attempts = 3
    unique: ClassVar[str | None] = None
    do: ClassVar[Callable[[Any], Any]]

    def execute_task(self, parameters: Any) -> Any:
        return type(self).do(self)

    def unique_key(self, parameters: Any) -> str | None:
        return parameters.get("key")


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    Work.do = lambda handler: "result"
    return make_app(Work)


def start(app: Flask, **parameters: Any) -> LongTask:
    with app.app_context():
        return LongTaskManager.start("work", parameters)


@pytest.fixture
def task(app: Flask) -> LongTask:
    return start(app)


def press(app: Flask, task: LongTask, job: str) -> Any:
    return app.test_client().post(f"/work?_longtaskjob={job}&_longtaskid={task.id}", headers=JSON)


def poll(app: Flask, task: LongTask) -> Any:
    return app.test_client().get(f"/work?_longtaskjob=query&_longtaskid={task.id}", headers=JSON).json


# Late writes.


def test_a_creation_that_arrives_late_does_not_bring_a_task_back(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client, faults: Faults
) -> None:
    sent: list[Any] = []
    intercept = faults.intercept_unary_unary

    def keep_and_lose(continuation: Any, details: Any, request: Any) -> Any:
        if str(details.method).endswith("Commit") and not sent:
            sent.append((continuation, details, request))
            raise RpcFault(grpc.StatusCode.DEADLINE_EXCEEDED)
        return intercept(continuation, details, request)

    faults.intercept_unary_unary = keep_and_lose  # type: ignore[method-assign]  # the first try is on its way
    with ndb_client.context(), pytest.raises(DeadlineExceeded):
        start(app)
    continuation, details, request = sent[0]
    name = request.mutations[0].insert.key.path[0].name
    with ndb_client.context():  # the repetition
        continuation(details, request).result()
    with services_of(app).ndb_context():
        services_of(app).store.cancel(name)
    late = continuation(details, request)
    assert late.exception() is not None
    assert load(app, name).status is Status.CANCELLED


def test_inside_the_authors_transaction_a_creation_overwrites_nothing_either(
    app: Flask, ndb_client: ndb.Client, task: LongTask
) -> None:
    with services_of(app).ndb_context():
        services_of(app).store.cancel(task.id)
    with ndb_client.context():
        ndb.transaction(lambda: services_of(app).store.create(task))
    assert load(app, task).status is Status.CANCELLED


# One task of a key.


def test_a_retry_leads_to_the_task_that_has_taken_the_key(app: Flask, queue: InMemoryQueue) -> None:
    first = start(app, key="k")
    press(app, first, "cancel")
    second = start(app, key="k")
    assert second.id != first.id
    answer = press(app, first, "retry")
    assert answer.json["id"] == second.id
    assert load(app, first).status is Status.CANCELLED


def test_a_retry_takes_the_key_back_if_no_task_has_it(app: Flask, queue: InMemoryQueue) -> None:
    first = start(app, key="k")
    press(app, first, "cancel")
    second = start(app, key="k")
    press(app, second, "cancel")
    assert press(app, first, "retry").json["status"] == "ready"
    assert start(app, key="k").id == first.id


def test_a_retry_without_a_key_asks_nothing(app: Flask, task: LongTask) -> None:
    press(app, task, "cancel")
    assert press(app, task, "retry").json["status"] == "ready"


# Healing.


def test_a_purged_queue_is_filled_again_at_once(app: Flask, queue: InMemoryQueue, clock: ManualClock) -> None:
    waiting, working, ended = start(app), start(app), start(app)
    press(app, ended, "cancel")
    queue.tasks = [each for each in queue.tasks if working.id in each.request.uri]
    runtime = services_of(app)
    with runtime.ndb_context():
        runtime.store.claim(Delivery(task_id=working.id, execute_key=working.execute_key), max_attempts=3)
        queue.tasks.clear()
        assert maintenance.sweep(runtime).done == 0
        maintenance.sweep(runtime, early=True)
    assert [waiting.id in each.request.uri for each in queue.tasks] == [True]


def test_one_task_that_raises_does_not_end_a_sweep(
    app: Flask, queue: InMemoryQueue, clock: ManualClock, ndb_client: ndb.Client, caplog: pytest.LogCaptureFixture
) -> None:
    broken, sound = start(app), start(app)
    with ndb_client.context():
        entity = broken.key.get()
        entity.time_limit_seconds = None  # damage
        entity.put()
    queue.tasks.clear()
    clock.advance(READY_PATIENCE)
    with services_of(app).ndb_context():
        maintenance.sweep(services_of(app))
    assert [sound.id in each.request.uri for each in queue.tasks] == [True]
    assert f"task {broken.id[:8]} could not be handled" in caplog.text


def test_one_task_that_raises_does_not_end_a_purge(
    app: Flask, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = [start(app) for _ in range(3)]
    for each in tasks:
        press(app, each, "cancel")
    clock.advance(Work.keep_result + timedelta(days=1))
    store = services_of(app).store
    end_purge = store.end_purge

    def fail_once(task_id: str, *, works: bool) -> None:
        if task_id == tasks[0].id:
            raise RuntimeError("damage")
        end_purge(task_id, works=works)

    monkeypatch.setattr(store, "end_purge", fail_once)
    with services_of(app).ndb_context():
        maintenance.purge(services_of(app))
        assert [store.get(each.id) is None for each in tasks] == [False, True, True]
    assert "damage" in caplog.text


# Chunks.


def chunks(client: ndb.Client) -> int:
    with client.context():
        return len(LongTaskChunk.query().fetch(keys_only=True))


@pytest.mark.parametrize("after", [timedelta(0), timedelta(days=1)])
def test_chunks_whose_task_is_gone_are_deleted_some_days_later(
    after: timedelta, app: Flask, clock: ManualClock, ndb_client: ndb.Client
) -> None:
    large = start(app, file=os.urandom(2_000_000))
    with ndb_client.context():
        large.key.delete()  # as a TTL policy does
    assert chunks(ndb_client) > 0
    clock.advance(Work.keep_result + CHUNK_GRACE + after)
    with services_of(app).ndb_context():
        maintenance.purge(services_of(app))
    assert chunks(ndb_client) == 0


def test_a_transaction_that_is_rolled_back_leaves_no_chunks_for_ever(
    app: Flask, clock: ManualClock, ndb_client: ndb.Client
) -> None:
    def transact() -> None:
        start(app, file=os.urandom(2_000_000))
        raise ValueError("rolled back")

    with ndb_client.context(), pytest.raises(ValueError, match="rolled back"):
        ndb.transaction(transact)
    assert chunks(ndb_client) > 0
    clock.advance(Work.keep_result + CHUNK_GRACE)
    with services_of(app).ndb_context():
        maintenance.purge(services_of(app))
    assert chunks(ndb_client) == 0


def test_the_chunks_of_a_task_that_is_retried_late_stay(
    app: Flask, clock: ManualClock, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    large = start(app, file=os.urandom(2_000_000))
    press(app, large, "cancel")
    clock.advance(Work.keep_result - timedelta(days=1))
    press(app, large, "retry")
    clock.advance(CHUNK_GRACE - timedelta(days=7))  # a month later the queue delivers
    with services_of(app).ndb_context():
        maintenance.purge(services_of(app))
    assert chunks(ndb_client) > 0


def test_a_block_that_inflates_beyond_its_size_is_refused_without_being_held() -> None:
    bomb = zlib.compress(b"x" * 200_000_000)
    digest = blake2b(bomb, digest_size=16).hexdigest()
    block = Block(fence=1, number=0, size=1000, stored=len(bomb), digest=digest, compressed=True)
    tracemalloc.start()
    with pytest.raises(DamagedDataError):
        unpack(block, bomb, "task")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


# Long silences and a store that refuses.


def test_work_that_can_not_renew_its_lease_comes_through(
    app: Flask, task: LongTask, clock: ManualClock, progress: InMemoryProgressStore
) -> None:
    runtime, delivery = services_of(app), Delivery(task_id=task.id, execute_key=task.execute_key, task_name="t")
    progress.is_down = True
    with runtime.ndb_context():
        for attempt in range(3):
            claim = runtime.store.claim(delivery, max_attempts=3)
            assert claim.objection is None, attempt
            clock.advance(timedelta(minutes=7))  # the GIL is held in C
            if claim.task is not None and claim.task.lease_until > clock():
                break
        assert load(app, task).status is Status.STARTED
        assert load(app, task).lease_until > clock()


def test_a_store_that_refuses_results_does_not_use_up_the_attempts(
    app: Flask, task: LongTask, queue: InMemoryQueue, faults: Faults
) -> None:
    refusals = []

    def work(handler: Any) -> bytes:
        if len(refusals) < 5:
            refusals.append(1)
            # Two chunks are stored side by side, and then the first one is tried three times more.
            faults.lose_request("Commit", grpc.StatusCode.UNAVAILABLE, times=5)
        return os.urandom(2_000_000)

    Work.do = work
    for _ in range(5):
        assert queue.deliver(app.test_client()).status_code == 500
        faults.stop()
        assert load(app, task).failures == 0
    assert queue.deliver(app.test_client()).status_code == 200
    assert load(app, task).status is Status.DONE


def test_datastore_as_a_progress_store_answers_within_about_a_second(
    app: Flask, task: LongTask, ndb_client: ndb.Client, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DatastoreProgressStore(ndb_client.context)
    monkeypatch.setattr(faults, "intercept_unary_unary", lambda *call: time.sleep(5))
    began = time.monotonic()
    assert store.write(Snapshot.of(task, now=task.created_at)) is Written.LOST
    assert time.monotonic() - began < 4


# What a log may show.


def test_nothing_that_is_printed_of_a_task_has_its_secrets(app: Flask, task: LongTask) -> None:
    stored = load(app, task)
    delivery = Delivery(task_id=task.id, execute_key=task.execute_key)
    known = repr(stored), str(stored), f"{stored}", repr(stored.info), repr(Snapshot.of(stored, now=stored.created_at))
    assert [text for text in known if task.id in text or task.execute_key in text] == []
    assert task.execute_key not in repr(delivery)


def test_a_request_of_the_queue_does_not_print_its_key(app: Flask, task: LongTask, queue: InMemoryQueue) -> None:
    assert task.execute_key not in repr(queue.tasks[0].request)


# Later versions.


def test_a_property_of_a_later_version_is_kept(
    app: Flask, task: LongTask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    with ndb_client.context():
        entity = load(app, task)
        entity.shiny, entity.words = "x" * 2000, ["a", "b"]
        entity.put()
    assert queue.deliver(app.test_client()).status_code == 200
    found = load(app, task)
    assert (found.status, found.shiny, found.words) == (Status.DONE, "x" * 2000, ["a", "b"])


def test_a_state_of_a_later_version_is_left_alone(
    app: Flask,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
    ndb_client: ndb.Client,
    progress: InMemoryProgressStore,
) -> None:
    with ndb_client.context():
        entity = load(app, task)
        entity.status_name = "splitting"
        entity.put()
    progress.stored.clear()
    assert queue.deliver(app.test_client()).status_code == 409
    clock.advance(2 * LEASE)
    assert poll(app, task)["status"] == "started"
    assert press(app, task, "cancel").status_code == 200
    with services_of(app).ndb_context():
        maintenance.sweep(services_of(app))
    assert load(app, task).status_name == "splitting"


# A cache is not believed about an end.


@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_a_page_does_not_believe_the_progress_store_about_an_end_that_was_undone(
    end: str, app: Flask, task: LongTask, queue: InMemoryQueue, progress: InMemoryProgressStore
) -> None:
    if end == "failed":
        Work.do = lambda handler: 1 / 0
        queue.deliver_all(app.test_client())
    else:
        press(app, task, "cancel")
    assert poll(app, task)["status"] == end
    progress.is_down = True  # another instance, or a store that hangs
    Work.do = lambda handler: "result"
    press(app, task, "retry")
    queue.deliver_all(app.test_client())
    progress.is_down = False
    assert poll(app, task)["status"] == "done"


def test_what_a_steering_request_finds_is_published(
    app: Flask, task: LongTask, queue: InMemoryQueue, progress: InMemoryProgressStore
) -> None:
    progress.is_down = True
    queue.deliver_all(app.test_client())
    progress.is_down = False
    press(app, task, "cancel")
    assert progress.read(task.id).info.status is Status.DONE  # type: ignore[union-attr]  # there is one


def test_a_poll_whose_healing_fails_shows_the_state(
    app: Flask,
    task: LongTask,
    clock: ManualClock,
    faults: Faults,
    progress: InMemoryProgressStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock.advance(READY_PATIENCE)
    progress.stored.clear()
    faults.lose_request("Commit", times=20)
    assert poll(app, task)["status"] == "ready"
    assert [record.levelname for record in caplog.records if "not enqueued again" in record.message] == ["WARNING"]


def test_tasks_that_can_not_be_handled_do_not_keep_a_sweep_from_the_others(
    app: Flask, stock: Stock, clock: ManualClock
) -> None:
    for _ in range(3):
        stock(due_at=clock() - timedelta(hours=2), status_name="paused")
    good = stock(due_at=clock() - timedelta(hours=1))
    with services_of(app).ndb_context():
        maintenance.sweep(services_of(app), limit=3)
    assert load(app, good).heals == 1


def test_tasks_that_can_not_be_handled_do_not_keep_a_purge_from_the_others(
    app: Flask, stock: Stock, clock: ManualClock
) -> None:
    for _ in range(2):
        stock(status_name="later", expires_at=clock() - timedelta(days=4))
    good = stock(status=Status.DONE, expires_at=clock() - timedelta(days=3))
    with services_of(app).ndb_context():
        maintenance.purge(services_of(app), limit=2)
        assert services_of(app).store.get(good) is None


def test_a_task_whose_id_is_no_text_does_not_end_a_sweep(
    app: Flask, stock: Stock, clock: ManualClock, ndb_client: ndb.Client
) -> None:
    good = stock(due_at=clock() - timedelta(hours=1))
    with ndb_client.context():
        key = ndb.Key(LongTask, 5, namespace="")
        LongTask(key=key, due_at=clock() - timedelta(hours=2), status_name="ready").put()
    with services_of(app).ndb_context():
        maintenance.sweep(services_of(app))
    assert load(app, good).heals == 1
