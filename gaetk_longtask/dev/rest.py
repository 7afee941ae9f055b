"""HTTP/1.1 for an emulator: reads requests, and writes answers and errors as Google's APIs do."""

from __future__ import annotations

import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc

JSON, TEXT = "application/json", "text/plain; charset=utf-8"
#: As google.rpc.Code documents the mapping; other codes are 500.
HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class RestHandler(BaseHTTPRequestHandler):
    """Serves the requests of one connection. Subclasses have a `do_GET`, `do_POST` and so on."""

    protocol_version = "HTTP/1.1"
    #: A client that sends nothing for as long is disconnected.
    timeout = 60
    #: A longer body is refused.
    max_body_bytes = 20 * 1024 * 1024
    #: Answers are small, and clients wait for them.
    disable_nagle_algorithm = True

    def read_body(self) -> bytes:
        """Read the body of the request; raise ValueError if its length is not valid."""
        if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower():
            return self._chunks()
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 <= length <= self.max_body_bytes:
            raise ValueError
        return self.rfile.read(length)

    def _chunks(self) -> bytes:
        found = b""
        while length := int(self.rfile.readline(100).partition(b";")[0], 16):
            if length < 0 or len(found) + length > self.max_body_bytes:
                raise ValueError
            found += self.rfile.read(length)
            self.rfile.readline(100)
        while self.rfile.readline(10_000).strip():
            pass
        return found

    def send(self, status: int, content_type: str, body: bytes) -> None:
        """Send the whole answer."""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_text(self, status: int, text: str) -> None:
        """Send a line for people."""
        self.send(status, TEXT, f"{text}\n".encode())

    def send_json(self, status: int, value: object) -> None:
        """Send a JSON document."""
        self.send(status, JSON, json.dumps(value, indent=2).encode() + b"\n")

    def refuse(self, code: grpc.StatusCode, message: str) -> None:
        """Send an error in the form of Google's APIs."""
        status = HTTP_STATUS.get(code, 500)
        self.send_json(status, {"error": {"code": status, "message": message, "status": code.name}})

    def refuse_length(self) -> None:
        """Refuse a body that `read_body` could not read, and close the connection."""
        self.close_connection = True
        self.send_text(HTTPStatus.BAD_REQUEST, "The request has no valid length.")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Log nothing."""


class RestServer(ThreadingHTTPServer):
    """A server on a free port of 127.0.0.1, with a thread for each connection."""

    daemon_threads = True
    request_queue_size = 500

    def __init__(self, handler: type[RestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore the errors of connections that clients have closed."""
