"""The queues of the Cloud Tasks emulator."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import grpc
import pytest

from gaetk_longtask.dev.tasks_emulator.errors import CallError
from gaetk_longtask.dev.tasks_emulator.messages import Queue
from gaetk_longtask.dev.tasks_emulator.names import QueueName
from gaetk_longtask.dev.tasks_emulator.queue_yaml import parse
from gaetk_longtask.dev.tasks_emulator.registry import MAX_QUEUES, Registry
from gaetk_longtask.dev.tasks_emulator.store import Store
from tests.dev.unit.tasks_emulator.messages import DEFAULT, NOW, PARENT, queue

Q = QueueName(project="p", location="l", queue="q")
LISTED = "queue: [{name: q, rate: 5/s, bucket_size: 7}, {name: slow, rate: 0/s}]"


@pytest.fixture
def registry() -> Iterator[Registry]:
    store = Store()
    yield Registry(store, NOW)
    store.close()


def refusal(call, *arguments) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(CallError) as refused:
        call(*arguments)
    return refused.value.code, refused.value.message


def names(registry: Registry) -> list[str]:
    return [found.name.queue for found in registry.list(PARENT, NOW)]


def test_default_is_always_there(registry):
    assert registry.find(DEFAULT, NOW).message.state == Queue.RUNNING
    assert names(registry) == ["default"]
    assert refusal(registry.create, PARENT, queue("default"), NOW)[0] is grpc.StatusCode.ALREADY_EXISTS
    assert refusal(registry.delete, DEFAULT, NOW)[0] is grpc.StatusCode.FAILED_PRECONDITION


def test_default_is_there_for_every_project_that_asks(registry):
    other = QueueName(project="other", location="x", queue="default")

    assert registry.find(other, NOW) is not registry.find(DEFAULT, NOW)


def test_an_unknown_queue_is_not_found(registry):
    assert refusal(registry.find, Q, NOW) == (
        grpc.StatusCode.NOT_FOUND,
        "Queue does not exist. If you just created the queue, wait at least a minute for the queue to initialize.",
    )
    assert refusal(registry.delete, Q, NOW) == (grpc.StatusCode.NOT_FOUND, "Requested entity was not found.")


def test_a_queue_cannot_be_made_twice(registry):
    registry.create(PARENT, queue(), NOW)

    assert refusal(registry.create, PARENT, queue(), NOW) == (grpc.StatusCode.ALREADY_EXISTS, "Queue already exists")


def test_a_queue_must_be_in_the_location_of_the_request(registry):
    assert refusal(registry.create, "projects/p/locations/m", queue(), NOW)[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_the_name_of_a_deleted_queue_is_refused_for_three_days(registry):
    registry.create(PARENT, queue(), NOW)
    registry.delete(Q, NOW)
    too_recent = "The queue cannot be created because a queue with this name existed too recently."

    for call in (lambda: registry.create(PARENT, queue(), NOW), lambda: registry.update(queue(), [], NOW)):
        assert refusal(call) == (grpc.StatusCode.FAILED_PRECONDITION, too_recent)
    assert refusal(registry.find, Q, NOW)[0] is grpc.StatusCode.NOT_FOUND
    assert registry.create(PARENT, queue(), NOW + timedelta(days=3)).name == Q


def test_an_update_makes_a_queue_that_does_not_exist(registry):
    registry.update(queue(retry_config={"max_attempts": 4}), [], NOW)

    assert registry.find(Q, NOW).message.retry_config.max_attempts == 4


def test_an_update_changes_the_rate_of_dispatches_at_once(registry):
    made = registry.create(PARENT, queue(), NOW)
    registry.update(queue(rate_limits={"max_dispatches_per_second": 1}), ["rate_limits"], NOW)

    assert sum(made.bucket.take(NOW) for _ in range(100)) == 10


def test_the_number_of_queues_is_limited(registry):
    for number in range(MAX_QUEUES):
        registry.create(PARENT, queue(f"q{number}"), NOW)

    assert refusal(registry.create, PARENT, queue("more"), NOW)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_queues_of_a_queue_yaml_are_there_for_every_project_that_asks(registry):
    registry.deploy(parse(LISTED), NOW, pause_others=False)

    assert names(registry) == ["default", "q", "slow"]
    found = registry.find(QueueName(project="other", location="l", queue="q"), NOW)
    assert (found.message.rate_limits.max_dispatches_per_second, found.message.rate_limits.max_burst_size) == (5, 7)
    assert found.message.retry_config.max_attempts == -1
    assert found.from_yaml


def test_a_rate_of_nothing_pauses_the_queue(registry):
    registry.deploy(parse(LISTED), NOW, pause_others=False)

    assert registry.find(QueueName(project="p", location="l", queue="slow"), NOW).message.state == Queue.PAUSED


def test_a_new_queue_yaml_changes_the_queues_that_are_there(registry):
    made = registry.create(PARENT, queue(retry_config={"max_attempts": 4}), NOW)
    registry.deploy(parse(LISTED), NOW, pause_others=True)

    assert made.message.rate_limits.max_dispatches_per_second == 5
    assert made.message.retry_config.max_attempts == -1
    assert sum(made.bucket.take(NOW) for _ in range(100)) == 7


def test_a_new_queue_yaml_pauses_the_queues_that_it_does_not_list_but_for_default(registry):
    other = registry.create(PARENT, queue("other"), NOW)
    default = registry.find(DEFAULT, NOW)
    registry.deploy(parse(LISTED), NOW, pause_others=True)

    assert (other.message.state, default.message.state) == (Queue.PAUSED, Queue.RUNNING)


@pytest.mark.parametrize(("prefix", "state"), [("", Queue.RUNNING), ("resume_paused_queues: False\n", Queue.PAUSED)])
def test_a_new_queue_yaml_resumes_paused_queues_unless_it_says_otherwise(registry, prefix, state):
    made = registry.create(PARENT, queue(), NOW)
    registry.set_state(made, Queue.PAUSED)
    registry.deploy(parse(prefix + LISTED), NOW, pause_others=True)

    assert made.message.state == state


def test_a_routing_override_has_the_project_in_its_host(registry):
    registry.deploy(parse("queue: [{name: q, rate: 1/s, target: v2.worker}]"), NOW, pause_others=False)

    assert registry.find(Q, NOW).message.app_engine_routing_override.host == "v2.worker.p.appspot.com"
