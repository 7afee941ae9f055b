"""All calls of the unmodified google-cloud-tasks client to the emulator.

Status codes and messages were recorded in production in 2026, or come from the client's documentation.
"""

from __future__ import annotations

import datetime

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.cloud.tasks_v2 import types
from google.iam.v1 import iam_policy_pb2
from google.protobuf import field_mask_pb2

from tests.dev.tasks_support import DEFAULT, PARENT, app_engine, names, wait_until

Q = f"{PARENT}/queues/q"
RUNNING, PAUSED = types.Queue.State.RUNNING, types.Queue.State.PAUSED
FULL = types.Task.View.FULL


@pytest.fixture
def paused(client) -> str:
    """A paused queue, which keeps its tasks."""
    client.create_queue(parent=PARENT, queue={"name": Q})
    return client.pause_queue(name=Q).name


def test_create_queue_returns_it_with_its_settings(client):
    made = client.create_queue(
        parent=PARENT,
        queue={"name": Q, "rate_limits": {"max_dispatches_per_second": 0.5}, "retry_config": {"max_attempts": -1}},
    )

    assert (made.name, made.state) == (Q, RUNNING)
    assert (made.rate_limits.max_dispatches_per_second, made.retry_config.max_attempts) == (0.5, -1)
    assert made == client.get_queue(name=Q)


def test_create_queue_refuses_a_name_that_is_there(client):
    client.create_queue(parent=PARENT, queue={"name": Q})

    with pytest.raises(exceptions.AlreadyExists, match="Queue already exists"):
        client.create_queue(parent=PARENT, queue={"name": Q})


def test_create_queue_refuses_the_name_of_a_queue_deleted_a_short_while_ago(client, tasks_clock):
    client.create_queue(parent=PARENT, queue={"name": Q})
    client.delete_queue(name=Q)

    with pytest.raises(exceptions.FailedPrecondition, match="a queue with this name existed too recently"):
        client.create_queue(parent=PARENT, queue={"name": Q})
    tasks_clock.advance(datetime.timedelta(days=3))
    assert client.create_queue(parent=PARENT, queue={"name": Q}).name == Q


def test_create_queue_refuses_a_malformed_name(client):
    with pytest.raises(exceptions.InvalidArgument, match="Queue name must be formatted"):
        client.create_queue(parent=PARENT, queue={"name": "not-a-valid-queue-name"})


def test_get_queue_finds_default_without_its_creation(client):
    assert client.get_queue(name=DEFAULT).state == RUNNING


@pytest.mark.parametrize("call", ["get_queue", "pause_queue", "resume_queue", "purge_queue"])
def test_calls_for_a_queue_that_is_not_there_are_not_found(client, call):
    with pytest.raises(exceptions.NotFound, match="Queue does not exist"):
        getattr(client, call)(name=Q)


def test_list_queues_comes_in_pages(client):
    for number in range(5):
        client.create_queue(parent=PARENT, queue={"name": f"{Q}{number}"})

    pages = [names(page.queues) for page in client.list_queues(request={"parent": PARENT, "page_size": 4}).pages]

    assert pages == [["default", "q0", "q1", "q2"], ["q3", "q4"]]


def test_list_queues_shows_one_location(client):
    client.create_queue(parent="projects/other/locations/l", queue={"name": "projects/other/locations/l/queues/x"})

    assert names(client.list_queues(parent=PARENT)) == ["default"]


def test_list_queues_filters_by_state(client, paused):
    assert names(client.list_queues(request={"parent": PARENT, "filter": "state: PAUSED"})) == ["q"]


@pytest.mark.parametrize("request_", [{"page_token": "!"}, {"page_token": "_w=="}, {"page_size": -1}, {"filter": "x"}])
def test_list_queues_refuses_what_it_does_not_understand(client, request_):
    with pytest.raises(exceptions.InvalidArgument):
        client.list_queues(request={"parent": PARENT, **request_})


