"""Fixtures for the services of the tests. The real services are started once for the whole run."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import settings

from gaetk_longtask.dev.pieces import (
    DatastoreKind,
    MemcachedKind,
    Piece,
    check_datastore,
    start_datastore,
    start_memcached,
    start_redis,
)
from gaetk_longtask.dev.processes import MissingPieceError
from tests import status_documents
from tests.api_server import api_server
from tests.missing import REPLACED, is_ci, missing
from tests.missing import pytest_runtestloop as pytest_runtestloop
from tests.missing import pytest_terminal_summary as pytest_terminal_summary

#: Our own plugin for users of the library. The tests of the sample application use it like they would.
pytest_plugins = ["gaetk_longtask.pytest_plugin", "pytester"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--datastore",
        choices=[kind.value for kind in DatastoreKind],
        help="Datastore for the integration tests (default: sdk; embedded if that one is missing, except in CI)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Choose the Datastore once for all processes."""
    if config.option.datastore is not None:
        return
    config.option.datastore = DatastoreKind.SDK.value
    try:
        check_datastore(DatastoreKind.SDK)
    except MissingPieceError as exc:
        if not is_ci():
            config.option.datastore = DatastoreKind.EMBEDDED.value
            config.stash[REPLACED] = f"All tests ran on the embedded Datastore, not on the Cloud SDK's. {exc}"


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


@pytest.fixture(autouse=True)
def wrong_documents() -> Iterator[list[str]]:
    """What is wrong with the status documents that a test's applications send: fails the test if anything is."""
    with status_documents.watched() as troubles:
        yield troubles
    assert troubles == []


@pytest.fixture(scope="session")
def datastore_piece(request: pytest.FixtureRequest) -> Iterator[Piece]:
    try:
        piece = start_datastore(request.config.getoption("--datastore"))
    except MissingPieceError as exc:
        missing(exc)
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
        piece = start_memcached(MemcachedKind.PROGRAM)
    except MissingPieceError as exc:
        missing(exc)
        raise
    yield piece.host
    piece.stop()


@pytest.fixture(scope="session")
def redis_host() -> Iterator[str]:
    try:
        piece = start_redis()
    except MissingPieceError as exc:
        missing(exc)
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
