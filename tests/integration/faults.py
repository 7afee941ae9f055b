"""Faults between ndb and a real Datastore, at the gRPC boundary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.cloud import ndb
from google.cloud.datastore_v1.services.datastore.transports import DatastoreGrpcTransport


class RpcFault(grpc.RpcError, grpc.Call):  # type: ignore[misc]  # what the real client raises is both
    """An answer that never arrived."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__()
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "a fault of the test's"

    def trailing_metadata(self) -> tuple[()]:
        return ()


for _name in RpcFault.__abstractmethods__:
    setattr(RpcFault, _name, lambda self, *args: None)
RpcFault.__abstractmethods__ = frozenset()


class Faults(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]  # grpc is partly typed
    """Loses requests or replies of the next calls, and counts all calls."""

    def __init__(self) -> None:
        #: Calls by the last part of the method's name, such as ``Commit``.
        self.calls: list[str] = []
        self._lost_replies: dict[str, list[grpc.StatusCode]] = {}
        self._lost_requests: dict[str, list[grpc.StatusCode]] = {}
        self._crash: tuple[int, BaseException, bool] | None = None
        self._rests = False
        #: Called between a call's being carried out and the loss of its reply.
        self.before_loss: Callable[[], None] = lambda: None

    def lose_reply(self, method: str, code: grpc.StatusCode) -> None:
        self._lost_replies.setdefault(method, []).append(code)

    def lose_request(self, method: str, code: grpc.StatusCode, *, times: int = 1) -> None:
        self._lost_requests.setdefault(method, []).extend([code] * times)

    def crash_at(self, commits: int, crash: BaseException, *, before: bool) -> None:
        """Raise `crash` before or after the commit that comes after so many others."""
        self._crash = (commits, crash, before)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Do nothing for a while."""
        self._rests = True
        yield
        self._rests = False

    def stop(self) -> None:
        """Forget all that was to happen."""
        self._lost_replies.clear()
        self._lost_requests.clear()
        self._crash = None

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        method = str(details.method).rpartition("/")[2]
        if self._rests:
            return continuation(details, request)
        self.calls.append(method)
        if method == "Commit" and self._crash is not None:
            commits, crash, before = self._crash
            self._crash = (commits - 1, crash, before) if commits else None
            if not commits:
                if not before:
                    continuation(details, request).result()
                raise crash
        if self._lost_requests.get(method):
            raise RpcFault(self._lost_requests[method].pop(0))
        call = continuation(details, request)
        if self._lost_replies.get(method):
            code = self._lost_replies[method].pop(0)
            call.result()
            self.before_loss()
            raise RpcFault(code)
        return call


def put_between(client: ndb.Client, host: str) -> Faults:
    """Send all that the client has to say through faults of the test's."""
    faults = Faults()
    client.stub = DatastoreGrpcTransport(host=host, channel=grpc.intercept_channel(grpc.insecure_channel(host), faults))
    return faults
