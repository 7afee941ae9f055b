"""The gRPC service ``google.datastore.v1.Datastore``, answered by Google's stub.

Import it after :func:`stand_in.install`: the stub imports ``googledatastore``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import googledatastore
import grpc
from google.appengine.api import apiproxy_stub_map
from google.appengine.datastore import cloud_datastore_v1_stub, datastore_pb
from google.appengine.runtime import apiproxy_errors

from gaetk_longtask.dev.datastore_emulator.storage import EntityStore

_SERVICE = "google.datastore.v1.Datastore"
_METHODS = ("Lookup", "RunQuery", "BeginTransaction", "Commit", "Rollback", "AllocateIds")
#: Production's limit.
_MAX_REQUEST_BYTES = 10 * 1024 * 1024

_Error = datastore_pb.Error
_STATUS = {
    _Error.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    _Error.CONCURRENT_TRANSACTION: grpc.StatusCode.ABORTED,
    _Error.NEED_INDEX: grpc.StatusCode.FAILED_PRECONDITION,
    _Error.TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    _Error.RESOURCE_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    _Error.CAPABILITY_DISABLED: grpc.StatusCode.UNAVAILABLE,
}
#: The stub has one code for these; production tells them apart.
_STATUS_BY_DETAIL = {
    "Entity already exists.": grpc.StatusCode.ALREADY_EXISTS,
    "Entity does not exist.": grpc.StatusCode.NOT_FOUND,
}


class DatastoreService:
    """Serves any number of projects, one call at a time, because the stub is not thread safe."""

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        self._entities = EntityStore(path)
        self._stubs: dict[str, Any] = {}
        apiproxy_stub_map.apiproxy = apiproxy_stub_map.APIProxyStubMap()
        apiproxy_stub_map.apiproxy.RegisterStub("datastore_v3", self._entities)

    def serve(self) -> tuple[grpc.Server, int]:
        """Start a gRPC server on a free port of 127.0.0.1, and return both."""
        server = grpc.server(
            ThreadPoolExecutor(max_workers=4),
            # We check the limit ourselves: after gRPC's own error, clients would repeat the request.
            options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
        )
        handlers = {name: self._handler(name) for name in _METHODS}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        return server, port

    def reset(self) -> None:
        """Delete all entities; allocated ids stay allocated."""
        with self._lock:
            self._entities.Clear()
            self._entities.commit()

    def _handler(self, name: str) -> grpc.RpcMethodHandler[Any, Any]:
        request_type = getattr(googledatastore, f"{name}Request")
        response_type = getattr(googledatastore, f"{name}Response")

        def call(request: Any, context: grpc.ServicerContext) -> Any:
            if request.ByteSize() > _MAX_REQUEST_BYTES:
                _abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"The request is over {_MAX_REQUEST_BYTES} bytes.")
            response = response_type()
            with self._lock:
                try:
                    self._method(request.project_id, name)(request, response)
                except apiproxy_errors.ApplicationError as exc:
                    status = _STATUS_BY_DETAIL.get(exc.error_detail) or _STATUS.get(exc.application_error)
                    _abort(context, status or grpc.StatusCode.INTERNAL, exc.error_detail)
                except (AssertionError, ValueError) as exc:  # the stub's answer to newer features such as `!=`
                    _abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"The embedded Datastore refuses this: {exc}")
                finally:
                    self._entities.commit()
            return response

        return grpc.unary_unary_rpc_method_handler(
            call, request_deserializer=request_type.FromString, response_serializer=response_type.SerializeToString
        )

    def _method(self, project: str, name: str) -> Callable[[Any, Any], None]:
        if project not in self._stubs:
            self._stubs[project] = cloud_datastore_v1_stub.CloudDatastoreV1Stub(project)
        method: Callable[[Any, Any], None] = getattr(self._stubs[project], f"_Dynamic_{name}")
        return method


def _abort(context: grpc.ServicerContext, status: grpc.StatusCode, detail: str) -> NoReturn:
    context.abort(status, detail)
    raise AssertionError  # abort raises
