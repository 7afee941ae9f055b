"""The app's answer to an attempt, and what it means for the task, for the next attempt's headers and for the queue."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import grpc

from gaetk_longtask.dev.tasks_emulator.tasks import Previous

_CODES = {  # as google.rpc.Code documents the mapping to HTTP
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ABORTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_TOO_MANY, _UNAVAILABLE, _GATEWAY_TIMEOUT = 429, 503, 504


class Silence(StrEnum):
    """Why there is no response."""

    DEADLINE = "no answer within the deadline"
    UNREACHABLE = "no answer"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A response, or the reason why there is none."""

    status: int | None = None  #: the HTTP status; None without a complete response
    silence: Silence = Silence.UNREACHABLE  #: meaningless with a status
    detail: str = ""  #: an explanation for people
    retry_after: timedelta = timedelta(0)  #: the response's Retry-After

    @property
    def is_success(self) -> bool:
        """Whether the task is done: only after 2xx."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def code(self) -> grpc.StatusCode:
        """The gRPC status of the attempt that callers see."""
        match self.status, self.silence:
            case None, Silence.DEADLINE:
                return grpc.StatusCode.DEADLINE_EXCEEDED
            case None, _:
                return grpc.StatusCode.UNAVAILABLE
        return grpc.StatusCode.OK if self.is_success else _CODES.get(self.status or 0, grpc.StatusCode.UNKNOWN)

    @property
    def message(self) -> str:
        """The message beside `code`."""
        shown = f"{self.code.name}({self.code.value[0]})"
        return f"{shown}: HTTP status code {self.status}" if self.status else f"{shown}: {self.silence}"

    def is_overload(self, *, app_engine: bool) -> bool:
        """Return whether production slows the whole queue down: after 503, and for HTTP targets after 429, too."""
        return self.status == _UNAVAILABLE or (self.status == _TOO_MANY and not app_engine)

    def is_execution(self, *, app_engine: bool) -> bool:
        """Return whether the response counts for TaskExecutionCount: for HTTP targets 5xx does not (captured)."""
        return self.status is not None and (app_engine or self.status < 500)

    def as_previous(self, *, app_engine: bool) -> Previous:
        """Return what the next attempt's headers say about this one, as captured from production."""
        if self.status is not None:
            return Previous(response=self.status, reason="App Error" if app_engine else "")
        if app_engine:
            return Previous(response=0, reason="Instance Unavailable")
        timed_out = self.silence is Silence.DEADLINE
        return Previous(response=_GATEWAY_TIMEOUT if timed_out else _UNAVAILABLE, reason="")
