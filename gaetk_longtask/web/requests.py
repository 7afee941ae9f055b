"""What a request says: who sends it, what it asks for, and what its answer must carry."""

from __future__ import annotations

import re
import sys
from enum import StrEnum
from functools import lru_cache
from urllib.parse import quote

from flask import Request, Response, current_app, has_request_context
from flask import request as current_request
from werkzeug.datastructures import LanguageAccept, MIMEAccept
from werkzeug.http import parse_accept_header

from gaetk_longtask.queues import KEY_HEADER, Delivery
from gaetk_longtask.web.language import SOURCE, Language

JOB_FIELD, ID_FIELD = "_longtaskjob", "_longtaskid"
#: ``on`` where the waiting page has loaded itself anew, ``off`` where the visitor has told it not to.
REFRESH_FIELD = "_longtaskrefresh"
#: What App Engine takes from every request that its own queue has not sent.
QUEUE_HEADER = "X-AppEngine-QueueName"

#: The trace of a request, as W3C and as Google write it.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_CLOUD_TRACE = re.compile(r"([0-9a-f]{32})(/.*)?")

#: 128 random bits or more in URL-safe base64; nothing else is ever looked up.
_ID = re.compile(r"[A-Za-z0-9_-]{22,64}", re.ASCII)

#: How many different headers of visitors are kept in mind, with what they mean: browsers send the same few.
_REMEMBERED = 128

#: On every answer about a task: its URL is a secret, and its state changes.
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}


class JobName(StrEnum):
    """What ``_longtaskjob`` may ask for, besides starting."""

    QUERY = "query"
    SHOWRESULT = "showresult"
    CANCEL = "cancel"
    RETRY = "retry"
    EXECUTE = "execute"


def asked_job(request: Request) -> str | None:
    """Give what the query asks for; None also for a query that is no UTF-8, which Werkzeug raises about."""
    try:
        return request.args.get(JOB_FIELD)
    except UnicodeDecodeError:
        return None


def is_task_id(text: str) -> bool:
    """Tell whether it can be the id of a task at all."""
    return _ID.fullmatch(text) is not None


def wants_json(request: Request) -> bool:
    """Tell a program from a browser: it prefers JSON to HTML."""
    return _prefers_json(request.headers.get("Accept"))


@lru_cache(maxsize=_REMEMBERED)
def _prefers_json(accept: str | None) -> bool:
    accepted = parse_accept_header(accept, MIMEAccept)
    return accepted.best_match(["text/html", "application/json"]) == "application/json"


def asked_language(request: Request) -> Language:
    """Give the language that Flask-Babel has found, where the application has it; else the browser's."""
    if "babel" in current_app.extensions and (flask_babel := sys.modules.get("flask_babel")):
        return Language.best_of([str(flask_babel.get_locale() or SOURCE)])
    return _best_language(request.headers.get("Accept-Language"))


@lru_cache(maxsize=_REMEMBERED)
def _best_language(accept: str | None) -> Language:
    accepted = parse_accept_header(accept, LanguageAccept)
    return Language.best_of([code for code, quality in accepted if quality > 0])


def is_prefetch(request: Request) -> bool:
    """Tell whether a browser only guesses that its user might come here."""
    purpose = f"{request.headers.get('Sec-Purpose', '')} {request.headers.get('Purpose', '')}"
    return "prefetch" in purpose or "prerender" in purpose


def is_cross_site(request: Request) -> bool:
    """Tell whether another site's page has made the browser send this."""
    return request.headers.get("Sec-Fetch-Site") == "cross-site"


def is_same_origin(request: Request) -> bool:
    """Tell whether one of our own pages has sent this; a program sends neither header and is believed."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("Origin")
    return origin is None or origin.partition("://")[2] == request.host


def current_trace(project: str | None) -> str | None:
    """Name the trace of the current request as Cloud Logging does; None if there is none, or no project."""
    if project is None or not has_request_context():
        return None
    headers = current_request.headers
    found = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    found = found or _CLOUD_TRACE.fullmatch(headers.get("X-Cloud-Trace-Context", ""))
    return f"projects/{project}/traces/{found[1]}" if found else None


def delivery_of(request: Request) -> Delivery | None:
    """Read what the queue says of a delivery; None where its headers are missing."""
    key = request.headers.get(KEY_HEADER)
    if not key or QUEUE_HEADER not in request.headers:
        return None
    retries = request.headers.get("X-AppEngine-TaskRetryCount", "")
    return Delivery(
        task_id=request.args.get(ID_FIELD, ""),
        execute_key=key,
        task_name=request.headers.get("X-AppEngine-TaskName", ""),
        retry_count=int(retries) if re.fullmatch(r"[0-9]{1,9}", retries) else 0,
    )


def path_of(request: Request) -> str:
    """Give a request's path as a visitor and the queue write it."""
    return quoted_path(request.script_root + request.path)


def quoted_path(path: str) -> str:
    """Quote a path in one way, so that two of them can be compared; never the start of another host's URL."""
    return "/" + quote(path, safe="/:@!$&'()*+,;=~").lstrip("/")


def protect(response: Response) -> Response:
    """Set what every answer about a task carries."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    if "Vary" in response.headers:
        response.vary.add("Accept")
    else:
        response.headers["Vary"] = "Accept"
    return response
