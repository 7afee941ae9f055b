"""How the Cloud Tasks emulator completes and checks a new task. The values were recorded in production."""

from __future__ import annotations

from datetime import timedelta

import grpc
import pytest

from gaetk_longtask.dev.tasks_emulator.acceptance import MAX_TASK_BYTES, accept
from gaetk_longtask.dev.tasks_emulator.errors import CallError
from gaetk_longtask.dev.tasks_emulator.messages import HttpMethod, Message, Task, moment_of, set_moment
from gaetk_longtask.dev.tasks_emulator.tasks import TaskRecord
from tests.dev.unit.tasks_emulator.messages import DEFAULT, NOW, app_engine_task, http_task

NAME = f"{DEFAULT}/tasks/t"
AGENT = "AppEngine-Google; (+http://code.google.com/appengine)"


def stored(given: Message) -> TaskRecord:
    return accept(given, name=NAME, queue=DEFAULT, now=NOW)


def refusal(given: Message) -> str:
    with pytest.raises(CallError) as refused:
        stored(given)
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
    return refused.value.message


def test_an_app_engine_task_is_completed():
    task = stored(Task(app_engine_http_request={"body": b'{"hello":"world"}'})).message

    request = task.app_engine_http_request
    assert (task.name, request.relative_uri, request.http_method) == (NAME, "/", HttpMethod.POST)
    assert dict(request.headers) == {
        "User-Agent": AGENT,
        "Content-Length": "17",
        "Content-Type": "application/octet-stream",
    }
    assert not task.HasField("dispatch_deadline")
    assert moment_of(task.create_time) == NOW.replace(microsecond=0)
    assert moment_of(task.schedule_time) == NOW


def test_an_http_task_is_completed():
    task = stored(http_task(headers={"content-type": "application/json"}, body=b"{}")).message

    assert dict(task.http_request.headers) == {"content-type": "application/json", "User-Agent": "Google-Cloud-Tasks"}
    assert task.http_request.http_method == HttpMethod.POST
    assert task.dispatch_deadline.ToTimedelta() == timedelta(minutes=10)


def test_headers_that_production_sets_itself_are_dropped_and_others_kept():
    headers = {
        "X-Mixed-Case": "preserve-me",
        "content-type": "text/plain",
        "host": "evil.example",
        "CONTENT-LENGTH": "5",
        "X-Google-Thing": "1",
        "x-appengine-queuename": "forged",
    }

    request = stored(app_engine_task(headers=headers, body=b"hi")).message.app_engine_http_request

    assert dict(request.headers) == {
        "X-Mixed-Case": "preserve-me",
        "content-type": "text/plain",
        "User-Agent": AGENT,
        "Content-Length": "2",
    }


def test_a_user_agent_of_an_app_engine_task_is_appended_to():
    request = stored(app_engine_task(headers={"user-agent": "mine/1"})).message.app_engine_http_request

    assert dict(request.headers) == {"User-Agent": f"mine/1 {AGENT}"}


def test_a_user_agent_of_an_http_task_is_replaced():
    request = stored(http_task(headers={"user-agent": "mine/1"})).message.http_request

    assert dict(request.headers) == {"User-Agent": "Google-Cloud-Tasks"}


def test_the_host_of_a_routing_is_made_of_its_parts():
    routing = {"service": "worker", "version": "v2", "host": "ignored.example"}

    request = stored(app_engine_task(app_engine_routing=routing)).message.app_engine_http_request

    assert request.app_engine_routing.host == "v2.worker.p.appspot.com"


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(microseconds=1), timedelta(days=30)])
def test_a_schedule_time_up_to_30_days_ahead_is_kept(ahead):
    given = app_engine_task()
    set_moment(given.schedule_time, NOW + ahead)

    assert stored(given).scheduled == NOW + ahead


@pytest.mark.parametrize("seconds", [0, 1, -(2**63)])
def test_a_schedule_time_in_the_past_becomes_now(seconds):
    assert stored(Task(schedule_time={"seconds": seconds}, app_engine_http_request={})).scheduled == NOW


def test_a_schedule_time_of_more_than_30_days_is_refused():
    given = app_engine_task()
    set_moment(given.schedule_time, NOW + timedelta(days=31))

    assert refusal(given) == (
        "The Task.scheduleTime, 2026-02-01T12:30:15.123456+00:00, is too far in the future."
        " Schedule time must be no more than 720h in the future."
    )


def test_a_schedule_time_beyond_the_calendar_is_refused():
    assert "too far in the future" in refusal(Task(schedule_time={"seconds": 2**63 - 1}, app_engine_http_request={}))


@pytest.mark.parametrize("nanos", [-1, 10**9])
def test_a_schedule_time_that_is_no_time_is_refused(nanos):
    given = Task(schedule_time={"seconds": 1, "nanos": nanos}, app_engine_http_request={})

    assert refusal(given) == "Task.scheduleTime is not a valid time."


