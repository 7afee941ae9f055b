"""Fixtures: the sample application on the local stack, and a visitor without cookies."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import pytest

from gaetk_longtask.pytest_plugin import LocalStack
from tests.status_documents import trouble_with

JOB_SECONDS = 120


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
            assert trouble_with(document) is None
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
