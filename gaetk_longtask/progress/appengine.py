"""Keeps the latest snapshot of a task in App Engine's bundled memcache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.appengine.api import memcache
from google.appengine.runtime import apiproxy_errors, request_environment
from google.appengine.runtime.context import gae_headers
from google.appengine.runtime.default_api_stub import DefaultApiStub
from google.protobuf.message import DecodeError
from urllib3.exceptions import HTTPError

from gaetk_longtask.progress.stores import KEPT_SECONDS, PATIENCE_SECONDS, KeyValueStore, ProgressStore

#: Fixed, because a poll and the attempt may run in different namespaces.
_NAMESPACE = ""


class AppEngineProgressStore(KeyValueStore):
    """Stores snapshots in App Engine's bundled memcache, through Google's own client.

    Every call needs the API ticket of the current request. ``wrap_wsgi_app`` reads it from the request's headers.
    """

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

    def _get_many(self, keys: list[str]) -> dict[str, bytes]:
        return self._call(memcache.Client(unpickler=_Unread).get_multi_async, keys)  # type: ignore[no-any-return]  # untyped

    def _load(self, key: str) -> tuple[bytes | None, memcache.Client]:
        """Return the stored bytes, and the client that remembers their version. Use a client on one thread only."""
        client = memcache.Client(unpickler=_Unread)
        return self._call(client.get_multi_async, [key], for_cas=True).get(key), client

    def _add(self, key: str, data: bytes, seconds: int) -> bool:
        return self._store(memcache.Client().add_multi_async, key, data, seconds)

    def _replace(self, key: str, data: bytes, version: memcache.Client) -> bool:
        return self._store(version.cas_multi_async, key, data, KEPT_SECONDS)

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
