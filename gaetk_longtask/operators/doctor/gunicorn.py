"""What an entrypoint tells gunicorn, read with gunicorn's own parser."""

from __future__ import annotations

import argparse
import runpy
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

from gaetk_longtask.foreign import must_pass

#: gunicorn reads this file without being told to.
_CONFIG_FILE = "gunicorn.conf.py"


class NotUnderstoodError(Exception):
    """The entrypoint does not start gunicorn, or can't be read; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gunicorn:
    """The settings that matter to a task, under gunicorn's own names."""

    workers: int
    threads: int
    worker_class_str: str  #: ``gthread`` also where gunicorn takes it by itself, for several threads
    timeout: int
    graceful_timeout: int
    max_requests: int
    limit_request_line: int
    limit_request_fields: int
    limit_request_field_size: int
    forwarded_allow_ips: list[str]
    # Both since gunicorn 22.
    header_map: str = "drop"
    forwarder_headers: list[str] = field(default_factory=list)
    # Since gunicorn 25.1. Earlier versions have no control socket.
    control_socket_disable: bool = True

    @property
    def serves_at_once(self) -> int:
        """How many requests an instance serves at a time; 0 for any number."""
        # Other workers serve many requests without a thread for each.
        return self.workers * self.threads if self.worker_class_str in ("sync", "gthread") else 0

    @property
    def kills_after_seconds(self) -> int:
        """How long a request may take; 0 for ever. The other workers report that they live during a request, too."""
        return self.timeout if self.worker_class_str == "sync" else 0


def read_entrypoint(entrypoint: str, env: Mapping[str, str], directory: Path) -> Gunicorn:
    """Return the settings that gunicorn takes from an entrypoint, its environment and its configuration file."""
    try:
        from gunicorn.config import Config  # noqa: PLC0415  # of an extra that may be missing
    except ImportError as exc:
        message = "gunicorn, whose parser reads it, is not installed here (pip install gunicorn)"
        raise NotUnderstoodError(message) from exc
    config, names = Config(), [each.name for each in fields(Gunicorn)]
    try:
        words = shlex.split(entrypoint)
        start = next((index for index, word in enumerate(words, 1) if Path(word).name == "gunicorn"), None)
        if start is None:
            raise NotUnderstoodError("it does not start gunicorn")
        arguments = _parse(config, words[start:])
        from_env = _parse(config, shlex.split(env.get("GUNICORN_CMD_ARGS", "")))
        # gunicorn has taken its defaults for these two from the environment of this process.
        found = {"workers": env.get("WEB_CONCURRENCY", 1)}
        found |= {"forwarded_allow_ips": env.get("FORWARDED_ALLOW_IPS", "127.0.0.1,::1")}
        found |= _file(directory, arguments.get("config") or from_env.get("config")) | from_env | arguments
        for name in found.keys() & {"worker_class", *names}:
            config.set(name, found[name])
    except (argparse.ArgumentError, TypeError, ValueError) as exc:
        raise NotUnderstoodError(str(exc)) from exc
    return Gunicorn(**{name: getattr(config, name) for name in names if hasattr(config, name)})


def _parse(config: Any, words: list[str]) -> dict[str, Any]:
    parser = config.parser()
    # argparse itself would print and end this process: `exit_on_error` does not cover every error.
    parser.error, parser.exit, parser._print_message = _refuse, _refuse_to_serve, _print_nothing  # noqa: SLF001  # no other way
    parser.exit_on_error = False
    found, _ = parser.parse_known_args(words)
    given = {name: value for name, value in vars(found).items() if value is not None}
    if given.get("check_config") or given.get("print_config"):
        _refuse_to_serve()
    return given


def _refuse(message: str) -> NoReturn:
    raise NotUnderstoodError(message)


def _refuse_to_serve(*_: object) -> NoReturn:
    raise NotUnderstoodError("gunicorn only prints something with one of its options, and serves nothing")


def _print_nothing(*_: object) -> None:
    pass


def _file(directory: Path, name: str | None) -> dict[str, Any]:
    """Run gunicorn's configuration file, which is Python and the application's own."""
    path = directory / (name or _CONFIG_FILE)
    if not path.is_file():
        if name is None:
            return {}
        raise NotUnderstoodError(f"its configuration {name} is not a file here")
    try:
        return runpy.run_path(str(path))
    except BaseException as exc:
        if must_pass(exc):
            raise
        raise NotUnderstoodError(f"its configuration {path.name} raises {type(exc).__name__}: {exc}") from exc
