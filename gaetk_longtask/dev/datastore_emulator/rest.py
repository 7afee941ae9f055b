"""The service as REST: ``POST /v1/projects/PROJECT:lookup`` and so on, in JSON or as protobuf.

It also answers what tests and scripts ask an emulator: ``GET /``, ``POST /reset`` and ``POST /shutdown``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import grpc
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2

from gaetk_longtask.dev.datastore_emulator.datastore import MAX_REQUEST_BYTES
from gaetk_longtask.dev.datastore_emulator.errors import CallError, invalid
from gaetk_longtask.dev.datastore_emulator.messages import METHODS, REQUESTS

#: Answers a call of the service.
Answer = Callable[[str, Any], Any]

_CALL = re.compile(r"/v1(?:beta3)?/projects/([^/:]+):([A-Za-z]+)")
_METHODS = {f"{name[0].lower()}{name[1:]}": name for name in METHODS}
_PROTOBUF, _JSON = "application/x-protobuf", "application/json"
_HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.UNIMPLEMENTED: 501,
}
_NOT_FOUND = (
    "Not Found. There are GET /, POST /reset, POST /shutdown, gRPC, and POST /v1/projects/PROJECT:METHOD with a METHOD"
    f" of {', '.join(_METHODS)}.\n"
)


def rest_server(answer: Answer, *, reset: Callable[[], None], shutdown: Callable[[], None]) -> ThreadingHTTPServer:
    """Return a server on a free port of 127.0.0.1 that is not serving yet."""

    class Handler(_Handler):
        def call(self, method: str, request: Any) -> Any:
            return answer(method, request)

        def action(self, path: str) -> Callable[[], None] | None:
            return {"/reset": reset, "/shutdown": shutdown}.get(path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    #: A client that sends nothing is disconnected.
    timeout = 60

    def call(self, method: str, request: Any) -> Any:
        raise NotImplementedError

    def action(self, path: str) -> Callable[[], None] | None:
        raise NotImplementedError

    def do_GET(self) -> None:
        """Show that the emulator is running."""
        if urlsplit(self.path).path == "/":
            self._send(HTTPStatus.OK, "text/plain", b"Ok\n")
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", _NOT_FOUND.encode())

    def do_HEAD(self) -> None:
        """Answer as GET, without the body."""
        self.do_GET()

    def do_POST(self) -> None:
        """Answer a call, reset, or shut down."""
        try:
            body = self._body()
        except ValueError:
            self.close_connection = True
            self._send(HTTPStatus.BAD_REQUEST, "text/plain", b"The request has no valid length.\n")
            return
        path = unquote(urlsplit(self.path).path)
        if (action := self.action(path)) is not None:
            action()
            self._send(HTTPStatus.OK, "text/plain", b"Ok\n")
            return
        called = _CALL.fullmatch(path)
        if called is None or called[2] not in _METHODS:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", _NOT_FOUND.encode())
            return
        is_protobuf = _PROTOBUF in (self.headers.get("Content-Type") or "")
        try:
            response = self.call(
                _METHODS[called[2]], _request(called[1], _METHODS[called[2]], body, is_protobuf=is_protobuf)
            )
        except CallError as exc:
            self._refuse(exc, is_protobuf=is_protobuf)
            return
        if is_protobuf:
            self._send(HTTPStatus.OK, _PROTOBUF, response.SerializeToString())
        else:
            self._send(HTTPStatus.OK, _JSON, json_format.MessageToJson(response).encode() + b"\n")

    def _body(self) -> bytes:
        """Read the body of the request, or raise ValueError."""
        if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower():
            return self._chunks()
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 <= length <= 2 * MAX_REQUEST_BYTES:
            raise ValueError
        return self.rfile.read(length)

    def _chunks(self) -> bytes:
        found = b""
        while length := int(self.rfile.readline(100).partition(b";")[0], 16):
            if length < 0 or len(found) + length > 2 * MAX_REQUEST_BYTES:
                raise ValueError
            found += self.rfile.read(length)
            self.rfile.readline(100)
        while self.rfile.readline(10_000).strip():
            pass
        return found

    def _refuse(self, refusal: CallError, *, is_protobuf: bool) -> None:
        status = _HTTP_STATUS.get(refusal.code, 500)
        if is_protobuf:
            message = status_pb2.Status(code=refusal.code.value[0], message=refusal.message)
            self._send(status, _PROTOBUF, message.SerializeToString())
            return
        error = {"code": status, "message": refusal.message, "status": refusal.code.name}
        self._send(status, _JSON, json.dumps({"error": error}).encode() + b"\n")

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Log nothing."""


def _request(project: str, method: str, body: bytes, *, is_protobuf: bool) -> Message:
    request: Message = REQUESTS[method]()
    try:
        if is_protobuf:
            request.ParseFromString(body)
        else:
            json_format.Parse(body or b"{}", request)
    except (DecodeError, json_format.ParseError, UnicodeDecodeError, RecursionError) as exc:
        raise invalid(f"Payload isn't valid for request. {' '.join(str(exc).split())[:200]}") from exc
    request.project_id = project  # type: ignore[attr-defined]  # protobuf is untyped here
    return request
