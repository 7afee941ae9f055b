"""The whole local stack: its pieces, and the order in which they start and end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

from gaetk_longtask.dev.app import App, check_installed, check_target, read_app_yaml
from gaetk_longtask.dev.cron.runner import Cron
from gaetk_longtask.dev.options import LOCAL, address, reachable, warn_of
from gaetk_longtask.dev.pieces import DatastoreKind, Piece, start_datastore, start_memcached, start_tasks
from gaetk_longtask.dev.processes import Log, StackError, answers, discard, free_port
from gaetk_longtask.dev.shell import EnvFile, export_line
from gaetk_longtask.dev.stoppable import Stoppable

_CHECK_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Ports:
    """The ports of the services; 0 for a free one."""

    datastore: int = 0
    memcached: int = 0
    tasks: int = 0


class Stack(Stoppable):
    """The app with a Datastore, memcached and Cloud Tasks; a context manager that starts and ends all of them.

    It uses the services that the environment names (``DATASTORE_EMULATOR_HOST``, ``MEMCACHED_HOSTS``,
    ``CLOUD_TASKS_EMULATOR_HOST``) and starts the others. With ``services_only``, somebody else runs the app on
    ``port``. ``say`` gets a line about each piece, ``log`` the output of the app, Cloud Tasks and cron. Errors are
    :class:`StackError`.
    """

    def __init__(
        self,
        app: str | None,
        *,
        services_only: bool = False,
        host: str = LOCAL,
        port: int = 8080,
        ports: Ports | None = None,
        project: str = "demo",
        queue_yaml: Path | None = None,
        cron_yaml: Path | None = None,
        env_file: Path | None = None,
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
        self._services_only = services_only
        self._host = host
        self._ports = ports or Ports()
        self._cron_yaml = cron_yaml
        self._env_file = EnvFile(env_file) if env_file else None
        self._queue_yaml = queue_yaml
        self._data_dir = data_dir.absolute() if data_dir else None
        self._datastore = datastore
        self._say = say
        self._log = log
        self._app: App | None = None
        self._cron: Cron | None = None

    @property
    def url(self) -> str:
        """Where the app answers."""
        return f"http://{address(reachable(self._host), self.port)}"

    @property
    def ready(self) -> str:
        """The line that says that the stack is ready."""
        return f"ready: the services; tasks go to {self.url}" if self._services_only else f"ready: {self.url}"

    def start(self) -> None:
        """Start every piece, and return when the app answers requests. After an error, nothing is left running."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        check_installed()
        if self._target is not None:
            check_target(self._target)
        if self._env_file is not None:
            self._env_file.check()
        if warning := warn_of(self._host, "use the application, and read and change all its data"):
            self._say(warning)
        if not self._services_only:
            self.port = free_port(self._host, self.port, name="app")
        settings = read_app_yaml(Path("app.yaml"))
        self.environment = env = {"GOOGLE_CLOUD_PROJECT": self.project}
        self._start_services(env, settings.tasks_at_once)
        if self._target is not None and not self._services_only:
            self._app = App(self._target, host=self._host, port=self.port, settings=settings, env=env, log=self._log)
            self._say(f"app        {self.url}  gunicorn {' '.join(settings.options)}")
            self._app.wait_until_ready()
        if self._cron_yaml is not None:
            self._cron = Cron(
                self._cron_yaml, url=self.url, service=settings.service, log=lambda line: self._log("cron", line)
            )
            for line in self._cron.lines:
                self._say(f"cron       {line}")
        self._share({**env, "GAE_ENV": "localdev"})

    def _start_services(self, env: dict[str, str], tasks_at_once: int | None) -> None:
        if self._data_dir is not None:
            self._data_dir.mkdir(parents=True, exist_ok=True)
        env["DATASTORE_EMULATOR_HOST"] = self._take(
            "datastore",
            "DATASTORE_EMULATOR_HOST",
            lambda: start_datastore(
                self._datastore, host=self._host, port=self._ports.datastore, data_dir=self._data_dir
            ),
        )
        env["MEMCACHED_HOSTS"] = self._take(
            "memcached", "MEMCACHED_HOSTS", lambda: start_memcached(host=self._host, port=self._ports.memcached)
        )
        env["CLOUD_TASKS_EMULATOR_HOST"] = self._take(
            "tasks",
            "CLOUD_TASKS_EMULATOR_HOST",
            lambda: start_tasks(
                self.url,
                host=self._host,
                port=self._ports.tasks,
                queue_yaml=self._queue_yaml,
                data_dir=self._data_dir,
                at_once=tasks_at_once,
                log=self._log,
            ),
        )

    def _share(self, environment: dict[str, str]) -> None:
        """Print how another terminal uses the services."""
        if self._target is not None:
            environment["FLASK_APP"] = self._target
        self._say("In other terminals, for instance for `flask longtask list`, paste this line first:")
        self._say(export_line(environment))
        if self._env_file is not None:
            self._env_file.write(environment)

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
        if self._env_file is not None:
            self._env_file.delete()
        if self._cron is not None:
            self._cron.stop()
        if self._app is not None:
            self._app.stop()
        for piece in reversed(self.pieces):
            piece.stop()
        self.pieces.clear()

    def __enter__(self) -> Self:
        self.start()
        return self
