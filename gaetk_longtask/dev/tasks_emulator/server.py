"""The whole emulator: connects its parts, starts and stops them."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc

from gaetk_longtask.dev.front import Front, FrontThread
from gaetk_longtask.dev.options import LOCAL, address, listen
from gaetk_longtask.dev.rest import RestServer
from gaetk_longtask.dev.stoppable import Stoppable
from gaetk_longtask.dev.tasks_emulator.acceptance import DEFAULT_DEADLINE
from gaetk_longtask.dev.tasks_emulator.dispatcher import Dispatcher
from gaetk_longtask.dev.tasks_emulator.grpc_api import grpc_server as make_grpc_server
from gaetk_longtask.dev.tasks_emulator.queue_yaml import QueueYamlWatch, read
from gaetk_longtask.dev.tasks_emulator.registry import Registry
from gaetk_longtask.dev.tasks_emulator.requests import Routes
from gaetk_longtask.dev.tasks_emulator.rest import rest_server
from gaetk_longtask.dev.tasks_emulator.scheduler import Scheduler
from gaetk_longtask.dev.tasks_emulator.service import CloudTasksService
from gaetk_longtask.dev.tasks_emulator.store import Store
from gaetk_longtask.dev.tokens import Signer

#: The time for calls that are running when the emulator stops.
_GRACE_SECONDS = 1.0


class PortTakenError(Exception):
    """Something else listens on the port."""


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


class Emulator(Stoppable):
    """A running emulator; a context manager that stops it."""

    def __init__(
        self,
        *,
        host: str,
        front: FrontThread,
        grpc_server: grpc.Server,
        http_server: RestServer,
        dispatcher: Dispatcher,
        store: Store,
    ) -> None:
        #: ``127.0.0.1:port``, for ``CLOUD_TASKS_EMULATOR_HOST``.
        self.host = host
        self._front = front
        self._grpc_server = grpc_server
        self._http_server = http_server
        self._dispatcher = dispatcher
        self._store = store
        self._stopped = False

    def wake(self) -> None:
        """Look at the clock and at queue.yaml now; for tests that pass a clock of their own."""
        self._dispatcher.wake()

    def stop(self) -> None:
        """Stop, and cancel running attempts; with a data directory the next emulator repeats them."""
        if self._stopped:
            return
        self._stopped = True
        self._grpc_server.stop(grace=_GRACE_SECONDS).wait()
        self._front.stop()
        self._http_server.shutdown()
        self._http_server.server_close()
        self._dispatcher.stop()
        self._store.close()


def serve(
    *,
    app_url: str,
    host: str = LOCAL,
    port: int = 0,
    queue_yaml: Path | None = None,
    data_dir: Path | None = None,
    routes: Mapping[str, str] | None = None,
    default_deadline: timedelta = DEFAULT_DEADLINE,
    at_once: int | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> Emulator:
    """Start an emulator in threads of this process and return it when it answers, at `host` and `port`.

    App Engine tasks go to `app_url`, or to the URL in `routes` for their ``service`` or ``version.service``.
    `default_deadline` is for App Engine tasks without one; in production it is 10 minutes with automatic scaling and
    24 hours with basic and manual scaling. No more than `at_once` attempts run at a time, whatever the queues allow;
    with None, as many as the queues allow. `clock` decides when a task is due; attempts are measured in real time.

    Raises:
        PortTakenError: something else listens on the port, or `host` is no address of this machine.
        QueueYamlError: `queue_yaml` is missing or not valid.
        StoreError: `data_dir` can't be used.

    """
    deployment = None if queue_yaml is None else read(queue_yaml)
    watch = None if queue_yaml is None else QueueYamlWatch(queue_yaml)
    store = Store(data_dir)
    lock = threading.Lock()
    registry = Registry(store, clock())
    if deployment is not None:
        # This may be a restart with the same file, so queues created by calls are not paused.
        registry.deploy(deployment, clock(), pause_others=False)
    scheduler = Scheduler(registry, store, clock())

    def reload_queue_yaml() -> None:
        changed = watch.changed() if watch is not None else None
        if changed is not None:
            with lock:
                registry.deploy(changed, clock(), pause_others=True)

    signer = Signer()
    dispatcher = Dispatcher(
        scheduler,
        lock=lock,
        clock=clock,
        routes=Routes(app_url=app_url, named=dict(routes or {})),
        signer=signer,
        default_deadline=default_deadline,
        at_once=at_once,
        on_tick=reload_queue_yaml,
    )
    service = CloudTasksService(registry, scheduler, lock=lock, clock=clock, send=dispatcher.send, wake=dispatcher.wake)
    try:
        listener = listen(host, port)
    except OSError as exc:
        store.close()
        raise PortTakenError(_why(host, port, exc)) from exc
    grpc_server, grpc_port = make_grpc_server(service.answer)
    http_server = rest_server(service.answer, reset=service.reset, signer=signer)
    dispatcher.start()
    grpc_server.start()
    threading.Thread(target=http_server.serve_forever, name="tasks-rest", daemon=True).start()
    front = FrontThread(listener, Front(grpc_port=grpc_port, http_port=http_server.server_port))
    return Emulator(
        host=address(host, listener.getsockname()[1]),
        front=front,
        grpc_server=grpc_server,
        http_server=http_server,
        dispatcher=dispatcher,
        store=store,
    )


def _why(host: str, port: int, exc: OSError) -> str:
    if exc.errno == errno.EADDRINUSE:
        return f"{host}:{port} is taken: another program listens there"
    return f"{host}:{port} can't be listened on: {exc.strerror or exc}"
