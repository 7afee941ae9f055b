"""Keeps the latest snapshot of a task in Redis or Valkey."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.progress.stores import KEPT_SECONDS, PATIENCE_SECONDS, KeyValueStore

# Redis has no compare-and-set. A script needs one call. WATCH needs another round trip and its own connection, and
# proxies refuse it. The script only compares bytes; Python decides which snapshot is later.
_REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""


class RedisProgressStore(KeyValueStore):
    """Stores snapshots in Redis or Valkey, through redis-py. Supports one server, not a cluster."""

    # The client's own errors, and what it raises for malformed responses.
    _ERRORS = (redis.RedisError, OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError)

    def __init__(self, url: str) -> None:
        """Use the server at a URL for ``redis.Redis.from_url``. Options in the URL's query override the library's."""
        if reason := _problem(url):
            raise _invalid(reason)
        try:
            self._client: Any = redis.Redis.from_url(
                url,
                socket_connect_timeout=PATIENCE_SECONDS,
                socket_timeout=PATIENCE_SECONDS,
                # Reconnect once if the server has closed the connection in the meantime.
                retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)),
                # RESP2 is enough here, works with every server, and needs no handshake.
                protocol=2,
            )
            pool = self._client.connection_pool
            pool.connection_class(**pool.connection_kwargs)  # finds unknown options now, without connecting
        except (ValueError, TypeError, redis.RedisError) as exc:
            raise _invalid(str(exc).rstrip(".")) from exc

    def _get_many(self, keys: list[str]) -> dict[str, bytes | None]:
        return dict(zip(keys, self._client.mget(keys), strict=True))

    def _load(self, key: str) -> tuple[bytes | None, bytes | None]:
        stored = self._client.get(key)
        return stored, stored

    def _add(self, key: str, data: bytes, seconds: int) -> bool:
        return bool(self._client.set(key, data, ex=seconds, nx=True))

    def _replace(self, key: str, data: bytes, version: bytes) -> bool:
        return bool(self._client.eval(_REPLACE, 1, key, version, data, KEPT_SECONDS) == 1)


def _problem(url: str) -> str | None:
    """Return what is wrong with the URL. redis-py would ignore it, or show a part of the password in its error."""
    try:
        parts = urlsplit(url)
        port_is_possible = parts.port != 0
    except ValueError:
        port_is_possible = False
    if not port_is_possible:
        return "the port is invalid, or a special character in the password is not percent-encoded"
    if parts.scheme == "unix":
        return None if parts.path else "it has no path"
    if not parts.hostname:
        return "it has no host"
    return None if re.fullmatch(r"/?\d*", parts.path) else "the path is not a database number"


def _invalid(reason: str) -> ConfigurationError:
    message = (
        f"LONGTASK_PROGRESS_URL is invalid: {reason}. Use redis://[[user]:password@]host[:port][/database], rediss:// "
        "for TLS, or unix:///path/to/socket. Options are those of redis.Redis.from_url."
    )
    return ConfigurationError(message, key="LONGTASK_PROGRESS_URL")
