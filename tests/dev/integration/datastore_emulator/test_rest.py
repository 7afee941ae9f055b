"""The embedded Datastore's port also speaks HTTP/1.1. The checklist has the calls; here is the rest."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from typing import Any

import pytest

from gaetk_longtask.dev.pieces import Piece
from tests.dev.datastore_client import DatastoreClient, entity, key
from tests.peers.datastore_clients import post

JSON = "application/json"


def error_of(raw: DatastoreClient, method: str, body: bytes) -> tuple[int, dict[str, Any]]:
    status, answer = post(raw, f"/v1/projects/demo:{method}", body, JSON)
    return status, json.loads(answer)["error"]


def test_json_that_is_none_is_refused(raw: DatastoreClient) -> None:
    for body in (b"{bad", b"[1]", b'{"nosuch": 1}', b"\xff", b'{"keys": 5}'):
        status, error = error_of(raw, "lookup", body)
        assert (status, error["status"]) == (400, "INVALID_ARGUMENT")
        assert error["message"].startswith("Payload isn't valid for request.")


def test_protobuf_that_is_none_is_refused(raw: DatastoreClient) -> None:
    status, body = post(raw, "/v1/projects/demo:commit", b"\x08\x08\xff", "application/x-protobuf")
    assert status == 400
    assert b"Payload isn't valid" in body


def test_a_conflict_has_its_status(raw: DatastoreClient) -> None:
    raw.put(entity(key("A", 1)))
    insert = {"insert": {"key": {"path": [{"kind": "A", "id": "1"}]}}}
    body = json.dumps({"mode": "NON_TRANSACTIONAL", "mutations": [insert]}).encode()
    status, error = error_of(raw, "commit", body)
    assert (status, error["code"], error["status"]) == (409, 409, "ALREADY_EXISTS")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/health"), ("POST", "/v1/projects/demo:nosuch"), ("GET", "/v1/projects/demo:lookup"), ("POST", "/x")],
)
def test_other_paths_are_not_found_and_say_what_there_is(embedded: Piece, method: str, path: str) -> None:
    connection = http.client.HTTPConnection(embedded.host, timeout=20)
    connection.request(method, path)
    response = connection.getresponse()
    assert response.status == 404
    assert b"POST /v1/projects/PROJECT:METHOD" in response.read()
    connection.close()


def test_the_project_may_belong_to_a_domain(raw: DatastoreClient) -> None:
    raw = raw.beside(project="example.com:demo")
    raw.put(entity(key("A", 1), n=1))
    body = json.dumps({"keys": [{"path": [{"kind": "A", "id": "1"}]}]}).encode()
    status, answer = post(raw, "/v1/projects/example.com:demo:lookup", body, JSON)
    assert (status, len(json.loads(answer)["found"])) == (200, 1)


def test_a_connection_is_used_again(raw: DatastoreClient) -> None:
    connection = http.client.HTTPConnection(raw.host, timeout=20)
    for _ in range(3):
        connection.request("POST", "/v1/projects/demo:lookup", b"{}", {"Content-Type": JSON})
        response = connection.getresponse()
        assert response.status == 200
        response.read()
    connection.close()


def test_a_body_may_come_in_chunks(raw: DatastoreClient) -> None:
    body = json.dumps({"keys": [{"path": [{"kind": "A", "id": "1"}]}]}).encode()
    connection = http.client.HTTPConnection(raw.host, timeout=20)
    connection.request("POST", "/v1/projects/demo:lookup", iter([body[:10], body[10:]]), {"Content-Type": JSON})
    assert len(json.loads(connection.getresponse().read())["missing"]) == 1
    connection.close()


@pytest.mark.parametrize("length", ["-1", "x", "999999999999"])
def test_a_length_that_is_impossible_is_refused(raw: DatastoreClient, length: str) -> None:
    host, port = raw.host.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(f"POST /v1/projects/demo:lookup HTTP/1.1\r\nContent-Length: {length}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


def test_shutdown_ends_it_and_another_host_is_possible() -> None:
    command = [sys.executable, "-m", "gaetk_longtask.dev.datastore_emulator", "--port=0", "--host=0.0.0.0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        host = process.stdout.readline().split()[1]
        assert host.startswith("0.0.0.0:")
        connection = http.client.HTTPConnection("127.0.0.1", int(host.split(":")[1]), timeout=20)
        connection.request("POST", "/shutdown")
        assert connection.getresponse().status == 200
        connection.close()
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert errors.splitlines() == [
        "Warning: everyone who can reach this machine at 0.0.0.0 can read and change all data."
    ]