def test_update_queue_changes_the_masked_sub_field_alone(client):
    client.create_queue(
        parent=PARENT,
        queue={
            "name": Q,
            "rate_limits": {"max_dispatches_per_second": 5, "max_concurrent_dispatches": 7},
            "retry_config": {"max_attempts": 3},
        },
    )

    client.update_queue(
        queue={"name": Q, "rate_limits": {"max_concurrent_dispatches": 9}},
        update_mask=field_mask_pb2.FieldMask(paths=["rate_limits.max_concurrent_dispatches"]),
    )

    updated = client.get_queue(name=Q)
    assert updated.rate_limits.max_concurrent_dispatches == 9
    assert updated.rate_limits.max_dispatches_per_second == 5
    assert updated.retry_config.max_attempts == 3


def test_update_queue_makes_a_queue_that_is_not_there(client):
    assert client.update_queue(queue={"name": Q}).name == client.get_queue(name=Q).name


def test_update_queue_refuses_an_unknown_field(client):
    with pytest.raises(exceptions.InvalidArgument, match="update mask"):
        client.update_queue(queue={"name": Q}, update_mask=field_mask_pb2.FieldMask(paths=["nonsense"]))


def test_delete_queue_deletes_its_tasks_too(client, paused):
    task = client.create_task(parent=paused, task=app_engine())
    client.delete_queue(name=paused)

    with pytest.raises(exceptions.NotFound, match="Queue does not exist"):
        client.get_task(name=task.name)
    with pytest.raises(exceptions.NotFound, match="Queue does not exist"):
        client.create_task(parent=paused, task=app_engine())
    with pytest.raises(exceptions.NotFound, match="Requested entity was not found"):
        client.delete_queue(name=paused)


def test_pause_and_resume_can_be_repeated(client):
    client.create_queue(parent=PARENT, queue={"name": Q})

    states = [getattr(client, f"{call}_queue")(name=Q).state for call in ("pause", "pause", "resume", "resume") * 3]

    assert states == [PAUSED, PAUSED, RUNNING, RUNNING] * 3


def test_purge_queue_empties_a_paused_queue(client, paused, tasks_clock):
    for _ in range(3):
        client.create_task(parent=paused, task=app_engine())

    assert client.purge_queue(name=paused).purge_time == tasks_clock.now
    assert names(client.list_tasks(parent=paused)) == []


def test_create_task_returns_it_without_its_body(client, paused, tasks_clock):
    task = client.create_task(
        parent=paused, task={"name": f"{paused}/tasks/t", **app_engine(body=b"secret", headers={"X-A": "b"})}
    )

    assert task.name == f"{paused}/tasks/t"
    assert task.create_time == tasks_clock.now
    assert (task.view, task.app_engine_http_request.body) == (types.Task.View.BASIC, b"")
    assert task.app_engine_http_request.headers["X-A"] == "b"


def test_create_task_returns_the_full_view_on_demand(client, paused):
    request = {"parent": paused, "task": app_engine(body=b"secret"), "response_view": FULL}

    assert client.create_task(request=request).app_engine_http_request.body == b"secret"


def test_create_task_in_a_queue_that_is_not_there_is_not_found(client):
    with pytest.raises(exceptions.NotFound, match="Queue does not exist"):
        client.create_task(parent=Q, task=app_engine())


