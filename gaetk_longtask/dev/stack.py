"""The whole local stack: its pieces, and the order in which they start and end."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Self

from gaetk_longtask.dev.app import App, check_installed, check_target, read_app_yaml
from gaetk_longtask.dev.pieces import DatastoreKind, Piece, start_datastore, start_memcached, start_tasks
from gaetk_longtask.dev.processes import Log, MissingPieceError, StackError, answers, discard, free_port
from gaetk_longtask.dev.stoppable import Stoppable

_CHECK_SECONDS = 0.2


class Stack(Stoppable):
    """The app with a Datastore, memcached and Cloud Tasks; a context manager that starts and ends all of them.

    It uses the services that the environment names (``DATASTORE_EMULATOR_HOST``, ``MEMCACHED_HOSTS``,
    ``CLOUD_TASKS_EMULATOR_HOST``) and starts the others. ``say`` gets a line about each piece, ``log`` the output of
    the app and of Cloud Tasks. Errors are :class:`StackError`.
    """

    def __init__(
        self,
        app: str,
        *,
        port: int = 8080,
        project: str = "demo",
        queue_yaml: Path | None = None,
        data_dir: Path | None = None,
        datastore: DatastoreKind | str | None = None,
        say: Callable[[str], None] = lambda line: None,
        log: Log = discard,
    ) -> None:
        self.project = project
        self.port = port
        #: The services beside the app, in the order of their start.
        self.pieces: list[Piece] = []
        #: The variables that tell the app where they are; set by `start`.
        self.environment: dict[str, str] = {}
        self._target = app
        self._queue_yaml = queue_yaml
        self._data_dir = data_dir.absolute() if data_dir else None
        self._datastore = datastore
        self._say = say
        self._log = log
        self._app: App | None = None

    @property
    def url(self) -> str:
        """Where the app answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start every piece, and return when the app answers requests. After an error, nothing is left running."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        check_installed()
        check_target(self._target)
        self.port = _checked_port(self.port)
        settings = read_app_yaml(Path("app.yaml"))
        if self._data_dir is not None:
            self._data_dir.mkdir(parents=True, exist_ok=True)
        self.environment = env = {"GOOGLE_CLOUD_PROJECT": self.project}
        env["DATASTORE_EMULATOR_HOST"] = self._take(
            "datastore",
            "DATASTORE_EMULATOR_HOST",
            lambda: start_datastore(self._datastore, data_dir=self._data_dir),
        )
        try:
            env["MEMCACHED_HOSTS"] = self._take("memcached", "MEMCACHED_HOSTS", start_memcached)
        except MissingPieceError as exc:
            self._say(f"memcached  stand-in: progress is kept in Datastore ({exc})")
        env["CLOUD_TASKS_EMULATOR_HOST"] = self._take(
            "tasks",
            "CLOUD_TASKS_EMULATOR_HOST",
            lambda: start_tasks(
                self.url,
                queue_yaml=self._queue_yaml,
                data_dir=self._data_dir,
                at_once=settings.tasks_at_once,
                log=self._log,
            ),
        )
        self._app = App(self._target, port=self.port, settings=settings, env=env, log=self._log)
        self._say(f"app        {self.url}  gunicorn {' '.join(settings.options)}")
        self._app.wait_until_ready()

    def _take(self, name: str, variable: str, start: Callable[[], Piece]) -> str:
        """Use what the environment variable names, else start it; return its ``host:port``, or several."""
        if found := os.environ.get(variable):
            for host in found.split():
                if not answers(host):
                    raise StackError(f"{name}: {variable} names {host}, where nothing answers; start it or unset it")
            self._say(f"{name:<10} {found}  from {variable}")
            return found
        piece = start()
        self.pieces.append(piece)
        self._say(f"{piece.name:<10} {piece.host}  {'stand-in: ' if piece.stand_in else ''}{piece.what}")
        return piece.host

    def watch(self) -> NoReturn:
        """Wait until a piece ends by itself, then raise :class:`PieceEndedError` with its last lines of output."""
        while True:
            self.check()
            time.sleep(_CHECK_SECONDS)

    def check(self) -> None:
        """Raise :class:`PieceEndedError` if a piece has ended by itself."""
        for piece in self.pieces:
            if piece.process is not None:
                piece.process.check()
        if self._app is not None:
            self._app.check()

    def stop(self) -> None:
        """End everything that we started, the app first."""
        if self._app is not None:
            self._app.stop()
        for piece in reversed(self.pieces):
            piece.stop()
        self.pieces.clear()

    def __enter__(self) -> Self:
        self.start()
        return self


def _checked_port(port: int) -> int:
    if port == 0:
        return free_port()
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as exc:
        raise StackError(f"app: port {port} is not free ({exc.strerror}); --port 0 takes one that is") from exc
    return port
