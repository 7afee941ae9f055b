"""Starts, follows and steers tasks at an application, over HTTP."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Literal, cast
from urllib.parse import urljoin, urlsplit

import requests

from gaetk_longtask.client.documents import StatusDocument, is_status_document
from gaetk_longtask.exceptions import LongTaskError

_ID_FIELD = "_longtaskid="  #: in the URL of every task
#: What a program accepts: status documents, and results of any kind.
_ACCEPT_DOCUMENT = {"Accept": "application/json"}
_ACCEPT_RESULT = {"Accept": "application/json, */*;q=0.5"}
#: Answers after which asking again may help.
_TEMPORARY = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 300.0
_FIRST_BACKOFF, _LONGEST_BACKOFF = 1.0, 60.0


class ClientError(LongTaskError):
    """The application did not answer, or with something that the client does not understand."""


class ProblemAnswerError(ClientError):
    """The application has answered with an error."""

    def __init__(self, response: requests.Response) -> None:
        problem = _json_of(response)
        problem = problem if isinstance(problem, dict) else {}
        self.status = response.status_code  #: the HTTP status
        self.detail = str(problem.get("detail") or response.reason or "")  #: what went wrong
        self.reference = cast("str | None", problem.get("reference"))  #: the reference that is also in the log, or None
        #: the URL that retries the task by POST, if it was stored but could not be started; else None
        self.retry_url = urljoin(response.url, str(problem["retry"])) if problem.get("retry") else None
        self.retry_after_seconds = _seconds(response)  #: when asking again may help; None if unknown
        super().__init__(f"{_shortened(response.url)} answered {self.status}: {self.detail}")


class NoResultError(ClientError):
    """The task has no result: it failed, was cancelled or has not ended."""

    def __init__(self, document: StatusDocument) -> None:
        self.document = document  #: the task's state
        super().__init__(f"There is no result: the task is {document['status']}. {document['error'] or ''}".rstrip())


class StillRunningError(ClientError, TimeoutError):
    """The task has not ended within the time that the caller allowed. It goes on."""


class Client:
    """Starts tasks: ``task = Client().start("https://www.example.com/report")``."""

    def __init__(
        self,
        session: requests.Session | None = None,
        *,
        request_seconds: float = 60,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Send all requests through the `session`, which carries your login.

        `request_seconds` limits each request. `clock` and `sleep` are for tests.
        """
        self._session = session or requests.Session()
        self._request_seconds = request_seconds
        self.clock = clock
        self.sleep = sleep

    def start(self, url: str, *, params: Mapping[str, Any] | None = None, data: Any = None, files: Any = None) -> Task:
        """Start a task: by POST if there are `data` or `files`, else by GET. The arguments are those of ``requests``.

        A start is sent once. If no answer arrives, the task may have been started all the same.

        Raises:
            ProblemAnswerError: the application has refused the request.
            ClientError: there was no answer, or `url` starts no task.
        """
        method = "GET" if data is None and files is None else "POST"
        response = self.send(method, url, params=params, data=data, files=files)
        document = _document_of(response)
        return Task(self, urljoin(response.url, document["links"]["self"]), document)

    def task(self, url: str) -> Task:
        """Return a task that was started before, by the URL of its page; sends one request."""
        if _ID_FIELD not in url:
            raise ClientError(f"{_shortened(url)} is not the URL of a task's page: it has no {_ID_FIELD.rstrip('=')}.")
        return Task(self, url, _document_of(self.send("GET", url)))

    def send(self, method: str, url: str, *, accept: Mapping[str, str] = _ACCEPT_DOCUMENT, **more: Any) -> Any:
        """Send a request, and return the response; raise `ClientError` if there is none or it is an error."""
        try:
            response = self._session.request(method, url, headers=accept, timeout=self._request_seconds, **more)
        except (requests.RequestException, ValueError) as exc:  # ValueError: an impossible URL
            raise ClientError(f"{_shortened(url)} did not answer: {exc!r}") from exc
        if not response.ok:
            raise ProblemAnswerError(response)
        return response


