"""The progress stores that have a server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TypeVar

import pytest

from gaetk_longtask import ProgressStore
from gaetk_longtask.progress.appengine import AppEngineProgressStore
from gaetk_longtask.progress.memcache import MemcacheProgressStore
from gaetk_longtask.progress.redis import RedisProgressStore
from tests.api_server import in_a_request

#: "About a second", with some tolerance for busy machines.
PROMPTLY_SECONDS = 2.5

T = TypeVar("T")


class Served(Enum):
    """The stores that have a server. The value is the fixture for the server's ``host:port``."""

    MEMCACHE = "memcached_host"
    REDIS = "redis_host"
    BUNDLED = "api_host"


@contextmanager
def store_at(kind: Served, host: str) -> Iterator[ProgressStore]:
    """Yield a store, and close its connections after the test."""
    match kind:
        case Served.MEMCACHE:
            memcache = MemcacheProgressStore([host])
            try:
                yield memcache
            finally:
                for client in memcache._client.clients.values():
                    client.close()
        case Served.REDIS:
            redis = RedisProgressStore(f"redis://{host}")
            try:
                yield redis
            finally:
                redis._client.close()
        case Served.BUNDLED:
            with in_a_request(host):
                yield AppEngineProgressStore().for_reporter()  # tests use it in several threads


def promptly(call: Callable[[], T]) -> T:
    """Return the result of a call. Fail if it takes longer than the contract allows."""
    given: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            given.append(call())
        except BaseException as exc:  # noqa: BLE001  # raised again in the test's own thread
            raised.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PROMPTLY_SECONDS)
    if thread.is_alive():
        pytest.fail(f"no answer within {PROMPTLY_SECONDS} seconds")
    if raised:
        raise raised[0]
    return given[0]
