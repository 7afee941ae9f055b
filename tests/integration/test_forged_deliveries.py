"""Deliveries that the queue has not sent are refused, most of them without a Datastore operation."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from gaetk_longtask.testing import Faults, InMemoryQueue
from tests.support import FORGED, JSON, UNKNOWN, Work, job, polled, started

MALFORMED = ["", "x", "A" * 21, "A" * 65, "A" * 21 + "!", "A" * 22 + "%0A", "%00" * 22, "%FF" * 22, "Ä" * 22, "../" * 8]


@pytest.mark.parametrize("method", ["get", "post", "head"])
def test_execute_by_a_visitor_is_forbidden(client: FlaskClient, method: str, work: type[Work]) -> None:
    url = started(client)
    assert getattr(client, method)(job(url, "execute")).status_code == 403
    assert work.runs == 0


@pytest.mark.parametrize(
    "forgery",
    [
        {},
        {"X-AppEngine-QueueName": "default"},
        {"X-AppEngine-QueueName": "default", "X-AppEngine-TaskName": "1", "X-AppEngine-TaskRetryCount": "0"},
        {"X-Longtask-Execute-Key": "A" * 22},
        {"X-AppEngine-QueueName": "default", "X-Longtask-Execute-Key": ""},
        {"X-Appengine-Cron": "true", "User-Agent": "AppEngine-Google; (+http://code.google.com/appengine)"},
    ],
)
def test_execute_without_queue_and_key_headers_is_forbidden_without_a_datastore_operation(
    client: FlaskClient, faults: Faults, forgery: dict[str, str], work: type[Work]
) -> None:
    url = started(client)
    faults.calls.clear()
    assert client.get(job(url, "execute"), headers=forgery).status_code == 403
    assert not faults.calls
    assert work.runs == 0


def test_the_right_key_without_the_queues_header_is_forbidden_without_a_datastore_operation(
    client: FlaskClient, queue: InMemoryQueue, faults: Faults
) -> None:
    started(client)
    faults.calls.clear()
    [task] = queue.tasks
    assert client.get(task.request.uri, headers=task.request.headers).status_code == 403
    assert not faults.calls


@pytest.mark.parametrize("key", ["A" * 22, "x", "Ä" * 22, "A" * 5000])
def test_a_wrong_execute_key_is_forbidden_and_changes_nothing(
    client: FlaskClient, queue: InMemoryQueue, key: str, work: type[Work]
) -> None:
    url = started(client)
    [task] = queue.tasks
    answer = client.get(task.request.uri, headers=task.headers | {"X-Longtask-Execute-Key": key})
    assert answer.status_code == 403
    assert work.runs == 0
    assert polled(client, url)["status"] == "ready"


def test_another_tasks_execute_key_is_forbidden(client: FlaskClient, queue: InMemoryQueue, work: type[Work]) -> None:
    started(client)
    started(client)
    first, second = queue.tasks
    assert client.get(first.request.uri, headers=second.headers).status_code == 403
    assert work.runs == 0


@pytest.mark.parametrize("count", ["-1", "x", "", "1e9", "٣", "9" * 30, "9" * 5000])
def test_a_forged_retry_count_is_forbidden_like_any_forgery(
    client: FlaskClient, queue: InMemoryQueue, count: str
) -> None:
    url = started(client)
    headers = FORGED | {"X-AppEngine-TaskRetryCount": count.encode().decode("latin-1")}
    assert client.get(job(url, "execute"), headers=headers).status_code == 403


@pytest.mark.parametrize("method", ["post", "head"])
def test_execute_allows_only_get_even_with_the_right_key(
    client: FlaskClient, queue: InMemoryQueue, method: str, work: type[Work]
) -> None:
    started(client)
    [task] = queue.tasks
    assert getattr(client, method)(task.request.uri, headers=task.headers).status_code == 403
    assert work.runs == 0


@pytest.mark.parametrize("task_id", [UNKNOWN, *MALFORMED])
def test_a_delivery_of_a_task_that_does_not_exist_is_not_repeated(client: FlaskClient, task_id: str) -> None:
    answer = client.get(f"/work?_longtaskjob=execute&_longtaskid={task_id}", headers=FORGED)
    assert answer.status_code == 200


def test_the_execute_key_is_on_no_page_and_in_no_log(
    client: FlaskClient, queue: InMemoryQueue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    answer = client.get("/work")
    url = answer.headers["Location"]
    key = queue.tasks[0].headers["X-Longtask-Execute-Key"]
    answers = [answer, client.get(url), client.get(url, headers=JSON), queue.deliver(client)]
    answers += [client.get(job(url, "showresult")), client.get(url)]
    for answer in answers:
        assert key not in answer.text
        assert key not in str(answer.headers)
    assert key not in caplog.text
