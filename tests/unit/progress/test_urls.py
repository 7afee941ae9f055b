"""The progress store is chosen and its URL is checked when the application starts."""

from __future__ import annotations

import sys
from contextlib import nullcontext

import pytest

from gaetk_longtask import ProgressStore
from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.progress.appengine import AppEngineProgressStore
from gaetk_longtask.progress.datastore import DatastoreProgressStore
from gaetk_longtask.progress.memcache import MemcacheProgressStore
from gaetk_longtask.progress.redis import RedisProgressStore
from gaetk_longtask.progress.urls import progress_store_at


def store_at(url: str) -> ProgressStore:
    return progress_store_at(url, nullcontext)


def refusal_of(url: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        store_at(url)
    assert caught.value.key == "LONGTASK_PROGRESS_URL"
    return str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "memcached://10.0.0.1:11211",
        "memcached://10.0.0.1:11211,10.0.0.2:11211",
        "memcached://10.0.0.1:11211/",
        "memcached://memcache.internal",
    ],
)
def test_progress_may_go_to_memcached(url: str) -> None:
    assert isinstance(store_at(url), MemcacheProgressStore)


@pytest.mark.parametrize(
    "url",
    [
        "redis://10.0.0.1",
        "redis://10.0.0.1:6379/0",
        "redis://user:p%40ss@valkey.internal:6379/",
        "redis://[::1]:6379",
        "redis://10.0.0.1?socket_timeout=1&db=2",
        "rediss://10.0.0.1:6378?ssl_ca_certs=ca.pem",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_progress_may_go_to_redis(url: str) -> None:
    assert isinstance(store_at(url), RedisProgressStore)


def test_options_in_the_url_of_a_redis_win() -> None:
    options = store_at("redis://10.0.0.1?socket_timeout=2")._client.connection_pool.connection_kwargs
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (2, 0.5)


def test_progress_may_go_to_app_engines_bundled_memcache() -> None:
    assert isinstance(store_at("appengine:"), AppEngineProgressStore)


def test_progress_may_go_to_datastore() -> None:
    assert isinstance(store_at("datastore:"), DatastoreProgressStore)


@pytest.mark.parametrize(
    "url",
    [
        "memcached://",
        "memcached://,",
        "memcached://10.0.0.1:port",
        "memcached",
        "datastore://project",
        "appengine://memcache",
        "valkey://10.0.0.1",
        "REDIS://10.0.0.1",
        "file:/tmp/progress",
        "10.0.0.1:11211",
    ],
)
def test_another_url_is_refused_with_those_that_are_possible(url: str) -> None:
    refusal = refusal_of(url)
    assert all(kind in refusal for kind in ("memcached://", "redis://", "appengine:", "datastore:", repr(url)))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis", "no host"),
        ("redis:10.0.0.1", "no host"),
        ("redis://", "no host"),
        ("redis://:6379", "no host"),
        ("redis://10.0.0.1:port", "the port"),
        ("redis://10.0.0.1:0", "the port"),
        ("redis://10.0.0.1:66000", "the port"),
        ("redis://[::1", "the port"),
        ("redis://10.0.0.1/progress", "not a database number"),
        ("redis://10.0.0.1?db=progress", "Invalid value"),
        ("redis://10.0.0.1?socket_timeout=long", "Invalid value"),
        ("redis://10.0.0.1?patience=1", "'patience'"),
        ("redis://10.0.0.1?protocol=4", "protocol"),
        ("unix://", "no path"),
    ],
)
def test_an_impossible_address_of_a_redis_is_refused_with_the_reason(url: str, reason: str) -> None:
    assert reason in refusal_of(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis//10.0.0.1?password=pass@",
        "redis://user:pass/word@10.0.0.1",
        "redis//user:pass@10.0.0.1",
        "redis://:pass@10.0.0.1/word",
        "cache://u:pass@h",
    ],
)
def test_a_message_does_not_contain_the_password(url: str) -> None:
    assert "pass@" not in refusal_of(url)
    assert "pass/" not in refusal_of(url)


@pytest.mark.parametrize(
    ("url", "module", "extra", "package"),
    [
        ("redis://10.0.0.1", "redis", "redis", "redis"),
        ("appengine:", "google.appengine.api", "appengine", "appengine-python-standard"),
    ],
)
def test_without_its_package_a_store_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, url: str, module: str, extra: str, package: str
) -> None:
    monkeypatch.delitem(sys.modules, f"gaetk_longtask.progress.{extra}")
    monkeypatch.setitem(sys.modules, module, None)
    assert refusal_of(url).endswith(f"Install it with: pip install {package}")


def test_the_package_of_a_store_is_loaded_only_if_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for extra in ("redis", "appengine"):
        monkeypatch.delitem(sys.modules, f"gaetk_longtask.progress.{extra}")
    store_at("memcached://10.0.0.1")
    assert {f"gaetk_longtask.progress.{extra}" for extra in ("redis", "appengine")}.isdisjoint(sys.modules)
