"""Checks a task of a caller, and completes it as production does."""

from __future__ import annotations

import re
import urllib.parse
from datetime import datetime, timedelta

from gaetk_longtask.dev.tasks_emulator.errors import invalid
from gaetk_longtask.dev.tasks_emulator.messages import (
    HttpMethod,
    Message,
    Task,
    duration_of,
    is_timestamp,
    moment_of,
    set_moment,
)
from gaetk_longtask.dev.tasks_emulator.names import QueueName
from gaetk_longtask.dev.tasks_emulator.settings import check_retry_config, check_routing, set_host
from gaetk_longtask.dev.tasks_emulator.tasks import TaskRecord, target_of

APP_ENGINE_AGENT = "AppEngine-Google; (+http://code.google.com/appengine)"
HTTP_AGENT = "Google-Cloud-Tasks"

#: The size of a stored task as protobuf, measured in production in 2026 (the docstring of CreateTask says 100 KB).
MAX_TASK_BYTES = 1_048_569
MAX_URI_LENGTH = 2083
MAX_HEADER_BYTES = 80 * 1024
MAX_AHEAD = timedelta(hours=720)
SHORTEST_DEADLINE = timedelta(seconds=15)
LONGEST_APP_ENGINE_DEADLINE = timedelta(hours=24, seconds=15)
LONGEST_HTTP_DEADLINE = timedelta(minutes=30)
#: Of an HTTP target; for App Engine it depends on the service's scaling and is 10 minutes for automatic scaling.
DEFAULT_DEADLINE = timedelta(minutes=10)

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_FORBIDDEN_IN_VALUES = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f]")
_OVERRIDDEN = re.compile(r"host|content-length|x-google-.*|x-appengine-.*", re.IGNORECASE)
_METHODS = frozenset(int(method) for method in HttpMethod)
_WITH_BODY = {
    "app_engine_http_request": (HttpMethod.POST, HttpMethod.PUT),
    "http_request": (HttpMethod.POST, HttpMethod.PUT, HttpMethod.PATCH),
}


def accept(given: Message, *, name: str, queue: QueueName, now: datetime) -> TaskRecord:
    """Return the task as production stores it; raise `CallError` if production refuses it."""
    task = Task(name=name)
    match given.WhichOneof("message_type"):
        case "app_engine_http_request":
            task.app_engine_http_request.CopyFrom(given.app_engine_http_request)
            _complete_app_engine(task.app_engine_http_request, queue.project)
            longest, shown = LONGEST_APP_ENGINE_DEADLINE, "24h15s"
        case "http_request":
            task.http_request.CopyFrom(given.http_request)
            _complete_http(task.http_request)
            task.dispatch_deadline.FromTimedelta(DEFAULT_DEADLINE)
            longest, shown = LONGEST_HTTP_DEADLINE, "30m"
        case _:
            raise invalid("Task must have a target: app_engine_http_request or http_request.")
    _complete_target(task)
    if given.HasField("dispatch_deadline"):
        _set_deadline(task, given.dispatch_deadline, longest, shown)
    if given.HasField("retry_config"):
        check_retry_config(given.retry_config)
        task.retry_config.CopyFrom(given.retry_config)
    set_moment(task.create_time, now.replace(microsecond=0))
    set_moment(task.schedule_time, _schedule_time(given, now))
    if task.ByteSize() > MAX_TASK_BYTES:
        raise invalid("Task size too large")
    return TaskRecord(message=task)


def _schedule_time(given: Message, now: datetime) -> datetime:
    wanted = given.schedule_time
    if not is_timestamp(wanted):
        raise invalid("Task.scheduleTime is not a valid time.")
    if wanted.seconds > (now + MAX_AHEAD).timestamp():
        raise invalid(
            f"The Task.scheduleTime, {_shown(wanted)}, is too far in the future."
            " Schedule time must be no more than 720h in the future."
        )
    return now if wanted.seconds < 0 else max(now, moment_of(wanted))


