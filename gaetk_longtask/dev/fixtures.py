"""The fixtures for pytest that start services; `gaetk_longtask.pytest_plugin` offers them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from gaetk_longtask.dev.__main__ import stack_of
from gaetk_longtask.dev.pieces import DatastoreKind, start_datastore
from gaetk_longtask.dev.processes import Log


@pytest.fixture(scope="session")
def longtask_datastore_host() -> Iterator[str]:
    """``host:port`` of a Datastore emulator that tests may empty: the embedded one.

    Override it to use another one. ``DATASTORE_EMULATOR_HOST`` is ignored: it may name the one of your daily work.
    """
    with start_datastore(DatastoreKind.EMBEDDED, log=_log_to_stderr()) as datastore:
        yield datastore.host


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalStack:
    """A running local stack."""

    url: str  #: the application's
    environment: dict[str, str]  #: the variables that tell the application where its services are


@pytest.fixture(scope="session")
def longtask_stack() -> Iterator[Callable[..., LocalStack]]:
    """A function that starts the local stack for an application: ``longtask_stack("main:app").url``.

    Further arguments are options of ``python -m gaetk_longtask.dev``. The stack ends with the test run.
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