def test_create_task_refuses_a_name_while_pending_after_deletion_and_after_completion(client, paused, tasks_app):
    task = {"name": f"{paused}/tasks/t", **app_engine()}
    client.create_task(parent=paused, task=task)
    with pytest.raises(exceptions.AlreadyExists, match="Requested entity already exists"):
        client.create_task(parent=paused, task=task)

    client.delete_task(name=task["name"])
    with pytest.raises(exceptions.AlreadyExists, match="a task with this name existed too recently"):
        client.create_task(parent=paused, task=task)

    done = {"name": f"{DEFAULT}/tasks/done", **app_engine()}
    client.create_task(parent=DEFAULT, task=done)
    tasks_app.next()
    wait_until(lambda: not list(client.list_tasks(parent=DEFAULT)))
    with pytest.raises(exceptions.AlreadyExists, match="a task with this name existed too recently"):
        client.create_task(parent=DEFAULT, task=done)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({}, "Task must have a target"),
        (app_engine("no-slash"), "relativeUri must begin with '/'"),
        ({"http_request": {"url": "ftp://x/"}}, "HttpTarget.url must start with"),
        ({"http_request": {"url": "http://[/"}}, "HttpRequest.url must name a host"),
        ({**app_engine(), "dispatch_deadline": {"seconds": 14}}, r"must be between \[15s, 24h15s\]"),
        ({**app_engine(), "dispatch_deadline": {"seconds": 86416}}, r"must be between \[15s, 24h15s\]"),
        (
            {"http_request": {"url": "http://h/"}, "dispatch_deadline": {"seconds": 1801}},
            r"must be between \[15s, 30m\]",
        ),
        ({**app_engine(), "schedule_time": {"seconds": 4102444800}}, "no more than 720h in the future"),
        (app_engine(body=b"x" * 1_048_576), "Task size too large"),
        ({**app_engine(), "name": f"{DEFAULT}/tasks/not a valid id"}, 'Task ID "not a valid id" can contain only'),
        ({**app_engine(), "name": f"{Q}/tasks/t"}, "must be the same as the queue name in the named task"),
    ],
)
def test_create_task_refuses_what_production_refuses(client, task, message):
    with pytest.raises(exceptions.InvalidArgument, match=message):
        client.create_task(parent=DEFAULT, task=task)


def test_get_task_shows_the_body_in_the_full_view_alone(client, paused):
    name = client.create_task(parent=paused, task=app_engine(body=b"secret")).name

    assert client.get_task(name=name).app_engine_http_request.body == b""
    assert client.get_task(request={"name": name, "response_view": FULL}).app_engine_http_request.body == b"secret"


def test_get_task_tells_a_task_that_is_gone_from_one_that_never_was(client, paused):
    name = client.create_task(parent=paused, task=app_engine()).name
    client.delete_task(name=name)

    with pytest.raises(exceptions.NotFound, match="though a task with this name existed recently"):
        client.get_task(name=name)
    with pytest.raises(exceptions.NotFound, match="Requested entity was not found"):
        client.get_task(name=f"{paused}/tasks/never")


def test_list_tasks_comes_in_pages_of_the_size_that_is_asked_for(client, paused):
    for number in range(7):
        client.create_task(parent=paused, task={"name": f"{paused}/tasks/t{number}", **app_engine(body=b"x")})

    pages = list(client.list_tasks(request={"parent": paused, "page_size": 3}).pages)

    assert [names(page.tasks) for page in pages] == [["t0", "t1", "t2"], ["t3", "t4", "t5"], ["t6"]]
    assert {task.app_engine_http_request.body for page in pages for task in page.tasks} == {b""}


def test_list_tasks_puts_no_more_into_a_page_than_a_client_takes(client, paused):
    for _ in range(6):
        client.create_task(parent=paused, task=app_engine(body=b"x" * 1_000_000))

    pages = list(client.list_tasks(request={"parent": paused, "response_view": FULL}).pages)

    assert [len(page.tasks) for page in pages] == [3, 3]


def test_list_tasks_goes_on_after_a_task_that_has_gone(client, paused):
    for number in range(4):
        client.create_task(parent=paused, task={"name": f"{paused}/tasks/t{number}", **app_engine()})
    token = next(iter(client.list_tasks(request={"parent": paused, "page_size": 2}).pages)).next_page_token
    client.delete_task(name=f"{paused}/tasks/t1")

    assert names(client.list_tasks(request={"parent": paused, "page_token": token})) == ["t2", "t3"]


def test_delete_task_deletes_it_once(client, paused):
    name = client.create_task(parent=paused, task=app_engine()).name
    client.delete_task(name=name)

    with pytest.raises(exceptions.NotFound, match="Requested entity was not found"):
        client.delete_task(name=name)


def test_run_task_dispatches_at_once_from_a_paused_queue(client, paused, tasks_app, tasks_clock):
    later = tasks_clock.now + datetime.timedelta(days=1)
    task = client.create_task(parent=paused, task={**app_engine(), "schedule_time": later})

    run = client.run_task(name=task.name)

    assert (run.dispatch_count, run.schedule_time) == (1, tasks_clock.now)
    assert tasks_app.next().task == task.name.rpartition("/")[2]
    wait_until(lambda: not list(client.list_tasks(parent=paused)))
    with pytest.raises(exceptions.NotFound):
        client.run_task(name=task.name)


