"""Fixtures: the sample application on the local stack, and a visitor without cookies."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode, urljoin, urlsplit

import pytest

from gaetk_longtask.dev.processes import MissingPieceError
from gaetk_longtask.pytest_plugin import LocalStack
from tests.chaos.battlefield import Battlefield
from tests.endurance.runs import Course
from tests.missing import missing

ROOT = Path(__file__).parents[2]
START_SECONDS = 120
JOB_SECONDS = 120


class Program:
    """A module of the project that runs in its own process. Its output is read line by line."""

    def __init__(self, module: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.lines: list[str] = []
        self._unread: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._read, args=[self.process.stdout, self._unread.put], daemon=True),
            threading.Thread(target=self._read, args=[self.process.stderr, lambda _: None], daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, output: IO[str], tell: Callable[[str | None], None]) -> None:
        with output:
            for line in output:
                self.lines.append(line.rstrip())
                tell(line)
        tell(None)

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, start: str, *, seconds: float = START_SECONDS) -> str:
        """Wait for a line of standard output that begins with `start`, and return its rest."""
        deadline = time.monotonic() + seconds
        while line := self._next_line(deadline):
            if line.startswith(start):
                return line.removeprefix(start).rstrip()
        if "is not installed" in self.output and self.process.poll():
            missing(self.output)
        raise AssertionError(f"no line that starts with {start!r} in {seconds} seconds:\n{self.output}")

    def _next_line(self, deadline: float) -> str | None:
        """Return the next line with its line break, or None if there is no more line, or none in time."""
        try:
            return self._unread.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            return None

    def wait(self, *, seconds: float) -> int:
        """Wait for the end of the process and of its output, and return the exit code."""
        code = self.process.wait(seconds)
        self._join()
        return code

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
            self._join()

    def _join(self) -> None:
        for reader in self._readers:
            reader.join(10)


@contextmanager
def running(module: str, *arguments: str) -> Iterator[Program]:
    program = Program(module, *arguments)
    try:
        yield program
    finally:
        program.stop()


@dataclass(frozen=True, kw_only=True)
class Answer:
    url: str
    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def location(self) -> str:
        return urljoin(self.url, str(self.headers["Location"]))


class Visitor:
    """Sends one request at a time, and follows no redirects."""

    def __init__(self, site: str) -> None:
        self.site = site

    def get(self, path: str, *, accept: str = "text/html") -> Answer:
        return self._ask("GET", path, None, {"Accept": accept})

    def post(self, path: str, *, accept: str = "text/html", **fields: str) -> Answer:
        content_type = "application/x-www-form-urlencoded"
        return self._ask("POST", path, urlencode(fields).encode(), {"Accept": accept, "Content-Type": content_type})

    def upload(self, path: str, data: bytes, *, accept: str = "text/html") -> Answer:
        boundary = b"between-the-parts"
        part = b'Content-Disposition: form-data; name="file"; filename="invoices.csv"\r\nContent-Type: text/csv'
        body = b"--%s\r\n%s\r\n\r\n%s\r\n--%s--\r\n" % (boundary, part, data, boundary)
        content_type = f"multipart/form-data; boundary={boundary.decode()}"
        return self._ask("POST", path, body, {"Accept": accept, "Content-Type": content_type})

    def follow(self, started: Answer) -> dict[str, Any]:
        """Wait until a started task has ended, and return its status document."""
        deadline = time.monotonic() + JOB_SECONDS
        while True:
            document: dict[str, Any] = self.get(started.location, accept="application/json").json
            if document["done"]:
                return document
            assert time.monotonic() < deadline, document
            time.sleep(document["poll_after_seconds"])

    def collect(self, started: Answer) -> Answer:
        """Wait for the result of a started task, and return it."""
        document = self.follow(started)
        assert document["links"]["result"], document
        return self.get(document["links"]["result"])

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        url = urljoin(self.site, path)
        parts = urlsplit(url)
        connection = HTTPConnection(parts.netloc, timeout=30)
        try:
            connection.request(method, f"{parts.path}?{parts.query}", body, headers)
            response = connection.getresponse()
            return Answer(url=url, status=response.status, headers=response.headers, body=response.read())
        finally:
            connection.close()


@pytest.fixture(scope="package", autouse=True)
def _unmeasured() -> Iterator[None]:
    """Measure no coverage in the programs. It would take 50 % longer, and other tests cover the same code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield


@pytest.fixture(scope="package")
def stack(longtask_stack: Callable[[str], LocalStack]) -> LocalStack:
    """The sample application, which all tests share."""
    return longtask_stack("sample_app.main:app")


@pytest.fixture(scope="package")
def visitor(stack: LocalStack) -> Visitor:
    """A visitor of the sample application."""
    return Visitor(stack.url)


@pytest.fixture(scope="package")
def bundled_import(visitor: Visitor) -> Answer:
    """The result page of an import of the bundled file. After that, the invoices are stored."""
    return visitor.collect(visitor.post("/import", bundled="yes"))


@pytest.fixture(scope="package")
def report(visitor: Visitor, bundled_import: Answer) -> Answer:
    """The report for the month of the bundled invoices."""
    return visitor.collect(visitor.get("/intrastat?month=2010-12"))


@pytest.fixture(scope="session")
def course() -> Iterator[Course]:
    """Processes that a test may kill. Long tasks are handed over every 1.5 seconds."""
    try:
        with Course.open(time_limit_seconds=1.5) as course:
            yield course
    except MissingPieceError as exc:
        missing(exc)
        raise


@pytest.fixture
def field(course: Course) -> Battlefield:
    """The processes of the course."""
    return course.field
