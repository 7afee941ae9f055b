"""A gRPC server that replaces Cloud Tasks."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.cloud import tasks_v2


class CloudTasks:
    """A server that implements only CreateTask. It accepts every task, unless `error` is set."""

    def __init__(self) -> None:
        self.calls: list[tasks_v2.CreateTaskRequest] = []
        self.connections: set[str] = set()
        self.error: grpc.StatusCode | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._server = grpc.server(ThreadPoolExecutor(4))
        handler = grpc.unary_unary_rpc_method_handler(
            self._create,
            request_deserializer=tasks_v2.CreateTaskRequest.deserialize,
            response_serializer=tasks_v2.Task.serialize,
        )
        service = "google.cloud.tasks.v2.CloudTasks"
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"CreateTask": handler})])
        self.host = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _create(self, call: tasks_v2.CreateTaskRequest, context: grpc.ServicerContext) -> tasks_v2.Task:
        self.calls.append(call)
        self.connections.add(context.peer())
        self.may_answer.wait(10)
        if self.error is not None:
            context.abort(self.error, "as the test wants it")
        return call.task

    def stop(self) -> None:
        self.may_answer.set()
        self._server.stop(grace=None).wait()
