"""The tested processes and the ways to disturb them: the application, Datastore, memcached and Cloud Tasks."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from google.api_core.exceptions import GoogleAPIError
from google.auth.credentials import AnonymousCredentials
from google.cloud import ndb, tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from gaetk_longtask.dev.pieces import DatastoreKind, start_datastore, start_tasks
from gaetk_longtask.dev.processes import Log, MissingPieceError, Process, answers, discard, free_port
from tests import freezing
from tests.chaos.app import AHEAD_VARIABLE, MOVED_VARIABLE, TOLD_VARIABLE
from tests.chaos.deliveries import FaultyDeliveries
from tests.chaos.faulty_grpc import FaultyGrpc
from tests.chaos.history import History, is_refused_late
from tests.chaos.visitors import ask

PROJECT = "chaos"
ROOT = Path(__file__).parents[2]
_START_SECONDS = 60.0
#: A client skips a memcached that was down for five seconds, see `MemcacheProgressStore`.
_NOTICED_SECONDS = 8.0

# Like the project's own queue.yaml, but with shorter pauses between retries, so that a run ends within minutes. When
# the queue has reached its limit, six threads are left for visitors.
_QUEUE_YAML = """\
queue:
  - name: default
    rate: 100/s
    bucket_size: 100
    max_concurrent_requests: {concurrency}
    retry_parameters:
      min_backoff_seconds: 1
      max_backoff_seconds: 5
      max_doublings: 2
