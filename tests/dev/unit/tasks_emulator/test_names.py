"""The resource names that the Cloud Tasks emulator accepts."""

from __future__ import annotations

import pytest

from gaetk_longtask.dev.tasks_emulator.errors import CallError
from gaetk_longtask.dev.tasks_emulator.names import parse_location, parse_queue, parse_task

QUEUE = "projects/example.com:my-1/locations/europe-west1/queues/Q-1"


def test_names_come_back_as_they_were():
    queue, task_id = parse_task(f"{QUEUE}/tasks/a_B-9")

    assert (str(queue), queue.parent, task_id) == (QUEUE, QUEUE.partition("/queues")[0], "a_B-9")
    assert parse_location(queue.parent) == queue.parent


@pytest.mark.parametrize(
    "name",
    ["", "q", "projects/p/queues/q", f"{QUEUE}/", f"{QUEUE}\n", f"/{QUEUE}", f"{QUEUE}_", f"{QUEUE}{'x' * 98}"],
)
def test_other_names_of_queues_are_refused(name):
    with pytest.raises(CallError, match="Queue name must be formatted"):
        parse_queue(name)


@pytest.mark.parametrize("task_id", ["", "a b", "a/b", "ä", "x" * 501])
def test_other_task_ids_are_refused(task_id):
    with pytest.raises(CallError, match="can contain only letters"):
        parse_task(f"{QUEUE}/tasks/{task_id}")


def test_the_longest_task_id_is_taken():
    assert parse_task(f"{QUEUE}/tasks/{'x' * 500}")[1] == "x" * 500


def test_a_task_name_without_a_task_is_refused():
    with pytest.raises(CallError, match="Task name must be formatted"):
        parse_task(QUEUE)


@pytest.mark.parametrize("name", ["", "projects/p", "projects//locations/l", "projects/p/locations/l/queues/q"])
def test_other_names_of_locations_are_refused(name):
    with pytest.raises(CallError, match="Location name must be formatted"):
        parse_location(name)


def test_a_queue_may_be_named_tasks():
    queue, task = parse_task("projects/p/locations/l/queues/tasks/tasks/a")

    assert (queue.queue, task) == ("tasks", "a")
