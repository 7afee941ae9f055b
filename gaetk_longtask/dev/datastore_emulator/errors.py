"""The error that refuses a call."""

from __future__ import annotations

import grpc


class CallError(Exception):
    """A call is refused; status code and message are production's if they are known."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        #: The gRPC status code.
        self.code = code
        #: The caller sees this.
        self.message = message


def invalid(message: str) -> CallError:
    """Return the error for a request that can never succeed."""
    return CallError(grpc.StatusCode.INVALID_ARGUMENT, message)


def contention() -> CallError:
    """Return the error for a transaction that has read what another one has changed since."""
    return CallError(grpc.StatusCode.ABORTED, "too much contention on these datastore entities. please try again.")
