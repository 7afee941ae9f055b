"""The location of the queues comes from the metadata server, which is simulated here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from gaetk_longtask import config
from gaetk_longtask.config import Config, find_location
from gaetk_longtask.exceptions import ConfigurationError


class MetadataServer(HTTPServer):
    """A server that returns the given answers in turn, and repeats the last one."""

    def __init__(self, answers: list[bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.asked: list[tuple[str, str | None]] = []


class _Handler(BaseHTTPRequestHandler):
    server: MetadataServer

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Metadata-Flavor"]))
        self.wfile.write(self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Suppress the log."""


def ok(body: bytes) -> bytes:
    return b"HTTP/1.0 200 OK\r\nMetadata-Flavor: Google\r\n\r\n" + body


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., MetadataServer]]:
    """A function that starts a metadata server with raw answers."""
    servers: list[MetadataServer] = []

    def start(*answers: bytes) -> MetadataServer:
        server = MetadataServer(list(answers))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        path = config.METADATA_URL.partition("metadata.google.internal")[2]
        monkeypatch.setattr(config, "METADATA_URL", f"http://127.0.0.1:{server.server_port}{path}")
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("region", "location"),
    [("europe-west3", "europe-west3"), ("europe-west", "europe-west1"), ("us-central", "us-central1")],
)
def test_the_location_is_the_instances_region_by_the_name_that_cloud_tasks_knows(
    metadata: Callable[..., MetadataServer], region: str, location: str
) -> None:
    metadata(ok(b"projects/123456/regions/" + region.encode()))
    assert find_location(Config(), {}) == location


def test_the_metadata_server_is_asked_in_the_way_that_it_wants(metadata: Callable[..., MetadataServer]) -> None:
    server = metadata(ok(b"projects/123456/regions/europe-west3"))
    find_location(Config(), {})
    assert server.asked == [("/computeMetadata/v1/instance/region", "Google")]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 404 Not Found\r\n\r\n",
        ok(b""),
        ok(b"projects/123456/regions/"),
        ok(b"\xff\xfe"),
        b"",
        b"220 mail.example.com ESMTP\r\n",
    ],
    ids=["not found", "empty", "no region", "no ASCII", "hangs up", "no HTTP"],
)
def test_without_a_usable_answer_the_message_says_what_to_set(
    metadata: Callable[..., MetadataServer], answer: bytes
) -> None:
    metadata(answer)
    with pytest.raises(ConfigurationError, match=r"LONGTASK_LOCATION in app\.config .* gaetk_longtask\.dev") as caught:
        find_location(Config(), {})
    assert caught.value.key == "LONGTASK_LOCATION"


def test_a_metadata_server_that_fails_once_is_asked_again(metadata: Callable[..., MetadataServer]) -> None:
    metadata(b"HTTP/1.0 503 Service Unavailable\r\n\r\n", ok(b"projects/123456/regions/europe-west3"))
    with pytest.raises(ConfigurationError):
        find_location(Config(), {})
    assert find_location(Config(), {}) == "europe-west3"


def test_without_a_metadata_server_the_message_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "METADATA_URL", "http://127.0.0.1:1/")
    with pytest.raises(ConfigurationError, match="no metadata server answers here"):
        find_location(Config(), {})
