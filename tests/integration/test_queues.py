"""The requests to Cloud Tasks, and the meaning of its errors."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import google.auth
import grpc
import pytest
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import tasks_v2

from gaetk_longtask import queues
from gaetk_longtask.exceptions import EnqueueRefusedError, EnqueueUncertainError
from gaetk_longtask.queues import CloudTasksQueue, QueueRequest
from tests.cloud_tasks import CloudTasks


@pytest.fixture
def queue() -> CloudTasksQueue:
    return CloudTasksQueue(project=lambda: "shop", location=lambda: "europe-west3")


@pytest.fixture
def created(cloud_tasks: CloudTasks, queue: CloudTasksQueue) -> Callable[..., tasks_v2.Task]:
    """Enqueue a request, and return the resulting Cloud Tasks task."""

    def created(**values: Any) -> tasks_v2.Task:
        queue.enqueue(QueueRequest(**{"queue": "default", "uri": "/report"} | values))
        return cloud_tasks.calls[-1].task

    return created


# The task.


def test_a_task_goes_to_the_queue_by_its_full_name(
    created: Callable[..., tasks_v2.Task], cloud_tasks: CloudTasks
) -> None:
    created(queue="slow")
    assert cloud_tasks.calls[0].parent == "projects/shop/locations/europe-west3/queues/slow"


def test_a_task_has_no_name_of_its_own(created: Callable[..., tasks_v2.Task]) -> None:
    assert created().name == ""


def test_a_task_is_a_get_to_app_engine_with_url_and_headers(created: Callable[..., tasks_v2.Task]) -> None:
    task = created(uri="/report?_longtaskjob=execute", headers={"X-Longtask-Execute-Key": "key"})
    target = task.app_engine_http_request
    assert target.http_method == tasks_v2.HttpMethod.GET
    assert target.relative_uri == "/report?_longtaskjob=execute"
    assert dict(target.headers) == {"X-Longtask-Execute-Key": "key"}
    assert target.body == b""


def test_a_task_is_routed_to_the_service_and_version_that_it_names(created: Callable[..., tasks_v2.Task]) -> None:
    routing = created(service="worker", version="v7").app_engine_http_request.app_engine_routing
    assert (routing.service, routing.version) == ("worker", "v7")


def test_a_task_that_names_none_is_left_to_the_platform(created: Callable[..., tasks_v2.Task]) -> None:
    routing = created().app_engine_http_request.app_engine_routing
    assert (routing.service, routing.version, routing.instance) == ("", "", "")


@pytest.mark.parametrize(
    ("deadline", "sent"),
    [
        (timedelta(minutes=10, seconds=15), timedelta(minutes=10, seconds=15)),
        (timedelta(seconds=1), timedelta(seconds=15)),
        (timedelta(seconds=15), timedelta(seconds=15)),
        (timedelta(hours=24, seconds=15), timedelta(hours=24, seconds=15)),
        (timedelta(days=7), timedelta(hours=24, seconds=15)),
    ],
)
def test_a_deadline_is_kept_within_what_the_platform_takes(
    created: Callable[..., tasks_v2.Task], deadline: timedelta, sent: timedelta
) -> None:
    assert created(deadline=deadline).dispatch_deadline == sent


def test_without_a_deadline_the_platforms_default_holds(created: Callable[..., tasks_v2.Task]) -> None:
    assert "dispatch_deadline" not in created()


def test_the_longest_url_is_sent(created: Callable[..., tasks_v2.Task]) -> None:
    uri = "/" + "x" * (queues.LONGEST_URI - 1)
    assert created(uri=uri).app_engine_http_request.relative_uri == uri


def test_one_connection_serves_all_calls_of_a_process(
    created: Callable[..., tasks_v2.Task], cloud_tasks: CloudTasks
) -> None:
    for _ in range(3):
        created()
    assert len(cloud_tasks.connections) == 1


def test_a_forked_process_opens_its_own_connection(
    created: Callable[..., tasks_v2.Task], cloud_tasks: CloudTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A real fork would hang, because this process runs a gRPC server.
    created()
    monkeypatch.setattr(queues.os, "getpid", lambda: 1)
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", cloud_tasks.host.replace("127.0.0.1", "localhost"))
    created()
    assert len(cloud_tasks.connections) == 2


# The errors.

REFUSED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
}


def outcome(queue: CloudTasksQueue, cloud_tasks: CloudTasks, code: grpc.StatusCode) -> Exception:
    cloud_tasks.error = code
    with pytest.raises((EnqueueRefusedError, EnqueueUncertainError)) as caught:
        queue.enqueue(QueueRequest(queue="default", uri="/report"))
    return caught.value


@pytest.mark.parametrize("code", sorted(REFUSED, key=str))
def test_a_definite_failure_is_a_refusal(
    queue: CloudTasksQueue, cloud_tasks: CloudTasks, code: grpc.StatusCode
) -> None:
    error = outcome(queue, cloud_tasks, code)
    assert isinstance(error, EnqueueRefusedError)
    assert "projects/shop/locations/europe-west3/queues/default" in str(error)


@pytest.mark.parametrize("code", sorted(set(grpc.StatusCode) - REFUSED - {grpc.StatusCode.OK}, key=str))
def test_every_other_error_is_uncertain(queue: CloudTasksQueue, cloud_tasks: CloudTasks, code: grpc.StatusCode) -> None:
    error = outcome(queue, cloud_tasks, code)
    assert isinstance(error, EnqueueUncertainError)
    assert "projects/shop/locations/europe-west3/queues/default" in str(error)


def test_a_failed_call_is_not_repeated(queue: CloudTasksQueue, cloud_tasks: CloudTasks) -> None:
    outcome(queue, cloud_tasks, grpc.StatusCode.UNAVAILABLE)
    assert len(cloud_tasks.calls) == 1


def test_a_call_without_an_answer_times_out(
    queue: CloudTasksQueue, cloud_tasks: CloudTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "CREATE_SECONDS", 0.2)
    cloud_tasks.may_answer.clear()
    with pytest.raises(EnqueueUncertainError):
        queue.enqueue(QueueRequest(queue="default", uri="/report"))


def test_the_timeout_is_short_enough_for_visitors() -> None:
    assert 1 <= queues.CREATE_SECONDS <= 15


def test_without_credentials_enqueuing_is_refused(queue: CloudTasksQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise DefaultCredentialsError("There are none.")

    monkeypatch.delenv("CLOUD_TASKS_EMULATOR_HOST", raising=False)
    monkeypatch.setattr(google.auth, "default", refuse)
    with pytest.raises(EnqueueRefusedError, match="There are none"):
        queue.enqueue(QueueRequest(queue="default", uri="/report"))
