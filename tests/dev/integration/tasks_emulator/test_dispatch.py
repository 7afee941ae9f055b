"""The deliveries to the app and their times: one test for each feature of Cloud Tasks."""

from __future__ import annotations

import base64
import json
import logging
import threading
import urllib.request
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from google.auth import jwt
from google.cloud.tasks_v2 import types

from gaetk_longtask.dev.tasks_emulator import QueueYamlError, server
from tests.dev.tasks_support import DEFAULT, PARENT, App, app_engine, connected, names, wait_until

Q = f"{PARENT}/queues/q"
SECOND = timedelta(seconds=1)
AGENT = "AppEngine-Google; (+http://code.google.com/appengine)"


def short(name: str) -> str:
    return name.rpartition("/")[2]


def statuses(*given: int):
    """Return a function that answers with these statuses, one after the other."""
    left = list(given)
    return lambda _: left.pop(0)


@pytest.fixture
def other_app():
    app = App()
    yield app
    app.stop()


@pytest.fixture
def let_time_pass(emulator, tasks_clock):
    def let_time_pass(by: timedelta) -> None:
        tasks_clock.advance(by)
        emulator.wake()

    return let_time_pass


def wait_for_attempts(client, name: str, count: int) -> types.Task:
    """Wait until the given number of attempts have ended."""

    def ended() -> bool:
        task = client.get_task(name=name)
        return task.dispatch_count == count and bool(task.last_attempt.response_time)

    wait_until(ended)
    return client.get_task(name=name)


def test_an_app_engine_task_arrives_with_the_headers_of_production(client, tasks_app):
    headers = {"X-Mine": "kept", "X-AppEngine-QueueName": "forged", "Host": "evil.example"}
    task = client.create_task(parent=DEFAULT, task=app_engine("/work?a=b", http_method="GET", headers=headers))

    request = tasks_app.next()

    assert (request.method, request.path, request.body) == ("GET", "/work?a=b", b"")
    assert {name: value for name, value in request.headers.items() if name != "Host"} == {
        "User-Agent": AGENT,
        "X-Mine": "kept",
        "X-AppEngine-QueueName": "default",
        "X-AppEngine-TaskName": short(task.name),
        "X-AppEngine-TaskRetryCount": "0",
        "X-AppEngine-TaskExecutionCount": "0",
        "X-AppEngine-TaskETA": "1767225600.000000",
        "Connection": "close",
    }
    assert tasks_app.url.endswith(request.headers["Host"])


