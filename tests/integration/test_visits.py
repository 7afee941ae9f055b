"""Visits to tasks that exist, have expired, or never existed; and jobs that do not exist."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler, LongTask, Status
from gaetk_longtask.testing import Faults, InMemoryQueue, ManualClock
from tests.support import FORGED, JSON, UNKNOWN, Work, id_of, job, polled, result_text, started

MALFORMED = ["", "x", "A" * 21, "A" * 65, "A" * 21 + "!", "A" * 22 + "%0A", "%00" * 22, "%FF" * 22, "Ä" * 22, "../" * 8]


class Other(ndb.Model):
    """An entity kind of the application."""


class Second(LongRunningTaskHandler):
    def execute_task(self, parameters: dict[str, Any]) -> Any:
        return "another result"


@pytest.fixture
def app(make_app: Callable[..., Flask], work: type[Work]) -> Flask:
    app = make_app(work, Second)
    app.add_url_rule("/named/<name>", view_func=work.as_view("named"))
    return app


# Ids.


@pytest.mark.parametrize("task_id", [UNKNOWN, *MALFORMED])
@pytest.mark.parametrize("name", ["query", "showresult"])
def test_an_unknown_id_is_404_and_the_page_offers_to_start_again(client: FlaskClient, name: str, task_id: str) -> None:
    answer = client.get(f"/work?_longtaskjob={name}&_longtaskid={task_id}&month=3")
    assert answer.status_code == 404
    assert answer.mimetype == "text/html"
    assert 'href="/work?month=3">Start again</a>' in answer.text


@pytest.mark.parametrize("task_id", [UNKNOWN, *MALFORMED])
def test_a_program_gets_a_problem_document_for_an_unknown_id(client: FlaskClient, task_id: str) -> None:
    answer = client.get(f"/work?_longtaskjob=query&_longtaskid={task_id}", headers=JSON)
    assert answer.status_code == 404
    assert answer.mimetype == "application/problem+json"
    assert {"type", "title", "status", "detail"} <= answer.json.keys()
    assert answer.json["status"] == 404


@pytest.mark.parametrize("name", ["cancel", "retry"])
def test_an_unknown_id_can_neither_be_cancelled_nor_repeated(client: FlaskClient, name: str) -> None:
    assert client.post(f"/work?_longtaskjob={name}&_longtaskid={UNKNOWN}").status_code == 404


def test_a_malformed_id_is_not_looked_up(client: FlaskClient, faults: Faults) -> None:
    for task_id in MALFORMED:
        client.get(f"/work?_longtaskjob=query&_longtaskid={task_id}")
    assert not faults.calls


def test_a_handler_that_is_started_by_post_alone_offers_no_link_that_would_not_work(
    make_app: Callable[..., Flask],
) -> None:
    class Posted(Work):
        methods = ("POST",)

    answer = make_app(Posted).test_client().get(f"/posted?_longtaskjob=query&_longtaskid={UNKNOWN}")
    assert answer.status_code == 404
    assert "Start again" not in answer.text


def test_an_id_of_another_kinds_entity_is_unknown(client: FlaskClient, ndb_client: ndb.Client) -> None:
    with ndb_client.context():
        Other(id=UNKNOWN).put()
    assert client.get(f"/work?_longtaskjob=query&_longtaskid={UNKNOWN}").status_code == 404


@pytest.mark.parametrize("job_name", ["query", "showresult"])
def test_a_datastore_key_is_no_id(client: FlaskClient, ndb_client: ndb.Client, job_name: str) -> None:
    url = started(client)
    with ndb_client.context():
        keys = [Other(id=1).put(), ndb.Key(LongTask, id_of(url), namespace="")]
        for key in keys:
            task_id = key.urlsafe().decode()
            assert client.get(f"/work?_longtaskjob={job_name}&_longtaskid={task_id}").status_code == 404


def test_the_id_of_a_chunk_is_no_id(client: FlaskClient) -> None:
    url = started(client)
    assert client.get(f"{url.replace(id_of(url), id_of(url) + '.0.0')}").status_code == 404


def test_a_tasks_id_is_unknown_under_another_handlers_url(client: FlaskClient, queue: InMemoryQueue) -> None:
    url = started(client)
    queue.deliver_all(client)
    for name in ("query", "showresult"):
        assert client.get(job(url.replace("/work", "/second"), name)).status_code == 404


def test_a_tasks_id_is_unknown_under_another_path_of_the_same_handler(
    client: FlaskClient, queue: InMemoryQueue
) -> None:
    url = started(client, "/named/mine")
    queue.deliver_all(client)
    for name in ("query", "showresult"):
        assert client.get(job(url.replace("/named/mine", "/named/yours"), name)).status_code == 404


@pytest.mark.parametrize("name", ["cancel", "retry"])
def test_a_task_can_not_be_cancelled_under_another_handlers_url(client: FlaskClient, name: str) -> None:
    url = started(client)
    if name == "retry":
        client.post(job(url, "cancel"))
    before = polled(client, url)["status"]
    assert client.post(job(url.replace("/work", "/second"), name)).status_code == 404
    assert polled(client, url)["status"] == before


# Jobs.


@pytest.mark.parametrize("method", ["get", "post", "head"])
@pytest.mark.parametrize("name", ["dance", "QUERY", "_find", "%3Cscript%3E"])
def test_an_unknown_job_is_a_bad_request(
    client: FlaskClient, stored: Callable[[], list[LongTask]], name: str, method: str
) -> None:
    url = started(client)
    answer = getattr(client, method)(job(url, name))
    assert answer.status_code == 400
    assert "<script" not in answer.text
    assert len(stored()) == 1


@pytest.mark.parametrize("name", ["query", "showresult", "cancel", "retry", "dance"])
def test_a_job_without_an_id_is_a_bad_request_and_starts_nothing(
    client: FlaskClient, stored: Callable[[], list[LongTask]], name: str
) -> None:
    answer = client.post(f"/work?_longtaskjob={name}")
    assert answer.status_code == 400
    assert not stored()


def test_a_program_gets_a_problem_document_for_a_bad_request(client: FlaskClient) -> None:
    answer = client.get(f"/work?_longtaskjob=dance&_longtaskid={UNKNOWN}", headers=JSON)
    assert answer.status_code == 400
    assert answer.mimetype == "application/problem+json"


def test_no_request_of_strangers_changes_the_state_of_a_task(
    client: FlaskClient, stored: Callable[[], list[LongTask]]
) -> None:
    url = started(client)
    for name in ("query", "showresult", "cancel", "retry", "execute", "dance"):
        client.get(job(url, name))
        client.head(job(url, name))
        client.post(job(url, name), headers={"Origin": "https://evil.example"})
        client.get(job(url, name), headers=FORGED)
    assert [task.status for task in stored()] == [Status.READY]


# Expiry.


@pytest.mark.parametrize("name", ["query", "showresult", "retry"])
def test_an_expired_task_is_410_and_the_page_offers_to_start_again(
    client: FlaskClient, queue: InMemoryQueue, clock: ManualClock, name: str
) -> None:
    url = started(client, "/work?month=3")
    queue.deliver_all(client)
    clock.advance(timedelta(days=30, seconds=1))
    answer = client.post(job(url, name))
    assert answer.status_code == 410
    assert 'href="/work?month=3">Start again</a>' in answer.text
    assert client.post(job(url, name), headers=JSON).mimetype == "application/problem+json"


def test_a_task_is_kept_until_it_expires(client: FlaskClient, queue: InMemoryQueue, clock: ManualClock) -> None:
    url = started(client)
    queue.deliver_all(client)
    clock.advance(timedelta(days=30, seconds=-1))
    assert result_text(client.get(job(url, "showresult"))) == "result"


def test_a_task_that_has_not_ended_does_not_expire(client: FlaskClient, clock: ManualClock) -> None:
    url = started(client)
    clock.advance(timedelta(days=100))
    assert client.get(url).status_code == 200
