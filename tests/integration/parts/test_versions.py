"""Tasks in parts while versions of the application, and of the library, come and go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from gaetk_longtask import LongTask, Status
from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.execution import part_attempts
from gaetk_longtask.execution.replies import Reply
from gaetk_longtask.limits import ERROR_PATIENCE
from gaetk_longtask.splits import Split, Stage
from gaetk_longtask.testing import InMemoryQueue, ManualClock
from tests.in_parts import Letters, finish, result_of, sweep, url_of
from tests.support import load, polled, services_of

ALL = "ABCDEFGH"


@pytest.fixture
def app(make_app: Callable[..., Flask], letters: type[Letters]) -> Flask:
    return make_app(letters, LONGTASK_VERSION="v1")


def versions_of(queue: InMemoryQueue) -> list[str | None]:
    return [each.request.version for each in queue.tasks]


def deliver_all_but_the_last_follow_up(
    client: FlaskClient, queue: InMemoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deliver until all parts are done, but nothing has followed after the last one."""
    for _ in range(8):
        queue.deliver(client)
    with monkeypatch.context() as patch:
        patch.setattr(part_attempts, "followed", lambda *args, **more: Reply(code=200, reason="lost"))
        queue.deliver(client)
    assert not queue.tasks


def test_parts_and_their_join_go_to_the_version_that_has_started_their_task(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue
) -> None:
    seen = set()
    while queue.tasks:
        seen.update(versions_of(queue))
        queue.deliver(client)
    assert seen == {"v1"}


def test_if_that_version_is_gone_one_look_brings_all_that_is_left_to_the_one_with_the_traffic(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, clock: ManualClock, letters: type[Letters]
) -> None:
    queue.deliver(client)
    queue.tasks.clear()
    clock.advance(timedelta(minutes=2))
    sweep(app)
    looks = load(app, task).healings
    while queue.tasks:
        assert set(versions_of(queue)) == {None}
        queue.deliver(client)
    assert result_of(client, task) == ALL
    assert (load(app, task).healings, letters.log.count("split")) == (looks, 1)


def test_a_look_that_begins_the_join_sends_it_to_the_version_with_the_traffic(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deliver_all_but_the_last_follow_up(client, queue, monkeypatch)
    clock.advance(timedelta(minutes=2))
    sweep(app)
    assert versions_of(queue) == [None]
    queue.deliver_all(client)
    assert result_of(client, task) == ALL


def test_a_poll_that_begins_a_join_which_this_instance_can_not_enqueue_shows_the_status(
    app: Flask,
    client: FlaskClient,
    task: LongTask,
    queue: InMemoryQueue,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(request: Any) -> None:
        raise ConfigurationError("no location", key="LONGTASK_LOCATION")

    deliver_all_but_the_last_follow_up(client, queue, monkeypatch)
    clock.advance(timedelta(minutes=2))
    monkeypatch.setattr(queue, "enqueue", refuse)
    assert polled(client, url_of(task))["status"] == "started"
    monkeypatch.undo()
    finish(app, client, queue, clock)
    assert result_of(client, task) == ALL


@pytest.mark.parametrize("failures", [1, 2])
def test_a_version_without_parts_that_gets_their_task_does_it_no_harm(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, clock: ManualClock, failures: int
) -> None:
    queue.deliver(client)
    queue.deliver(client)
    queue.tasks.clear()
    with services_of(app).ndb_context():  # it claims the task, and fails because there is no `execute_task`
        found = services_of(app).store.get(task.id)
        found.status_name, found.failures, found.fence = Status.ERROR.value, failures, found.fence + failures
        found.due_at = clock() + ERROR_PATIENCE
        found.save()
    clock.advance(ERROR_PATIENCE)
    sweep(app)
    assert queue.deliver(client).status_code == 200
    assert polled(client, url_of(task))["status"] == "started"
    finish(app, client, queue, clock)
    assert result_of(client, task) == ALL


def test_what_a_later_version_has_added_to_a_split_is_ignored(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue
) -> None:
    queue.deliver(client)
    with services_of(app).ndb_context():
        found = services_of(app).store.get(task.id)
        found.parts = found.parts | {"later": 1}
        found.save()
    queue.deliver_all(client)
    assert result_of(client, task) == ALL


def test_a_version_without_parts_that_dies_with_their_task_does_it_no_harm(
    app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, clock: ManualClock
) -> None:
    queue.deliver(client)
    queue.deliver(client)
    queue.tasks.clear()
    with services_of(app).ndb_context():
        found = services_of(app).store.get(task.id)
        found.fence += 1
        found.lease_until = found.due_at = clock() + ERROR_PATIENCE
        found.save()
    finish(app, client, queue, clock)
    assert result_of(client, task) == ALL
    split = Split.of(load(app, task))
    assert split is not None
    assert split.stage is Stage.JOINING
