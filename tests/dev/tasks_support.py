"""An app that receives the deliveries of the Cloud Tasks emulator, and the unmodified client."""

from __future__ import annotations

import http.server
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from google.auth.credentials import AnonymousCredentials
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport, CloudTasksRestTransport

PROJECT, LOCATION = "test-project", "europe-west1"
PARENT = f"projects/{PROJECT}/locations/{LOCATION}"
DEFAULT = f"{PARENT}/queues/default"
#: The timeout for everything. Normally, nothing takes this long.
PATIENCE_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Received:
    """A request as the app received it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def task(self) -> str:
        return self.headers.get("X-AppEngine-TaskName") or self.headers["X-CloudTasks-TaskName"]


class App:
    """Answers with 200 or with `answer`, and records the requests."""

    def __init__(self, *, port: int = 0) -> None:
        self.received: queue.Queue[Received] = queue.Queue()
        self.answer: Callable[[Received], int] = lambda _: 200
        self.location = ""
        app = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = Received(method=self.command, path=self.path, headers=self.headers, body=body)
                app.received.put(request)
                status = app.answer(request)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                if app.location:
                    self.send_header("Location", app.location)
                self.end_headers()

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_HEAD = handle_any  # noqa: N815 - their names

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 500
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """Ignore errors of connections that the emulator has closed."""

        self._server = Server(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def next(self) -> Received:
        """Wait for the next request, and return it."""
        return self.received.get(timeout=PATIENCE_SECONDS)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def connected(host: str) -> Iterator[tasks_v2.CloudTasksClient]:
    """Return the installed client library's client, on an insecure channel."""
    with grpc.insecure_channel(host) as channel:
        yield tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))


@contextmanager
def connected_by_rest(host: str) -> Iterator[tasks_v2.CloudTasksClient]:
    """Return the same client, which uses REST."""
    transport = CloudTasksRestTransport(host=host, url_scheme="http", credentials=AnonymousCredentials())
    with tasks_v2.CloudTasksClient(transport=transport) as client:
        yield client


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that another thread or process fulfils."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen"
        time.sleep(0.005)


def app_engine(uri: str = "/work", **request: object) -> dict[str, object]:
    return {"app_engine_http_request": {"relative_uri": uri, **request}}


def names(tasks: object) -> list[str]:
    return [task.name.rpartition("/")[2] for task in tasks]
