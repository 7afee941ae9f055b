"""Why each attempt ended badly is kept with the task, for operators alone."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from flask import Flask
from flask.testing import FlaskClient
from google.cloud import ndb

from gaetk_longtask import LongTask, PermanentTaskFailure, Status
from gaetk_longtask.datastore.calls import UNCACHED
from gaetk_longtask.exceptions import EnqueueRefusedError
from gaetk_longtask.failures import MOST_KEPT, Failure, failures_of, last_failure, tracebacks
from gaetk_longtask.limits import LEASE
from gaetk_longtask.models import LongTaskTraceback
from gaetk_longtask.testing import Crash, Faults, InMemoryQueue, ManualClock
from tests.support import JSON, Work, deliver, id_of, job, load, press, raising, services_of, start, started

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SECRET = "swordfish"


@pytest.fixture
def app(make_app: Callable[..., Flask], work: type[Work]) -> Flask:
    return make_app(work, LONGTASK_PROJECT="demo")


@pytest.fixture(autouse=True)
def _fails_after_a_second(work: type[Work], clock: ManualClock) -> None:
    def fail(handler: Any) -> None:
        clock.advance(timedelta(seconds=1))
        raise ZeroDivisionError("division by zero")

    work.do = fail


def last(app: Flask, task: LongTask | str) -> Failure:
    found = last_failure(load(app, task))
    assert found is not None
    return found


def texts(app: Flask, task: LongTask | str) -> dict[str, str]:
    with services_of(app).ndb_context():
        return tracebacks(load(app, task))


def kept(client: ndb.Client) -> list[LongTaskTraceback]:
    with client.context():
        return list(LongTaskTraceback.query(namespace="").fetch())


# What is kept.


def test_each_attempt_is_kept_with_its_own_reference_and_traceback(
    app: Flask, task: LongTask, queue: InMemoryQueue, clock: ManualClock, client: FlaskClient
) -> None:
    queue.deliver_all(client)
    task = load(app, task)
    found = failures_of(task)
    assert [(each.attempt, each.delivery, each.seconds) for each in found] == [(1, 1, 1), (2, 2, 1), (3, 3, 1)]
    assert {each.reason for each in found} == {"ZeroDivisionError: division by zero"}
    assert [each.reference for each in found] == task.references
    assert task.error_reference == found[-1].reference
    assert all(text.endswith("ZeroDivisionError: division by zero\n") for text in texts(app, task).values())
    assert list(texts(app, task)) == task.references


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of an App Engine instance; ask for it before the application."""
    monkeypatch.setenv("GAE_INSTANCE", "00c61b117c")
    monkeypatch.setenv("GAE_VERSION", "7")


def test_an_attempt_is_kept_with_its_instance_version_and_trace(
    instance: None, app: Flask, task: LongTask, queue: InMemoryQueue, client: FlaskClient
) -> None:
    client.environ_base["HTTP_TRACEPARENT"] = f"00-{TRACE}-00f067aa0ba902b7-01"
    queue.deliver(client)
    found = last(app, task)
    assert (found.instance, found.version, found.trace) == ("00c61b117c", "7", f"projects/demo/traces/{TRACE}")


def test_the_last_ten_are_kept_also_over_retries(
    app: Flask, task: LongTask, queue: InMemoryQueue, client: FlaskClient, ndb_client: ndb.Client
) -> None:
    for _ in range(5):
        queue.deliver_all(client)
        press(client, task.url, "retry")
    found = failures_of(load(app, task))
    assert [each.number for each in found] == list(range(6, 16))
    assert [each.delivery for each in found] == list(range(6, 16))
    assert len(kept(ndb_client)) == MOST_KEPT
    assert list(texts(app, task)) == [each.reference for each in found]


def test_a_task_that_succeeds_in_the_end_keeps_why_it_failed_before(
    app: Flask, task: LongTask, work: type[Work], queue: InMemoryQueue, client: FlaskClient
) -> None:
    queue.deliver(client)
    work.do = lambda handler: "result"
    queue.deliver_all(client)
    assert load(app, task).status is Status.DONE
    assert last(app, task).exception == "ZeroDivisionError"
    assert load(app, task).error_reference is None


def test_a_purge_deletes_the_tracebacks(
    app: Flask, task: LongTask, queue: InMemoryQueue, client: FlaskClient, clock: ManualClock, ndb_client: ndb.Client
) -> None:
    queue.deliver_all(client)
    assert kept(ndb_client)
    assert all(each.expires_at > load(app, task).expires_at for each in kept(ndb_client))
    clock.advance(timedelta(days=31))
    client.get("/_longtask/purge", headers={"X-Appengine-Cron": "true"})
    assert kept(ndb_client) == []


# What ended it.


