"""Simulated visitors. Each starts a task, polls it, and retries until it has the result."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from tests.chaos import app

#: The share of visitors for each kind of task, in per cent.
KINDS = {
    "quick": 13,
    "slow": 13,
    "parts": 25,
    "large": 12,
    "yielding": 11,
    "upload": 8,
    "flaky": 10,
    "moved": 4,
    "gone": 2,
    "hopeless": 2,
}
#: Kinds whose URL not every instance has.
ONLY_FIRST = {"moved", "gone"}
#: The share of visitors who cancel their task once, and then retry it.
_CANCELS, _CANCELS_PARTS = 0.05, 0.2
_TIMEOUT_SECONDS = 60.0
_UPLOAD_BYTES = 600_000
_BOUNDARY = b"between-the-parts"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A response of the application."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The parsed JSON body."""
        return json.loads(self.body)


def ask(
    method: str,
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = _TIMEOUT_SECONDS,
) -> Answer | None:
    """Send a request, and return the response, or None if it did not arrive completely."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=timeout)
    try:
        all_headers = {"Accept": "application/json", **(headers or {})}
        connection.request(method, f"{parts.path}?{parts.query}", body, all_headers)
        response = connection.getresponse()
        return Answer(status=response.status, headers=dict(response.headers), body=response.read())
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def upload(url: str, data: bytes, *, timeout: float = _TIMEOUT_SECONDS) -> Answer | None:
    """Upload a file with a form."""
    part = b'Content-Disposition: form-data; name="file"; filename="data"\r\nContent-Type: application/octet-stream'
    body = b"--%s\r\n%s\r\n\r\n%s\r\n--%s--\r\n" % (_BOUNDARY, part, data, _BOUNDARY)
    headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY.decode()}"}
    return ask("POST", url, body=body, headers=headers, timeout=timeout)


def expected(kind: str, number: int) -> bytes:
    """Return the expected body of the result page."""
    match kind:
        case "quick":
            return json.dumps({"square": number**2}).encode()
        case "slow" | "flaky" | "moved" | "gone":
            return f"{kind} {number}".encode()
        case "large":
            return app.noise(number, app.large_size(number))
        case "yielding":
            return b"".join(app.piece(number, index) for index in range(app.PIECES))
        case "parts":
            return b"".join(app.piece(number, index) for index in range(app.part_count(number)))
        case "upload":
            return app.digest(app.noise(number, _UPLOAD_BYTES)).encode()
        case _:
            raise AssertionError(kind)


def is_right(kind: str, number: int, body: bytes) -> bool:
    """Compare a result with the expected one byte for byte. In JSON, spaces do not matter."""
    if kind == "quick":
        return bool(json.loads(body) == json.loads(expected(kind, number)))
    return body == expected(kind, number)


def kinds(number: int, rng: random.Random) -> list[str]:
    """Return a random kind of task for each visitor, in the proportions of `KINDS`."""
    drawn = [kind for kind, share in KINDS.items() for _ in range(max(1, round(share * number / 100)))][:number]
    drawn += ["quick"] * (number - len(drawn))
    rng.shuffle(drawn)
    return drawn


class Bar:
    """The bar of one task, as a visitor sees it who looks all the time. It must not go back within a run.

    A run ends when its visitor retries it. Only what memcached has lost is forgiven: what was seen is compared while
    the same memcached runs, and every worker has noticed it. Without memcached, a worker knows the durable state alone.
    """

    def __init__(self, memcached: Callable[[], object]) -> None:
        self._memcached = memcached  #: what identifies the running memcached; None while there is none
        self._run = 0
        self._since: tuple[object, int] = (None, 0)  #: the memcached and the run of what was seen last
        self._longest = 0
        self.steps_back: list[str] = []
        self.looks = 0

    def begin_run(self) -> None:
        """Note that the visitor is about to retry the task."""
        self._run += 1

    def look(self, url: str) -> None:
        """Ask for the status document once."""
        memcached, run = self._memcached(), self._run
        answer = ask("GET", url)
        if answer is None or answer.status != 200 or memcached is None:
            return
        if memcached is self._memcached() and run == self._run:
            self.see(answer.json, memcached, run)

    def see(self, document: Mapping[str, Any], memcached: object, run: int = 0) -> None:
        """Compare the bar of a document with that of the one before."""
        self.looks += 1
        percent = document["progress"]["percent"]
        if (memcached, run) != self._since:
            self._since, self._longest = (memcached, run), 0
        if document["done"] or document["status"] == "ready":  # the next run begins
            self._longest = 0
        elif percent is None:  # the worker has not reached memcached, and does not know
            return
        elif percent < self._longest:
            self.steps_back.append(f"from {self._longest} % back to {percent} %: {document}")
        else:
            self._longest = percent


class Visitor:
    """A visitor who wants one result and does not give up."""

    def __init__(
        self,
        sites: Sequence[str],
        kind: str,
        number: int,
        rng: random.Random,
        stopped: threading.Event,
        *,
        memcached: Callable[[], object] = lambda: None,
    ) -> None:
        """Visit one of the `sites`. `memcached` returns what identifies the running memcached."""
        self.kind = kind
        self.number = number
        self.task_id: str | None = None
        self.state = "not started"
        self.retries = 0
        self.cancels = 0
        self.polls = 0
        #: Responses that must never occur.
        self.complaints: list[str] = []
        self.ended = False
        self.bar = Bar(memcached)
        self._sites = sites[:1] if kind in ONLY_FIRST else sites
        self._will_cancel = rng.random() < (_CANCELS_PARTS if kind == "parts" else _CANCELS)
        self._delays = [rng.uniform(0.2, 1.0) for _ in range(16)]
        self._stopped = stopped

    def run(self, after_seconds: float) -> None:
        """Start a task, follow it and collect the result. Return when that is done, or when the run is stopped."""
        if self._stopped.wait(after_seconds):
            return
        url = self._start()
        if url and self.kind == "parts":
            threading.Thread(target=self._watch_bar, args=(url,), daemon=True).start()
        while url and not self._stopped.is_set():
            document = self._poll(url)
            if document is None:
                self._pause()
            elif self._is_over(document):
                self.ended = True
                return
            else:
                self._stopped.wait(document["poll_after_seconds"] or 0.2)

    def _watch_bar(self, url: str) -> None:
        first = self._sites[0] + url[url.index("/", 8) :]  # the other instance can't reach memcached
        while not self.ended and not self._stopped.wait(0.1):
            self.bar.look(first)

    @property
    def _site(self) -> str:
        """The instance that happens to answer the next request."""
        return random.choice(self._sites)

    def _pause(self) -> None:
        self._stopped.wait(self._delays[self.polls % len(self._delays)])

    def _start(self) -> str | None:
        address = f"{self._site}/{self.kind}/{self.number}"
        while not self._stopped.is_set():
            if self.kind == "upload":
                answer = upload(address, app.noise(self.number, _UPLOAD_BYTES))
            else:
                answer = ask("GET", address)
            if answer is not None and answer.status == 202:
                self.task_id = answer.json["id"]
                return str(self._site + answer.json["links"]["self"])
            self._mind(answer, "start")
            self.polls += 1
            self._pause()
        return None

    def _poll(self, url: str) -> dict[str, Any] | None:
        answer = ask("GET", url)
        self.polls += 1
        if answer is None or answer.status != 200:
            self._mind(answer, "poll")
            return None
        document: dict[str, Any] = answer.json
        self.state = document["status"]
        return document

    def _mind(self, answer: Answer | None, what: str) -> None:
        """Record an unexpected response. Only missing responses and 503 (Datastore does not answer) are accepted."""
        if answer is not None and answer.status != 503:
            self.complaints.append(f"{self}: {what} was answered with {answer.status}: {answer.body[:300]!r}")

    def _is_over(self, document: dict[str, Any]) -> bool:
        links = document["links"]
        has_begun = document["progress"]["step"] or document["progress"]["percent"]
        if self._will_cancel and links["cancel"] and has_begun:
            self._will_cancel = False
            answer = ask("POST", self._site + links["cancel"])
            self.cancels += answer is not None and answer.status == 200
            return False
        if not document["done"]:
            return False
        if links["result"]:
            return self._collect(self._site + links["result"])
        if self.kind == "hopeless":
            return True
        self.bar.begin_run()
        answer = ask("POST", self._site + links["retry"])
        self.retries += answer is not None and answer.status == 200
        return False

    def _collect(self, url: str) -> bool:
        answer = ask("GET", url)
        if answer is None or answer.status != 200:
            self._mind(answer, "result")
            return False
        if not is_right(self.kind, self.number, answer.body):
            self.complaints.append(f"{self}: a wrong result of {len(answer.body)} bytes")
        return True

    def __str__(self) -> str:
        return f"{self.kind} {self.number} ({(self.task_id or '?')[:8]}, {self.state})"


def wait_for(task_url: str, *, seconds: float) -> dict[str, Any]:
    """Poll a task until it has ended, and return its status document."""
    deadline = time.monotonic() + seconds
    document: dict[str, Any] = {}
    while time.monotonic() < deadline:
        answer = ask("GET", task_url)
        if answer is not None and answer.status == 200:
            document = answer.json
            if document["done"]:
                return document
        time.sleep(0.1)
    message = f"the task has not ended after {seconds} seconds: {document}"
    raise AssertionError(message)