"""


class Battlefield:
    """A context manager that starts all processes and the proxies between them, and stops them again."""

    def __init__(
        self,
        *,
        seed: int = 0,
        workers: int = 2,
        threads: int = 8,
        datastore: DatastoreKind | str | None = None,
        app: str = "tests.chaos.app:app",
        env: Mapping[str, str] | None = None,
        with_cut_off: bool = False,
        log: Log = discard,
    ) -> None:
        """Start `workers` workers and, `with_cut_off`, one more instance that can't reach memcached.

        That instance has other URLs than the others, as another version of the application may have.
        """
        self._rng = random.Random(seed)
        self._workers = workers
        self._threads = threads
        self._datastore = datastore
        self._app = app
        self._env = env or {}
        self._with_cut_off = with_cut_off
        self._log = log
        self._ended = ExitStack()
        self.history = History()

    def __enter__(self) -> Self:
        with ExitStack() as started:
            self._start(started)
            self._ended = started.pop_all()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.close()

    def _start(self, started: ExitStack) -> None:
        directory = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        self._clock_file = directory / "ahead"
        self._told_file = directory / "told"
        queue_yaml = directory / "queue.yaml"
        concurrency = max(2, self._workers * self._threads - 6)
        queue_yaml.write_text(_QUEUE_YAML.format(concurrency=concurrency), encoding="utf-8")

        emulator = started.enter_context(start_datastore(self._datastore))
        self.datastore = FaultyGrpc(
            emulator.host, self._child_rng(), is_delayable=is_refused_late, heard=self.history.heard
        )
        started.callback(self.datastore.stop)

        self.memcached_port = free_port()
        self.memcached: Process | None = None
        started.callback(self.stop_memcached)
        self.start_memcached()

        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.urls = [self.url]
        ports = [self.port]
        if self._with_cut_off:
            self._cut_off_port = free_port()
            ports.append(self._cut_off_port)
            self.urls.append(f"http://127.0.0.1:{self._cut_off_port}")
        self.deliveries = FaultyDeliveries([("127.0.0.1", port) for port in ports], self._child_rng())
        started.callback(self.deliveries.stop)
        queue = started.enter_context(start_tasks(self.deliveries.url, queue_yaml=queue_yaml, log=self._log))
        self.tasks = FaultyGrpc(queue.host, self._child_rng())
        started.callback(self.tasks.stop)
        self._queue = tasks_v2.CloudTasksClient(
            transport=CloudTasksGrpcTransport(channel=grpc.insecure_channel(queue.host))
        )

        started.callback(self.stop_app)
        self.start_app()

    def _child_rng(self) -> random.Random:
        return random.Random(self._rng.random())

    def start_app(self) -> None:
        """Start gunicorn, and wait until it answers requests."""
        self.apps = [self._gunicorn(self.port, self._workers, f"127.0.0.1:{self.memcached_port}")]
        if self._with_cut_off:
            nowhere = f"127.0.0.1:{free_port()}"
            self.apps.append(self._gunicorn(self._cut_off_port, 1, nowhere, {MOVED_VARIABLE: "yes"}))
        for app, url in zip(self.apps, self.urls, strict=True):
            app.wait_until_ready(
                lambda url=url: ask("GET", f"{url}/memory") is not None, timeout_seconds=_START_SECONDS
            )
        self.app = self.apps[0]

    def _gunicorn(self, port: int, workers: int, memcached: str, more: Mapping[str, str] | None = None) -> Process:
        env = {
            **os.environ,
            **self._env,
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "DATASTORE_EMULATOR_HOST": self.datastore.host,
            "MEMCACHED_HOSTS": memcached,
            "CLOUD_TASKS_EMULATOR_HOST": self.tasks.host,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            AHEAD_VARIABLE: str(self._clock_file),
            TOLD_VARIABLE: str(self._told_file),
            **(more or {}),
        }
        # Preloading lets gunicorn replace a killed worker at once. Connections are still opened after the fork.
        options = ["--worker-class", "gthread", "--timeout", "0", "--preload", "--no-control-socket"]
        size = ["--workers", str(workers), "--threads", str(self._threads)]
        bind = ["--bind", f"127.0.0.1:{port}", "--graceful-timeout", "2"]
        return Process(
            "app",
            [sys.executable, "-m", "gunicorn", *bind, *size, *options, self._app],
            env=env,
            log=self._log,
        )

    def stop_app(self) -> None:
        """Stop gunicorn and its workers."""
        for app in getattr(self, "apps", []):
            app.stop()

    def restart_app(self) -> None:
        """Restart the application with new processes."""
        self.stop_app()
        self.start_app()

    def workers(self) -> list[int]:
        """Return the process ids of gunicorn's workers."""
        found = []
        for pid in (app.pid for app in self.apps):
            with suppress(OSError):
                found += Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        return [int(word) for word in found]

    def kill(self, pid: int) -> None:
        """Kill a worker. gunicorn starts another one."""
        if pid not in self.workers():
            raise ProcessLookupError(pid)
        os.kill(pid, signal.SIGKILL)

    def freeze(self, pid: int) -> None:
        """Suspend a worker. `thaw` resumes it."""
        if pid not in self.workers():
            raise ProcessLookupError(pid)
        freezing.freeze(pid)

    def thaw(self, pid: int) -> None:
        """Resume a frozen worker."""
        freezing.thaw(pid)

    def start_memcached(self) -> None:
        """Start an empty memcached, always on the same port."""
        program = shutil.which("memcached")
        if program is None:
            raise MissingPieceError("memcached is not installed; apt install memcached, or brew install memcached")
        command = [program, "-l", "127.0.0.1", "-p", str(self.memcached_port), "-m", "64", "-U", "0"]
        if os.geteuid() == 0:
            command += ["-u", "nobody"]
        self.memcached = Process("memcached", command)
        host = f"127.0.0.1:{self.memcached_port}"
        self.memcached.wait_until_ready(lambda: answers(host), timeout_seconds=_START_SECONDS)
        self._memcached_since = time.monotonic()

    def stop_memcached(self) -> None:
        """Stop memcached. All its data is lost."""
        if self.memcached is not None:
            self.memcached.stop()
            self.memcached = None

    def settled_memcached(self) -> Process | None:
        """Return memcached if it has run for so long that every worker has noticed; else None."""
        settled = time.monotonic() - self._memcached_since >= _NOTICED_SECONDS
        return self.memcached if settled else None

    def run_early(self) -> bool:
        """Let the queue deliver a task again, even if it is running. Return False if the queue is empty."""
        parent = self._queue.queue_path(PROJECT, "local", "default")
        waiting = [task.name for task in self._queue.list_tasks(parent=parent)]
        if not waiting:
            return False
        try:
            self._queue.run_task(name=self._rng.choice(waiting))
        except GoogleAPIError:  # the task has just ended
            return False
        return True

    def queued(self) -> int:
        """Return the number of tasks in the queue."""
        parent = self._queue.queue_path(PROJECT, "local", "default")
        return len(list(self._queue.list_tasks(parent=parent)))

    def ndb_client(self) -> ndb.Client:
        """Return a client that talks to Datastore directly, without the proxy."""
        before = os.environ.get("DATASTORE_EMULATOR_HOST")
        os.environ["DATASTORE_EMULATOR_HOST"] = self.datastore.target
        try:
            return ndb.Client(project=PROJECT, credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]  # it has no annotations
        finally:
            del os.environ["DATASTORE_EMULATOR_HOST"]
            if before is not None:
                os.environ["DATASTORE_EMULATOR_HOST"] = before

    def told(self) -> Counter[tuple[str, int]]:
        """Return how often the handlers were told of each end; an end is a task's id and its fence."""
        lines = self._told_file.read_text(encoding="ascii").splitlines() if self._told_file.exists() else []
        return Counter((task_id, int(fence)) for task_id, fence in map(str.split, lines))

    def set_clock_ahead(self, seconds: float) -> None:
        """Set the application's clock ahead."""
        temporary = self._clock_file.with_suffix(".new")
        temporary.write_text(str(seconds), encoding="ascii")
        temporary.rename(self._clock_file)
