"""The Cloud Tasks emulator over HTTP/1.1: REST for clients, curl and gcloud, and what tests ask for."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api_core import exceptions

from gaetk_longtask.dev.tasks_emulator import Emulator
from tests.dev.tasks_support import DEFAULT, PARENT, app_engine, connected, connected_by_rest, names, wait_until

Q = f"{PARENT}/queues/q"
TASK = {"appEngineHttpRequest": {"relativeUri": "/work", "body": base64.b64encode(b"body").decode()}}
IN_AN_HOUR = "2026-01-01T01:00:00Z"

Ask = Callable[..., tuple[int, Any]]


@pytest.fixture
def ask(emulator: Emulator) -> Ask:
    """A function that makes an HTTP request, and returns the status and the document or text."""

    def ask(method: str, path: str, document: object = None, *, body: bytes | None = None) -> tuple[int, Any]:
        data = body if document is None else json.dumps(document).encode()
        request = urllib.request.Request(f"http://{emulator.host}{path}", data=data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                status, text = refusal.code, refusal.read().decode()
        return status, json.loads(text) if text.startswith("{") else text

    return ask


def test_it_shows_that_it_is_running(ask):
    assert ask("GET", "/") == (200, "Ok\n")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nothing"), ("POST", "/"), ("PUT", f"/v2/{Q}"), ("GET", f"/v2beta3/{Q}"), ("GET", f"/v2/{PARENT}")],
)
def test_any_other_request_is_told_what_there_is(ask, method, path):
    status, text = ask(method, path)

    assert status == 404
    assert "/v2/projects/PROJECT/locations/LOCATION/queues" in text


def test_a_queue_is_created_changed_paused_and_deleted(ask):
    made = ask("POST", f"/v2/{PARENT}/queues", {"name": Q, "rateLimits": {"maxDispatchesPerSecond": 2.5}})
    assert (made[0], made[1]["name"], made[1]["state"]) == (200, Q, "RUNNING")
    assert made[1]["retryConfig"]["minBackoff"] == "0.100s"

    mask = "rateLimits.maxConcurrentDispatches,retryConfig.maxBackoff"
    given = {"rateLimits": {"maxConcurrentDispatches": 3}, "retryConfig": {"maxBackoff": "7.5s"}}
    changed = ask("PATCH", f"/v2/{Q}?updateMask={mask}&prettyPrint=false", given)[1]
    assert changed["rateLimits"]["maxDispatchesPerSecond"] == 2.5
    assert (changed["rateLimits"]["maxConcurrentDispatches"], changed["retryConfig"]["maxBackoff"]) == (3, "7.500s")

    assert ask("POST", f"/v2/{Q}:pause", {})[1]["state"] == "PAUSED"
    assert [queue["name"] for queue in ask("GET", f"/v2/{PARENT}/queues?filter=state:PAUSED")[1]["queues"]] == [Q]
    assert ask("POST", f"/v2/{Q}:resume")[1]["state"] == "RUNNING"
    assert "purgeTime" in ask("POST", f"/v2/{Q}:purge", {})[1]
    assert ask("DELETE", f"/v2/{Q}") == (200, {})
    assert ask("GET", f"/v2/{Q}")[0] == 404


def test_a_task_is_created_shown_listed_run_and_deleted(ask, tasks_app):
    given = {"task": {"name": f"{DEFAULT}/tasks/a", "scheduleTime": IN_AN_HOUR, **TASK}, "responseView": "FULL"}
    made = ask("POST", f"/v2/{DEFAULT}/tasks", given)
    assert (made[0], made[1]["view"], made[1]["scheduleTime"]) == (200, "FULL", IN_AN_HOUR)
    assert made[1]["appEngineHttpRequest"]["body"] == TASK["appEngineHttpRequest"]["body"]

    assert "body" not in ask("GET", f"/v2/{DEFAULT}/tasks/a")[1]["appEngineHttpRequest"]
    assert "body" in ask("GET", f"/v2/{DEFAULT}/tasks/a?responseView=FULL")[1]["appEngineHttpRequest"]
    ask("POST", f"/v2/{DEFAULT}/tasks", {"task": {"name": f"{DEFAULT}/tasks/b", "scheduleTime": IN_AN_HOUR, **TASK}})
    first = ask("GET", f"/v2/{DEFAULT}/tasks?pageSize=1")[1]
    second = ask("GET", f"/v2/{DEFAULT}/tasks?pageSize=1&pageToken={first['nextPageToken']}")[1]
    assert [task["name"][-1] for page in (first, second) for task in page["tasks"]] == ["a", "b"]

    assert ask("POST", f"/v2/{DEFAULT}/tasks/a:run", {})[0] == 200
    assert tasks_app.next().body == b"body"
    assert ask("DELETE", f"/v2/{DEFAULT}/tasks/b") == (200, {})
    assert ask("GET", f"/v2/{DEFAULT}/tasks/b")[0] == 404


def test_tasks_are_created_and_deleted_in_batches(ask):
    ask("POST", f"/v2/{DEFAULT}:pause", {})
    batch = {"requests": [{"parent": DEFAULT, "task": {"name": f"{DEFAULT}/tasks/{name}", **TASK}} for name in "ab"]}

    assert ask("POST", f"/v2/{DEFAULT}/tasks:batchCreate", batch)[1]["done"] is True
    deletion = {"names": [f"{DEFAULT}/tasks/{name}" for name in "ab"]}
    assert ask("POST", f"/v2/{DEFAULT}/tasks:batchDelete", deletion)[1]["done"] is True
    assert ask("GET", f"/v2/{DEFAULT}/tasks")[1] == {}


def test_an_error_is_that_of_googles_apis(ask):
    status, document = ask("GET", f"/v2/{Q}")

    assert (status, document["error"]["code"], document["error"]["status"]) == (404, 404, "NOT_FOUND")
    assert "Queue does not exist" in document["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"text"',
        b"\xff",
        b'{"task": []}',
        b'{"task": {"nosuch": 1}}',
        b'{"responseView": "NO"}',
        b"[" * 9999,
    ],
)
def test_a_body_that_is_no_request_is_refused(ask, body):
    status, document = ask("POST", f"/v2/{DEFAULT}/tasks", body=body)

    assert (status, document["error"]["status"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("query", ["pageSize=x", "nosuch=1", "pageSize.x=1", "updateMask=a"])
def test_a_parameter_that_the_call_does_not_have_is_refused(ask, query):
    assert ask("GET", f"/v2/{PARENT}/queues?{query}")[0] == 400


def test_a_body_without_a_valid_length_is_refused(emulator):
    for length in ("-1", "x", str(10**12)):
        connection = http.client.HTTPConnection(emulator.host, timeout=20)
        connection.putrequest("POST", f"/v2/{DEFAULT}/tasks")
        connection.putheader("Content-Length", length)
        connection.endheaders()
        assert connection.getresponse().status == 400
        connection.close()


def test_a_body_in_chunks_is_read(emulator):
    connection = http.client.HTTPConnection(emulator.host, timeout=20)
    pieces = iter([json.dumps({"task": TASK})[:20].encode(), json.dumps({"task": TASK})[20:].encode()])
    connection.request("POST", f"/v2/{DEFAULT}/tasks", body=pieces, encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()


def test_a_client_that_has_said_everything_still_gets_its_answer(emulator):
    host, _, port = emulator.host.partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert connection.makefile("rb").read().endswith(b"Ok\n")


def test_reset_frees_the_names_of_tasks_and_queues(ask, emulator, tasks_app):
    with connected(emulator.host) as client:
        client.create_queue(parent=PARENT, queue={"name": Q})
        client.delete_queue(name=Q)
        client.create_task(parent=DEFAULT, task={"name": f"{DEFAULT}/tasks/a", **app_engine()})
        tasks_app.next()
        wait_until(lambda: not list(client.list_tasks(parent=DEFAULT)))
        with pytest.raises(exceptions.AlreadyExists):
            client.create_task(parent=DEFAULT, task={"name": f"{DEFAULT}/tasks/a", **app_engine()})

        assert ask("POST", "/reset") == (200, "Ok\n")

        assert names(client.list_queues(parent=PARENT)) == ["default"]
        client.create_queue(parent=PARENT, queue={"name": Q})
        client.create_task(parent=DEFAULT, task={"name": f"{DEFAULT}/tasks/a", **app_engine()})
        assert tasks_app.next().task == "a"


def test_reset_deletes_tasks_but_not_the_queues_of_queue_yaml(start_emulator, queue_yaml, tmp_path):
    queue_yaml.write_text("queue: [{name: q, rate: 5/s}]")
    settings = {"queue_yaml": queue_yaml, "data_dir": tmp_path / "data"}
    emulator = start_emulator(**settings)
    with connected(emulator.host) as client:
        client.pause_queue(name=Q)
        client.create_task(parent=Q, task=app_engine())
        urllib.request.urlopen(f"http://{emulator.host}/reset", data=b"").close()
        assert names(client.list_queues(parent=PARENT)) == ["default", "q"]
        assert not list(client.list_tasks(parent=Q))
    emulator.stop()
    with connected(start_emulator(**settings).host) as client:
        assert not list(client.list_tasks(parent=Q))


def test_the_client_for_python_works_over_rest(emulator, tasks_app):
    with connected_by_rest(emulator.host) as client:
        queue = client.create_queue(parent=PARENT, queue={"name": Q, "retry_config": {"max_attempts": 3}})
        assert client.get_queue(name=Q) == queue
        client.pause_queue(name=Q)
        task = client.create_task(parent=Q, task=app_engine(http_method="PUT", body=b"\xff"))
        assert names(client.list_tasks(parent=Q)) == names([task])
        client.run_task(name=task.name)
        request = tasks_app.next()
        assert (request.method, request.body) == ("PUT", b"\xff")
        with pytest.raises(exceptions.NotFound, match="Queue does not exist"):
            client.get_queue(name=f"{Q}2")


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("/google.cloud.tasks.v2beta3.CloudTasks/GetQueue", "does not serve GetQueue of google.cloud.tasks.v2beta3"),
        ("/google.cloud.tasks.v2.CloudTasks/GetIamPolicy", "does not serve GetIamPolicy of google.cloud.tasks.v2"),
        ("/google.cloud.location.Locations/ListLocations", "does not serve ListLocations of google.cloud.location"),
    ],
)
def test_a_call_that_is_not_served_gets_a_sentence(emulator, method, says):
    with grpc.insecure_channel(emulator.host) as channel, pytest.raises(grpc.RpcError, match=says) as refusal:
        channel.unary_unary(method)(b"", timeout=20)
    assert refusal.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_connection_that_is_open_does_not_keep_it_from_ending(start_emulator):
    emulator = start_emulator()
    host, _, port = emulator.host.partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        emulator.stop()
        assert connection.recv(1) == b""


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="needs gcloud")
def test_gcloud_lists_queues_and_creates_tasks(emulator: Emulator, tmp_path: Path) -> None:
    env = {
        **os.environ,
        "CLOUDSDK_CONFIG": str(tmp_path),
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDTASKS": f"http://{emulator.host}/",
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CORE_PROJECT": PARENT.split("/")[1],
    }

    def gcloud(*words: str) -> str:
        command = ["gcloud", "tasks", *words, "--location", PARENT.split("/")[3], "--quiet"]
        ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    assert "default" in gcloud("queues", "list")
    gcloud("queues", "pause", "default")
    gcloud("create-app-engine-task", "--queue", "default", "--relative-uri", "/work", "a")
    assert "a" in gcloud("list", "--queue", "default", "--format", "value(name)").split()
