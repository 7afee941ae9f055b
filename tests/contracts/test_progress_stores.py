"""The contract of all progress stores: the latest value wins, losing a value is allowed, raising is not."""

from __future__ import annotations

import contextlib
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pymemcache
import pytest
import redis
from google.appengine.api import memcache as bundled_memcache
from google.cloud import ndb

from gaetk_longtask import ProgressStore, Status
from gaetk_longtask.contexts import NdbContexts
from gaetk_longtask.models import LongTaskProgress
from gaetk_longtask.progress.datastore import DatastoreProgressStore
from gaetk_longtask.progress.stores import Written, memcache_key
from gaetk_longtask.testing import InMemoryProgressStore
from tests.contracts.conftest import News
from tests.contracts.stores import Served, promptly, store_at

STORES = ["in memory", "memcache", "memcache in Python", "Redis", "bundled memcache", "Datastore"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A store, and a way to write to its server directly."""

    store: ProgressStore
    put: Callable[[str, bytes], None]  #: stores bytes in the place of a task's snapshot


@pytest.fixture(params=STORES)
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    match request.param:
        case "in memory":
            memory = InMemoryProgressStore()
            yield Kept(store=memory, put=memory.stored.__setitem__)
        case "memcache" | "memcache in Python":
            fixture = "memcached_host" if request.param == "memcache" else "longtask_memcached_host"
            host = request.getfixturevalue(fixture)

            def put_in_memcache(task_id: str, data: bytes) -> None:
                client = pymemcache.Client(host)
                client.set(memcache_key(task_id), data, noreply=False)
                client.close()

            with store_at(Served.MEMCACHE, host) as store:
                yield Kept(store=store, put=put_in_memcache)
        case "Redis":
            host = request.getfixturevalue("redis_host")

            def put_in_redis(task_id: str, data: bytes) -> None:
                with redis.Redis.from_url(f"redis://{host}") as client:
                    client.set(memcache_key(task_id), data)

            with store_at(Served.REDIS, host) as store:
                yield Kept(store=store, put=put_in_redis)
        case "bundled memcache":

            def put_in_bundled_memcache(task_id: str, data: bytes) -> None:
                assert bundled_memcache.set(memcache_key(task_id), data)

            with store_at(Served.BUNDLED, request.getfixturevalue("api_host")) as store:
                yield Kept(store=store, put=put_in_bundled_memcache)
        case "Datastore":
            monkeypatch.setenv("DATASTORE_EMULATOR_HOST", request.getfixturevalue("datastore_piece").host)
            contexts = ndb_contexts()

            def put_in_datastore(task_id: str, data: bytes) -> None:
                with contexts():
                    LongTaskProgress(key=LongTaskProgress.key_of(task_id), snapshot=data).put()

            yield Kept(store=DatastoreProgressStore(contexts), put=put_in_datastore)


def ndb_contexts() -> NdbContexts:
    project = f"test-{secrets.token_hex(6)}"
    return NdbContexts(ndb.Client(project=project), lambda: project)


@pytest.fixture
def store(kept: Kept) -> ProgressStore:
    return kept.store


# Reading and writing.


def test_what_was_written_is_read(store: ProgressStore, task_id: str, news: News) -> None:
    assert store.write(news("Reading – ☕")) is Written.YES
    assert store.read(task_id) == news("Reading – ☕")


def test_what_was_never_written_is_unknown(store: ProgressStore, task_id: str) -> None:
    assert store.read(task_id) is None


def test_tasks_are_kept_apart(store: ProgressStore, news: News) -> None:
    store.write(news("Reading"))
    assert store.read(secrets.token_urlsafe(16)) is None


def test_many_are_read_at_once_without_the_unknown_ones(kept: Kept, task_id: str, news: News) -> None:
    another = replace(news("Writing"), info=replace(news().info, id=secrets.token_urlsafe(16)))
    unknown, damaged = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
    kept.store.write(news("Reading"))
    kept.store.write(another)
    kept.put(damaged, b"nonsense")
    found = kept.store.read_many([task_id, unknown, damaged, another.info.id])
    assert found == {task_id: news("Reading"), another.info.id: another}
    assert kept.store.read_many([]) == {}


def test_a_store_sets_the_interval_of_reports(store: ProgressStore) -> None:
    assert 0 < store.interval_seconds <= 10


# Order.


def test_the_next_beat_of_the_same_attempt_overwrites_the_last(store: ProgressStore, task_id: str, news: News) -> None:
    store.write(news("Reading"))
    assert store.write(news("Writing")) is Written.YES
    assert store.read(task_id) == news("Writing")


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({"fence": 1}, {"fence": 2}),
        ({"fence": 1, "status": Status.DONE}, {"fence": 2, "status": Status.READY}),
        ({"status": Status.STARTED}, {"status": Status.ERROR}),
        ({"status": Status.STARTED}, {"status": Status.DONE}),
        ({"status": Status.DONE}, {"status": Status.FINISHED}),
    ],
    ids=["next attempt", "retry", "error", "end", "shown"],
)
class TestOrder:
    def test_a_later_snapshot_overwrites_an_earlier_one(
        self, store: ProgressStore, task_id: str, news: News, earlier: dict[str, Any], later: dict[str, Any]
    ) -> None:
        store.write(news("earlier", **earlier))
        assert store.write(news("later", **later)) is Written.YES
        assert store.read(task_id) == news("later", **later)

    def test_an_earlier_snapshot_never_overwrites_a_later_one(
        self, store: ProgressStore, task_id: str, news: News, earlier: dict[str, Any], later: dict[str, Any]
    ) -> None:
        store.write(news("later", **later))
        assert store.write(news("earlier", **earlier)) is Written.OUTDATED
        assert store.read(task_id) == news("later", **later)


# Adding.


@pytest.mark.parametrize("fence", [1, 2, 3])
def test_adding_overwrites_nothing_not_even_an_earlier_snapshot(
    store: ProgressStore, task_id: str, news: News, fence: int
) -> None:
    store.write(news("written", fence=2))
    store.add(news("added", fence=fence), seconds=60)
    assert store.read(task_id) == news("written", fence=2)


def test_an_added_snapshot_is_read_or_lost_if_there_was_none(store: ProgressStore, task_id: str, news: News) -> None:
    store.add(news("added"), seconds=60)
    assert store.read(task_id) in (news("added"), None)


@pytest.mark.parametrize("kept", STORES[:-1], indirect=True)
def test_a_store_that_is_cheaper_than_reading_the_task_keeps_added_snapshots(
    store: ProgressStore, task_id: str, news: News
) -> None:
    store.add(news("added"), seconds=60)
    assert store.read(task_id) == news("added")


def test_an_added_snapshot_can_be_overwritten(store: ProgressStore, task_id: str, news: News) -> None:
    store.add(news("added"), seconds=60)
    assert store.write(news("written")) is Written.YES
    assert store.read(task_id) == news("written")


# Damage.


@pytest.mark.parametrize(
    "data",
    [b"", b"nonsense", b"[1, 2]", b'{"a": 1}', b"\xff\xfe", b"[" * 100_000],
    ids=["empty", "nonsense", "list", "object", "no text", "deep"],
)
class TestDamage:
    def test_unreadable_bytes_count_as_unknown(self, kept: Kept, task_id: str, data: bytes) -> None:
        kept.put(task_id, data)
        assert kept.store.read(task_id) is None

    def test_unreadable_bytes_are_overwritten(self, kept: Kept, task_id: str, news: News, data: bytes) -> None:
        kept.put(task_id, data)
        assert kept.store.write(news("written")) is Written.YES
        assert kept.store.read(task_id) == news("written")


def test_a_snapshot_of_another_task_counts_as_unknown(kept: Kept, task_id: str, news: News) -> None:
    other = replace(news("Reading").info, id="A" * 22)
    kept.put(task_id, replace(news("Reading"), info=other).to_json())
    assert kept.store.read(task_id) is None


def test_a_snapshot_that_is_too_large_is_kept_or_lost(store: ProgressStore, task_id: str, news: News) -> None:
    huge = news("x" * 3_000_000)
    written = store.write(huge)
    assert (written, store.read(task_id)) in [(Written.YES, huge), (Written.LOST, None)]


def test_after_a_snapshot_that_was_too_large_the_next_one_is_kept(
    store: ProgressStore, task_id: str, news: News
) -> None:
    store.write(news("x" * 3_000_000))
    assert store.write(news("Reading")) is Written.YES
    assert store.read(task_id) == news("Reading")


# Many at once.


def test_the_latest_of_concurrent_writers_wins(store: ProgressStore, task_id: str, news: News) -> None:
    writers = 8
    together = threading.Barrier(writers)

    def report(fence: int) -> Written:
        """Write until the snapshot is stored, or a later one is."""
        together.wait(10)
        for _ in range(50):
            written = store.write(news(f"attempt {fence}", fence=fence))
            if written is not Written.LOST:
                return written
            time.sleep(random.uniform(0, 0.05))
        return Written.LOST

    with ThreadPoolExecutor(writers) as pool:
        outcomes = list(pool.map(report, range(1, writers + 1)))
    assert outcomes[-1] is Written.YES
    assert Written.LOST not in outcomes
    assert store.read(task_id) == news(f"attempt {writers}", fence=writers)


def test_concurrent_readers_read_the_same(store: ProgressStore, task_id: str, news: News) -> None:
    store.write(news("Reading"))
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(store.read, [task_id] * 64))
    assert found == [news("Reading")] * 64


# The service is gone, or does not answer.


@pytest.fixture
def silent_host() -> Iterator[str]:
    """A service that accepts connections and never sends anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed_host() -> str:
    """A port on which no service listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def nonsense_host() -> Iterator[str]:
    """A service that answers every request in another protocol."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as server:

        def talk() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connection.sendall(b"220 mail.example.com\r\n" * 50)
                    connection.close()

        threading.Thread(target=talk, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


STATES = {"gone": "closed_host", "silent": "silent_host", "nonsense": "nonsense_host"}
DESERTED = ["in memory", *(f"{name}, {state}" for name in STORES[1:] if "Python" not in name for state in STATES)]
#: ndb allows a minute for a transaction, and this can't be changed. But no request waits for these writes.
PROMPTLY_LOST = [each for each in DESERTED if each != "Datastore, silent"]


@pytest.fixture(params=DESERTED)
def deserted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProgressStore]:
    """A store whose service does not answer, or answers nonsense."""
    if request.param == "in memory":
        memory = InMemoryProgressStore()
        memory.is_down = True
        yield memory
        return
    name, state = request.param.split(", ")
    host = request.getfixturevalue(STATES[state])
    match name:
        case "memcache":
            with store_at(Served.MEMCACHE, host) as store:
                yield store
        case "Redis":
            with store_at(Served.REDIS, host) as store:
                yield store
        case "bundled memcache":
            with store_at(Served.BUNDLED, host) as store:
                yield store
        case "Datastore":
            monkeypatch.setenv("DATASTORE_EMULATOR_HOST", host)
            yield DatastoreProgressStore(ndb_contexts())


def test_without_its_service_a_store_knows_no_task_however_often_it_is_read(
    deserted: ProgressStore, task_id: str
) -> None:
    for _ in range(3):
        assert promptly(lambda: deserted.read(task_id)) is None


def test_without_its_service_a_store_knows_none_of_many_tasks(deserted: ProgressStore, task_id: str) -> None:
    assert promptly(lambda: deserted.read_many([task_id, secrets.token_urlsafe(16)])) == {}


@pytest.mark.parametrize("deserted", PROMPTLY_LOST, indirect=True)
def test_without_its_service_every_write_is_lost(deserted: ProgressStore, news: News) -> None:
    for _ in range(3):
        assert promptly(lambda: deserted.write(news("Reading"))) is Written.LOST


def test_without_its_service_adding_raises_nothing(deserted: ProgressStore, news: News) -> None:
    for _ in range(3):
        promptly(lambda: deserted.add(news("Reading"), seconds=60))


@pytest.mark.parametrize("deserted", PROMPTLY_LOST, indirect=True)
def test_without_its_service_many_concurrent_calls_return_promptly(
    deserted: ProgressStore, task_id: str, news: News
) -> None:
    def crowd() -> set[object]:
        with ThreadPoolExecutor(40) as pool:
            reads = [pool.submit(deserted.read, task_id) for _ in range(20)]
            writes = [pool.submit(deserted.write, news("Reading")) for _ in range(20)]
            return {future.result() for future in reads + writes}

    assert promptly(crowd) == {None, Written.LOST}
