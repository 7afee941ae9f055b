"""Measures the Cloud Tasks emulator: the tasks that it creates and dispatches per second, and its memory.

``python benchmarks/tasks_emulator.py [--tasks 50000] [--data-dir DIR]``. The first figure is measured with 1,000 tasks.
The emulator, the handler and the client share the machine's cores. Memory is read from /proc, so this runs on Linux
only.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import grpc
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

_CREATORS = 4
_WARM_UP = 200
_FIRST = 1000


def handle(connection: Connection) -> None:
    """Answer every request with 200. ``/count`` returns the number of all other requests so far."""
    seen = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        head = await reader.readuntil(b"\r\n\r\n")
        body = b""
        if head.startswith(b"GET /count"):
            body = str(seen).encode()
        else:
            seen += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1000)
        connection.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


async def count(port: int) -> int:
    """Return how many tasks the handler has seen."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /count HTTP/1.1\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return int(answer.rpartition(b"\r\n")[2])


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


class Run:
    """A client, and the number of tasks that it has created."""

    def __init__(self, host: str, handler_port: int) -> None:
        self._client = tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=grpc.insecure_channel(host)))
        parent = "projects/bench/locations/local"
        queue = {"name": f"{parent}/queues/fast"}
        self._queue = self._client.create_queue(parent=parent, queue=queue).name
        self._port = handler_port
        self.created = 0
        self._lock = threading.Lock()

    def create(self, _: int) -> None:
        """Create a named task. Names cost the emulator more."""
        with self._lock:
            self.created += 1
            name = f"{self._queue}/tasks/t{self.created}"
        request = {"http_method": "GET", "relative_uri": "/work", "headers": {"X-Key": "0123456789abcdef"}}
        self._client.create_task(parent=self._queue, task={"name": name, "app_engine_http_request": request})

    def measure(self, tasks: int) -> float:
        """Create tasks, wait until all of them are dispatched, and return the number of tasks per second."""
        began = time.perf_counter()
        with ThreadPoolExecutor(_CREATORS) as pool:
            list(pool.map(self.create, range(tasks)))
        while asyncio.run(count(self._port)) < self.created:
            time.sleep(0.02)
        return tasks / (time.perf_counter() - began)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=50_000)
    parser.add_argument("--data-dir")
    options = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    handler = multiprocessing.Process(target=handle, args=(theirs,), daemon=True)
    handler.start()
    port = ours.recv()
    command = [sys.executable, "-m", "gaetk_longtask.dev.tasks_emulator", "--port=0", f"--app=http://127.0.0.1:{port}"]
    command += [f"--data-dir={options.data_dir}"] if options.data_dir else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as emulator:
        try:
            assert emulator.stdout is not None
            run = Run(emulator.stdout.readline().split()[1], port)
            run.measure(_WARM_UP)
            print(f"{_FIRST} tasks created and dispatched: {run.measure(_FIRST):.0f} per second")
            print(f"memory after {run.created} tasks: {resident_mib(emulator.pid):.1f} MiB", flush=True)
            for _ in range(5):
                rate = run.measure(options.tasks // 5)
                print(
                    f"memory after {run.created} tasks: {resident_mib(emulator.pid):.1f} MiB ({rate:.0f} per second)",
                    flush=True,
                )
        finally:
            emulator.terminate()
            handler.terminate()


if __name__ == "__main__":
    main()
