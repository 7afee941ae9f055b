"""A client for long-running tasks over HTTP. It does what a browser does, with the standard library only."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

_REQUEST_SECONDS = 60.0
_MAX_REDIRECTS = 10
_SHORTEST_WAIT_SECONDS = 0.1


class JobError(Exception):
    """A job could not be started, followed or collected. The message says what happened."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The response at the end of a chain of redirects."""

    status: int
    body: bytes
    #: The requested URLs in order: the first one, then the target of each redirect.
    urls: tuple[str, ...]


def run_job(
    url: str,
    *,
    form: Mapping[str, str] | None = None,
    show: Callable[[Mapping[str, Any]], None],
    timeout_seconds: float,
) -> Answer:
    """Start a job by GET, or by POST if there is a form. Show its progress until it is done, and return the result."""
    deadline = time.monotonic() + timeout_seconds
    waiting_page = _expect_ok(browse(url, form=form))
    status_url = next((url for url in waiting_page.urls if "_longtaskid=" in url), None)
    if status_url is None:
        raise JobError(f"{url} did not start a task")
    while True:
        document = _status_document(status_url)
        show(document)
        if document["done"]:
            break
        if time.monotonic() > deadline:
            raise JobError(f"{status_url} is not done after {timeout_seconds:.0f} seconds")
        time.sleep(max(document["poll_after_seconds"], _SHORTEST_WAIT_SECONDS))
    if document["links"]["result"] is None:
        raise JobError(f"{status_url} has ended with status {document['status']}: {document['error']}")
    return _expect_ok(browse(urljoin(url, document["links"]["result"])))


def browse(url: str, *, form: Mapping[str, str] | None = None, accept: str = "text/html") -> Answer:
    """Send a GET, or a POST if there is a form, and follow redirects like a browser without cookies."""
    body = None if form is None else urlencode(form)
    urls = [url]
    while len(urls) <= _MAX_REDIRECTS:
        status, location, content = _request(urls[-1], body, accept)
        if location is None:
            return Answer(status=status, body=content, urls=tuple(urls))
        urls.append(urljoin(urls[-1], location))
        if status not in (HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT):
            body = None  # After all other redirects, a browser sends a GET.
    raise JobError(f"{url} redirects too often")


def _status_document(url: str) -> dict[str, Any]:
    answer = _expect_ok(browse(url, accept="application/json"))
    try:
        document: dict[str, Any] = json.loads(answer.body)
    except ValueError as exc:
        raise JobError(f"{url} did not return a status document") from exc
    return document


def _request(url: str, body: str | None, accept: str) -> tuple[int, str | None, bytes]:
    parts = urlsplit(url)
    headers = {"Accept": accept, "Sec-Fetch-Site": "same-origin"}
    if body is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    connection = HTTPConnection(parts.netloc, timeout=_REQUEST_SECONDS)
    try:
        connection.request("GET" if body is None else "POST", f"{parts.path}?{parts.query}", body, headers)
        response = connection.getresponse()
        content = response.read()
    except (OSError, HTTPException) as exc:
        raise JobError(f"{url} did not respond: {exc!r}") from exc
    finally:
        connection.close()
    redirects = HTTPStatus.MULTIPLE_CHOICES <= response.status < HTTPStatus.BAD_REQUEST
    return response.status, response.getheader("Location") if redirects else None, content


def _expect_ok(answer: Answer) -> Answer:
    if answer.status != HTTPStatus.OK:
        raise JobError(f"{answer.urls[-1]} returned status {answer.status}")
    return answer
