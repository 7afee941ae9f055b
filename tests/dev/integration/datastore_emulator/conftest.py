"""Fixtures: the embedded Datastore in a process of its own, and a client for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gaetk_longtask.dev.pieces import Piece, start_datastore
from tests.dev.datastore_client import DatastoreClient, connected


@pytest.fixture(scope="module")
def embedded() -> Iterator[Piece]:
    with start_datastore("embedded") as piece:
        yield piece


@pytest.fixture
def raw(embedded: Piece) -> Iterator[DatastoreClient]:
    """A client that sends what the test writes, of an empty Datastore."""
    embedded.reset()
    with connected(embedded.host) as client:
        yield client
