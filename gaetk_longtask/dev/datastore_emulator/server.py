"""The running emulator: a Datastore behind gRPC and REST on one port."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from gaetk_longtask.dev.datastore_emulator.datastore import Datastore
from gaetk_longtask.dev.datastore_emulator.errors import CallError
from gaetk_longtask.dev.datastore_emulator.messages import METHODS, REQUESTS, RESPONSES
from gaetk_longtask.dev.datastore_emulator.rest import rest_server
from gaetk_longtask.dev.front import Front

_SERVICE = "google.datastore.v1.Datastore"
_CALLS_AT_A_TIME = 16
#: The time for calls that are running when the emulator stops.
_GRACE_SECONDS = 1.0


async def serve(
    host: str, port: int, directory: Path | None, *, end: asyncio.Event, ready: Callable[[int], None]
) -> None:
    """Serve until `end` is set. `ready` is called with the port once clients can connect."""
    datastore = Datastore(directory)
    loop = asyncio.get_running_loop()
    grpc_server, grpc_port = _grpc_server(datastore)
    http = rest_server(
        datastore.answer, reset=datastore.reset, shutdown=lambda: _ignore(loop.call_soon_threadsafe(end.set))
    )
    threading.Thread(target=http.serve_forever, name="rest", daemon=True).start()
    try:
        accept = Front(grpc_port=grpc_port, http_port=http.server_address[1]).accept
        front = await asyncio.start_server(accept, host, port)
        ready(front.sockets[0].getsockname()[1])
        await end.wait()
        front.close()
    finally:
        await asyncio.to_thread(grpc_server.stop(grace=_GRACE_SECONDS).wait)
        http.shutdown()
        http.server_close()
        datastore.close()


def _grpc_server(datastore: Datastore) -> tuple[grpc.Server, int]:
    """Start a gRPC server on a free port of 127.0.0.1, and return both."""
    server = grpc.server(
        ThreadPoolExecutor(_CALLS_AT_A_TIME, thread_name_prefix="datastore-api"),
        # We check the limit ourselves: after gRPC's own error, clients would repeat the request.
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    handlers = {name: _handler(datastore, name) for name in METHODS}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def _handler(datastore: Datastore, name: str) -> grpc.RpcMethodHandler[Any, Any]:
    def call(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return datastore.answer(name, request)
        except CallError as exc:
            context.abort(exc.code, exc.message)
            raise AssertionError from exc  # abort raises

    return grpc.unary_unary_rpc_method_handler(
        call,
        request_deserializer=REQUESTS[name].FromString,
        response_serializer=RESPONSES[name].SerializeToString,
    )


def _ignore(_: object) -> None:
    """Return nothing."""
