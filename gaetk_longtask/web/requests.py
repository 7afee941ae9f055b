"""Reads from a request who sent it and what it asks for; sets the headers of its answer."""

from __future__ import annotations

import re
import sys
from enum import StrEnum
from functools import lru_cache
from urllib.parse import quote, urlsplit

from flask import Request, Response, current_app, has_request_context
from flask import request as current_request
from werkzeug.datastructures import LanguageAccept, MIMEAccept
from werkzeug.http import parse_accept_header

from gaetk_longtask.foreign import ForeignPieces
from gaetk_longtask.info import PART_FIELD
from gaetk_longtask.queues import HEALING_HEADER, KEY_HEADER, Delivery
from gaetk_longtask.splits import Address
from gaetk_longtask.web.headers import encode_file_name
from gaetk_longtask.web.languages.catalogues import SOURCE
from gaetk_longtask.web.languages.language import Language, Languages

LANGUAGES = "gaetk_longtask.languages"  #: the key of an application's `Languages` in ``app.extensions``

JOB_FIELD, ID_FIELD = "_longtaskjob", "_longtaskid"
#: ``on`` if the waiting page has refreshed automatically, ``off`` if the visitor has stopped that.
REFRESH_FIELD = "_longtaskrefresh"
#: ``1`` if the visitor wants to keep the result as a file.
DOWNLOAD_FIELD = "_longtaskdownload"
#: App Engine removes this header from every request that its own queue did not send.
QUEUE_HEADER = "X-AppEngine-QueueName"

#: The trace of a request, in the formats of W3C and of Google.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_CLOUD_TRACE = re.compile(r"([0-9a-f]{32})(/.*)?")

#: 128 random bits or more in URL-safe base64; other ids are not looked up.
_ID = re.compile(r"[A-Za-z0-9_-]{22,64}", re.ASCII)

#: A name or an IP address, and perhaps a port.
_HOST = re.compile(r"([A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", re.ASCII)

#: The headers by which browsers say that they only guess that their user will want the page, and what they contain.
_PURPOSE_HEADERS = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")
_GUESSES = ("prefetch", "prerender", "preview", "instant")

_REMEMBERED = 128  #: how many header values are cached with their meaning; browsers send the same few

#: The headers of every answer about a task, because its URL is a secret and its state changes.
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
#: All headers that every answer gets, by their names in lower case.
_ADDED = {name.lower(): (name, value) for name, value in (*HEADERS.items(), ("Vary", "Accept"))}


class JobName(StrEnum):
    """The values of ``_longtaskjob``. A request without it and without an id starts a task."""

    QUERY = "query"
    SHOWRESULT = "showresult"
    CANCEL = "cancel"
    RETRY = "retry"
    EXECUTE = "execute"


def asked_job(request: Request) -> str | None:
    """Return the job that the query asks for; None also if the query is not UTF-8, for which Werkzeug raises."""
    try:
        return request.args.get(JOB_FIELD)
    except UnicodeDecodeError:
        return None


def is_task_id(text: str) -> bool:
    """Return whether a text has the form of a task id."""
    return _ID.fullmatch(text) is not None


def wants_json(request: Request) -> bool:
    """Return whether the client prefers JSON to HTML: programs do, browsers do not."""
    return _prefers_json(request.headers.get("Accept"))


@lru_cache(maxsize=_REMEMBERED)
def _prefers_json(accept: str | None) -> bool:
    accepted = parse_accept_header(accept, MIMEAccept)
    return accepted.best_match(["text/html", "application/json"]) == "application/json"


def asked_language(request: Request) -> Language:
    """Return the language that the settings name, else the one that Flask-Babel has selected, else the browser's."""
    extensions = current_app.extensions
    languages: Languages = extensions.get(LANGUAGES) or Languages()
    if languages.only is not None:
        return languages.only
    if "babel" in extensions and (flask_babel := sys.modules.get("flask_babel")):
        return languages.best_of([str(flask_babel.get_locale() or SOURCE)])
    return _best_language(languages, request.headers.get("Accept-Language"))


