"""Faults that a test can cause between an application and its Datastore emulator.

``faults = put_between(ndb_client)``, then for instance ``faults.lose_reply("Commit")``, or
``faults.crash(before=Status.DONE)`` and catch the `Crash` that the delivery raises.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import grpc
from google.cloud import ndb
from google.cloud.datastore_v1.services.datastore.transports import DatastoreGrpcTransport

from gaetk_longtask.exceptions import Crash
from gaetk_longtask.status import Status


class RpcFault(grpc.RpcError, grpc.Call):  # the errors of the real client are both
    """An answer that never arrived."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__()
        self._code = code

    def code(self) -> grpc.StatusCode:
        """Return the status that the client would report."""
        return self._code

    def details(self) -> str:
        """Return a text that names the test as the cause."""
        return "a fault of the test's"

    def result(self) -> NoReturn:
        """Raise the fault, as the errors of the real client do."""
        raise self

    def _nothing(self, *_: Any, **__: Any) -> Any:
        """The call has ended: there is nothing left to read, to wait for or to cancel."""

    initial_metadata = trailing_metadata = is_active = time_remaining = cancel = add_callback = _nothing


class Faults(grpc.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]  # generic in its stubs alone
    """Loses requests and replies of the next calls, or crashes at a named point; counts all calls."""

    def __init__(self) -> None:
        #: Calls by the last part of the method's name, such as ``Commit``.
        self.calls: list[str] = []
        #: Called after a call was executed and before its reply is lost.
        self.before_loss: Callable[[], None] = lambda: None
        self._lost_replies: defaultdict[str, list[grpc.StatusCode]] = defaultdict(list)
        self._lost_requests: defaultdict[str, list[grpc.StatusCode]] = defaultdict(list)
        self._crash: tuple[Callable[[Any], bool], bool] | None = None
        self._rests = False

    def lose_reply(self, method: str, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        """Execute the next call of this method, but lose its reply."""
        self._lost_replies[method].append(code)

    def lose_request(self, method: str, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE, *, times: int = 1) -> None:
        """Lose the next calls of this method before they arrive."""
        self._lost_requests[method] += [code] * times

    def crash(self, *, before: Status | None = None, after: Status | None = None) -> None:
        """Raise `Crash` before or after the next commit that writes a task in this status.

        `STARTED` is the claim of an attempt, `DONE` its finish, `READY` a start or a retry.
        """
        status = before or after
        self._crash = (lambda commit: status in _statuses(commit)), before is not None

    def crash_at_commit(self, number: int, *, before: bool) -> None:
        """Raise `Crash` before or after a later commit: `number` others come first."""
        left = iter(range(number, -1, -1))
        self._crash = (lambda commit: next(left) == 0), before

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Cause no faults and count no calls in the `with` block."""
        self._rests = True
        yield
        self._rests = False

    def stop(self) -> None:
        """Cancel all faults that have not happened yet."""
        self._lost_replies.clear()
        self._lost_requests.clear()
        self._crash = None

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Execute a call, or cause the fault that is due."""
        method = str(details.method).rpartition("/")[2]
        if self._rests:
            return continuation(details, request)
        self.calls.append(method)
        if method == "Commit" and self._crash is not None:
            is_it, before = self._crash
            if is_it(request):
                self._crash = None
                if not before:
                    continuation(details, request).result()
                raise Crash
        if self._lost_requests[method]:
            raise RpcFault(self._lost_requests[method].pop(0))
        call = continuation(details, request)
        if self._lost_replies[method]:
            code = self._lost_replies[method].pop(0)
            call.result()
            self.before_loss()
            raise RpcFault(code)
        return call


def put_between(client: ndb.Client) -> Faults:
    """Put `Faults` between an NDB client and its emulator, and return them."""
    faults = Faults()
    channel = grpc.intercept_channel(grpc.insecure_channel(client.host), faults)
    client.stub = DatastoreGrpcTransport(host=client.host, channel=channel)
    return faults


def _statuses(commit: Any) -> list[str]:
    """Return the status of each task that a commit writes."""
    written = [mutation.insert or mutation.upsert for mutation in commit.mutations]
    return [entity.properties["status"].string_value for entity in written if "status" in entity.properties]
