"""Progress stores ask their servers rarely, keep nothing for ever, and recover from faults of their servers."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis

from gaetk_longtask import ProgressStore
from gaetk_longtask.dev.pieces import Piece, start_memcached, start_redis
from gaetk_longtask.progress.stores import KEPT_SECONDS, Written, memcache_key
from tests.contracts.conftest import News
from tests.contracts.stores import Served, promptly, store_at
from tests.freezing import freeze, thaw
from tests.relay import FAULTS, NONSENSE, Fault, Relay, relay_to

#: After one failure, memcached is not asked for one second; after two failures, for five seconds.
RECOVERY_SECONDS = 15


@pytest.fixture(params=list(Served), ids=lambda kind: kind.name.lower())
def kind(request: pytest.FixtureRequest) -> Served:
    assert isinstance(request.param, Served)
    return request.param


@pytest.fixture
def relay(request: pytest.FixtureRequest, kind: Served) -> Iterator[Relay]:
    with relay_to(request.getfixturevalue(kind.value)) as relay:
        yield relay


@pytest.fixture
def store(kind: Served, relay: Relay) -> Iterator[ProgressStore]:
    with store_at(kind, relay.host) as store:
        yield store


def is_kept_in_the_end(store: ProgressStore, news: News) -> bool:
    deadline = time.monotonic() + RECOVERY_SECONDS
    while promptly(lambda: store.write(news("all is well"))) is not Written.YES:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return store.read(news().info.id) == news("all is well")


# The number of requests to a server.


def test_a_poll_takes_one_round_trip(store: ProgressStore, relay: Relay, news: News, task_id: str) -> None:
    store.write(news("Reading"))
    before = relay.round_trips
    assert store.read(task_id) == news("Reading")
    assert relay.round_trips - before == 1


def test_every_beat_takes_two_round_trips(store: ProgressStore, relay: Relay, news: News) -> None:
    store.read("a connection is there")
    for message in ("Reading", "Writing"):
        before = relay.round_trips
        store.write(news(message))
        assert relay.round_trips - before == 2


def test_adding_takes_one_round_trip(store: ProgressStore, relay: Relay, news: News) -> None:
    store.read("a connection is there")
    before = relay.round_trips
    store.add(news("Reading"), seconds=60)
    assert relay.round_trips - before == 1


# The time for which a value is kept.


def test_an_added_snapshot_expires(store: ProgressStore, news: News, task_id: str) -> None:
    store.add(news("Reading"), seconds=1)
    assert store.read(task_id) == news("Reading")
    deadline = time.monotonic() + 5
    while store.read(task_id) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("kind", [Served.REDIS], indirect=True, ids=lambda kind: kind.name.lower())
def test_redis_keeps_a_snapshot_as_long_as_memcached_does(
    store: ProgressStore, redis_host: str, news: News, task_id: str
) -> None:
    with redis.Redis.from_url(f"redis://{redis_host}") as client:
        for message in ("the first", "the next"):
            store.write(news(message))
            assert KEPT_SECONDS - 60 < client.ttl(memcache_key(task_id)) <= KEPT_SECONDS
            client.expire(memcache_key(task_id), 10)


# Faults.


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_delays_no_call_and_raises_nothing(
    store: ProgressStore, relay: Relay, news: News, task_id: str, fault: Fault
) -> None:
    store.write(news("Reading"))
    relay.break_down(fault)
    assert promptly(lambda: store.read(task_id)) is None
    assert promptly(lambda: store.write(news("Writing"))) is Written.LOST
    promptly(lambda: store.add(news("Writing"), seconds=60))


@pytest.mark.parametrize("fault", [*FAULTS[:2], NONSENSE[0], NONSENSE[-1]], ids=lambda fault: fault.name)
def test_after_a_fault_snapshots_are_kept_again(
    store: ProgressStore, relay: Relay, news: News, task_id: str, fault: Fault
) -> None:
    store.write(news("Reading"))
    relay.break_down(fault)
    store.read(task_id)
    relay.recover()
    assert is_kept_in_the_end(store, news)


@pytest.fixture
def server(kind: Served, request: pytest.FixtureRequest) -> Iterator[Piece]:
    """A server that no other test uses."""
    request.getfixturevalue(kind.value)  # skips the test if the program is missing
    with start_redis() if kind is Served.REDIS else start_memcached() as piece:
        yield piece
        assert piece.process is not None
        thaw(piece.process.pid)


@pytest.mark.parametrize("kind", [Served.MEMCACHE, Served.REDIS], indirect=True, ids=lambda kind: kind.name.lower())
def test_a_frozen_server_delays_no_call_and_is_used_again_afterwards(
    kind: Served, server: Piece, news: News, task_id: str
) -> None:
    assert server.process is not None
    with store_at(kind, server.host) as store:
        store.write(news("Reading"))
        freeze(server.process.pid)
        assert promptly(lambda: store.read(task_id)) is None
        assert promptly(lambda: store.write(news("Writing"))) is Written.LOST
        thaw(server.process.pid)
        assert is_kept_in_the_end(store, news)
