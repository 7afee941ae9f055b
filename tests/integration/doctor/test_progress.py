"""The doctor finds progress stores that do not keep, replace or protect what is written."""

from __future__ import annotations

import secrets
import socketserver
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from flask import Flask

from gaetk_longtask import LongTaskManager
from gaetk_longtask.operators.doctor import Finding, Outcome, examine
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.progress.stores import Written
from gaetk_longtask.testing import InMemoryProgressStore
from tests.integration.doctor.planting import LOCATION, make
from tests.support import services_of

ALL = "+get +mget +set +eval"


@pytest.fixture
def progress_of(environment: None, directory: Path) -> Callable[[Flask], Finding]:
    """A function that returns the finding about an application's progress store."""

    def look(app: Flask) -> Finding:
        found = next(finding for finding in examine(app, directory=directory) if finding.check == "progress")
        if client := getattr(services_of(app).progress, "_client", None):
            client.close()
        return found

    return look


# Redis.


@contextmanager
def user(redis_host: str, *rules: str) -> Iterator[str]:
    """Create a Redis user with these rights, and yield its URL."""
    host, _, port = redis_host.partition(":")
    client, name = redis.Redis(host, int(port)), f"user-{secrets.token_hex(4)}"
    client.execute_command("ACL", "SETUSER", name, "on", ">secret", "resetkeys", "~longtask_status_*", *rules)
    yield f"redis://{name}:secret@{redis_host}"
    client.execute_command("ACL", "DELUSER", name)
    client.close()


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ("+@all -eval", "not replaced"),
        ("+@all -@scripting", "not replaced"),
        ("+get +mget +set", "not replaced"),
        ("+@all -mget", "several tasks"),
        ("+@all -get", "can't be read"),
        ("+@all -set", "can't be read"),
        ("-@all", "can't be read"),
        ("+@all resetkeys ~other_*", "can't be read"),
    ],
)
def test_a_redis_user_without_a_right_that_we_need(
    progress_of: Callable[[Flask], Finding], redis_host: str, rules: str, text: str
) -> None:
    with user(redis_host, *rules.split()) as url:
        found = progress_of(make(LONGTASK_PROGRESS_URL=url))
    assert found.outcome is Outcome.PROBLEM
    assert text in found.text
    assert "GET, MGET, SET and EVAL" in found.remedy
    assert "secret" not in found.text + found.remedy


def test_the_rights_that_the_remedy_names_are_enough(progress_of: Callable[[Flask], Finding], redis_host: str) -> None:
    with user(redis_host, *ALL.split()) as url:
        found = progress_of(make(LONGTASK_PROGRESS_URL=url))
    assert found.outcome is Outcome.OK, found.text


# memcached.


class Refusing(socketserver.ThreadingTCPServer):
    """A memcached that keeps values, but does not know some commands."""

    daemon_threads = True

    def __init__(self, *refused: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.refused = refused
        self.values: dict[bytes, bytes] = {}
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def answer(self, command: bytes, words: list[bytes], data: bytes) -> bytes:
        if command in self.refused:
            return b"ERROR\r\n"
        match command:
            case b"get" | b"gets":
                version = b" 1" if command == b"gets" else b""
                found = [(key, self.values[key]) for key in words if key in self.values]
                parts = [b"VALUE %s 0 %d%s\r\n%s\r\n" % (key, len(value), version, value) for key, value in found]
                return b"".join(parts) + b"END\r\n"
            case b"add" if words[0] in self.values:
                return b"NOT_STORED\r\n"
            case _:
                self.values[words[0]] = data
                return b"STORED\r\n"


class _Session(socketserver.StreamRequestHandler):
    server: Refusing

    def handle(self) -> None:
        while line := self.rfile.readline():
            command, *words = line.split()
            data = self.rfile.read(int(words[3]) + 2)[:-2] if command in (b"add", b"set", b"cas") else b""
            self.wfile.write(self.server.answer(command, words, data))


@pytest.mark.parametrize(
    ("refused", "text"),
    [
        ((b"cas",), "not replaced"),
        ((b"gets",), "can't be read"),
        ((b"gets", b"cas"), "can't be read"),
        ((b"add",), "can't be read"),
        ((b"get",), "can't be read"),
    ],
)
def test_a_memcached_without_a_command_that_we_need(
    progress_of: Callable[[Flask], Finding], monkeypatch: pytest.MonkeyPatch, refused: tuple[bytes, ...], text: str
) -> None:
    with Refusing(*refused) as server:
        monkeypatch.setenv("MEMCACHED_HOSTS", f"127.0.0.1:{server.server_address[1]}")
        found = progress_of(make())
        server.shutdown()
    assert found.outcome is Outcome.PROBLEM
    assert text in found.text
    assert "gets, add and cas" in found.remedy


def test_a_memcached_that_knows_the_commands_is_fine(
    progress_of: Callable[[Flask], Finding], monkeypatch: pytest.MonkeyPatch, memcached_host: str
) -> None:
    monkeypatch.setenv("MEMCACHED_HOSTS", memcached_host)
    assert progress_of(make()).outcome is Outcome.OK


# A store of the application's own.


class KeepsTheFirst(InMemoryProgressStore):
    def write(self, snapshot: Snapshot) -> Written:
        self.add(snapshot, seconds=1)
        return Written.YES


class KeepsTheLast(InMemoryProgressStore):
    def write(self, snapshot: Snapshot) -> Written:
        self.stored[snapshot.info.id] = snapshot.to_json()
        return Written.YES


class Raises(InMemoryProgressStore):
    def write(self, snapshot: Snapshot) -> Written:
        raise LookupError


class ReadsOneAlone(InMemoryProgressStore):
    def read_many(self, task_ids: Sequence[str]) -> dict[str, Snapshot]:
        return {}


@pytest.mark.parametrize(
    ("store", "text"),
    [
        (KeepsTheFirst, "not replaced by later progress"),
        (KeepsTheLast, "Older progress replaces later progress"),
        (Raises, "can't be read"),
        (ReadsOneAlone, "several tasks"),
    ],
)
def test_a_store_of_the_applications_own(
    progress_of: Callable[[Flask], Finding], store: type[InMemoryProgressStore], text: str
) -> None:
    app = Flask("tests")
    app.config.update(LONGTASK_LOCATION=LOCATION)
    LongTaskManager(app, progress=store())
    found = progress_of(app)
    assert found.outcome is Outcome.PROBLEM
    assert text in found.text
    assert store.__name__ in found.text
    assert "ProgressStore" in found.remedy
