"""Keeps the latest snapshot of a task in memcached."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from hashlib import blake2b
from typing import Any

import pymemcache
from pymemcache.client.rendezvous import RendezvousHash
from pymemcache.exceptions import MemcacheError

from gaetk_longtask.progress.stores import KEPT_SECONDS, PATIENCE_SECONDS, KeyValueStore


def _hash(text: str, seed: int) -> int:
    """Return a hash. pymemcache's own hash is written in Python and costs a tenth of a poll."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) ^ seed


class MemcacheProgressStore(KeyValueStore):
    """Stores snapshots in memcached, through pymemcache."""

    # RuntimeError: the pool is exhausted, or another thread has just removed a dead server from the ring.
    _ERRORS = (OSError, MemcacheError, RuntimeError, ValueError, IndexError, KeyError)

    def __init__(self, servers: Sequence[str], *, timeout_seconds: float = PATIENCE_SECONDS) -> None:
        """Create a client for the ``host:port`` addresses. It connects on first use; the timeout is for each call."""
        self._client: Any = pymemcache.HashClient(
            list(servers),
            connect_timeout=timeout_seconds,
            timeout=timeout_seconds,
            hasher=partial(RendezvousHash, hash_function=_hash),
            use_pooling=True,
            max_pool_size=32,
            no_delay=True,
            # A failed server is retried once after a second, then skipped for five seconds.
            retry_attempts=1,
            retry_timeout=1,
            dead_timeout=5,
        )

    def _get(self, key: str) -> bytes | None:
        return self._client.get(key)  # type: ignore[no-any-return]  # pymemcache is untyped

    def _get_many(self, keys: list[str]) -> dict[str, bytes]:
        return self._client.get_many(keys)  # type: ignore[no-any-return]  # the same

    def _load(self, key: str) -> tuple[bytes | None, Any]:
        return self._client.gets(key) or (None, None)  # None instead of a pair if the server is skipped

    def _add(self, key: str, data: bytes, seconds: int) -> bool:
        return bool(self._client.add(key, data, expire=seconds, noreply=False))

    def _replace(self, key: str, data: bytes, version: Any) -> bool:
        return bool(self._client.cas(key, data, version, expire=KEPT_SECONDS, noreply=False))
