"""What the application gets from Cloud Tasks, and when."""

from __future__ import annotations

import json
import threading
import time
import urllib.request

from google.api_core import exceptions
from google.auth import jwt
from google.protobuf import duration_pb2

from tests.dev.tasks_support import PATIENCE_SECONDS, app_engine, names, wait_until
from tests.peers.checklist import Checklist
from tests.peers.tasks_calls import later, refused
from tests.peers.tasks_client import TasksPeer

DELIVERIES = Checklist()
QUICKLY = dict.fromkeys(("min_backoff", "max_backoff"), duration_pb2.Duration(nanos=100_000_000))


@DELIVERIES("delivers an App Engine task to the application")
def _(peer: TasksPeer) -> None:
    peer.client.create_task(parent=peer.queue(), task=app_engine("/work?a=b", body=b"body", headers={"X-Mine": "kept"}))
    request = peer.delivered()
    assert (request.method, request.path, request.body) == ("POST", "/work?a=b", b"body")
    assert request.headers["X-Mine"] == "kept"


@DELIVERIES("sends App Engine's headers")
def _(peer: TasksPeer) -> None:
    queue = peer.queue()
    peer.client.create_task(parent=queue, task={"name": f"{queue}/tasks/t", **app_engine()})
    headers = peer.delivered().headers
    found = [
        headers[f"X-AppEngine-{name}"] for name in ("QueueName", "TaskName", "TaskRetryCount", "TaskExecutionCount")
    ]
    assert found == ["q", "t", "0", "0"]
    assert abs(float(headers["X-AppEngine-TaskETA"]) - time.time()) < 20
    assert "AppEngine-Google" in headers["User-Agent"]


@DELIVERIES("does not let a task forge the queue's headers")
def _(peer: TasksPeer) -> None:
    peer.client.create_task(parent=peer.queue(), task=app_engine(headers={"X-AppEngine-QueueName": "forged"}))
    assert peer.delivered().headers.get_all("X-AppEngine-QueueName") == ["q"]


@DELIVERIES("delivers an HTTP task to its URL with the headers of HTTP targets")
def _(peer: TasksPeer) -> None:
    target = {"url": f"{peer.app.url}/hook", "http_method": "PUT", "body": b"x"}
    peer.client.create_task(parent=peer.queue(), task={"http_request": target})
    request = peer.delivered()
    assert (request.method, request.path, request.body) == ("PUT", "/hook", b"x")
    assert request.headers["X-CloudTasks-QueueName"] == "q"
    assert request.headers["User-Agent"] == "Google-Cloud-Tasks"


@DELIVERIES("sends every method")
def _(peer: TasksPeer) -> None:
    queue = peer.queue()
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"):
        peer.client.create_task(parent=queue, task=app_engine(http_method=method))
        assert peer.delivered().method == method


@DELIVERIES("sends an OIDC token that can be verified")
def _(peer: TasksPeer) -> None:
    target = {"url": f"{peer.app.url}/hook", "oidc_token": {"service_account_email": "a@b", "audience": "me"}}
    peer.client.create_task(parent=peer.queue(), task={"http_request": target})
    token = peer.delivered().headers["Authorization"].removeprefix("Bearer ")
    with urllib.request.urlopen(f"http://{peer.host}/oauth2/v1/certs", timeout=20) as answer:
        claims = jwt.decode(token, certs=json.load(answer), audience="me", clock_skew_in_seconds=60)
    assert claims["email"] == "a@b"


@DELIVERIES("deletes a task after success")
def _(peer: TasksPeer) -> None:
    queue = peer.queue()
    peer.client.create_task(parent=queue, task=app_engine())
    peer.delivered()
    wait_until(lambda: not list(peer.client.list_tasks(parent=queue)))