class Task:
    """A task at its application. `Client` makes it."""

    def __init__(self, client: Client, url: str, document: StatusDocument) -> None:
        self._client = client
        self.url = url  #: the absolute URL of the task's page, fit for a bookmark
        self.document = document  #: the state of the task when it was last asked for
        self._retry_after: float | None = None  #: what the last answer's header said

    def refresh(self) -> StatusDocument:
        """Ask for the state of the task, and return it."""
        return self._ask("GET", self.url)

    def documents(
        self, *, timeout_seconds: float | None = None, patience_seconds: float = 120
    ) -> Iterator[StatusDocument]:
        """Yield the state of the task until it has ended, at the pace that the application asks for.

        If the application does not answer, or has a temporary problem, it is asked again after growing pauses.

        Raises:
            StillRunningError: the task has not ended after `timeout_seconds`.
            ClientError: there was no useful answer for `patience_seconds`, or a lasting problem such as 404.
        """
        ends_at = None if timeout_seconds is None else self._client.clock() + timeout_seconds
        yield self.document
        pause = self._pause
        while not self.document["done"]:
            self._wait(pause, ends_at)
            self._refresh_patiently(ends_at, patience_seconds)
            yield self.document
            pause = self._pause

    def follow(
        self,
        on_progress: Callable[[StatusDocument], object] | None = None,
        *,
        timeout_seconds: float | None = None,
        patience_seconds: float = 120,
    ) -> StatusDocument:
        """Wait until the task has ended, and return its last state, which may be that it failed.

        `on_progress` is called with each state, for instance a `ProgressBar`. It raises what `documents` raises.
        """
        for document in self.documents(timeout_seconds=timeout_seconds, patience_seconds=patience_seconds):
            if on_progress is not None:
                on_progress(document)
        return self.document

    def cancel(self) -> StatusDocument:
        """Cancel the task, and return its state. A task that has ended stays as it is."""
        return self._steer("cancel")

    def retry(self) -> StatusDocument:
        """Start the task again if it failed or was cancelled, and return its state. Other tasks stay as they are."""
        return self._steer("retry")

    def result(self, *, stream: bool = False) -> requests.Response:
        """Return the response with the result; with `stream`, its body is only read when you iterate over it.

        Raises:
            NoResultError: the task failed, was cancelled or has not ended.
        """
        url = self.document["links"]["result"] or self.refresh()["links"]["result"]
        if url is None:
            raise NoResultError(self.document)
        response: requests.Response = self._client.send("GET", self._join(url), accept=_ACCEPT_RESULT, stream=stream)
        return response

    def _steer(self, name: Literal["cancel", "retry"]) -> StatusDocument:
        url = self.document["links"][name] or self.refresh()["links"][name]
        return self.document if url is None else self._ask("POST", self._join(url))

    def _ask(self, method: str, url: str) -> StatusDocument:
        response = self._client.send(method, url)
        self.document = _document_of(response)
        self._retry_after = _seconds(response)
        return self.document

    @property
    def _pause(self) -> float:
        wanted = self._retry_after or self.document["poll_after_seconds"] or _FIRST_BACKOFF
        return min(max(wanted, _SHORTEST_PAUSE), _LONGEST_PAUSE)

    def _wait(self, seconds: float, ends_at: float | None) -> None:
        left = seconds if ends_at is None else ends_at - self._client.clock()
        if left <= 0:
            raise StillRunningError(f"{_shortened(self.url)} has not ended: it is {self.document['status']}.")
        self._client.sleep(min(seconds, left))

    def _refresh_patiently(self, ends_at: float | None, patience_seconds: float) -> None:
        gives_up_at, backoff = self._client.clock() + patience_seconds, _FIRST_BACKOFF
        while True:
            try:
                self.refresh()
            except ProblemAnswerError as exc:
                if exc.status not in _TEMPORARY or self._client.clock() >= gives_up_at:
                    raise
                wanted = exc.retry_after_seconds
            except ClientError as exc:
                if not isinstance(exc.__cause__, requests.RequestException) or self._client.clock() >= gives_up_at:
                    raise
                wanted = None
            else:
                return
            pause = wanted if wanted is not None else backoff * random.uniform(0.5, 1)  # noqa: S311  # no secret
            self._wait(min(max(pause, _SHORTEST_PAUSE), _LONGEST_PAUSE), ends_at)
            backoff = min(2 * backoff, _LONGEST_BACKOFF)

    def _join(self, link: str) -> str:
        """Return the absolute URL of a link; it must lead to the task's own host, because a login may be sent there."""
        url = urljoin(self.url, link)
        if urlsplit(url)[:2] != urlsplit(self.url)[:2]:
            raise ClientError(f"{_shortened(self.url)} links to another host: {_shortened(url)}")
        return url


def _document_of(response: requests.Response) -> StatusDocument:
    """Return the status document in a response; raise `ClientError` if it has none, for instance a login page."""
    document = _json_of(response)
    if not is_status_document(document):
        kind = response.headers.get("Content-Type", "no content type")
        message = (
            f"{_shortened(response.url)} did not answer with a status document, but with {kind}. Are you signed in?"
        )
        raise ClientError(message)
    return document


def _json_of(response: requests.Response) -> Any:
    try:
        return response.json()
    except (ValueError, requests.RequestException):
        return None


def _seconds(response: requests.Response) -> float | None:
    """Return the seconds in ``Retry-After``; None if there is none, or a date."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _shortened(url: str) -> str:
    """Return a URL without its query, which has the secret id of a task."""
    return url.partition("?")[0]
