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

#: Not the namespace of the author's code, which a poll need not share with the attempt.
_NAMESPACE = ""


class AppEngineProgressStore(ProgressStore):
    """Snapshots in App Engine's bundled memcache, through Google's own client.

    A call needs the ticket of the request that it is made in, which ``wrap_wsgi_app`` takes from the request's headers.
    """

    interval_seconds = 0.5

    # Its own errors first; then what the client lets through where the server talks nonsense; at last what it raises
    # where nobody has wrapped the application (AttributeError under python -O).
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
        """`prepare_thread` is called before each call, on the thread that makes it."""
        self._prepare_thread = prepare_thread

    def for_reporter(self) -> ProgressStore:
        """Return a store whose calls have the present request's ticket on every thread."""
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
        """Keep it; two round trips, more only if others write at the same moment."""
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
        """Keep it where there is no snapshot; one round trip."""
        with contextlib.suppress(*self._ERRORS):
            key, data = memcache_key(snapshot.info.id), snapshot.to_json()
            self._store(memcache.Client().add_multi_async, key, data, seconds)

    def _load(self, key: str) -> tuple[bytes | None, memcache.Client]:
        """Return what is stored, and the client that remembers its version; a client is for one thread only."""
        client = memcache.Client(unpickler=_Unread)
        return self._call(client.get_multi_async, [key], for_cas=True).get(key), client

    def _store(self, call: Callable[..., Any], key: str, data: bytes, seconds: int) -> bool:
        return bool(self._call(call, {key: data}, time=seconds)[key] == memcache.STORED)

    def _call(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Wait for an answer; `get_result` alone would wait longer, and take a failure for an empty memcache."""
        self._prepare_thread()
        rpc = call(*args, namespace=_NAMESPACE, rpc=memcache.create_rpc(deadline=PATIENCE_SECONDS), **options)
        if rpc.future is not None:
            rpc.future.result(PATIENCE_SECONDS)  # the SDK waits a second longer than the deadline
        rpc.check_success()
        return rpc.get_result()


def _with_the_ticket_of_this_request() -> Callable[[], None]:
    """Return what lets another thread call App Engine's services on behalf of the present request.

    The ticket is in context variables and, in the SDK's legacy mode, in an ``os.environ`` of the thread's own; besides,
    each thread has to be allowed to use it. The SDK does all of this for new threads by replacing a function of
    Python's, which versions from 3.13 on no longer call; and our own thread has a context of its own.
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
    """Takes the place of a pickle, which is none of ours and may do anything once it is read."""

    def __init__(self, data: object) -> None:
        pass

    def load(self) -> bytes:
        return b""