@DELIVERIES("repeats a task after a failure, and counts")
def _(peer: TasksPeer) -> None:
    left = [500, 200]
    peer.app.answer = lambda _: left.pop(0)
    peer.client.create_task(parent=peer.queue(retry_config=QUICKLY), task=app_engine())
    first, second = peer.delivered(), peer.delivered()
    assert first.task == second.task
    assert second.headers["X-AppEngine-TaskRetryCount"] == "1"
    assert second.headers["X-AppEngine-TaskPreviousResponse"] == "500"


@DELIVERIES("gives up after the last attempt")
def _(peer: TasksPeer) -> None:
    peer.app.answer = lambda _: 500
    queue = peer.queue(retry_config={"max_attempts": 2, **QUICKLY})
    peer.client.create_task(parent=queue, task=app_engine())
    assert [peer.delivered().headers["X-AppEngine-TaskRetryCount"] for _ in range(2)] == ["0", "1"]
    wait_until(lambda: not list(peer.client.list_tasks(parent=queue)))


@DELIVERIES("shows a task's attempts")
def _(peer: TasksPeer) -> None:
    peer.app.answer = lambda _: 500
    slowly = {"min_backoff": duration_pb2.Duration(seconds=100)}
    name = peer.client.create_task(parent=peer.queue(retry_config=slowly), task=app_engine()).name
    wait_until(lambda: peer.client.get_task(name=name).response_count == 1)
    task = peer.client.get_task(name=name)
    assert task.dispatch_count == 1
    assert task.first_attempt.dispatch_time
    assert task.last_attempt.response_status.code == 13
    assert task.schedule_time.timestamp() > time.time() + 50


@DELIVERIES("waits for a task's time")
def _(peer: TasksPeer) -> None:
    due = later(seconds=1)
    queue = peer.queue()
    peer.client.create_task(parent=queue, task={"schedule_time": due, **app_engine()})
    assert len(names(peer.client.list_tasks(parent=queue))) == 1
    peer.delivered()
    assert time.time() >= due.seconds


@DELIVERIES("delivers nothing from a paused queue until it is resumed")
def _(peer: TasksPeer) -> None:
    queue = peer.paused()
    peer.client.create_task(parent=queue, task=app_engine("/paused"))
    peer.client.create_task(parent=peer.queue("other"), task=app_engine("/other"))
    assert peer.delivered().path == "/other"
    peer.client.resume_queue(name=queue)
    assert peer.delivered().path == "/paused"


@DELIVERIES("runs a task at once, even of a paused queue")
def _(peer: TasksPeer) -> None:
    task = {"schedule_time": later(hours=1), **app_engine()}
    name = peer.client.create_task(parent=peer.paused(), task=task).name
    peer.client.run_task(name=name)
    peer.delivered()


@DELIVERIES("does not run a task that is not there")
def _(peer: TasksPeer) -> None:
    with refused(exceptions.NotFound):
        peer.client.run_task(name=f"{peer.paused()}/tasks/nosuch")


@DELIVERIES("runs no more tasks at a time than the queue allows")
def _(peer: TasksPeer) -> None:
    finish = threading.Event()
    peer.app.answer = lambda _: 200 if finish.wait(PATIENCE_SECONDS) else 500
    queue = peer.queue(rate_limits={"max_concurrent_dispatches": 2})
    for _ in range(3):
        peer.client.create_task(parent=queue, task=app_engine())
    for _ in range(2):
        peer.delivered()
    time.sleep(0.5)
    waiting = peer.app.received.empty()
    finish.set()
    peer.delivered()
    assert waiting


@DELIVERIES("keeps to the queue's rate")
def _(peer: TasksPeer) -> None:
    queue = peer.queue(rate_limits={"max_dispatches_per_second": 4})
    count = peer.client.get_queue(name=queue).rate_limits.max_burst_size + 5
    peer.client.pause_queue(name=queue)
    for _ in range(count):
        peer.client.create_task(parent=queue, task=app_engine())
    began = time.monotonic()
    peer.client.resume_queue(name=queue)
    for _ in range(count):
        peer.delivered()
    assert time.monotonic() - began > 0.8  # the last five come a quarter of a second apart
