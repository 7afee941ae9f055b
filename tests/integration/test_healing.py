"""Tasks whose delivery was lost are enqueued again, but not too often."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from flask import Flask

from gaetk_longtask import LongTask, LongTaskManager, Status, config, maintenance
from gaetk_longtask.exceptions import EnqueueRefusedError, EnqueueUncertainError
from gaetk_longtask.info import Progress
from gaetk_longtask.limits import ERROR_PATIENCE, LEASE, LONGEST_RUN, READY_PATIENCE
from gaetk_longtask.queues import Delivery
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue, ManualClock
from gaetk_longtask.transitions import fail
from tests.support import JSON, Work, services_of, start


@pytest.fixture
def app(make_app: Callable[..., Flask], work: type[Work]) -> Flask:
    return make_app(work, LONGTASK_VERSION="v1")


def poll(app: Flask, task: LongTask) -> dict[str, Any]:
    document = app.test_client().get(f"/work?_longtaskid={task.id}", headers=JSON).json
    assert document is not None
    return document


def test_a_task_whose_enqueuing_was_lost_is_enqueued_by_a_poll_when_it_is_due(
    app: Flask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    queue.errors = [EnqueueUncertainError("no answer")]
    task = start(app)
    assert queue.tasks == []
    poll(app, task)
    assert queue.tasks == []
    clock.advance(READY_PATIENCE)
    poll(app, task)
    assert len(queue.tasks) == 1
    queue.deliver_all(app.test_client())
    assert poll(app, task)["status"] == "done"


def test_a_second_delivery_of_a_task_that_was_enqueued_twice_is_absorbed(
    app: Flask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    queue.errors, queue.keeps_uncertain = [EnqueueUncertainError("no answer")], True
    task = start(app)
    clock.advance(READY_PATIENCE)
    poll(app, task)
    assert len(queue.tasks) == 2
    queue.deliver_all(app.test_client())
    assert poll(app, task)["attempt"] == 1


def healings(app: Flask, task: LongTask) -> int:
    with services_of(app).ndb_context():
        return services_of(app).store.get(task.id).healings


def test_many_polls_enqueue_once_and_then_with_growing_pauses(
    app: Flask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    task = start(app)
    enqueued = []
    for _ in range(6 * 60):
        clock.advance(timedelta(minutes=1))
        for _ in range(3):
            poll(app, task)
        enqueued.append(healings(app, task))
        assert len(queue.tasks) <= 2  # the start's delivery, and at most one of the healings
    # After 1 minute, then after 1, 2, 4, 8, 16, 32 minutes, and from then on after 60 minutes.
    minutes = [minute for minute, (before, now) in enumerate(pairwise([0, *enqueued]), start=1) if now > before]
    assert minutes == [1, 2, 4, 8, 16, 32, 64, 124, 184, 244, 304]


def test_a_task_that_no_delivery_reaches_is_enqueued_with_growing_pauses_and_fails_after_a_month(
    app: Flask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    task, began = start(app), clock()
    enqueued = []
    while clock() - began < LONGEST_RUN:
        assert poll(app, task)["status"] == "ready"
        enqueued.append(len(queue.tasks))
        clock.advance(timedelta(hours=1))
        with services_of(app).ndb_context():
            maintenance.sweep(services_of(app))
    assert enqueued[24] < 40
    assert enqueued[-1] - enqueued[48] <= 28  # no more than one a day
    clock.advance(timedelta(days=1))
    with services_of(app).ndb_context():
        maintenance.sweep(services_of(app))
    document = poll(app, task)
    assert (document["status"], document["done"]) == ("failed", True)
    queue.deliver_all(app.test_client())
    assert poll(app, task)["status"] == "failed"


def test_what_is_too_old_can_be_tried_again_by_hand(app: Flask, queue: InMemoryQueue, clock: ManualClock) -> None:
    task = start(app)
    clock.advance(LONGEST_RUN)
    queue.deliver_all(app.test_client())
    assert poll(app, task)["status"] == "failed"
    app.test_client().post(f"/work?_longtaskjob=retry&_longtaskid={task.id}")
    queue.deliver_all(app.test_client())
    assert poll(app, task)["status"] == "done"


@pytest.fixture
def lost_instance(app: Flask, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, work: type[Work]) -> Flask:
    """Another instance of the application, which does not know the location of its queues."""
    monkeypatch.delenv("CLOUD_TASKS_EMULATOR_HOST", raising=False)
    monkeypatch.setattr(config, "METADATA_URL", "http://127.0.0.1:1/")
    services = services_of(app)
    lost = Flask("tests")
    lost.config["LONGTASK_PROJECT"] = "tests"
    LongTaskManager(lost, ndb_client=services.ndb_context.given, progress=services.progress, clock=clock)
    lost.add_url_rule("/work", view_func=work.as_view("work"))
    return lost


def test_an_instance_that_does_not_know_its_location_shows_tasks_that_are_due_all_the_same(
    app: Flask, lost_instance: Flask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    task = start(app)
    clock.advance(READY_PATIENCE)
    assert poll(lost_instance, task)["status"] == "ready"
    clock.advance(READY_PATIENCE)
    assert len(queue.tasks) == 1
    poll(app, task)
    assert len(queue.tasks) == 2


@pytest.mark.parametrize("job", ["", "&_longtaskjob=retry"])
def test_an_instance_that_does_not_know_its_location_says_so_and_changes_nothing(
    job: str, app: Flask, lost_instance: Flask
) -> None:
    task = start(app)
    with services_of(app).ndb_context():
        services_of(app).store.cancel(task.id)
    query = f"?_longtaskid={task.id}{job}" if job else ""
    answer = lost_instance.test_client().post(f"/work{query}", headers=JSON)
    assert answer.status_code == 500
    assert answer.mimetype == "application/problem+json"
    assert "set up" in answer.text
    assert poll(app, task)["status"] == "cancelled"


def test_a_healed_task_goes_to_the_default_version(app: Flask, queue: InMemoryQueue, clock: ManualClock) -> None:
    task = start(app)
    clock.advance(READY_PATIENCE)
    poll(app, task)
    assert [queued.request.version for queued in queue.tasks] == ["v1", None]


def test_a_worker_that_died_with_its_cloud_tasks_task_is_replaced_when_its_lease_has_lapsed(
    app: Flask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    task = start(app)
    queue.tasks.clear()
    with services_of(app).ndb_context():
        services_of(app).store.claim(Delivery(task_id=task.id, execute_key=task.execute_key), max_attempts=5)
    clock.advance(LEASE)
    poll(app, task)
    queue.deliver_all(app.test_client())
    assert poll(app, task)["attempt"] == 2


def test_a_failed_attempt_that_the_queue_forgets_is_repeated_when_it_is_due(
    app: Flask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    task = start(app)
    with services_of(app).ndb_context():
        store = services_of(app).store
        claimed = store.claim(Delivery(task_id=task.id, execute_key=task.execute_key), max_attempts=5).task
        outcome = {"permanent": False, "error": None, "reference": "r", "progress": Progress(), "max_attempts": 5}
        store.change(task.id, partial(fail, fence=claimed.fence, **outcome))
    queue.tasks.clear()
    assert poll(app, task)["status"] == "error"
    clock.advance(ERROR_PATIENCE)
    poll(app, task)
    assert len(queue.tasks) == 1


def test_a_refused_enqueuing_fails_the_task_and_the_page_repeats_the_same_id(app: Flask, queue: InMemoryQueue) -> None:
    client = app.test_client()
    queue.errors = [EnqueueRefusedError("no such queue")]
    answer = client.get("/work")
    assert answer.status_code == 503
    assert "Try again" in answer.text
    with services_of(app).ndb_context():
        (task,) = LongTask.query().fetch()
    assert task.status is Status.FAILED
    assert task.id in answer.text
    assert client.post(f"/work?_longtaskjob=retry&_longtaskid={task.id}").status_code == 303
    queue.deliver_all(client)
    assert poll(app, task)["status"] == "done"


def test_a_refusal_does_not_end_a_task_that_an_earlier_enqueuing_has_brought_to_work(
    app: Flask, queue: InMemoryQueue, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = start(app)

    def deliver_the_earlier_one_then_refuse(request: object) -> None:
        queue.deliver(app.test_client())
        raise EnqueueRefusedError("the queue is gone")

    monkeypatch.setattr(queue, "enqueue", deliver_the_earlier_one_then_refuse)
    clock.advance(READY_PATIENCE)
    assert poll(app, task)["status"] == "done"


@pytest.mark.parametrize("error", [EnqueueRefusedError("the queue is gone"), EnqueueUncertainError("no answer")])
def test_a_healing_that_is_refused_leaves_the_task_to_its_first_delivery(
    error: EnqueueRefusedError | EnqueueUncertainError, app: Flask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    task = start(app)
    for _ in range(3):
        queue.errors = [error]
        clock.advance(timedelta(hours=1))
        assert poll(app, task)["status"] == "ready"
    queue.deliver_all(app.test_client())
    assert poll(app, task)["status"] == "done"


def test_pages_show_the_durable_state_while_the_progress_store_is_down(
    app: Flask, queue: InMemoryQueue, progress: InMemoryProgressStore
) -> None:
    progress.is_down = True
    task = start(app)
    assert poll(app, task)["status"] == "ready"
    queue.deliver_all(app.test_client())
    assert poll(app, task)["status"] == "done"


def test_a_snapshot_that_was_lost_is_read_from_the_task_and_kept(
    app: Flask, queue: InMemoryQueue, progress: InMemoryProgressStore
) -> None:
    task = start(app)
    progress.stored.clear()
    assert poll(app, task)["status"] == "ready"
    assert task.id in progress.stored
