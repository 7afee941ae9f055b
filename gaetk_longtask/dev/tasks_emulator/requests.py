"""The HTTP request of an attempt: its URL and headers."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from gaetk_longtask.dev.tasks_emulator.messages import HttpMethod, Message
from gaetk_longtask.dev.tasks_emulator.names import short_task_name
from gaetk_longtask.dev.tasks_emulator.scheduler import Attempt
from gaetk_longtask.dev.tokens import Signer, base64url

_SAFE = "/%:?#[]@!$&'()*+,;=~"
# Headers of the connection, and those that only the queue may set.
_OURS = re.compile(
    r"connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|expect"
    r"|host|content-length|x-google-.*|x-appengine-.*|x-cloudtasks-.*",
    re.IGNORECASE,
)
_BODILESS = {"GET", "HEAD", "DELETE", "OPTIONS"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outgoing:
    """An HTTP request."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Routes:
    """The URLs of App Engine's services and versions on this machine."""

    app_url: str
    #: URLs by ``service`` and by ``version.service``; the longer name wins, and `app_url` is for all others.
    named: Mapping[str, str] = field(default_factory=dict)

    def url_of(self, routing: Message) -> str:
        """Return the URL that a task with this routing goes to."""
        service = routing.service or "default"
        return self.named.get(f"{routing.version}.{service}") or self.named.get(service) or self.app_url


def outgoing(attempt: Attempt, routes: Routes, signer: Signer) -> Outgoing:
    """Return the request for an attempt."""
    if attempt.task.HasField("app_engine_http_request"):
        return _app_engine(attempt, routes)
    return _http(attempt, signer)


def _app_engine(attempt: Attempt, routes: Routes) -> Outgoing:
    request = attempt.task.app_engine_http_request
    queue = attempt.queue.message
    # The queue's routing wins over the task's (documentation of `AppEngineHttpRequest`).
    override = queue.HasField("app_engine_routing_override")
    routing = queue.app_engine_routing_override if override else request.app_engine_routing
    headers = _own_headers(request.headers)
    headers |= _queue_headers(attempt, "X-AppEngine-")
    url = routes.url_of(routing).rstrip("/") + request.relative_uri
    return _finished(request.http_method, url, headers, request.body)


def _http(attempt: Attempt, signer: Signer) -> Outgoing:
    request = attempt.task.http_request
    headers = _own_headers(request.headers)
    token = _authorization(request, signer, attempt.began)
    if token:
        headers = {key: value for key, value in headers.items() if key.lower() != "authorization"}
        headers["Authorization"] = token
    headers |= _queue_headers(attempt, "X-CloudTasks-")
    return _finished(request.http_method, request.url, headers, request.body)


def _finished(method: int, url: str, headers: dict[str, str], body: bytes) -> Outgoing:
    verb = HttpMethod(method).name
    if verb not in _BODILESS:
        headers["Content-Length"] = str(len(body))
    headers["Connection"] = "close"
    return Outgoing(method=verb, url=urllib.parse.quote(url, safe=_SAFE), headers=headers, body=body)


def _own_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if not _OURS.fullmatch(name)}


def _queue_headers(attempt: Attempt, prefix: str) -> dict[str, str]:
    headers = {
        "QueueName": attempt.queue.name.queue,
        "TaskName": short_task_name(attempt.task.name),
        "TaskRetryCount": str(attempt.retries),
        "TaskExecutionCount": str(attempt.executions),
        "TaskETA": _eta(attempt.task.schedule_time),
    }
    if attempt.previous is not None:
        headers["TaskPreviousResponse"] = str(attempt.previous.response)
        headers["TaskRetryReason"] = attempt.previous.reason
    return {prefix + name: value for name, value in headers.items()}


def _eta(timestamp: Message) -> str:
    return f"{timestamp.seconds}.{timestamp.nanos // 1000:06}"


def _authorization(request: Message, signer: Signer, now: datetime) -> str | None:
    """Return the Authorization header with the token that the target asks for."""
    match request.WhichOneof("authorization_header"):
        case "oidc_token":
            token = request.oidc_token
            return f"Bearer {signer.token(token.service_account_email, token.audience or request.url, now)}"
        case "oauth_token":
            # An access token is opaque, and only Google's APIs accept it.
            return f"Bearer unsigned.{base64url({'email': request.oauth_token.service_account_email})}"
    return None