def test_a_body_arrives_as_it_was_given(client, tasks_app):
    body = bytes(range(256)) * 1000
    client.create_task(parent=DEFAULT, task=app_engine(body=body))

    request = tasks_app.next()

    assert (request.method, request.body) == ("POST", body)
    assert request.headers["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize("method", ["POST", "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_every_method_is_sent_and_its_success_understood(client, tasks_app, method):
    client.create_task(parent=DEFAULT, task=app_engine(http_method=method))

    assert tasks_app.next().method == method
    wait_until(lambda: not list(client.list_tasks(parent=DEFAULT)))


def test_an_http_task_arrives_with_the_headers_of_production(client, tasks_app, let_time_pass):
    tasks_app.answer = statuses(503, 404, 200)
    given = {"url": f"{tasks_app.url}/hook?x=1", "http_method": "PATCH", "body": b"{}", "headers": {"X-Mine": "kept"}}
    task = client.create_task(parent=DEFAULT, task={"http_request": given})
    received = [tasks_app.next()]
    for count in (1, 2):
        wait_for_attempts(client, task.name, count)
        let_time_pass(timedelta(hours=1))
        received.append(tasks_app.next())

    first, second, third = ({name: value for name, value in got.headers.items() if name != "Host"} for got in received)
    assert (received[0].method, received[0].path, received[0].body) == ("PATCH", "/hook?x=1", b"{}")
    assert first == {
        "User-Agent": "Google-Cloud-Tasks",
        "X-Mine": "kept",
        "X-CloudTasks-QueueName": "default",
        "X-CloudTasks-TaskName": short(task.name),
        "X-CloudTasks-TaskRetryCount": "0",
        "X-CloudTasks-TaskExecutionCount": "0",
        "X-CloudTasks-TaskETA": "1767225600.000000",
        "Content-Length": "2",
        "Connection": "close",
    }
    # Captured from production: 5xx does not count as an execution, and the reason is empty.
    assert [got["X-CloudTasks-TaskExecutionCount"] for got in (second, third)] == ["0", "1"]
    assert [got["X-CloudTasks-TaskPreviousResponse"] for got in (second, third)] == ["503", "404"]
    assert [got["X-CloudTasks-TaskRetryReason"] for got in (second, third)] == ["", ""]


def test_a_retry_of_an_app_engine_task_carries_the_headers_of_production(client, tasks_app, let_time_pass):
    tasks_app.answer = statuses(503, 404, 200)
    task = client.create_task(parent=DEFAULT, task=app_engine())
    received = [tasks_app.next()]
    for count in (1, 2):
        wait_for_attempts(client, task.name, count)
        let_time_pass(timedelta(hours=1))
        received.append(tasks_app.next())

    def told(name: str) -> list[str | None]:
        return [request.headers.get(f"X-AppEngine-Task{name}") for request in received]

    assert told("RetryCount") == ["0", "1", "2"]
    assert told("ExecutionCount") == ["0", "1", "2"]
    assert told("PreviousResponse") == [None, "503", "404"]
    assert told("RetryReason") == [None, "App Error", "App Error"]


def test_a_failed_task_is_retried_after_its_back_off(client, tasks_app, tasks_clock, let_time_pass):
    tasks_app.answer = statuses(500, 500, 200)
    client.create_queue(
        parent=PARENT,
        queue={"name": Q, "retry_config": {"min_backoff": {"seconds": 10}, "max_backoff": {"seconds": 60}}},
    )
    task = client.create_task(parent=Q, task=app_engine())
    failed = wait_for_attempts(client, task.name, 1)
    assert failed.schedule_time == tasks_clock.now + 10 * SECOND

    let_time_pass(10 * SECOND)
    failed = wait_for_attempts(client, task.name, 2)
    assert failed.schedule_time == tasks_clock.now + 20 * SECOND

    let_time_pass(20 * SECOND)
    wait_until(lambda: not list(client.list_tasks(parent=Q)))
    assert tasks_app.received.qsize() == 3


def test_a_task_without_attempts_left_is_deleted(client, tasks_app):
    tasks_app.answer = lambda _: 500
    client.create_queue(parent=PARENT, queue={"name": Q, "retry_config": {"max_attempts": 1}})
    client.create_task(parent=Q, task=app_engine())

    wait_until(lambda: not list(client.list_tasks(parent=Q)))
    assert tasks_app.received.qsize() == 1


def test_a_redirect_is_a_failure_and_not_followed(client, tasks_app, other_app):
    tasks_app.answer = lambda _: 302
    tasks_app.location = f"{other_app.url}/elsewhere"
    task = client.create_task(parent=DEFAULT, task=app_engine())

    failed = wait_for_attempts(client, task.name, 1)

    assert failed.last_attempt.response_status.message == "UNKNOWN(2): HTTP status code 302"
    assert other_app.received.empty()


def test_an_app_that_is_not_there_is_a_failed_attempt(start_emulator, tasks_clock, tasks_app):
    tasks_app.stop()
    with connected(start_emulator().host) as client:
        task = client.create_task(parent=DEFAULT, task=app_engine())
        failed = wait_for_attempts(client, task.name, 1)

    assert failed.response_count == 0
    assert failed.last_attempt.response_status.message == "UNAVAILABLE(14): no answer"


def test_a_missed_deadline_is_a_failed_attempt_while_the_handler_still_runs(start_emulator, tasks_app, tasks_clock):
    finish, finished = threading.Event(), threading.Event()

    def answer(request) -> int:
        if request.headers["X-AppEngine-TaskRetryCount"] == "0":
            finish.wait()
            finished.set()
        return 200

    tasks_app.answer = answer
    emulator = start_emulator(default_deadline=0.3 * SECOND)
    with connected(emulator.host) as client:
        task = client.create_task(parent=DEFAULT, task=app_engine())
        failed = wait_for_attempts(client, task.name, 1)
        assert failed.last_attempt.response_status.message == "DEADLINE_EXCEEDED(4): no answer within the deadline"
        assert not finished.is_set()
        tasks_clock.advance(SECOND)
        emulator.wake()
        first, retry = tasks_app.next(), tasks_app.next().headers
        finish.set()
        assert finished.wait(10)

    assert first.headers["X-AppEngine-TaskRetryCount"] == "0"
    assert retry["X-AppEngine-TaskPreviousResponse"] == "0"
    assert retry["X-AppEngine-TaskRetryReason"] == "Instance Unavailable"
    assert (retry["X-AppEngine-TaskRetryCount"], retry["X-AppEngine-TaskExecutionCount"]) == ("1", "0")


def test_a_task_waits_for_its_schedule_time(client, tasks_app, tasks_clock, let_time_pass):
    later = client.create_task(
        parent=DEFAULT, task={**app_engine("/later"), "schedule_time": tasks_clock.now + 10 * SECOND}
    )
    client.create_task(parent=DEFAULT, task=app_engine("/now"))
    assert tasks_app.next().path == "/now"
    assert client.get_task(name=later.name).dispatch_count == 0

    let_time_pass(10 * SECOND)
    assert tasks_app.next().path == "/later"


def test_service_and_version_lead_to_their_ports(start_emulator, tasks_app, other_app):
    emulator = start_emulator(routes={"v2.worker": other_app.url})
    with connected(emulator.host) as client:
        for version in ("v1", "v2"):
            routing = {"service": "worker", "version": version}
            client.create_task(parent=DEFAULT, task=app_engine(f"/{version}", app_engine_routing=routing))

        assert (tasks_app.next().path, other_app.next().path) == ("/v1", "/v2")


def test_the_queues_routing_wins_over_the_tasks(start_emulator, tasks_app, other_app):
    emulator = start_emulator(routes={"worker": other_app.url})
    with connected(emulator.host) as client:
        client.create_queue(parent=PARENT, queue={"name": Q, "app_engine_routing_override": {"service": "worker"}})
        client.create_task(parent=Q, task=app_engine(app_engine_routing={"service": "default"}))

        assert other_app.next().path == "/work"
        assert tasks_app.received.empty()


def test_no_more_tasks_run_at_a_time_than_allowed(client, tasks_app):
    running, most, lock = 0, 0, threading.Lock()
    rendezvous = threading.Barrier(2)

    def answer(_) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        rendezvous.wait(10)  # passes only if both run at the same time
        with lock:
            running -= 1
        return 200

    tasks_app.answer = answer
    client.create_queue(parent=PARENT, queue={"name": Q, "rate_limits": {"max_concurrent_dispatches": 2}})
    for _ in range(8):
        client.create_task(parent=Q, task=app_engine())

    wait_until(lambda: not list(client.list_tasks(parent=Q)))
    assert most == 2


def test_a_queue_keeps_to_its_rate_down_to_fractions(client, tasks_app, let_time_pass):
    client.create_queue(parent=PARENT, queue={"name": Q, "rate_limits": {"max_dispatches_per_second": 0.1}})
    for _ in range(12):
        client.create_task(parent=Q, task=app_engine())
    for _ in range(10):  # the bucket
        tasks_app.next()

    let_time_pass(9 * SECOND)
    client.create_task(parent=DEFAULT, task=app_engine("/meanwhile"))
    assert tasks_app.next().path == "/meanwhile"
    let_time_pass(1.1 * SECOND)
    assert tasks_app.next().path == "/work"
    let_time_pass(10 * SECOND)
    assert tasks_app.next().path == "/work"


def test_503_slows_the_queue_down_and_429_does_not(client, tasks_app, let_time_pass):
    tasks_app.answer = lambda request: {"/503": 503, "/429": 429}.get(request.path, 200)
    for status in (503, 429):
        name = f"{PARENT}/queues/q{status}"
        settings = {"rate_limits": {"max_dispatches_per_second": 1}, "retry_config": {"max_attempts": 1}}
        client.create_queue(parent=PARENT, queue={"name": name, **settings})
        client.create_task(parent=name, task=app_engine(f"/{status}"))
        tasks_app.next()
        wait_until(lambda name=name: not list(client.list_tasks(parent=name)))
        client.create_task(parent=name, task=app_engine(f"/after-{status}"))

    assert tasks_app.next().path == "/after-429"
    let_time_pass(2.1 * SECOND)
    assert tasks_app.next().path == "/after-503"


def test_a_paused_queue_dispatches_nothing_until_it_is_resumed(client, tasks_app):
    client.create_queue(parent=PARENT, queue={"name": Q})
    client.pause_queue(name=Q)
    client.create_task(parent=Q, task=app_engine("/paused"))
    client.create_task(parent=DEFAULT, task=app_engine("/meanwhile"))

    assert tasks_app.next().path == "/meanwhile"
    client.resume_queue(name=Q)
    assert tasks_app.next().path == "/paused"


def test_a_purge_during_a_run_leaves_the_queue_working(client, tasks_app):
    began, finish = threading.Event(), threading.Event()

    def answer(request) -> int:
        if request.path == "/slow":
            began.set()
            finish.wait(10)
            return 500
        return 200

    tasks_app.answer = answer
    client.create_queue(parent=PARENT, queue={"name": Q, "rate_limits": {"max_concurrent_dispatches": 1}})
    client.create_task(parent=Q, task=app_engine("/slow"))
    client.create_task(parent=Q, task=app_engine("/waiting"))
    assert began.wait(10)
    client.purge_queue(name=Q)
    client.create_task(parent=Q, task=app_engine("/after"))
    finish.set()

    assert [tasks_app.next().path for _ in range(2)] == ["/slow", "/after"]
    wait_until(lambda: not list(client.list_tasks(parent=Q)))


def test_an_oidc_token_is_verified_as_googles_are(client, emulator, tasks_app):
    email, url = "a@p.iam.gserviceaccount.com", f"{tasks_app.url}/hook"
    client.create_task(
        parent=DEFAULT, task={"http_request": {"url": url, "oidc_token": {"service_account_email": email}}}
    )

    scheme, _, token = tasks_app.next().headers["Authorization"].partition(" ")

    with urllib.request.urlopen(f"http://{emulator.host}/oauth2/v1/certs") as answer:
        claims = jwt.decode(token, certs=json.load(answer), audience=url, clock_skew_in_seconds=10**9)
    assert (scheme, claims["email"], claims["iss"]) == ("Bearer", email, "https://accounts.google.com")


def test_the_keys_for_oidc_tokens_are_a_json_web_key_set(client, emulator, tasks_app):
    url = f"{tasks_app.url}/hook"
    client.create_task(
        parent=DEFAULT, task={"http_request": {"url": url, "oidc_token": {"service_account_email": "a@b"}}}
    )

    token = tasks_app.next().headers["Authorization"].partition(" ")[2]

    with urllib.request.urlopen(f"http://{emulator.host}/oauth2/v3/certs") as answer:
        (key,) = json.load(answer)["keys"]
    signed, _, signature = token.rpartition(".")
    n, e, signature, header = map(decoded, (key["n"], key["e"], signature, signed.partition(".")[0]))
    assert json.loads(header) == {"alg": key["alg"], "kid": key["kid"], "typ": "JWT"}
    public = rsa.RSAPublicNumbers(int.from_bytes(e), int.from_bytes(n)).public_key()
    public.verify(signature, signed.encode(), padding.PKCS1v15(), hashes.SHA256())  # raises if it is forged


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "==")


