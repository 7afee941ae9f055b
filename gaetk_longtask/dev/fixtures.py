"""The fixtures for pytest that start services; `gaetk_longtask.pytest_plugin` offers them."""

from __future__ import annotations

import os
import socket
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from gaetk_longtask.dev.__main__ import stack_of
from gaetk_longtask.dev.pieces import DatastoreKind, MemcachedKind, start_datastore, start_memcached, start_tasks
from gaetk_longtask.dev.processes import Log


@pytest.fixture(scope="session")
def longtask_datastore_host() -> Iterator[str]:
    """``host:port`` of a Datastore emulator that tests may empty: the embedded one.

    Override it to use another one. ``DATASTORE_EMULATOR_HOST`` is ignored: it may name the one of your daily work.
    """
    with start_datastore(DatastoreKind.EMBEDDED, log=_log_to_stderr()) as datastore:
        yield datastore.host


@pytest.fixture(scope="session")
def longtask_tasks_app_url() -> str:
    """Where the Cloud Tasks emulator sends App Engine tasks. Override it to use another application."""
    return "http://127.0.0.1:8080"


@pytest.fixture(scope="session")
def longtask_tasks_host(longtask_tasks_app_url: str) -> Iterator[str]:
    """``host:port`` of a Cloud Tasks emulator that tests may empty. ``CLOUD_TASKS_EMULATOR_HOST`` is ignored."""
    with start_tasks(longtask_tasks_app_url, log=_log_to_stderr()) as tasks:
        yield tasks.host


@pytest.fixture
def longtask_tasks(longtask_tasks_host: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """``host:port`` of an empty Cloud Tasks emulator, in which no name was used before."""
    empty = urllib.request.Request(f"http://{longtask_tasks_host}/reset", data=b"")
    urllib.request.urlopen(empty, timeout=30).close()  # noqa: S310  # http, written above
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", longtask_tasks_host)
    return longtask_tasks_host


@pytest.fixture(scope="session")
def longtask_memcached_host() -> Iterator[str]:
    """``host:port`` of a memcached in Python that tests may empty. ``MEMCACHED_HOSTS`` is ignored."""
    with start_memcached(MemcachedKind.EMBEDDED, log=_log_to_stderr()) as memcached:
        yield memcached.host


@pytest.fixture
def longtask_memcached(longtask_memcached_host: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """``host:port`` of an empty memcached."""
    host, _, port = longtask_memcached_host.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"flush_all\r\n")
        connection.recv(100)
    monkeypatch.setenv("MEMCACHED_HOSTS", longtask_memcached_host)
    return longtask_memcached_host


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalStack:
    """A running local stack."""

    url: str  #: the application's
    environment: dict[str, str]  #: the variables that tell the application where its services are


@pytest.fixture(scope="session")
def longtask_stack() -> Iterator[Callable[..., LocalStack]]:
    """A function that starts the local stack for an application: ``longtask_stack("main:app").url``.

    Further arguments are options of ``python -m gaetk_longtask.dev``. Cron runs only with ``--cron-yaml``. The stack
    ends with the test run.
    """
    log = _log_to_stderr()
    with ExitStack() as running:

        def start(app: str, *options: str) -> LocalStack:
            stack = running.enter_context(stack_of([app, *options, "--port", "0", "--project", "test"], log=log))
            return LocalStack(url=stack.url, environment=stack.environment)

        yield start


def _log_to_stderr() -> Log:
    """Return a log to standard error as it is now: what pytest captures, and shows with a test that fails."""
    stderr = os.dup(2)

    def log(name: str, line: str) -> None:
        os.write(stderr, f"{name:<10} | {line}\n".encode())

    return log
