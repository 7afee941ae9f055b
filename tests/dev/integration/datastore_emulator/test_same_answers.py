"""Random queries have the same answers from the embedded Datastore and from the Cloud SDK's emulator."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gaetk_longtask.dev.pieces import Piece, start_datastore
from gaetk_longtask.dev.processes import MissingPieceError
from tests.dev.datastore_client import DatastoreClient, Point, Unindexed, connected, entity, key, path, query
from tests.missing import missing

KEYS = [key("A", 1), key("A", 2), key("A", "x"), key("A", 1, "A", 1), key("A", 1, "B", 1), key("A", 3), key("B", 1)]
VALUES = [
    *(
        None,
        -1,
        0,
        1,
        2,
        True,
        False,
        "",
        "a",
        "ab",
        "a\0",
        "é",
        b"a",
        b"\xff",
        -0.0,
        0.0,
        1.0,
        1.5,
        math.inf,
        math.nan,
    ),
    *(datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None) for seconds in (0, 1)),
    *(Point(1.0, -2.0), Point(1.0, 2.0), key("A", 1), key("A", "x"), key("A", 1, "B", 1)),
]
NAMES = ["a", "b", "a.c"]

values = st.sampled_from(VALUES)
indexed = values | st.lists(values, max_size=3) | st.fixed_dictionaries({"c": values | st.lists(values, max_size=2)})
stored = indexed | values.map(Unindexed)
entities = st.dictionaries(
    st.sampled_from(range(len(KEYS))), st.fixed_dictionaries({}, optional={"a": stored, "b": stored}), max_size=7
)


@st.composite
def queries(draw: st.DrawFn) -> dict[str, Any]:
    """Return the arguments for a query that the Cloud SDK's emulator can answer, mostly."""
    names = st.sampled_from(NAMES)
    filters = [(name, "=", value) for name, value in draw(st.lists(st.tuples(names, values), max_size=2))]
    order = [f"{draw(st.sampled_from(['', '-']))}{name}" for name in draw(st.lists(names, max_size=2, unique=True))]
    if draw(st.booleans()):
        name = order[0].removeprefix("-") if order else draw(names)
        bounds = draw(st.lists(st.tuples(st.sampled_from(["<", "<=", ">", ">="]), values), min_size=1, max_size=2))
        filters += [(name, operator, value) for operator, value in bounds]
    if draw(st.integers(0, 4)) == 0:
        filters.append(("__key__", "ancestor", KEYS[0]))
    made: dict[str, Any] = {"order": tuple(order), "condition": ("and", *filters) if filters else None}
    match draw(st.integers(0, 5)):
        case 0:
            made["projection"] = ("__key__",)
        case 1:
            made["projection"] = tuple(draw(st.lists(names, min_size=1, max_size=2, unique=True)))
            if draw(st.booleans()):
                made["distinct"] = made["projection"][:1]
    if draw(st.booleans()):
        made |= {"limit": draw(st.integers(0, 4)), "offset": draw(st.integers(0, 2))}
    return made


@pytest.fixture(scope="module")
def sdk() -> Iterator[Piece]:
    try:
        piece = start_datastore("sdk")
    except MissingPieceError as exc:
        missing(exc)
        raise
    with piece:
        yield piece


@pytest.fixture(scope="module")
def both(embedded: Piece, sdk: Piece) -> Iterator[tuple[DatastoreClient, DatastoreClient]]:
    with connected(embedded.host) as ours, connected(sdk.host) as theirs:
        yield ours, theirs


def answer(client: DatastoreClient, kind: str, wanted: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the keys of the results, and their properties as text."""
    batch = client.run(query(kind, **wanted))
    return [
        (path(each.entity.key), repr(sorted((name, str(found)) for name, found in each.entity.properties.items())))
        for each in batch.entity_results
    ]


def fill(client: DatastoreClient, chosen: dict[int, dict[str, Any]]) -> None:
    client.delete(*KEYS)
    client.put(*(entity(KEYS[number], **properties) for number, properties in chosen.items()))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=entities, wanted=st.lists(queries(), min_size=3, max_size=8))
def test_the_answers_are_the_same(
    both: tuple[DatastoreClient, DatastoreClient], chosen: dict[int, dict[str, Any]], wanted: list[dict[str, Any]]
) -> None:
    ours, theirs = both
    for client in both:
        fill(client, chosen)
    for each in wanted:
        try:
            expected = answer(theirs, "A", each)
        except grpc.RpcError as exc:
            assume(exc.code() == grpc.StatusCode.INVALID_ARGUMENT)  # it can't answer this
            continue
        assert answer(ours, "A", each) == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=entities, wanted=queries(), size=st.integers(1, 3))
def test_pages_by_cursor_are_the_whole(
    embedded: Piece, chosen: dict[int, dict[str, Any]], wanted: dict[str, Any], size: int
) -> None:
    wanted = {name: value for name, value in wanted.items() if name not in ("limit", "offset")}
    with connected(embedded.host) as client:
        fill(client, chosen)
        try:
            whole = answer(client, "A", wanted)
        except grpc.RpcError as exc:
            assume(exc.code() != grpc.StatusCode.INVALID_ARGUMENT)
            raise
        pages: list[tuple[str, str]] = []
        cursor = b""
        for _ in range(len(whole) + 2):
            page = wanted | {"limit": size, "start_cursor": cursor}
            pages += answer(client, "A", page)
            cursor = client.run(query("A", **page)).end_cursor
    assert pages == whole