def _shown(timestamp: Message) -> str:
    try:
        return moment_of(timestamp).isoformat()
    except OverflowError:
        return f"{timestamp.seconds} seconds after 1970"


def _set_deadline(task: Message, given: Message, longest: timedelta, shown: str) -> None:
    deadline = duration_of(given)
    if deadline == timedelta(0) and task.HasField("app_engine_http_request"):
        return  # documented: asks for the default
    if deadline is None or not SHORTEST_DEADLINE <= deadline <= longest:
        raise invalid(f"Task.dispatchDeadline must be between [15s, {shown}].")
    task.dispatch_deadline.FromMilliseconds(deadline // timedelta(milliseconds=1))


def _complete_app_engine(request: Message, project: str) -> None:
    uri = request.relative_uri or "/"
    if not uri.startswith("/"):
        raise invalid("AppEngineHttpRequest.relativeUri must begin with '/'.")
    _check_uri(uri, "AppEngineHttpRequest.relativeUri")
    request.relative_uri = uri
    check_routing(request.app_engine_routing)
    set_host(request.app_engine_routing, project)
    _take_headers(request.headers)
    agent = _pop(request.headers, "user-agent")
    request.headers["User-Agent"] = f"{agent} {APP_ENGINE_AGENT}" if agent else APP_ENGINE_AGENT
    if request.body:
        request.headers["Content-Length"] = str(len(request.body))
        if not any(name.lower() == "content-type" for name in request.headers):
            request.headers["Content-Type"] = "application/octet-stream"


def _complete_http(request: Message) -> None:
    if not request.url:
        raise invalid("HttpRequest.url is required.")
    if not request.url.lower().startswith(("http://", "https://")):
        raise invalid("HttpTarget.url must start with 'http://' or 'https://'.")
    _check_uri(request.url, "HttpRequest.url")
    try:
        parts = urllib.parse.urlsplit(request.url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        has_host = False
    if not has_host:
        raise invalid("HttpRequest.url must name a host.")
    _take_headers(request.headers)
    _pop(request.headers, "user-agent")
    request.headers["User-Agent"] = HTTP_AGENT
    if sum(len(name) + len(value.encode()) for name, value in request.headers.items()) > MAX_HEADER_BYTES:
        raise invalid("HttpRequest.headers must be less than 80KB.")


def _complete_target(task: Message) -> None:
    request = target_of(task)
    if request.http_method not in _METHODS:
        raise invalid("HTTP method is not one of POST, GET, HEAD, PUT, DELETE, PATCH and OPTIONS.")
    request.http_method = request.http_method or HttpMethod.POST
    allowed = _WITH_BODY[task.WhichOneof("message_type")]
    if request.body and request.http_method not in allowed:
        raise invalid(f"HTTP body is allowed only with {', '.join(method.name for method in allowed)}.")


def _check_uri(uri: str, field: str) -> None:
    if len(urllib.parse.quote(uri, safe="/%:?#[]@!$&'()*+,;=~")) > MAX_URI_LENGTH:
        raise invalid(f"{field} must be no longer than {MAX_URI_LENGTH} characters after encoding.")
    if _UNPRINTABLE.search(uri):
        raise invalid(f"{field} must contain neither spaces nor control characters.")


def _take_headers(headers: Message) -> None:
    for name, value in list(headers.items()):
        if not _HEADER_NAME.fullmatch(name):
            raise invalid("A header's name contains a character that HTTP does not allow, or none at all.")
        if _FORBIDDEN_IN_VALUES.search(value):
            raise invalid(f"The value of the header {name[:100]} contains a control character.")
        if _OVERRIDDEN.fullmatch(name):
            del headers[name]


def _pop(headers: Message, name: str) -> str | None:
    value = None
    for key in [key for key in headers if key.lower() == name]:
        value = headers[key]
        del headers[key]
    return value