def test_a_permanent_failure(
    app: Flask, task: LongTask, work: type[Work], queue: InMemoryQueue, client: FlaskClient
) -> None:
    work.do = raising(PermanentTaskFailure("There is no such month."))
    queue.deliver_all(client)
    assert (last(app, task).cause, last(app, task).message) == ("permanent", "There is no such month.")


def test_a_result_that_can_not_be_stored(
    app: Flask, task: LongTask, work: type[Work], queue: InMemoryQueue, client: FlaskClient
) -> None:
    work.do = lambda handler: object()
    queue.deliver_all(client)
    assert last(app, task).cause == "serialization"


def test_damaged_parameters(app: Flask, queue: InMemoryQueue, client: FlaskClient) -> None:
    task = start(app)
    with services_of(app).ndb_context():
        damaged = load(app, task)
        damaged.parameters_blob = b"nonsense"
        damaged.put(**UNCACHED)
    queue.deliver_all(client)
    assert last(app, task).cause == "damaged"


def test_a_death_is_known_at_the_next_claim(
    app: Flask,
    task: LongTask,
    work: type[Work],
    queue: InMemoryQueue,
    client: FlaskClient,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("GAE_INSTANCE", "the-dead-one")
    work.do = raising(Crash())
    with pytest.raises(Crash):
        queue.deliver(client)
    assert failures_of(load(app, task)) == []
    clock.advance(LEASE)
    monkeypatch.setenv("GAE_INSTANCE", "the-next-one")
    caplog.set_level(logging.INFO)
    work.do = lambda handler: "result"
    queue.deliver_again(client)
    found = last(app, task)
    assert (found.cause, found.attempt, found.delivery, found.instance) == ("died", 1, 1, "the-dead-one")
    assert found.exception is None
    assert texts(app, task) == {}
    [line] = [record.getMessage() for record in caplog.records if "longtask.claimed" in record.getMessage()]
    assert f"attempt=2 delivery=2 seconds=120.0 reference={found.reference} cause=died" in line


def test_a_worker_that_dies_every_time(
    app: Flask, task: LongTask, work: type[Work], queue: InMemoryQueue, client: FlaskClient, clock: ManualClock
) -> None:
    work.do = raising(Crash())
    with pytest.raises(Crash):
        queue.deliver(client)
    while not load(app, task).status.ended:
        clock.advance(LEASE * 8)
        try:
            queue.deliver_again(client)
        except Crash:
            continue
    assert [each.cause for each in failures_of(load(app, task))] == ["died"] * work.max_attempts
    assert load(app, task).error_reference == last(app, task).reference


def test_an_attempt_that_could_not_store_its_outcome(
    app: Flask, task: LongTask, work: type[Work], queue: InMemoryQueue, client: FlaskClient, faults: Faults
) -> None:
    def lose_the_commit(handler: Any) -> str:
        faults.lose_request("Commit", grpc.StatusCode.PERMISSION_DENIED)
        return "result"

    work.do = lose_the_commit
    assert queue.deliver(client).status_code == 500
    assert last(app, task).cause == "interrupted"
    assert last(app, task).exception == "google.api_core.exceptions.PermissionDenied"


def test_a_hand_over_without_progress(
    app: Flask, task: LongTask, work: type[Work], queue: InMemoryQueue, client: FlaskClient, clock: ManualClock
) -> None:
    def stand_still(handler: Any) -> None:
        clock.advance(work.time_limit)
        handler.checkpoint("the same")

    work.do = stand_still
    queue.deliver_all(client)
    assert [each.cause for each in failures_of(load(app, task))] == ["no_progress"] * work.max_attempts


def test_a_refused_start(app: Flask, queue: InMemoryQueue) -> None:
    queue.errors = [EnqueueRefusedError("no such queue")]
    with pytest.raises(EnqueueRefusedError) as caught:
        start(app)
    assert caught.value.task_id is not None
    found = last(app, caught.value.task_id)
    assert (found.cause, found.message, found.attempt) == ("refused", "no such queue", None)
    assert found.reference == caught.value.reference


# Both or none.


def test_a_failure_whose_commits_reply_is_lost_is_kept_once(
    app: Flask, task: LongTask, work: type[Work], queue: InMemoryQueue, client: FlaskClient, faults: Faults
) -> None:
    def fail(handler: Any) -> None:
        faults.lose_reply("Commit")
        raise ZeroDivisionError

    work.do = fail
    queue.deliver(client)
    assert [each.number for each in failures_of(load(app, task))] == [1]
    assert list(texts(app, task)) == load(app, task).references


def test_a_crash_before_the_commit_leaves_neither_summary_nor_traceback(
    app: Flask, task: LongTask, queue: InMemoryQueue, client: FlaskClient, faults: Faults, ndb_client: ndb.Client
) -> None:
    faults.crash(before=Status.ERROR)
    with pytest.raises(Crash):
        queue.deliver(client)
    assert failures_of(load(app, task)) == []
    assert kept(ndb_client) == []


# The log.


def test_event_and_traceback_have_the_same_fields_and_the_last_line_names_all_attempts(
    app: Flask, task: LongTask, queue: InMemoryQueue, client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    queue.deliver_all(client)
    references = load(app, task).references
    for number, reference in enumerate(references, 1):
        raised, event = [
            record for record in caplog.records if getattr(record, "json_fields", {}).get("reference") == reference
        ]
        shared = {"id": task.id[:8], "endpoint": "work", "attempt": number, "delivery": number, "reference": reference}
        assert raised.json_fields == shared
        assert raised.exc_info is not None
        assert raised.getMessage().endswith(f"attempt={number} delivery={number} reference={reference}")
        assert event.json_fields.items() >= (shared | {"exception": "ZeroDivisionError", "cause": "exception"}).items()
    assert event.json_fields["attempts"] == ",".join(
        f"{number}:ZeroDivisionError:{reference}" for number, reference in enumerate(references, 1)
    )


def test_an_attempt_after_a_checkpoint_has_one_number_in_both_lines(
    app: Flask,
    task: LongTask,
    work: type[Work],
    queue: InMemoryQueue,
    client: FlaskClient,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def get_further(handler: Any) -> None:
        clock.advance(timedelta(seconds=20))
        handler.checkpoint(load(app, task).deliveries)
        raise ZeroDivisionError

    work.do = get_further
    for _ in range(3):
        queue.deliver(client)
    numbers = [record.json_fields["attempt"] for record in caplog.records if hasattr(record, "json_fields")]
    assert numbers == [1] * 6
    assert [each.attempt for each in failures_of(load(app, task))] == [1, 1, 1]


def test_an_exception_of_the_application_gets_no_fields(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    app.add_url_rule("/raises", view_func=lambda: 1 / 0)
    app.test_client().get("/raises")
    assert not any(hasattr(record, "json_fields") for record in caplog.records)


def test_a_permanent_failure_is_a_warning_without_a_traceback(
    app: Flask, task: LongTask, work: type[Work], queue: InMemoryQueue, client: FlaskClient, caplog: Any
) -> None:
    work.do = raising(PermanentTaskFailure("There is no such month."))
    queue.deliver_all(client)
    [line] = [record for record in caplog.records if record.levelno >= logging.WARNING and "longtask" in record.msg]
    assert (line.levelname, line.exc_info) == ("WARNING", None)
    assert line.json_fields["permanent"] is True
    assert not any(record.exc_info for record in caplog.records)


def test_the_clicks_trace_is_in_the_lines_of_every_attempt(
    app: Flask, queue: InMemoryQueue, client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    started(client, headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
    queue.deliver_all(client)
    lines = [record.json_fields for record in caplog.records if record.name == "gaetk_longtask.events"]  # type: ignore[attr-defined]  # ours
    attempts = [line for line in lines if line["event"] not in ("created", "enqueued")]
    assert len(attempts) == 6
    assert {line["click_trace"] for line in attempts} == {f"projects/demo/traces/{TRACE}"}


# Operators alone.


def test_no_page_and_no_document_of_the_visitor_shows_why_an_attempt_failed(
    app: Flask, work: type[Work], queue: InMemoryQueue, client: FlaskClient
) -> None:
    work.do = raising(LookupError(SECRET))
    url = started(client)
    accepts = {"Accept": "text/html"}, JSON
    seen = []
    for _ in range(work.max_attempts):
        deliver(app, queue)
        for name in ("query", "showresult", "cancel", "retry", "execute"):
            seen += [client.get(job(url, name), headers=accept).text for accept in accepts]
    assert load(app, id_of(url)).status is Status.FAILED
    seen.append(repr(load(app, id_of(url)).info) + str(services_of(app).progress.read(id_of(url))))
    seen += [client.post(job(url, "retry"), headers=accept, follow_redirects=True).text for accept in accepts]
    text = "\n".join(seen)
    assert "Reference" in text
    for word in (SECRET, "LookupError", "Traceback", "execute_task", re.escape(__file__)):
        assert word not in text, word


def test_a_claim_reads_no_traceback(
    app: Flask, task: LongTask, queue: InMemoryQueue, client: FlaskClient, faults: Faults
) -> None:
    queue.deliver(client)
    faults.calls.clear()
    queue.deliver(client)
    assert faults.calls.count("Lookup") == 2  # of the task, by the claim and by the failure
    assert faults.calls.count("Commit") == 2
