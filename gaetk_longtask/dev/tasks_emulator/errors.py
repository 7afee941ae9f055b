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


def not_found(message: str = "Requested entity was not found.") -> CallError:
    """Return the error for a name that does not exist."""
    return CallError(grpc.StatusCode.NOT_FOUND, message)


def already_exists(message: str) -> CallError:
    """Return the error for a name that is in use, or was until recently."""
    return CallError(grpc.StatusCode.ALREADY_EXISTS, message)


def failed_precondition(message: str) -> CallError:
    """Return the error for a request that is not possible now."""
    return CallError(grpc.StatusCode.FAILED_PRECONDITION, message)
