"""What an entrypoint tells gunicorn."""

from __future__ import annotations

import argparse
import runpy
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

#: gunicorn's own name for its configuration file; it reads one without being told.
_CONFIG_FILE = "gunicorn.conf.py"


class NotUnderstoodError(Exception):
    """The entrypoint is not gunicorn's, or not to be understood; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gunicorn:
    """gunicorn's settings, under its own names and with its own defaults."""

    workers: int = 1
    threads: int = 1
    worker_class: str = "sync"
    timeout: int = 30
    graceful_timeout: int = 30
    max_requests: int = 0
    limit_request_line: int = 4094
    limit_request_fields: int = 100
    limit_request_field_size: int = 8190
    forwarded_allow_ips: str = "127.0.0.1,::1"
    header_map: str = "drop"
    forwarder_headers: str = "SCRIPT_NAME,PATH_INFO"

    @property
    def serves_at_once(self) -> int:
        """How many requests an instance serves at a time; 0 for any number."""
        return 0 if self.is_asynchronous else self.workers * self.threads

    @property
    def is_asynchronous(self) -> bool:
        """Whether a worker serves many requests without a thread for each."""
        return self.worker_class not in ("sync", "gthread")

    @property
    def kills_after_seconds(self) -> int:
        """How long a request may take; 0 for ever. Only a worker that does nothing else can't say that it lives."""
        return self.timeout if self.worker_class == "sync" and self.threads == 1 else 0


def read_entrypoint(entrypoint: str, env: Mapping[str, str], directory: Path) -> Gunicorn:
    """Understand an entrypoint as gunicorn does: its configuration file, then its arguments.

    Raises:
        NotUnderstoodError: that does not work.

    """
    try:
        words = shlex.split(entrypoint)
    except ValueError as exc:
        raise NotUnderstoodError(str(exc)) from exc
    if not any(Path(word).name == "gunicorn" for word in words):
        raise NotUnderstoodError("it does not start gunicorn")
    given = _arguments(words + shlex.split(env.get("GUNICORN_CMD_ARGS", "")))
    file = Path(given.pop("config", None) or _CONFIG_FILE)
    settings: dict[str, Any] = {}
    if "WEB_CONCURRENCY" in env:
        settings["workers"] = env["WEB_CONCURRENCY"]
    if "FORWARDED_ALLOW_IPS" in env:
        settings["forwarded_allow_ips"] = env["FORWARDED_ALLOW_IPS"]
    if (directory / file).is_file():
        settings |= _file(directory / file)
    elif file != Path(_CONFIG_FILE):
        message = f"its configuration {file} is not a file here"
        raise NotUnderstoodError(message)
    try:
        return Gunicorn(**{name: _typed(name, value) for name, value in (settings | given).items()})
    except (TypeError, ValueError) as exc:
        raise NotUnderstoodError(str(exc)) from exc


def _typed(name: str, value: Any) -> Any:
    """Give a setting its type: numbers come as text from the environment, lists as lists from the file."""
    if isinstance(getattr(Gunicorn(), name), int):
        return int(value)
    return value if isinstance(value, str) else ",".join(value)


def _arguments(words: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-c", "--config")
    parser.add_argument("-w", "--workers", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("-k", "--worker-class")
    parser.add_argument("-t", "--timeout", type=int)
    parser.add_argument("--graceful-timeout", type=int)
    parser.add_argument("--max-requests", type=int)
    parser.add_argument("--limit-request-line", type=int)
    parser.add_argument("--limit-request-fields", type=int)
    parser.add_argument("--limit-request-field_size", type=int)
    parser.add_argument("--forwarded-allow-ips")
    parser.add_argument("--header-map")
    parser.add_argument("--forwarder-headers")
    try:
        found, _ = parser.parse_known_args(words)
    except argparse.ArgumentError as exc:
        raise NotUnderstoodError(str(exc)) from exc
    return {name: value for name, value in vars(found).items() if value is not None}


def _file(path: Path) -> dict[str, Any]:
    """Run gunicorn's configuration file, which is Python and the application's own."""
    try:
        settings = runpy.run_path(str(path))
    except Exception as exc:
        message = f"its configuration {path.name} raises {type(exc).__name__}: {exc}"
        raise NotUnderstoodError(message) from exc
    return {field.name: settings[field.name] for field in fields(Gunicorn) if field.name in settings}