def test_run_task_dispatches_even_while_an_attempt_is_under_way(client, tasks_app):
    tasks_app.answer = lambda request: 500 if request.headers["X-AppEngine-TaskRetryCount"] == "0" else 200
    name = client.create_task(parent=DEFAULT, task=app_engine()).name
    client.run_task(name=name)

    assert {tasks_app.next().headers["X-AppEngine-TaskRetryCount"] for _ in range(2)} == {"0", "1"}


def test_batch_create_tasks_creates_what_can_be_created(client, paused):
    requests = [
        {"parent": paused, "task": {"name": f"{paused}/tasks/{name}", **app_engine()}} for name in ("a", "b", "a")
    ]

    operation = client.batch_create_tasks(request={"parent": paused, "requests": requests})

    assert names(operation.result().tasks) == ["a", "b"]
    assert operation.metadata.state == types.BatchCreateTasksMetadata.State.PARTIALLY_SUCCEEDED
    assert {index: status.code for index, status in operation.metadata.failed_requests.items()} == {2: 6}
    assert names(client.list_tasks(parent=paused)) == ["a", "b"]


def test_batch_delete_tasks_deletes_what_is_there(client, paused):
    name = client.create_task(parent=paused, task=app_engine()).name

    operation = client.batch_delete_tasks(request={"parent": paused, "names": [name, f"{paused}/tasks/never"]})

    operation.result()
    assert operation.metadata.state == types.BatchDeleteTasksMetadata.State.PARTIALLY_SUCCEEDED
    assert {index: status.code for index, status in operation.metadata.failed_requests.items()} == {1: 5}
    assert names(client.list_tasks(parent=paused)) == []


def test_a_batch_of_failures_alone_fails(client, paused):
    operation = client.batch_delete_tasks(request={"parent": paused, "names": [f"{DEFAULT}/tasks/elsewhere"]})

    with pytest.raises(exceptions.Aborted, match="None of the requests succeeded"):
        operation.result()
    assert operation.metadata.state == types.BatchDeleteTasksMetadata.State.FAILED


@pytest.mark.parametrize(
    ("call", "request_"),
    [
        ("batch_create_tasks", {"parent": DEFAULT, "requests": [{"parent": DEFAULT}] * 101}),
        ("batch_create_tasks", {"parent": DEFAULT, "requests": [{"parent": Q}]}),
        ("batch_delete_tasks", {"parent": DEFAULT, "names": ["x"] * 1001}),
    ],
)
def test_a_batch_that_is_too_large_or_goes_elsewhere_is_refused(client, call, request_):
    with pytest.raises(exceptions.InvalidArgument):
        getattr(client, call)(request=request_)


def test_calls_that_mean_nothing_on_one_machine_are_unimplemented(client):
    with pytest.raises(exceptions.MethodNotImplemented):
        client.get_iam_policy(request=iam_policy_pb2.GetIamPolicyRequest(resource=DEFAULT))
    with pytest.raises(exceptions.MethodNotImplemented):
        client.get_cmek_config(request={"name": f"{PARENT}/cmekConfig"})


def test_a_call_that_would_wait_more_than_30_seconds_is_refused_as_in_production(client):
    with pytest.raises(exceptions.InvalidArgument, match="cannot be more than 30s in the future"):
        client.get_queue(name=DEFAULT, timeout=60)
    assert client.get_queue(name=DEFAULT, timeout=30).name == DEFAULT


def test_bytes_that_are_no_message_are_refused(emulator):
    with grpc.insecure_channel(emulator.host) as channel:
        call = channel.unary_unary("/google.cloud.tasks.v2.CloudTasks/CreateTask")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"\xff\xff\xff", timeout=10)

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_client_that_keeps_its_own_time_out_gets_an_answer(emulator):
    with grpc.insecure_channel(emulator.host) as channel:
        call = channel.unary_unary("/google.cloud.tasks.v2.CloudTasks/GetQueue")
        answer = call(tasks_v2.GetQueueRequest.serialize(tasks_v2.GetQueueRequest(name=DEFAULT)))

    assert tasks_v2.Queue.deserialize(answer).name == DEFAULT