QUEUE_YAML = "queue: [{name: q, rate: 5/s, retry_parameters: {task_retry_limit: 0}}]"


def test_queues_of_a_queue_yaml_are_there(start_emulator, queue_yaml):
    queue_yaml.write_text(QUEUE_YAML)
    with connected(start_emulator(queue_yaml=queue_yaml).host) as client:
        queue = client.get_queue(name=Q)

    assert (queue.rate_limits.max_dispatches_per_second, queue.rate_limits.max_burst_size) == (5, 5)
    assert queue.retry_config.max_attempts == 1


def test_a_queue_yaml_that_changes_is_read_again(start_emulator, queue_yaml, monkeypatch):
    queue_yaml.write_text(QUEUE_YAML)
    monkeypatch.setattr("gaetk_longtask.dev.tasks_emulator.dispatcher.TICK_SECONDS", 0.01)
    with connected(start_emulator(queue_yaml=queue_yaml).host) as client:
        client.create_queue(parent=PARENT, queue={"name": f"{PARENT}/queues/other"})
        client.get_queue(name=Q)

        queue_yaml.write_text("queue: [{name: q, rate: 7/s}, {name: new, rate: 1/s}]")
        wait_until(lambda: client.get_queue(name=Q).rate_limits.max_dispatches_per_second == 7)

        assert client.get_queue(name=Q).retry_config.max_attempts == -1
        assert names(client.list_queues(parent=PARENT)) == ["default", "new", "other", "q"]
        assert client.get_queue(name=f"{PARENT}/queues/other").state == types.Queue.State.PAUSED

        queue_yaml.write_text("queue: [")
        queue_yaml.write_text("queue: [{name: q, rate: 8/s}]")
        wait_until(lambda: client.get_queue(name=Q).rate_limits.max_dispatches_per_second == 8)


