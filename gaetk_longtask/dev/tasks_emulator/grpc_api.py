"""The API as gRPC, for an unmodified client."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.message import DecodeError

from gaetk_longtask.dev.tasks_emulator.errors import CallError
from gaetk_longtask.dev.tasks_emulator.messages import REQUESTS, Message

_SERVICE = "google.cloud.tasks.v2.CloudTasks"
_CALLS_AT_A_TIME = 8
#: The limit of Google's front end; a task may have a tenth of it.
_MAX_CALL_BYTES = 10 * 1024 * 1024
_MAX_CALL_SECONDS = 30.0
_NO_DEADLINE_SECONDS = 10.0 * 365 * 86400

Answer = Callable[[str, Message], Message]


def grpc_server(answer: Answer) -> tuple[grpc.Server, int]:
    """Return a server that is not serving yet, and its port of 127.0.0.1. `answer` gets a call's name and request."""
    methods = {
        f"/{_SERVICE}/{name}": grpc.unary_unary_rpc_method_handler(
            _guarded(answer, name), response_serializer=lambda response: response.SerializeToString()
        )
        for name in REQUESTS
    }
    server = grpc.server(
        ThreadPoolExecutor(_CALLS_AT_A_TIME, thread_name_prefix="tasks-api"),
        handlers=[_Handlers(methods)],
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", _MAX_CALL_BYTES)],
    )
    return server, server.add_insecure_port("127.0.0.1:0")


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # it is not generic at run time
    """Finds the handler of a call, and answers every other call with a sentence."""

    def __init__(self, methods: dict[str, grpc.RpcMethodHandler[bytes, Message]]) -> None:
        self._methods = methods

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, Message]:
        """Return the handler."""
        return self._methods.get(details.method) or grpc.unary_unary_rpc_method_handler(_refusal(details.method))


def _refusal(method: str) -> Callable[[bytes, grpc.ServicerContext], None]:
    service, _, name = method.strip("/").partition("/")
    message = (
        f"The Cloud Tasks emulator does not serve {name} of {service}. It serves the queues and tasks of {_SERVICE}:"
        f" {', '.join(REQUESTS)}."
    )
    return lambda _, context: context.abort(grpc.StatusCode.UNIMPLEMENTED, message)


def _guarded(answer: Answer, name: str) -> Callable[[bytes, grpc.ServicerContext], Message]:
    request_type = REQUESTS[name]

    def call(raw: bytes, context: grpc.ServicerContext) -> Message:
        remaining = context.time_remaining() or 0.0
        if _MAX_CALL_SECONDS + 1 < remaining < _NO_DEADLINE_SECONDS:
            # As in production; a client that waits longer is misconfigured.
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"The request deadline is in {remaining:.0f}s. The deadline cannot be more than 30s in the future.",
            )
        try:
            return answer(name, request_type.FromString(raw))
        except DecodeError:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Request contains an invalid argument.")
        except CallError as exc:
            context.abort(exc.code, exc.message)

    return call
