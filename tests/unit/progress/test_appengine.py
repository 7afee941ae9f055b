"""The progress store in App Engine's bundled memcache: namespaces, foreign values, and missing services."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from google.appengine.api import apiproxy_stub_map, memcache
from google.appengine.api.memcache.memcache_stub import MemcacheServiceStub
from google.appengine.api.namespace_manager import get_namespace, set_namespace
from google.appengine.runtime.default_api_stub import DefaultApiStub

from gaetk_longtask.progress.appengine import AppEngineProgressStore
from gaetk_longtask.progress.stores import Written, memcache_key
from tests.unit.conftest import ID, snapshot_of


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> apiproxy_stub_map.APIProxyStubMap:
    """App Engine's services, with none registered."""
    services = apiproxy_stub_map.APIProxyStubMap()
    monkeypatch.setattr(apiproxy_stub_map, "apiproxy", services)
    return services


@pytest.fixture
def store(services: apiproxy_stub_map.APIProxyStubMap) -> AppEngineProgressStore:
    services.RegisterStub("memcache", MemcacheServiceStub())
    return AppEngineProgressStore()


@pytest.fixture
def namespace() -> Iterator[str]:
    before = get_namespace()
    set_namespace("customer")
    yield "customer"
    set_namespace(before)


sprung = threading.Event()


def spring() -> None:
    sprung.set()


class Trap:
    """An object that sets `sprung` when it is unpickled."""

    def __reduce__(self) -> Any:
        return spring, ()


def test_what_is_no_snapshot_is_never_unpickled(store: AppEngineProgressStore) -> None:
    memcache.set(memcache_key(ID), Trap())
    assert store.read(ID) is None
    assert store.write(snapshot_of()) is Written.YES
    assert not sprung.is_set()
    memcache.set(memcache_key(ID), Trap())
    assert memcache.get(memcache_key(ID)) is None
    assert sprung.is_set()


def test_the_current_namespace_does_not_matter(store: AppEngineProgressStore, namespace: str) -> None:
    store.write(snapshot_of())
    set_namespace("another")
    assert store.read(ID) == snapshot_of()


def test_a_call_that_memcache_refuses_is_no_error(
    store: AppEngineProgressStore, services: apiproxy_stub_map.APIProxyStubMap
) -> None:
    services.GetStub("memcache").SetError(memcache.apiproxy_errors.OverQuotaError())
    assert store.read(ID) is None
    assert store.write(snapshot_of()) is Written.LOST


@pytest.mark.usefixtures("services")
def test_without_wrap_wsgi_app_nothing_is_known() -> None:
    store = AppEngineProgressStore().for_reporter()
    store.add(snapshot_of(), seconds=60)
    assert store.write(snapshot_of()) is Written.LOST
    assert store.read(ID) is None


def test_outside_of_a_request_nothing_is_known(services: apiproxy_stub_map.APIProxyStubMap) -> None:
    services.SetDefaultStub(DefaultApiStub())
    store = AppEngineProgressStore().for_reporter()
    store.add(snapshot_of(), seconds=60)
    assert store.write(snapshot_of()) is Written.LOST
    assert store.read(ID) is None
