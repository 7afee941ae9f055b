"""Keeps the latest snapshot of a task in memcached."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from hashlib import blake2b
from typing import Any

import pymemcache
from pymemcache.client.rendezvous import RendezvousHash
from pymemcache.exceptions import MemcacheError

from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.progress.stores import (
    KEPT_SECONDS,
    PATIENCE_SECONDS,
    ProgressStore,
    Written,
    compare_and_set,
    memcache_key,
    readable,
)


def _hash(text: str, seed: int) -> int:
    """Return a hash. pymemcache's own hash is written in Python and costs a tenth of a poll."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) ^ seed


class MemcacheProgressStore(ProgressStore):
    """Stores snapshots in memcached, through pymemcache."""

    interval_seconds = 0.5

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

    def read(self, task_id: str) -> Snapshot | None:
        """Return the latest snapshot; one memcache get."""
        try:
            return Snapshot.from_json(self._client.get(memcache_key(task_id)), task_id)
        except self._ERRORS:
            return None

    def read_many(self, task_ids: Sequence[str]) -> dict[str, Snapshot]:
        """Return the latest snapshots; one memcache get for each server."""
        keys = {memcache_key(task_id): task_id for task_id in task_ids}
        try:
            found = self._client.get_many(list(keys))
        except self._ERRORS:
            return {}
        return readable((keys[key], data) for key, data in found.items())

    def write(self, snapshot: Snapshot) -> Written:
        """Store the snapshot; two round trips, more only with concurrent writes."""
        key = memcache_key(snapshot.info.id)
        try:
            return compare_and_set(
                snapshot,
                # For a skipped server, gets returns None instead of a pair.
                load=lambda: self._client.gets(key) or (None, None),
                add=lambda data: self._client.add(key, data, expire=KEPT_SECONDS, noreply=False),
                replace=lambda data, cas: self._client.cas(key, data, cas, expire=KEPT_SECONDS, noreply=False),
            )
        except self._ERRORS:
            return Written.LOST

    def add(self, snapshot: Snapshot, *, seconds: int) -> None:
        """Store the snapshot if none exists; one round trip."""
        with contextlib.suppress(*self._ERRORS):
            self._client.add(memcache_key(snapshot.info.id), snapshot.to_json(), expire=seconds, noreply=False)
