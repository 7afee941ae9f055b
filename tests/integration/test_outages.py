"""While Datastore or memcache does not answer, requests are answered, and nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import pytest
from flask import Flask
from flask.testing import FlaskClient
from google.cloud import ndb

from gaetk_longtask import LongTaskManager
from gaetk_longtask.models import LongTaskChunk
from gaetk_longtask.testing import Faults, InMemoryProgressStore, InMemoryQueue, ManualClock
from tests.support import FORGED, JSON, UNKNOWN, Work, job, polled, started


def silence(faults: Faults) -> None:
    """Make all calls to Datastore fail, with a code after which ndb does not retry, so that tests don't wait."""
    for method in ("Lookup", "BeginTransaction", "Commit", "Rollback", "RunQuery"):
        faults.lose_request(method, grpc.StatusCode.DEADLINE_EXCEEDED, times=100)


@pytest.mark.parametrize("headers", [{}, JSON])
def test_a_start_while_datastore_is_silent_is_answered_503_with_retry_after(
    client: FlaskClient, queue: InMemoryQueue, faults: Faults, headers: dict[str, str]
) -> None:
    silence(faults)
    answer = client.get("/work", headers=headers)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert not queue.tasks


@pytest.mark.parametrize("name", ["query", "showresult", "cancel", "retry"])
def test_a_visit_while_datastore_and_memcache_are_silent_is_answered_503(
    client: FlaskClient, queue: InMemoryQueue, faults: Faults, progress: InMemoryProgressStore, name: str
) -> None:
    url = started(client)
    silence(faults)
    progress.is_down = True
    answer = client.post(job(url, name))
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.mimetype == "text/html"


@pytest.mark.parametrize("name", ["cancel", "retry"])
def test_cancel_and_retry_while_datastore_is_silent_are_answered_503(
    client: FlaskClient, faults: Faults, name: str
) -> None:
    url = started(client)
    silence(faults)
    answer = client.post(job(url, name), headers=JSON)
    assert answer.status_code == 503
    assert answer.mimetype == "application/problem+json"


def test_the_page_is_shown_from_memcache_while_datastore_is_silent(client: FlaskClient, faults: Faults) -> None:
    url = started(client)
    silence(faults)
    assert client.get(url).status_code == 200


def test_a_delivery_while_datastore_is_silent_is_retried_and_not_counted(
    client: FlaskClient, queue: InMemoryQueue, faults: Faults
) -> None:
    url = started(client)
    faults.lose_request("Commit", grpc.StatusCode.DEADLINE_EXCEEDED)
    assert queue.deliver(client).status_code == 500
    assert queue.deliver(client).status_code == 200
    document = polled(client, url)
    assert (document["status"], document["attempt"]) == ("done", 1)


@pytest.mark.parametrize("kind", [bytes, str])
def test_a_yielded_result_of_which_nothing_can_be_read_is_answered_503(
    client: FlaskClient,
    queue: InMemoryQueue,
    faults: Faults,
    work: type[Work],
    monkeypatch: pytest.MonkeyPatch,
    kind: type[bytes] | type[str],
) -> None:
    def pieces(handler: Work) -> Iterator[bytes | str]:
        for _ in range(3):
            piece = os.urandom(1_000_000)
            yield piece if kind is bytes else piece.hex()

    work.do = pieces
    page = started(client)
    queue.deliver(client)
    begin = LongTaskChunk.begin_load_all

    def lose_and_begin(names: Sequence[str]) -> Callable[[], list[Any]]:
        faults.lose_request("Lookup", grpc.StatusCode.DEADLINE_EXCEEDED)
        return begin(names)

    with monkeypatch.context() as patch:
        patch.setattr(LongTaskChunk, "begin_load_all", lose_and_begin)
        answer = client.get(job(page, "showresult"))
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
    answer = client.get(job(page, "showresult"))
    assert answer.status_code == 200
    assert len(answer.data) == 3_000_000 * (1 if kind is bytes else 2)


def test_without_a_database_the_answer_is_503(
    queue: InMemoryQueue,
    progress: InMemoryProgressStore,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    work: type[Work],
) -> None:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", "127.0.0.1:1")
    app = Flask("tests")
    unreachable = ndb.Client(project="nowhere")
    LongTaskManager(app, ndb_client=unreachable, queue=queue, progress=progress, clock=clock)
    app.add_url_rule("/work", view_func=work.as_view("work"))
    client = app.test_client()
    assert client.get("/work").status_code == 503
    assert client.get(f"/work?_longtaskjob=query&_longtaskid={UNKNOWN}").status_code == 503
    assert client.get(f"/work?_longtaskjob=execute&_longtaskid={UNKNOWN}", headers=FORGED).status_code == 500
    assert client.get(f"/work?_longtaskjob=execute&_longtaskid={UNKNOWN}").status_code == 403