def test_a_queue_yaml_that_is_broken_at_the_start_is_an_error(start_emulator, queue_yaml):
    queue_yaml.write_text("queue: [{name: q}]")

    with pytest.raises(QueueYamlError, match="needs a rate"):
        start_emulator(queue_yaml=queue_yaml)


def test_a_port_that_is_taken_is_an_error(start_emulator, emulator):
    with pytest.raises(server.PortTakenError, match="another program listens"):
        start_emulator(port=int(emulator.host.partition(":")[2]))


def test_an_emulator_listens_on_loopback_alone(emulator):
    assert emulator.host.startswith("127.0.0.1:")


def test_stopping_twice_is_no_different(emulator):
    emulator.stop()
    emulator.stop()


def test_a_restart_continues_where_the_last_one_stopped(start_emulator, tasks_app, tasks_clock, tmp_path):
    began, finish = threading.Event(), threading.Event()

    def hang(_) -> int:
        began.set()
        finish.wait(10)
        return 200

    tasks_app.answer = hang
    first = start_emulator(data_dir=tmp_path)
    with connected(first.host) as client:
        client.create_queue(parent=PARENT, queue={"name": Q, "rate_limits": {"max_dispatches_per_second": 3}})
        client.create_task(parent=Q, task={"name": f"{Q}/tasks/running", **app_engine("/running")})
        client.create_task(parent=Q, task={**app_engine("/later"), "schedule_time": tasks_clock.now + 10 * SECOND})
        assert began.wait(10)
    first.stop()
    finish.set()
    tasks_app.next()

    second = start_emulator(data_dir=tmp_path)
    with connected(second.host) as client:
        again = tasks_app.next()
        assert (again.path, again.headers["X-AppEngine-TaskRetryCount"]) == ("/running", "1")
        assert client.get_queue(name=Q).rate_limits.max_dispatches_per_second == 3
        wait_until(lambda: len(list(client.list_tasks(parent=Q))) == 1)
        tasks_clock.advance(10 * SECOND)
        second.wake()
        assert tasks_app.next().path == "/later"