@lru_cache(maxsize=_REMEMBERED)
def _best_language(languages: Languages, accept: str | None) -> Language:
    accepted = parse_accept_header(accept, LanguageAccept)
    return languages.best_of([code for code, quality in accepted if quality > 0])


def is_prefetch(request: Request) -> bool:
    """Return whether a browser only prefetches or previews the page, before its user has asked for it."""
    purpose = " ".join(request.headers.get(name, "") for name in _PURPOSE_HEADERS).lower()
    return any(guess in purpose for guess in _GUESSES)


def is_cross_site(request: Request) -> bool:
    """Return whether a page of another site made the browser send the request."""
    site = request.headers.get("Sec-Fetch-Site")
    return not _names_our_host(request) if site is None else site not in ("same-origin", "same-site", "none")


def is_same_origin(request: Request) -> bool:
    """Return whether one of our own pages sent the request; a program, which sends none of the headers, is trusted."""
    site = request.headers.get("Sec-Fetch-Site")
    return _names_our_host(request) if site is None else site in ("same-origin", "none")


def _names_our_host(request: Request) -> bool:
    """Return whether `Origin`, or else `Referer`, names the host of the request, or both are missing."""
    origin = request.headers.get("Origin", request.headers.get("Referer"))
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return _without_port(parts.netloc) == _without_port(request.host)


def _without_port(host: str) -> str:
    """Return a host in lower case, without a port that may be left out."""
    return host.lower().removesuffix(":443").removesuffix(":80")


def has_possible_host(request: Request) -> bool:
    """Return whether the request's host can be part of a URL; Werkzeug returns an empty one for many that can't."""
    return _HOST.fullmatch(request.host) is not None


def current_trace(project: str | None) -> str | None:
    """Return the trace of the current request in Cloud Logging's format; None without a trace or a project."""
    if project is None or not has_request_context():
        return None
    headers = current_request.headers
    found = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    found = found or _CLOUD_TRACE.fullmatch(headers.get("X-Cloud-Trace-Context", ""))
    return f"projects/{project}/traces/{found[1]}" if found else None


def delivery_of(request: Request) -> Delivery | None:
    """Return what the queue's headers say about a delivery; None if they are missing."""
    key = request.headers.get(KEY_HEADER)
    if not key or QUEUE_HEADER not in request.headers:
        return None
    retries = request.headers.get("X-AppEngine-TaskRetryCount", "")
    return Delivery(
        task_id=request.args.get(ID_FIELD, ""),
        execute_key=key,
        task_name=request.headers.get("X-AppEngine-TaskName", ""),
        retry_count=int(retries) if re.fullmatch(r"[0-9]{1,9}", retries) else 0,
        part=Address.parse(request.args[PART_FIELD]) if PART_FIELD in request.args else None,
        endpoint=request.endpoint or "",
        healing=HEALING_HEADER in request.headers,
    )


def path_of(request: Request) -> str:
    """Return a request's quoted path, as visitors and the queue request it."""
    return quoted_path(request.script_root + request.path)


def quoted_path(path: str) -> str:
    """Return a path in one canonical quoting, for comparisons; never with ``//`` at its start, as before a host."""
    return "/" + quote(path, safe="/:@!$&'()*+,;=~").lstrip("/")


def finish(response: Response) -> Response:
    """Protect and guard a response."""
    return guard(protect(response))


def protect(response: Response) -> Response:
    """Set the headers of every answer about a task, and encode the name of a download."""
    headers = response.headers
    present = {name.lower() for name, _ in headers}
    if present.isdisjoint(_ADDED):
        headers.extend(_ADDED.values())
    else:  # the application's own
        headers.update(HEADERS)
        response.vary.add("Accept")
    if "content-disposition" in present:
        encode_file_name(headers)
    return response


def guard(response: Response) -> Response:
    """Let only exceptions that a server expects leave the pieces of a streamed response, see `ForeignPieces`."""
    if response.is_streamed and not response.direct_passthrough:  # which is a file, and the server's own to send
        response.response = ForeignPieces(response.response)
    return response
