"""What Cloud Tasks answers to calls about queues and tasks."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.protobuf import duration_pb2, field_mask_pb2, timestamp_pb2

from tests.dev.tasks_support import app_engine, names, wait_until
from tests.peers.checklist import Checklist
from tests.peers.tasks_client import TasksPeer

CALLS = Checklist()

RUNNING, PAUSED = tasks_v2.Queue.State.RUNNING, tasks_v2.Queue.State.PAUSED
FULL = tasks_v2.Task.View.FULL


@contextmanager
def refused(error: type[exceptions.GoogleAPICallError]) -> Iterator[None]:
    """Expect an error with the same HTTP status: over REST, the client for Python does not tell more apart."""
    with pytest.raises(exceptions.GoogleAPICallError) as caught:
        yield
    assert caught.value.code == error.code, caught.value


def later(**kwargs: float) -> timestamp_pb2.Timestamp:
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(**kwargs))
    return stamp


@CALLS("creates a queue with its settings")
def _(peer: TasksPeer) -> None:
    name = peer.queue(rate_limits={"max_dispatches_per_second": 2.5}, retry_config={"max_attempts": 7})
    queue = peer.client.get_queue(name=name)
    assert queue.state == RUNNING
    assert (queue.rate_limits.max_dispatches_per_second, queue.retry_config.max_attempts) == (2.5, 7)


@CALLS("completes a queue's settings by defaults")
def _(peer: TasksPeer) -> None:
    queue = peer.client.get_queue(name=peer.queue())
    assert queue.rate_limits.max_dispatches_per_second == 500
    assert queue.rate_limits.max_concurrent_dispatches == 1000
    assert (queue.retry_config.max_attempts, queue.retry_config.max_doublings) == (100, 16)
    assert queue.retry_config.max_backoff == datetime.timedelta(hours=1)


@CALLS("refuses a queue that is there")
def _(peer: TasksPeer) -> None:
    peer.queue()
    with refused(exceptions.AlreadyExists):
        peer.queue()


@CALLS("refuses a malformed name of a queue")
def _(peer: TasksPeer) -> None:
    with refused(exceptions.InvalidArgument):
        peer.queue("not_valid")


@CALLS("refuses a queue of another location than its parent's")
def _(peer: TasksPeer) -> None:
    with refused(exceptions.InvalidArgument):
        peer.client.create_queue(parent=peer.parent, queue={"name": "projects/peers/locations/other/queues/q"})


@CALLS("refuses a rate that is too high")
def _(peer: TasksPeer) -> None:
    with refused(exceptions.InvalidArgument):
        peer.queue(rate_limits={"max_dispatches_per_second": 501})


@CALLS("refuses a negative number of doublings")
def _(peer: TasksPeer) -> None:
    with refused(exceptions.InvalidArgument):
        peer.queue(retry_config={"max_doublings": -1})


@CALLS("refuses a shortest back-off that is longer than the longest")
def _(peer: TasksPeer) -> None:
    backoffs = {"min_backoff": duration_pb2.Duration(seconds=9), "max_backoff": duration_pb2.Duration(seconds=1)}
    with refused(exceptions.InvalidArgument):
        peer.queue(retry_config=backoffs)


@CALLS("does not find a queue that is not there")
def _(peer: TasksPeer) -> None:
    with refused(exceptions.NotFound):
        peer.client.get_queue(name=f"{peer.parent}/queues/nosuch")


@CALLS("lists the queues of a location")
def _(peer: TasksPeer) -> None:
    peer.queue("a")
    peer.queue("b")
    assert {"a", "b"} <= set(names(peer.client.list_queues(parent=peer.parent)))
    assert "a" not in names(peer.client.list_queues(parent=f"{peer.parent}x"))


@CALLS("lists queues in pages")
def _(peer: TasksPeer) -> None:
    for name in "abc":
        peer.queue(name)
    pages = list(peer.client.list_queues(request={"parent": peer.parent, "page_size": 2}).pages)
    assert len(pages[0].queues) == 2
    assert {"a", "b", "c"} <= {name for page in pages for name in names(page.queues)}


@CALLS("filters queues by state")
def _(peer: TasksPeer) -> None:
    peer.paused()
    peer.queue("running")
    assert names(peer.client.list_queues(request={"parent": peer.parent, "filter": "state: PAUSED"})) == ["q"]


@CALLS("changes the settings that a mask names")
def _(peer: TasksPeer) -> None:
    name = peer.queue(rate_limits={"max_dispatches_per_second": 5}, retry_config={"max_attempts": 3})
    peer.client.update_queue(
        queue={"name": name, "rate_limits": {"max_concurrent_dispatches": 9}},
        update_mask=field_mask_pb2.FieldMask(paths=["rate_limits.max_concurrent_dispatches"]),
    )
    queue = peer.client.get_queue(name=name)
    assert (queue.rate_limits.max_dispatches_per_second, queue.rate_limits.max_concurrent_dispatches) == (5, 9)
    assert queue.retry_config.max_attempts == 3


@CALLS("creates a queue that it is to change")
def _(peer: TasksPeer) -> None:
    peer.client.update_queue(queue={"name": f"{peer.parent}/queues/q", "retry_config": {"max_attempts": 3}})
    assert peer.client.get_queue(name=f"{peer.parent}/queues/q").retry_config.max_attempts == 3


@CALLS("refuses a mask with an unknown field")
def _(peer: TasksPeer) -> None:
    with refused(exceptions.InvalidArgument):
        peer.client.update_queue(queue={"name": peer.queue()}, update_mask=field_mask_pb2.FieldMask(paths=["nosuch"]))


@CALLS("pauses and resumes a queue")
def _(peer: TasksPeer) -> None:
    name = peer.queue()
    assert peer.client.pause_queue(name=name).state == PAUSED
    assert peer.client.get_queue(name=name).state == PAUSED
    assert peer.client.resume_queue(name=name).state == RUNNING


@CALLS("purges a queue")
def _(peer: TasksPeer) -> None:
    name = peer.paused()
    peer.client.create_task(parent=name, task=app_engine())
    assert peer.client.purge_queue(name=name).purge_time
    assert not list(peer.client.list_tasks(parent=name))


@CALLS("deletes a queue with its tasks")
def _(peer: TasksPeer) -> None:
    name = peer.paused()
    peer.client.create_task(parent=name, task=app_engine())
    peer.client.delete_queue(name=name)
    with refused(exceptions.NotFound):
        peer.client.list_tasks(parent=name)


@CALLS("keeps the name of a deleted queue from being used again at once")
def _(peer: TasksPeer) -> None:
    peer.client.delete_queue(name=peer.queue())
    with refused(exceptions.FailedPrecondition):
        peer.queue()


@CALLS("creates a task with a name")
def _(peer: TasksPeer) -> None:
    queue = peer.paused()
    task = peer.client.create_task(parent=queue, task={"name": f"{queue}/tasks/t", **app_engine()})
    assert task.name == f"{queue}/tasks/t"
    assert peer.client.get_task(name=task.name).name == task.name


@CALLS("gives a task a name")
def _(peer: TasksPeer) -> None:
    queue = peer.paused()
    first, second = (peer.client.create_task(parent=queue, task=app_engine()).name for _ in range(2))
    assert first != second
    assert first.startswith(f"{queue}/tasks/")


@CALLS("refuses a task that is there")
def _(peer: TasksPeer) -> None:
    queue = peer.paused()
    peer.client.create_task(parent=queue, task={"name": f"{queue}/tasks/t", **app_engine()})
    with refused(exceptions.AlreadyExists):
        peer.client.create_task(parent=queue, task={"name": f"{queue}/tasks/t", **app_engine()})


@CALLS("refuses the name of a task that is done")
def _(peer: TasksPeer) -> None:
    queue = peer.queue()
    task = {"name": f"{queue}/tasks/t", **app_engine()}
    peer.client.create_task(parent=queue, task=task)
    peer.delivered()
    wait_until(lambda: not list(peer.client.list_tasks(parent=queue)))
    with refused(exceptions.AlreadyExists):
        peer.client.create_task(parent=queue, task=task)


@CALLS("refuses the name of a task that was deleted")
def _(peer: TasksPeer) -> None:
    queue = peer.paused()
    task = {"name": f"{queue}/tasks/t", **app_engine()}
    peer.client.delete_task(name=peer.client.create_task(parent=queue, task=task).name)
    with refused(exceptions.AlreadyExists):
        peer.client.create_task(parent=queue, task=task)


@CALLS("refuses a malformed name of a task")
def _(peer: TasksPeer) -> None:
    queue = peer.paused()
    with refused(exceptions.InvalidArgument):
        peer.client.create_task(parent=queue, task={"name": f"{queue}/tasks/a.b", **app_engine()})


@CALLS("refuses a task for a queue that is not there")
def _(peer: TasksPeer) -> None:
    with refused(exceptions.NotFound):
        peer.client.create_task(parent=f"{peer.parent}/queues/nosuch", task=app_engine())


@CALLS("refuses a task without a target")
def _(peer: TasksPeer) -> None:
    with refused(exceptions.InvalidArgument):
        peer.client.create_task(parent=peer.paused(), task={})


@CALLS("refuses a path that does not begin with a slash")
def _(peer: TasksPeer) -> None:
    with refused(exceptions.InvalidArgument):
        peer.client.create_task(parent=peer.paused(), task=app_engine("work"))


@CALLS("refuses a URL that is neither http nor https")
def _(peer: TasksPeer) -> None:
    with refused(exceptions.InvalidArgument):
        peer.client.create_task(parent=peer.paused(), task={"http_request": {"url": "ftp://example.com/"}})


@CALLS("refuses a body with GET")
def _(peer: TasksPeer) -> None:
    with refused(exceptions.InvalidArgument):
        peer.client.create_task(parent=peer.paused(), task=app_engine(http_method="GET", body=b"x"))


@CALLS("refuses a task that is too large")
def _(peer: TasksPeer) -> None:
    with refused(exceptions.InvalidArgument):
        peer.client.create_task(parent=peer.paused(), task=app_engine(body=b"x" * 1_100_000))


@CALLS("refuses a task for more than thirty days ahead")
def _(peer: TasksPeer) -> None:
    with refused(exceptions.InvalidArgument):
        peer.client.create_task(parent=peer.paused(), task={"schedule_time": later(days=31), **app_engine()})


@CALLS("refuses a deadline that is too short")
def _(peer: TasksPeer) -> None:
    task = {"dispatch_deadline": duration_pb2.Duration(seconds=14), **app_engine()}
    with refused(exceptions.InvalidArgument):
        peer.client.create_task(parent=peer.paused(), task=task)


@CALLS("shows a task's body in the full view alone")
def _(peer: TasksPeer) -> None:
    name = peer.client.create_task(parent=peer.paused(), task=app_engine(body=b"secret")).name
    assert peer.client.get_task(name=name).app_engine_http_request.body == b""
    full = peer.client.get_task(request={"name": name, "response_view": FULL})
    assert full.app_engine_http_request.body == b"secret"


@CALLS("shows when a task was created and is due")
def _(peer: TasksPeer) -> None:
    due = later(hours=1)
    task = peer.client.create_task(parent=peer.paused(), task={"schedule_time": due, **app_engine()})
    assert abs(task.schedule_time.timestamp() - due.seconds) < 1.1
    assert task.create_time.timestamp() <= task.schedule_time.timestamp() - 3590


@CALLS("lists tasks in pages")
def _(peer: TasksPeer) -> None:
    queue = peer.paused()
    for _ in range(5):
        peer.client.create_task(parent=queue, task=app_engine())
    pages = [names(page.tasks) for page in peer.client.list_tasks(request={"parent": queue, "page_size": 2}).pages]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert len({name for page in pages for name in page}) == 5


@CALLS("does not find a task that was deleted")
def _(peer: TasksPeer) -> None:
    name = peer.client.create_task(parent=peer.paused(), task=app_engine()).name
    peer.client.delete_task(name=name)
    with refused(exceptions.NotFound):
        peer.client.get_task(name=name)
    with refused(exceptions.NotFound):
        peer.client.delete_task(name=name)


@CALLS("creates tasks in a batch")
def _(peer: TasksPeer) -> None:
    queue = peer.paused()
    requests = [{"parent": queue, "task": app_engine()} for _ in range(3)]
    peer.client.batch_create_tasks(request={"parent": queue, "requests": requests}).result(timeout=20)
    assert len(list(peer.client.list_tasks(parent=queue))) == 3


@CALLS("deletes tasks in a batch")
def _(peer: TasksPeer) -> None:
    queue = peer.paused()
    made = [peer.client.create_task(parent=queue, task=app_engine()).name for _ in range(3)]
    peer.client.batch_delete_tasks(request={"parent": queue, "names": made[:2]}).result(timeout=20)
    assert [task.name for task in peer.client.list_tasks(parent=queue)] == made[2:]
