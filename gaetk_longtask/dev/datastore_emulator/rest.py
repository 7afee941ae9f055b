"""The service as REST: ``POST /v1/projects/PROJECT:lookup`` and so on, in JSON or as protobuf.

It also answers what tests and scripts ask an emulator: ``GET /``, ``POST /reset`` and ``POST /shutdown``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2

from gaetk_longtask.dev.datastore_emulator.datastore import MAX_REQUEST_BYTES
from gaetk_longtask.dev.datastore_emulator.errors import CallError, invalid
from gaetk_longtask.dev.datastore_emulator.messages import METHODS, REQUESTS
from gaetk_longtask.dev.rest import HTTP_STATUS, JSON, RestHandler, RestServer

#: Answers a call of the service.
Answer = Callable[[str, Any], Any]

_CALL = re.compile(r"/v1(?:beta3)?/projects/([^/]+):([A-Za-z]+)")
_METHODS = {f"{name[0].lower()}{name[1:]}": name for name in METHODS}
_PROTOBUF = "application/x-protobuf"
_NOT_FOUND = (
    "Not Found. There are GET /, POST /reset, POST /shutdown, gRPC, and POST /v1/projects/PROJECT:METHOD with a METHOD"
    f" of {', '.join(_METHODS)}."
)


def rest_server(answer: Answer, *, reset: Callable[[], None], shutdown: Callable[[], None]) -> RestServer:
    """Return a server on a free port of 127.0.0.1 that is not serving yet."""

    class Handler(_Handler):
        def call(self, method: str, request: Any) -> Any:
            return answer(method, request)

        def action(self, path: str) -> Callable[[], None] | None:
            return {"/reset": reset, "/shutdown": shutdown}.get(path)

    return RestServer(Handler)


class _Handler(RestHandler):
    max_body_bytes = 2 * MAX_REQUEST_BYTES

    def call(self, method: str, request: Any) -> Any:
        raise NotImplementedError

    def action(self, path: str) -> Callable[[], None] | None:
        raise NotImplementedError

    def do_GET(self) -> None:  # noqa: N802 - as http.server calls it
        """Show that the emulator is running."""
        if urlsplit(self.path).path == "/":
            self.send_text(HTTPStatus.OK, "Ok")
        else:
            self.send_text(HTTPStatus.NOT_FOUND, _NOT_FOUND)

    def do_HEAD(self) -> None:  # noqa: N802 - as http.server calls it
        """Answer as GET, without the body."""
        self.do_GET()

    def do_POST(self) -> None:  # noqa: N802 - as http.server calls it
        """Answer a call, reset, or shut down."""
        try:
            body = self.read_body()
        except ValueError:
            self.refuse_length()
            return
        path = unquote(urlsplit(self.path).path)
        if (action := self.action(path)) is not None:
            action()
            self.send_text(HTTPStatus.OK, "Ok")
            return
        called = _CALL.fullmatch(path)
        if called is None or called[2] not in _METHODS:
            self.send_text(HTTPStatus.NOT_FOUND, _NOT_FOUND)
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
            self.send(HTTPStatus.OK, _PROTOBUF, response.SerializeToString())
        else:
            self.send(HTTPStatus.OK, JSON, json_format.MessageToJson(response).encode() + b"\n")

    def _refuse(self, refusal: CallError, *, is_protobuf: bool) -> None:
        if not is_protobuf:
            self.refuse(refusal.code, refusal.message)
            return
        message = status_pb2.Status(code=refusal.code.value[0], message=refusal.message)
        self.send(HTTP_STATUS.get(refusal.code, 500), _PROTOBUF, message.SerializeToString())


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
