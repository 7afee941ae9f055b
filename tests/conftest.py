"""Fixtures for the services of the tests. The real services are started once for the whole run."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import settings

from gaetk_longtask.dev.pieces import DatastoreKind, Piece, start_datastore, start_memcached, start_redis
from gaetk_longtask.dev.processes import StackError
from tests.api_server import api_server

#: Our own plugin for users of the library. The tests of the sample application use it like they would.
pytest_plugins = ["gaetk_longtask.pytest_plugin", "pytester"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--datastore",
        choices=[kind.value for kind in DatastoreKind],
        default=DatastoreKind.SDK.value,
        help="Datastore for the integration tests",
    )


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Escape surrogates in test reports: pytest-xdist can't send them, and tests use file names that contain them."""
    return _as_text((yield))


def _as_text(data: Any) -> Any:
    match data:
        case str():
            return data.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {key: _as_text(value) for key, value in data.items()}
        case list() | tuple():
            return type(data)(map(_as_text, data))
        case _:
            return data


def missing(service: str, error: Exception) -> None:
    """Skip the test because a service is missing. In CI, fail instead."""
    if os.environ.get("CI"):
        pytest.fail(f"{service} is missing: {error}")
    pytest.skip(f"{service} is missing: {error}")


@pytest.fixture(scope="session")
def datastore_piece(request: pytest.FixtureRequest) -> Iterator[Piece]:
    try:
        piece = start_datastore(request.config.getoption("--datastore"))
    except StackError as exc:
        missing("The Datastore emulator", exc)
        raise
    yield piece
    piece.stop()


@pytest.fixture(scope="session")
def longtask_datastore_host(datastore_piece: Piece) -> str:
    """The Datastore for the plugin's fixtures, which is that of all tests."""
    return datastore_piece.host


@pytest.fixture(scope="session")
def memcached_host() -> Iterator[str]:
    try:
        piece = start_memcached()
    except StackError as exc:
        missing("memcached", exc)
        raise
    yield piece.host
    piece.stop()


@pytest.fixture(scope="session")
def redis_host() -> Iterator[str]:
    try:
        piece = start_redis()
    except StackError as exc:
        missing("redis-server", exc)
        raise
    yield piece.host
    piece.stop()


@pytest.fixture(scope="session")
def api_host() -> Iterator[str]:
    """App Engine's API server."""
    with api_server() as server:
        yield server.host


settings.register_profile("quick", max_examples=25, stateful_step_count=25, deadline=None)
settings.register_profile("thorough", max_examples=1000, stateful_step_count=50, deadline=None)
settings.load_profile("quick")
