"""Services that the tests run on: the real ones, started once for the whole run."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import settings

from gaetk_longtask.dev.pieces import DatastoreKind, Piece, start_datastore, start_memcached, start_redis
from gaetk_longtask.dev.processes import StackError
from tests.api_server import api_server

#: What we offer to the users of the library, used as they would for the sample application.
pytest_plugins = ["gaetk_longtask.pytest_plugin", "pytester"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--datastore",
        choices=[kind.value for kind in DatastoreKind],
        default=DatastoreKind.SDK.value,
        help="the Datastore that integration tests run on",
    )


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Escape what is no text: pytest-xdist can't transport it, and the tests log and show such names of files."""
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
    """Skip for want of a service on a developer's machine; in CI that is a failure."""
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
    """The plugin's fixtures use the same Datastore as all tests."""
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
