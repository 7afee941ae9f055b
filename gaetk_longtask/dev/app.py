"""The app under gunicorn: with the options of ``app.yaml`` and an environment like App Engine's."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import importlib
import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from gaetk_longtask.dev.options import LOCAL, NO_APPLICATION, address, reachable
from gaetk_longtask.dev.processes import Log, MissingPieceError, PieceEndedError, Process, StackError, discard

#: gunicorn's exit codes for "a worker could not boot" and "the app could not be loaded".
_LOAD_ERRORS = (3, 4)
_START_TIMEOUT_SECONDS = 120.0
#: The threads of each worker that no task takes. A browser opens up to six connections.
VISITOR_THREADS = 8
_DEFAULT_ENTRYPOINT = "gunicorn --worker-class gthread --threads 8 --timeout 0"
#: Workers that serve many requests without a thread for each.
_WITHOUT_THREADS = ("gevent", "eventlet", "tornado", "uvicorn", "asgi")
_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*(:.+)?", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class AppSettings:
    """What the local stack reads from ``app.yaml``."""

    #: Options for gunicorn.
    options: tuple[str, ...]
    #: How many tasks run at a time, so that threads are left for visitors; ``None`` if threads do not matter.
    tasks_at_once: int | None
    service: str = "default"
    env_variables: Mapping[str, str] = field(default_factory=dict)


def check_installed() -> None:
    """Raise :class:`MissingPieceError` if packages that run the app are not installed."""
    packages = {"gunicorn": "gunicorn", "google.appengine": "appengine-python-standard"}
    missing = [package for module, package in packages.items() if find_spec(module) is None]
    if missing:
        raise MissingPieceError(f"app: {missing[0]} is not installed; pip install {' '.join(missing)}")


def read_app_yaml(path: Path) -> AppSettings:
    """Return the settings from ``path``, or the defaults if it does not exist."""
    if not path.exists():
        return _settings(_DEFAULT_ENTRYPOINT)
    from google.appengine.api import (  # noqa: PLC0415 - of an extra that may be missing
        appinfo,
        appinfo_errors,
        validation,
        yaml_errors,
    )

    try:
        info = appinfo.LoadSingleAppInfo(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise StackError(f"app: {path} can't be read: {exc}") from exc
    except (appinfo_errors.Error, validation.ValidationError, yaml_errors.Error) as exc:
        raise StackError(f"app: {path} is not a valid app.yaml: {exc}") from exc
    settings = _settings(info.entrypoint or _DEFAULT_ENTRYPOINT)
    return replace(settings, service=info.service or "default", env_variables={**(info.env_variables or {})})


def _settings(entrypoint: str) -> AppSettings:
    """Return how an entrypoint serves requests; for one that does not start gunicorn, the defaults.

    At least two tasks run at a time, because a task may start or watch another one. On App Engine, other instances
    serve visitors while all threads of one are at work. Here there is only one, so it gets more threads. All tasks may
    reach the same worker, so each has threads for all of them.
    """
    from gunicorn.config import Config  # noqa: PLC0415 - of an extra that may be missing

    try:
        words = shlex.split(entrypoint)
    except ValueError as exc:
        _refuse(str(exc))
    if not any(Path(word).name == "gunicorn" for word in words):
        return _settings(_DEFAULT_ENTRYPOINT)
    parser = Config().parser()
    parser.exit_on_error = False
    # argparse itself would print and end this program: `exit_on_error` does not cover every error.
    parser.error, parser.exit, parser._print_message = _refuse, _refuse_to_serve, _print_nothing  # noqa: SLF001  # no other way
    try:
        found, _ = parser.parse_known_args(words)
    except argparse.ArgumentError as exc:
        _refuse(str(exc))
    workers, threads = found.workers or 1, found.threads or 1
    at_once = None if any(name in str(found.worker_class) for name in _WITHOUT_THREADS) else max(2, workers * threads)
    threads = threads if at_once is None else at_once + VISITOR_THREADS
    options = ["--workers", str(workers), "--threads", str(threads)]
    if found.worker_class:
        options += ["--worker-class", found.worker_class]
    if found.timeout is not None:
        options += ["--timeout", str(found.timeout)]
    return AppSettings(options=tuple(options), tasks_at_once=at_once)


def _refuse(message: str) -> NoReturn:
    raise StackError(f"app: the entrypoint in app.yaml is not understood: {message}")


def _refuse_to_serve(*_: object) -> NoReturn:
    _refuse("gunicorn only prints something with one of its options, and serves nothing")


def _print_nothing(*_: object) -> None:
    pass


class NoAppError(StackError):
    """``MODULE:APP`` names no application."""


def check_target(target: str) -> None:
    """Raise :class:`NoAppError` if ``MODULE:APP`` is malformed or there is no such module. Import nothing."""
    if not _TARGET.fullmatch(target):
        raise NoAppError(f"{target[:100]!r} is not of the form MODULE:APP, such as main:app")
    module = target.partition(":")[0]
    if not _is_there(module):
        hint = f"; write {target.replace('.py', '', 1)} instead" if module.endswith(".py") else ""
        raise NoAppError(f"there is no module {module[:100]!r} in {Path.cwd()}, nor is it installed{hint}")


def _is_there(module: str) -> bool:
    importlib.invalidate_caches()
    name, *rest = module.split(".")
    if name == "__main__":  # the program that runs: here this one, and gunicorn later
        return False
    if module in sys.modules:  # also one that another module adds, such as os.path
        return True
    try:
        spec: ModuleSpec | None = PathFinder.find_spec(name, [str(Path.cwd())]) or find_spec(name)
        for part in rest:
            if spec is None or spec.submodule_search_locations is None:
                return False
            name = f"{name}.{part}"
            spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    except ValueError:  # it is imported, and does not say from where
        return False
    except KeyError:  # a namespace in a namespace, which can only be searched once it is imported
        return True
    return spec is not None


class App:
    """The app's process. gunicorn restarts the app when its code changes; we do if gunicorn gives up."""

    def __init__(
        self,
        target: str,
        *,
        host: str = LOCAL,
        port: int,
        settings: AppSettings,
        env: Mapping[str, str],
        log: Log = discard,
    ) -> None:
        self._address = (reachable(host), port)
        self._log = log
        self._command = [sys.executable, "-m", "gaetk_longtask.dev.gunicorn_app", "--bind", address(host, port)]
        self._command += settings.options
        self._command += ["--reload", "--graceful-timeout", "2", "--access-logfile", "-"]
        self._command += ["--access-logformat", '"%(r)s" %(s)s %(B)s %(L)s s', *_no_control_socket(), target]
        self._env = {
            **os.environ,
            **settings.env_variables,
            "GAE_ENV": "localdev",
            "GAE_APPLICATION": f"dev~{env['GOOGLE_CLOUD_PROJECT']}",
            "GAE_SERVICE": settings.service,
            "GAE_VERSION": "dev",
            "GAE_INSTANCE": "dev-0",
            "PORT": str(port),
            **env,
        }
        self.process = self._run()

    def _run(self) -> Process:
        self._code = _code_times()
        self._told = False
        return Process("app", self._command, env=self._env, log=self._log)

    def wait_until_ready(self) -> None:
        """Return when the app has answered a request, with any status; raise :class:`NoAppError` if it is no app."""
        try:
            self.process.wait_until_ready(self._answers, timeout_seconds=_START_TIMEOUT_SECONDS)
        except PieceEndedError as exc:
            if reasons := re.findall(f"{NO_APPLICATION}(.*)", str(exc)):
                raise NoAppError(f"{self._command[-1]!r} is no application: {reasons[-1]}") from exc
            raise

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(*self._address, timeout=30)
        try:
            # App Engine sends this to an instance before the first visitor's request.
            connection.request("GET", "/_ah/warmup")
            connection.getresponse()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return True

    def check(self) -> None:
        """Raise :class:`PieceEndedError` if it ended; if its code does not load, restart it after a change instead."""
        if self.process.exit_code not in _LOAD_ERRORS:
            self.process.check()
        elif self._code != _code_times():
            self.process = self._run()
        elif not self._told:
            self._told = True
            self._log("app", "the app does not load; it starts again when a .py file changes here")

    def stop(self) -> None:
        """End gunicorn and its workers; running requests get two seconds to finish."""
        self.process.stop()


def _code_times() -> dict[Path, float]:
    times: dict[Path, float] = {}
    for directory, children, names in os.walk("."):
        if "pyvenv.cfg" in names:
            children.clear()
        children[:] = [child for child in children if not child.startswith(".") and child != "node_modules"]
        for path in (Path(directory, name) for name in names if name.endswith(".py")):
            with contextlib.suppress(FileNotFoundError):  # an editor's temporary file
                times[path] = path.stat().st_mtime
    return times


def _no_control_socket() -> list[str]:
    """Return the option that keeps newer gunicorns from sharing one socket in the home directory."""
    from gunicorn.config import KNOWN_SETTINGS  # noqa: PLC0415 - of an extra that may be missing

    return ["--no-control-socket"] if any(s.name == "control_socket_disable" for s in KNOWN_SETTINGS) else []
