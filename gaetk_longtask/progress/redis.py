"""Keeps the latest snapshot of a task in Redis or Valkey."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gaetk_longtask.exceptions import ConfigurationError
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

# Redis has no compare-and-set of its own. WATCH would do with one round trip more on a connection kept for it, and
# proxies refuse it; a script is one call. What is later than what is Python's business: this compares bytes.
_REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""


class RedisProgressStore(ProgressStore):
    """Snapshots in Redis or Valkey, through redis-py; one server, not a cluster."""

    interval_seconds = 0.5

    # What else than its own errors the client raises where a server talks nonsense.
    _ERRORS = (redis.RedisError, OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError)

    def __init__(self, url: str) -> None:
        """Use the server at a URL as ``redis.Redis.from_url`` takes it; options in its query win over ours.

        Raises:
            ConfigurationError: the URL, or one of its options, is impossible.

        """
        if reason := _objection(url):
            raise _impossible(reason)
        try:
            self._client: Any = redis.Redis.from_url(
                url,
                socket_connect_timeout=PATIENCE_SECONDS,
                socket_timeout=PATIENCE_SECONDS,
                # A connection that the server has closed in the meantime is opened again, once.
                retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)),
                # Enough for what is said here, known to every server, and spoken without a handshake.
                protocol=2,
            )
            pool = self._client.connection_pool
            pool.connection_class(**pool.connection_kwargs)  # so that unknown options are found now; connects nowhere
        except (ValueError, TypeError, redis.RedisError) as exc:
            raise _impossible(str(exc).rstrip(".")) from exc

    def read(self, task_id: str) -> Snapshot | None:
        """Return the latest snapshot; one GET."""
        try:
            return Snapshot.from_json(self._client.get(memcache_key(task_id)), task_id)
        except self._ERRORS:
            return None

    def read_many(self, task_ids: Sequence[str]) -> dict[str, Snapshot]:
        """Return the latest snapshots; one MGET."""
        try:
            found = self._client.mget([memcache_key(task_id) for task_id in task_ids])
            return readable(zip(task_ids, found, strict=True))
        except self._ERRORS:
            return {}

    def write(self, snapshot: Snapshot) -> Written:
        """Keep it; two round trips, more only if others write at the same moment."""
        key = memcache_key(snapshot.info.id)

        def load() -> tuple[bytes | None, bytes | None]:
            stored = self._client.get(key)
            return stored, stored

        try:
            return compare_and_set(
                snapshot,
                load=load,
                add=lambda data: bool(self._client.set(key, data, ex=KEPT_SECONDS, nx=True)),
                replace=lambda data, stored: self._client.eval(_REPLACE, 1, key, stored, data, KEPT_SECONDS) == 1,
            )
        except self._ERRORS:
            return Written.LOST

    def add(self, snapshot: Snapshot, *, seconds: int) -> None:
        """Keep it where there is no snapshot; one round trip."""
        with contextlib.suppress(*self._ERRORS):
            self._client.set(memcache_key(snapshot.info.id), snapshot.to_json(), ex=seconds, nx=True)


def _objection(url: str) -> str | None:
    """Return what redis-py would ignore, or report together with a part of the password."""
    try:
        parts = urlsplit(url)
        port_is_possible = parts.port != 0
    except ValueError:
        port_is_possible = False
    if not port_is_possible:
        return "the port is impossible, or a special character of the password is not percent-encoded"
    if parts.scheme == "unix":
        return None if parts.path else "there is no path"
    if not parts.hostname:
        return "there is no host"
    return None if re.fullmatch(r"/?\d*", parts.path) else "the path is no database's number"


def _impossible(reason: str) -> ConfigurationError:
    message = (
        "LONGTASK_PROGRESS_URL is redis://[[user]:password@]host[:port][/database], or rediss:// for TLS, or "
        f"unix:///path/to/socket, with options as redis.Redis.from_url takes them; in yours, {reason}."
    )
    return ConfigurationError(message, key="LONGTASK_PROGRESS_URL")
