"""The API as REST, ``GET /v2/projects/PROJECT/locations/LOCATION/queues`` and so on, in JSON.

It also answers ``GET /``, and ``POST /reset`` for tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from google.protobuf import json_format

from gaetk_longtask.dev.rest import JSON, RestHandler, RestServer
from gaetk_longtask.dev.tasks_emulator.errors import CallError, invalid
from gaetk_longtask.dev.tasks_emulator.messages import REQUESTS, Message
from gaetk_longtask.dev.tokens import Signer

_LOCATION = "projects/[^/]+/locations/[^/]+"
_QUEUE = f"{_LOCATION}/queues/[^/:]+"
_TASK = f"{_QUEUE}/tasks/[^/:]+"
#: The calls, as `google/api/http.proto` maps them: the HTTP method, the path, the call, the field that the resource in
#: the path belongs to, and the field that the body belongs to: "*" for the whole request, "" for none.
_BINDINGS = (
    ("GET", f"(?P<resource>{_LOCATION})/queues", "ListQueues", "parent", ""),
    ("POST", f"(?P<resource>{_LOCATION})/queues", "CreateQueue", "parent", "queue"),
    ("GET", f"(?P<resource>{_QUEUE})", "GetQueue", "name", ""),
    ("PATCH", f"(?P<resource>{_QUEUE})", "UpdateQueue", "queue.name", "queue"),
    ("DELETE", f"(?P<resource>{_QUEUE})", "DeleteQueue", "name", ""),
    ("POST", f"(?P<resource>{_QUEUE}):purge", "PurgeQueue", "name", "*"),
    ("POST", f"(?P<resource>{_QUEUE}):pause", "PauseQueue", "name", "*"),
    ("POST", f"(?P<resource>{_QUEUE}):resume", "ResumeQueue", "name", "*"),
    ("GET", f"(?P<resource>{_QUEUE})/tasks", "ListTasks", "parent", ""),
    ("POST", f"(?P<resource>{_QUEUE})/tasks", "CreateTask", "parent", "*"),
    ("POST", f"(?P<resource>{_QUEUE})/tasks:batchCreate", "BatchCreateTasks", "parent", "*"),
    ("POST", f"(?P<resource>{_QUEUE})/tasks:batchDelete", "BatchDeleteTasks", "parent", "*"),
    ("GET", f"(?P<resource>{_TASK})", "GetTask", "name", ""),
    ("DELETE", f"(?P<resource>{_TASK})", "DeleteTask", "name", ""),
    ("POST", f"(?P<resource>{_TASK}):run", "RunTask", "name", "*"),
)
_PATHS = tuple((method, re.compile(f"/v2/{path}"), name, field, body) for method, path, name, field, body in _BINDINGS)
#: Parameters of every Google API, which do not belong to the request.
_SYSTEM_PARAMETERS = {
    *("access_token", "alt", "callback", "fields", "key", "oauth_token", "prettyPrint", "quotaUser", "trace"),
    *("upload_protocol", "uploadType", "userIp", "userProject"),
}
_NOT_FOUND = (
    "Not Found. The Cloud Tasks emulator answers gRPC, GET /, POST /reset, GET /oauth2/v3/certs, and the REST API under"
    " /v2/projects/PROJECT/locations/LOCATION/queues."
)

Answer = Callable[[str, Message], Message]


def rest_server(answer: Answer, *, reset: Callable[[], None], signer: Signer) -> RestServer:
    """Return a server that is not serving yet. `answer` gets the name of a call and its request."""

    class Handler(_Handler):
        def call(self, name: str, request: Message) -> Message:
            return answer(name, request)

        def reset(self) -> None:
            reset()

        def certificates(self, path: str) -> Mapping[str, Any] | None:
            return signer.certificates(path)

    return RestServer(Handler)


class _Handler(RestHandler):
    def call(self, name: str, request: Message) -> Message:
        raise NotImplementedError

    def reset(self) -> None:
        raise NotImplementedError

    def certificates(self, path: str) -> Mapping[str, Any] | None:
        raise NotImplementedError

    def _serve(self) -> None:
        try:
            body = self.read_body()
        except ValueError:
            self.refuse_length()
            return
        target = urlsplit(self.path)
        path = unquote(target.path)
        method = "GET" if self.command == "HEAD" else self.command
        if (method, path) == ("GET", "/"):
            self.send_text(HTTPStatus.OK, "Ok")
        elif (method, path) == ("POST", "/reset"):
            self.reset()
            self.send_text(HTTPStatus.OK, "Ok")
        elif method == "GET" and (certificates := self.certificates(path)) is not None:
            self.send_json(HTTPStatus.OK, certificates)
        else:
            self._answer(method, path, target.query, body)

    do_GET = do_HEAD = do_POST = do_PATCH = do_DELETE = do_PUT = _serve  # noqa: N815 - the base class's names

    def _answer(self, method: str, path: str, query: str, body: bytes) -> None:
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        try:
            for wanted, pattern, name, field, body_field in _PATHS:
                match = pattern.fullmatch(path)
                if wanted == method and match is not None:
                    request = _request(name, field, match["resource"], parameters, body_field, body)
                    self._send_message(self.call(name, request), parameters)
                    return
        except CallError as exc:
            self.refuse(exc.code, exc.message)
            return
        self.send_text(HTTPStatus.NOT_FOUND, _NOT_FOUND)

    def _send_message(self, message: Message, parameters: Mapping[str, str]) -> None:
        # The client for Python asks for numbers, because it may know fewer names than the server.
        enums = "enum-encoding=int" in (parameters.get("$alt") or parameters.get("alt") or "")
        text = json_format.MessageToJson(message, use_integers_for_enums=enums)
        self.send(HTTPStatus.OK, JSON, text.encode() + b"\n")


def _request(
    name: str, field: str, resource: str, parameters: Mapping[str, str], body_field: str, body: bytes
) -> Message:
    """Return the request that an HTTP request stands for; raise `CallError` if it stands for none."""
    request = REQUESTS[name]()
    try:
        given = json.loads(body or b"{}") if body_field else {}
        json_format.ParseDict(given if body_field in ("", "*") else {body_field: given}, request)
        for key, value in parameters.items():
            if key.startswith("$") or key in _SYSTEM_PARAMETERS:
                continue
            if _snake(key) == "update_mask":
                request.update_mask.paths.extend(_snake(path) for path in value.split(",") if path)
            else:
                json_format.ParseDict(_nested(key, value), request)
    except (json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError) as exc:
        # ParseDict assumes that objects are where a message has some.
        raise invalid(f"Invalid JSON payload received. {' '.join(str(exc).split())[:200]}") from exc
    target = request
    *parents, last = field.split(".")
    for parent in parents:
        target = getattr(target, parent)
    setattr(target, last, resource)
    return request


def _nested(key: str, value: str) -> dict[str, Any]:
    """Return ``{"a": {"b": value}}`` for ``a.b``."""
    first, _, rest = key.partition(".")
    return {first: _nested(rest, value) if rest else value}


def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", name)
