"""Keeps the latest snapshot of a task in App Engine's bundled memcache."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from google.appengine.api import memcache
from google.appengine.runtime import apiproxy_errors, request_environment
from google.appengine.runtime.context import gae_headers
from google.appengine.runtime.default_api_stub import DefaultApiStub
from google.protobuf.message import DecodeError
from urllib3.exceptions import HTTPError

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

#: Fixed, because a poll and the attempt may run in different namespaces.
_NAMESPACE = ""


class AppEngineProgressStore(ProgressStore):
    """Stores snapshots in App Engine's bundled memcache, through Google's own client.

    Every call needs the API ticket of the current request. ``wrap_wsgi_app`` reads it from the request's headers.
    """

    interval_seconds = 0.5

    # The client's own errors, then those that malformed responses cause. The last two mean that the application is not
    # wrapped (AttributeError under python -O).
    _ERRORS = (
        apiproxy_errors.Error,
        HTTPError,
        DecodeError,
        OSError,
        RuntimeError,
        ValueError,
        LookupError,
        AssertionError,
        AttributeError,
    )

    def __init__(self, *, prepare_thread: Callable[[], None] = lambda: None) -> None:
        """Create the store. It calls `prepare_thread` before each memcache call, on the same thread."""
        self._prepare_thread = prepare_thread

    def for_reporter(self) -> ProgressStore:
        """Return a store whose calls use the current request's ticket on every thread."""
        return AppEngineProgressStore(prepare_thread=_with_the_ticket_of_this_request())

    def read(self, task_id: str) -> Snapshot | None:
        """Return the latest snapshot; one memcache get."""
        try:
            stored, _ = self._load(memcache_key(task_id))
            return Snapshot.from_json(stored, task_id)
        except self._ERRORS:
            return None

    def read_many(self, task_ids: Sequence[str]) -> dict[str, Snapshot]:
        """Return the latest snapshots; one memcache get."""
        keys = {memcache_key(task_id): task_id for task_id in task_ids}
        try:
            found = self._call(memcache.Client(unpickler=_Unread).get_multi_async, list(keys))
            return readable((keys[key], data) for key, data in found.items())
        except self._ERRORS:
            return {}

    def write(self, snapshot: Snapshot) -> Written:
        """Store the snapshot; two round trips, more only with concurrent writes."""
        key = memcache_key(snapshot.info.id)
        try:
            return compare_and_set(
                snapshot,
                load=lambda: self._load(key),
                add=lambda data: self._store(memcache.Client().add_multi_async, key, data, KEPT_SECONDS),
                replace=lambda data, client: self._store(client.cas_multi_async, key, data, KEPT_SECONDS),
            )
        except self._ERRORS:
            return Written.LOST

    def add(self, snapshot: Snapshot, *, seconds: int) -> None:
        """Store the snapshot if none exists; one round trip."""
        with contextlib.suppress(*self._ERRORS):
            key, data = memcache_key(snapshot.info.id), snapshot.to_json()
            self._store(memcache.Client().add_multi_async, key, data, seconds)

    def _load(self, key: str) -> tuple[bytes | None, memcache.Client]:
        """Return the stored bytes, and the client that remembers their version. Use a client on one thread only."""
        client = memcache.Client(unpickler=_Unread)
        return self._call(client.get_multi_async, [key], for_cas=True).get(key), client

    def _store(self, call: Callable[..., Any], key: str, data: bytes, seconds: int) -> bool:
        return bool(self._call(call, {key: data}, time=seconds)[key] == memcache.STORED)

    def _call(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Return the result of a call. `get_result` would wait longer, and treat a failure as an empty memcache."""
        self._prepare_thread()
        rpc = call(*args, namespace=_NAMESPACE, rpc=memcache.create_rpc(deadline=PATIENCE_SECONDS), **options)
        if rpc.future is not None:
            rpc.future.result(PATIENCE_SECONDS)  # the SDK waits a second longer than the deadline
        rpc.check_success()
        return rpc.get_result()


def _with_the_ticket_of_this_request() -> Callable[[], None]:
    """Return a function that lets another thread call App Engine's services for the current request.

    The ticket is stored in context variables and, in the SDK's legacy mode, in a thread-local ``os.environ``. Each
    thread must also be allowed to use it. The SDK does this for new threads by replacing a function of Python's, which
    Python 3.13 and later no longer call. The reporter's thread also has its own context.
    """
    allowed = DefaultApiStub.ShouldUseRequestSecurityTicketForThread()
    install_environment = request_environment.current_request.CloneRequestEnvironment()
    tickets = {ticket: ticket.get(None) for ticket in (gae_headers.API_TICKET, gae_headers.DEV_REQUEST_ID)}

    def prepare_thread() -> None:
        for ticket, value in tickets.items():
            if value is not None:
                ticket.set(value)
        if allowed and not DefaultApiStub.ShouldUseRequestSecurityTicketForThread():
            install_environment()
            DefaultApiStub.SetUseRequestSecurityTicketForThread(True)

    return prepare_thread


class _Unread:
    """Replaces the unpickler. The library stores no pickles, and loading a foreign one can run any code."""

    def __init__(self, data: object) -> None:
        pass

    def load(self) -> bytes:
        return b""
