"""Creates the progress store for ``LONGTASK_PROGRESS_URL``."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.progress.datastore import DatastoreProgressStore
from gaetk_longtask.progress.memcache import MemcacheProgressStore
from gaetk_longtask.progress.stores import ProgressStore

_SERVERS = re.compile(r"//[^,:/\s]+(:\d{1,5})?(,[^,:/\s]+(:\d{1,5})?)*/?")
_KEY = "LONGTASK_PROGRESS_URL"


def progress_store_at(url: str, ndb_context: Callable[[], AbstractContextManager[Any]]) -> ProgressStore:
    """Return the store for a URL, without connecting. Raise `ConfigurationError` if that is impossible."""
    scheme, _, rest = url.partition(":")
    try:
        match scheme:
            case "memcached" if _SERVERS.fullmatch(rest):
                return MemcacheProgressStore(rest.strip("/").split(","))
            case "redis" | "rediss" | "unix":
                from gaetk_longtask.progress.redis import RedisProgressStore  # noqa: PLC0415 - needs an extra

                return RedisProgressStore(url)
            case "appengine" if not rest:
                from gaetk_longtask.progress.appengine import AppEngineProgressStore  # noqa: PLC0415 - needs an extra

                return AppEngineProgressStore()
            case "datastore" if not rest:
                return DatastoreProgressStore(ndb_context)
    except ImportError as exc:
        message = (
            f"{_KEY} is {without_password(url)!r}, but a package is missing. "
            f"Install it with: pip install {'appengine-python-standard' if scheme == 'appengine' else 'redis'}"
        )
        raise ConfigurationError(message, key=_KEY) from exc
    message = (
        f"{_KEY} is invalid: {without_password(url)!r}. Use memcached://host:port[,host:port], "
        "redis://host:port (also rediss:// and unix://), appengine: or datastore:."
    )
    raise ConfigurationError(message, key=_KEY)


def without_password(url: str) -> str:
    """Return the URL without the parts that may hold a password: the credentials before the host, and the options."""
    return re.sub(r"\?.*", "?…", re.sub(r".+@", "…@", url))
