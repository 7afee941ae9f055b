"""Faults for tests: what may go wrong between an application and a Datastore emulator, on request.

``faults = put_between(ndb_client)``, then for instance ``faults.lose_reply("Commit")``, or
``faults.crash(before=Status.DONE)`` and catch the `Crash` that comes out of the delivery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.cloud import ndb
from google.cloud.datastore_v1.services.datastore.transports import DatastoreGrpcTransport

from gaetk_longtask.status import Status


class Crash(BaseException):
    """The process is gone. Derived from `BaseException`, so that no handler of an application holds it up."""


class RpcFault(grpc.RpcError, grpc.Call):  # what the real client raises is both
    """An answer that never arrived."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__()
        self._code = code

    def code(self) -> grpc.StatusCode:
        """Give the status that the client makes up for itself."""
        return self._code

    def details(self) -> str:
        """Tell whose fault it is."""
        return "a fault of the test's"

    def initial_metadata(self) -> tuple[()]:
        """Give none: the call is over, as the other methods say too."""
        return ()

    def trailing_metadata(self) -> tuple[()]:
        """Give none."""
        return ()

    def is_active(self) -> bool:
        """Deny it."""
        return False

    def time_remaining(self) -> float:
        """Give none."""
        return 0.0

    def cancel(self) -> bool:
        """Come too late."""
        return False

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Come too late."""
        return False


class Faults(grpc.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]  # generic in its stubs alone
    """Loses requests and replies of the next calls, or crashes at a named point; counts all calls."""

    def __init__(self) -> None:
        #: Calls by the last part of the method's name, such as ``Commit``.
        self.calls: list[str] = []
        #: Called between a call's being carried out and the loss of its reply.
        self.before_loss: Callable[[], None] = lambda: None
        self._lost_replies: dict[str, list[grpc.StatusCode]] = {}
        self._lost_requests: dict[str, list[grpc.StatusCode]] = {}
        self._crash: tuple[Callable[[Any], bool], bool] | None = None
        self._rests = False

    def lose_reply(self, method: str, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        """Have the next call of this method carried out, and its reply lost."""
        self._lost_replies.setdefault(method, []).append(code)

    def lose_request(self, method: str, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE, *, times: int = 1) -> None:
        """Have the next calls of this method never arrive."""
        self._lost_requests.setdefault(method, []).extend([code] * times)

    def crash(self, *, before: Status | None = None, after: Status | None = None) -> None:
        """Raise `Crash` before or after the next commit that writes a task in this status.

        `STARTED` is the claim of an attempt, `DONE` its finish, `READY` a start or a retry.
        """
        status = before or after
        self._crash = (lambda commit: status in _statuses(commit)), before is not None

    def crash_at_commit(self, number: int, *, before: bool) -> None:
        """Raise `Crash` before or after the commit that comes after `number` others."""
        left = iter(range(number, -1, -1))
        self._crash = (lambda commit: next(left) == 0), before

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
        """Carry a call out, or not."""
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
        if self._lost_requests.get(method):
            raise RpcFault(self._lost_requests[method].pop(0))
        call = continuation(details, request)
        if self._lost_replies.get(method):
            code = self._lost_replies[method].pop(0)
            call.result()
            self.before_loss()
            raise RpcFault(code)
        return call


def put_between(client: ndb.Client) -> Faults:
    """Send all that the client says to its emulator through faults of the test's."""
    faults = Faults()
    channel = grpc.intercept_channel(grpc.insecure_channel(client.host), faults)
    client.stub = DatastoreGrpcTransport(host=client.host, channel=channel)
    return faults


def _statuses(commit: Any) -> list[str]:
    """Give the status of each task that a commit writes."""
    written = [mutation.upsert for mutation in commit.mutations]
    return [entity.properties["status"].string_value for entity in written if "status" in entity.properties]