@pytest.mark.parametrize(
    ("task", "seconds"),
    [(app_engine_task(), 15), (app_engine_task(), 86415), (http_task(), 15), (http_task(), 1800)],
)
def test_a_dispatch_deadline_in_range_is_kept_to_the_millisecond(task, seconds):
    given = Task()
    given.CopyFrom(task)
    given.dispatch_deadline.FromSeconds(seconds)

    assert stored(given).deadline(timedelta(1)) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("task", "seconds", "message"),
    [
        (app_engine_task(), 14, "Task.dispatchDeadline must be between [15s, 24h15s]."),
        (app_engine_task(), 86416, "Task.dispatchDeadline must be between [15s, 24h15s]."),
        (app_engine_task(), -15, "Task.dispatchDeadline must be between [15s, 24h15s]."),
        (http_task(), 0, "Task.dispatchDeadline must be between [15s, 30m]."),
        (http_task(), 14, "Task.dispatchDeadline must be between [15s, 30m]."),
        (http_task(), 1801, "Task.dispatchDeadline must be between [15s, 30m]."),
        (http_task(), 10**15, "Task.dispatchDeadline must be between [15s, 30m]."),
    ],
)
def test_a_dispatch_deadline_out_of_range_is_refused(task, seconds, message):
    given = Task()
    given.CopyFrom(task)
    given.dispatch_deadline.seconds = seconds

    assert refusal(given) == message


def test_a_dispatch_deadline_of_zero_asks_for_the_default_of_an_app_engine_task():
    given = app_engine_task()
    given.dispatch_deadline.FromSeconds(0)

    assert stored(given).deadline(timedelta(minutes=10)) == timedelta(minutes=10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Task(), "Task must have a target: app_engine_http_request or http_request."),
        (app_engine_task(uri="work"), "AppEngineHttpRequest.relativeUri must begin with '/'."),
        (app_engine_task(uri="//h:99999/\x00"), "AppEngineHttpRequest.relativeUri must contain neither spaces nor"),
        (app_engine_task(uri="/a b"), "AppEngineHttpRequest.relativeUri must contain neither spaces nor"),
        (app_engine_task(uri="/" + "x" * 2083), "AppEngineHttpRequest.relativeUri must be no longer than 2083"),
        (app_engine_task(uri="/" + "ä" * 400), "AppEngineHttpRequest.relativeUri must be no longer than 2083"),
        (app_engine_task(http_method=99), "HTTP method is not one of"),
        (app_engine_task(http_method=HttpMethod.GET, body=b"x"), "HTTP body is allowed only with POST, PUT."),
        (app_engine_task(http_method=HttpMethod.PATCH, body=b"x"), "HTTP body is allowed only with POST, PUT."),
        (app_engine_task(headers={"a\r\nb": "x"}), "A header's name contains a character"),
        (app_engine_task(headers={"": "x"}), "A header's name contains a character"),
        (app_engine_task(headers={"a": "x\r\nX-AppEngine-QueueName: q"}), "The value of the header a contains"),
        (app_engine_task(app_engine_routing={"version": "a.b"}), '"a.b" is not the name of an App Engine service'),
        (http_task(url=""), "HttpRequest.url is required."),
        (http_task(url="example.com/path"), "HttpTarget.url must start with 'http://' or 'https://'."),
        (http_task(url="ftp://example.com/"), "HttpTarget.url must start with 'http://' or 'https://'."),
        (http_task(url="http://"), "HttpRequest.url must name a host."),
        (http_task(url="http://[::1/"), "HttpRequest.url must name a host."),
        (http_task(url="http://h:99999/"), "HttpRequest.url must name a host."),
        (http_task(http_method=HttpMethod.DELETE, body=b"x"), "HTTP body is allowed only with POST, PUT, PATCH."),
        (http_task(headers={"a": "x" * 81920}), "HttpRequest.headers must be less than 80KB."),
        (Task(http_request={"url": "http://h/"}, retry_config={"max_attempts": -2}), "RetryConfig.maxAttempts must be"),
    ],
)
def test_a_task_that_could_never_be_dispatched_is_refused(given, message):
    assert refusal(given).startswith(message)


def test_a_url_with_a_broken_escape_is_taken_as_production_takes_it():
    assert stored(http_task(url="http://example.com/%zz")).message.http_request.url == "http://example.com/%zz"


def test_a_task_may_be_as_large_as_in_production_and_no_larger():
    overhead = stored(app_engine_task(body=b"x" * 1_000_000)).message.ByteSize() - 1_000_000
    largest = MAX_TASK_BYTES - overhead

    assert stored(app_engine_task(body=b"x" * largest)).message.ByteSize() == MAX_TASK_BYTES
    assert refusal(app_engine_task(body=b"x" * (largest + 1))) == "Task size too large"


def test_only_the_full_view_has_the_body():
    record = stored(app_engine_task(body=b"secret", headers={"X-A": "b"}))

    basic, unspecified, full = (record.view(view) for view in (Task.BASIC, Task.VIEW_UNSPECIFIED, Task.FULL))

    assert (basic.view, unspecified.view, full.view) == (Task.BASIC, Task.BASIC, Task.FULL)
    assert (basic.app_engine_http_request.body, full.app_engine_http_request.body) == (b"", b"secret")
    assert basic.app_engine_http_request.headers["X-A"] == "b"
