"""The one error that a call can end with."""

from __future__ import annotations

import grpc


class CallError(Exception):
    """A call is refused with a status code and a message, both production's where production's are known."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        #: The gRPC status code.
        self.code = code
        #: What the caller reads.
        self.message = message


def invalid(message: str) -> CallError:
    """Return the refusal of a request that can never succeed."""
    return CallError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str = "Requested entity was not found.") -> CallError:
    """Return the refusal of a name that nothing bears."""
    return CallError(grpc.StatusCode.NOT_FOUND, message)


def already_exists(message: str) -> CallError:
    """Return the refusal of a name that is in use, or was a short while ago."""
    return CallError(grpc.StatusCode.ALREADY_EXISTS, message)


def failed_precondition(message: str) -> CallError:
    """Return the refusal of what the state of things does not allow now."""
    return CallError(grpc.StatusCode.FAILED_PRECONDITION, message)
