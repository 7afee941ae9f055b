"""Starts the services of a benchmark: emulators, memcached, Redis, and gunicorn with the measured application."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.peers import started_redis, workers
from gaetk_longtask.dev.pieces import start_datastore, start_memcached, start_tasks
from gaetk_longtask.dev.processes import Process, free_port

PROJECT = "bench"
#: The memory of the Datastore emulator, which has to hold 100,000 tasks.
_MEMORY_MIB = 4096

#: The queue must not slow deliveries down.
_QUEUE_YAML = """\
queue:
  - name: default
    rate: 500/s
    bucket_size: 500
    max_concurrent_requests: {concurrency}
"""


class Visitor:
    """A keep-alive connection to the application."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(
        self, path: str, *, accept: str = "application/json", body: bytes | None = None, kind: str = ""
    ) -> tuple[int, Any, bytes]:
        """Send a request, and return status, headers and body. Redirects are not followed."""
        headers = {"Accept": accept} | ({"Content-Type": kind} if kind else {})
        self._connection.request("GET" if body is None else "POST", path, body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def json(self, path: str) -> Any:
        """Return the JSON of a response."""
        status, _, body = self.ask(path)
        assert status < 300, (path, status, body[:300])
        return json.loads(body)


@contextmanager
def services() -> Iterator[dict[str, str]]:
    """Run Datastore, memcached and Redis, and put their addresses into the environment."""
    with ExitStack() as started:
        started.enter_context(started_redis())
        datastore = started.enter_context(start_datastore(memory_mib=_MEMORY_MIB))
        memcached = started.enter_context(start_memcached())
        named = {
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "DATASTORE_EMULATOR_HOST": datastore.host,
            "MEMCACHED_HOSTS": memcached.host,
        }
        os.environ.update(named)
        assert datastore.process is not None
        yield named | {"datastore_pid": str(datastore.process.pid)}


@contextmanager
def application(*, threads: int, with_peers: bool = False) -> Iterator[tuple[int, int, int]]:
    """Run one gunicorn worker and Cloud Tasks. Yield the port and the process groups of worker and emulator."""
    with ExitStack() as started:
        directory = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        queue_yaml = directory / "queue.yaml"
        queue_yaml.write_text(_QUEUE_YAML.format(concurrency=max(1, threads - 2)), encoding="utf-8")
        port = free_port()
        tasks = started.enter_context(start_tasks(f"http://127.0.0.1:{port}", queue_yaml=queue_yaml))
        assert tasks.process is not None
        os.environ["CLOUD_TASKS_EMULATOR_HOST"] = tasks.host
        kind = ["--worker-class", "sync"] if threads == 1 else ["--worker-class", "gthread", "--threads", str(threads)]
        options = ["--bind", f"127.0.0.1:{port}", "--workers", "1", "--timeout", "0", "--no-control-socket", *kind]
        if threads > 1:
            options += ["--keep-alive", "60"]
        process = Process("app", [sys.executable, "-m", "gunicorn", *options, "benchmarks.web_app:app"])
        started.callback(process.stop)
        process.wait_until_ready(lambda: _is_up(port), timeout_seconds=60)
        if with_peers:
            started.enter_context(workers())
        yield port, process.pid, tasks.process.pid


def _is_up(port: int) -> bool:
    with suppress(OSError, http.client.HTTPException):
        return Visitor(port).ask("/empty?_longtaskid=1")[0] == 404
    return False


def cpu_seconds(group: int) -> float:
    """Return the CPU time of a process group. This works on Linux only."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text(encoding="utf-8").rpartition(") ")[2].split()
            if int(fields[2]) == group:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
