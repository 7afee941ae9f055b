"""A proxy between the queue and the application. It duplicates deliveries, loses responses, and keeps a record."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: App Engine's limit for a request.
_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """A request that was forwarded."""

    path: str
    retry_count: int
    began: float  #: `time.monotonic`
    ended: float
    status: int | None  #: None if there was no response
    duplicate: bool


class FaultyDeliveries:
    """A proxy on its own port, which passes deliveries on to one of several instances.

    Two rates set how many deliveries are duplicated and how many responses are lost.
    """

    def __init__(self, apps: Sequence[tuple[str, int]], rng: random.Random) -> None:
        self.duplicate_rate = 0.0
        self.loss_rate = 0.0
        #: If set, deliveries to paths with this prefix are not forwarded.
        self.held: str | None = None
        self.duplicates = 0
        self.lost_answers = 0
        #: All finished deliveries, oldest first.
        self.record: list[Delivery] = []
        #: The headers of the latest request for each path, for duplicates.
        self.latest: dict[str, dict[str, str]] = {}
        self._apps = apps
        self._rng = rng
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        deliveries = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = deliveries.receive(self.path, dict(self.headers))
                if answer is None:
                    self.close_connection = True
                    return
                status, body = answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="deliveries", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Accept no more deliveries. Running ones end normally."""
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def receive(self, path: str, headers: dict[str, str]) -> tuple[int, bytes] | None:
        """Forward a delivery from the queue, and return the response, or None if it shall be lost."""
        if self.held is not None and path.startswith(self.held):
            return None
        with self._lock:
            self.latest[path] = headers
            again_in: list[float] = []
            while self._rng.random() < self.duplicate_rate and len(again_in) < 3:
                again_in.append(self._rng.choice((0.0, self._rng.uniform(0, 2), self._rng.uniform(2, 15))))
            loses = self._rng.random() < self.loss_rate
        for seconds in again_in:
            threading.Thread(target=self._later, args=(path, headers, seconds), daemon=True).start()
        answer = self._pass_on(path, headers, duplicate=False)
        if answer is not None and loses:
            with self._lock:
                self.lost_answers += 1
            return None
        return answer

    def repeat(self, path: str) -> int | None:
        """Repeat the latest delivery for this path, and return the status of the response."""
        answer = self._pass_on(path, self.latest[path], duplicate=True)
        return answer[0] if answer else None

    def _later(self, path: str, headers: Mapping[str, str], seconds: float) -> None:
        if not self._stopped.wait(seconds):
            self._pass_on(path, headers, duplicate=True)

    def _pass_on(self, path: str, headers: Mapping[str, str], *, duplicate: bool) -> tuple[int, bytes] | None:
        began = time.monotonic()
        answer = None
        connection = HTTPConnection(*random.choice(self._apps), timeout=_SECONDS)
        try:
            connection.request("GET", path, headers=dict(headers))
            response = connection.getresponse()
            answer = response.status, response.read()
        except (OSError, HTTPException):
            pass
        finally:
            connection.close()
        delivery = Delivery(
            path=path,
            retry_count=int(headers.get("X-AppEngine-TaskRetryCount", 0)),
            began=began,
            ended=time.monotonic(),
            status=answer[0] if answer else None,
            duplicate=duplicate,
        )
        with self._lock:
            self.duplicates += duplicate
            self.record.append(delivery)
        return answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