def test_each_attempt_is_logged_in_a_line_without_its_headers(client, tasks_app, caplog):
    with caplog.at_level(logging.INFO, logger="gaetk_longtask.dev.tasks_emulator"):
        task = client.create_task(
            parent=DEFAULT,
            task={
                "name": f"{DEFAULT}/tasks/mine",
                **app_engine("/work?a=b", http_method="GET", headers={"X-Execute-Key": "s3cret"}),
            },
        )
        wait_until(lambda: "mine" in caplog.text)

    [record] = [record for record in caplog.records if "mine" in record.message]
    assert record.message.startswith(f"default/{short(task.name)}: GET {tasks_app.url}/work?a=b -> 200 in ")
    assert "s3cret" not in caplog.text


def test_tasks_created_at_once_are_all_dispatched_once(client, tasks_app):
    created = {short(client.create_task(parent=DEFAULT, task=app_engine()).name) for _ in range(90)}

    assert {tasks_app.next().task for _ in range(90)} == created
    wait_until(lambda: not list(client.list_tasks(parent=DEFAULT)))
    assert tasks_app.received.empty()


def test_a_mistake_in_the_dispatcher_is_logged_and_does_not_end_it(start_emulator, tasks_app, tasks_clock, caplog):
    broken = threading.Event()

    def clock():
        if broken.is_set() and threading.current_thread().name == "tasks-dispatcher":
            broken.clear()
            raise ZeroDivisionError
        return tasks_clock()

    emulator = start_emulator(clock=clock)
    broken.set()
    emulator.wake()
    wait_until(lambda: "the dispatcher failed and goes on" in caplog.text)
    with connected(emulator.host) as client:
        client.create_task(parent=DEFAULT, task=app_engine())

        assert tasks_app.next().path == "/work"
