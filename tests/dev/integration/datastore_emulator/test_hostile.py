"""The embedded Datastore survives clients that send nonsense, and refuses what is too large or too deep."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from gaetk_longtask.dev.datastore_emulator.messages import METHODS, Entity, Filter, Value
from tests.dev.datastore_client import DatastoreClient, Unindexed, entity, key, mutation, query
from tests.peers.datastore_entities import INVALID, A, refusal


@pytest.mark.parametrize("method", METHODS)
def test_a_request_without_a_project_is_refused(raw: DatastoreClient, method: str) -> None:
    assert "project" in refusal(INVALID, raw.call, method, project_id="")


@pytest.mark.parametrize("method", ["RunQuery", "RunAggregationQuery", "Commit", "Rollback"])
def test_an_empty_request_is_refused(raw: DatastoreClient, method: str) -> None:
    refusal(INVALID, raw.call, method)


@pytest.mark.parametrize(
    "wrong",
    [
        entity(None),
        entity(key()),
        entity(key("", 1)),
        entity(key("A", 0)),
        entity(key("A", "")),
        entity(key("A", None, "B", 1)),
        entity(key(*["A", 1] * 101)),
        entity(key("A" * 1501, 1)),
        entity(key("A", 1, namespace="a b")),
        entity(A, **{"": 1}),
        entity(A, a=Value()),
        entity(A, a=key("A")),
        entity(A, a=Value(geo_point_value={"latitude": 91})),
        entity(A, a=Value(geo_point_value={"longitude": 181})),
        entity(A, a=Value(timestamp_value={"seconds": 10**12})),
        entity(A, a=Value(timestamp_value={"nanos": -1})),
        entity(A, a=Unindexed([1])),
        entity(A, a=list(range(20_001))),
    ],
)
def test_an_entity_that_is_impossible_is_refused(raw: DatastoreClient, wrong: object) -> None:
    refusal(INVALID, raw.put, wrong)


def test_entities_that_are_too_deep_are_refused(raw: DatastoreClient) -> None:
    deep = Entity()
    for _ in range(25):
        outer = Entity()
        outer.properties["a"].entity_value.CopyFrom(deep)
        deep = outer
    deep.key.CopyFrom(A)
    assert "nested" in refusal(INVALID, raw.put, deep)


@pytest.mark.parametrize(
    "wrong",
    [
        query("A", ("a", "in", [])),
        query("A", ("a", "in", 1)),
        query("A", ("a", "in", list(range(31)))),
        query("A", ("and", ("a", "in", list(range(6))), ("b", "in", list(range(6))))),
        query("A", ("and", ("a", "!=", 1), ("b", "not in", [1]))),
        query("A", ("and", ("a", "in", [1, 2]), ("b", "not in", [1]))),
        query("A", ("a", "=", [1])),
        query("A", ("a", "=", {"b": 1})),
        query("A", ("a", "=", Value())),
        query("A", ("__key__", "=", 1)),
        query("A", ("__key__", "=", key("A"))),
        query("A", ("__key__", "=", key("A", 1, namespace="other"))),
        query("A", ("a", "ancestor", A)),
        query("A", ("or", ("__key__", "ancestor", A), ("a", "=", 1))),
        query("A", ("a", "=", 1), projection=("a",)),
        query("A", projection=("a", "a")),
        query("A", distinct=("__key__",)),
        query("A", distinct=("a",), order=("b",)),
        query("A", limit=-1),
        query("A", offset=-1),
        query("A", filter=Filter()),
        query(None, ("a", "=", 1)),
        query(None, order=("a",)),
        query(None, order=("-__key__",)),
        query("__kind__", ("a", "=", 1)),
        query("__kind__", order=("-__key__",)),
        query("A", find_nearest={"vector_property": {"name": "a"}}),
        query("A", start_cursor=b"\0"),
    ],
)
def test_a_query_that_is_impossible_is_refused(raw: DatastoreClient, wrong: object) -> None:
    raw.put(entity(A, a=1))
    refusal(INVALID, raw.run, wrong)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SELECT",
        "SELECT * FROM",
        "SELECT * FROM A WHERE",
        "SELECT * FROM A WHERE a",
        "SELECT * FROM A WHERE a = ",
        "SELECT * FROM A WHERE a = 'x",
        "SELECT * FROM A WHERE a = @b",
        "SELECT * FROM A WHERE a = @1",
        "SELECT * FROM A WHERE a = @0",
        "SELECT * FROM A WHERE a = KEY(A)",
        "SELECT * FROM A WHERE a = BLOB('é')",
        "SELECT * FROM A WHERE a = DATETIME('x')",
        "SELECT * FROM A WHERE a = -'x'",
        "SELECT * FROM A WHERE (a = 1",
        "SELECT * FROM A LIMIT 99999999999999999999",
        "SELECT * FROM A; DROP TABLE entity",
        "DELETE FROM A",
    ],
)
def test_gql_that_is_impossible_is_refused(raw: DatastoreClient, text: str) -> None:
    refusal(INVALID, raw.call, "RunQuery", gql_query={"query_string": text, "allow_literals": True})


def test_gql_without_permission_has_no_literals(raw: DatastoreClient) -> None:
    wanted = {"query_string": "SELECT * FROM A WHERE a = 1"}
    assert "Disallowed literal: 1." in refusal(INVALID, raw.call, "RunQuery", gql_query=wanted)


@pytest.mark.parametrize(
    "aggregations",
    [
        [],
        [{"alias": "a"}],
        [{"count": {}}] * 6,
        [{"alias": "a", "count": {}}, {"alias": "a", "count": {}}],
        [{"sum": {"property": {"name": "__key__"}}}],
        [{"count": {"up_to": {"value": -1}}}],
    ],
)
def test_an_aggregation_that_is_impossible_is_refused(raw: DatastoreClient, aggregations: list[object]) -> None:
    refusal(INVALID, raw.aggregate, query("A"), *aggregations)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        mutation("update", entity(key("A"))),
        mutation("delete", key("A")),
        mutation("delete", A, property_transforms=[{"property": "a", "increment": {"integer_value": 1}}]),
        mutation("upsert", entity(A), property_transforms=[{"property": "a", "increment": {"string_value": "x"}}]),
        mutation("upsert", entity(A), property_transforms=[{"property": "a"}]),
        mutation("upsert", entity(A), property_transforms=[{"property": "a", "set_to_server_value": 0}]),
        mutation("upsert", entity(A), mask=[""]),
        mutation("upsert", entity(A), update_time={"seconds": 10**12}),
    ],
)
def test_a_mutation_that_is_impossible_is_refused(raw: DatastoreClient, wrong: object) -> None:
    refusal(INVALID, raw.commit, wrong)


@pytest.mark.parametrize("method", ["RunQuery", "RunAggregationQuery"])
def test_an_explanation_is_refused_clearly(raw: DatastoreClient, method: str) -> None:
    message = refusal(grpc.StatusCode.UNIMPLEMENTED, raw.call, method, explain_options={"analyze": True})
    assert message == "The embedded Datastore explains no queries; production does."


def test_the_name_of_the_default_database_is_empty(raw: DatastoreClient) -> None:
    assert "(default)" in refusal(INVALID, raw.beside(database="(default)").get, A)


def test_a_failed_commit_leaves_no_trace(raw: DatastoreClient) -> None:
    raw.put(entity(A, n=1))
    wrong = mutation("insert", entity(A))
    transaction = raw.begin()
    refusal(
        grpc.StatusCode.ALREADY_EXISTS,
        raw.commit,
        mutation("upsert", entity(key("New", 1), new=1)),
        wrong,
        transaction=transaction,
    )
    assert raw.keys(query("__kind__")) == ["__kind__:'A'"]
    raw.put(entity(key("New", 1), new=1))
    assert raw.keys(query("New", ("new", "=", 1))) == ["New:1"]
    raw.call("Rollback", transaction=transaction)  # as ndb does


@pytest.mark.parametrize("moment", [{"seconds": 10**12}, {"seconds": -(10**12)}, {"seconds": 1, "nanos": 2 * 10**9}])
def test_a_read_time_that_is_no_time_is_refused(raw: DatastoreClient, moment: dict[str, int]) -> None:
    refusal(INVALID, raw.get, A, read_time=moment)


@pytest.mark.parametrize(
    "wanted",
    [
        query("A", ("and", *((f"p{number}", "=", 1) for number in range(61)))),
        query("A", ("and", *(("tags", "=", number) for number in range(61)))),
        query("A", order=tuple(f"p{number}" for number in range(61))),
        query("A", projection=tuple(f"p{number}" for number in range(61))),
    ],
    ids=["properties", "values", "orders", "projections"],
)
def test_a_query_with_too_many_parts_is_refused_clearly(raw: DatastoreClient, wanted: Any) -> None:
    raw.put(entity(A, tags=list(range(61)), **{f"p{number}": 1 for number in range(61)}))
    message = refusal(grpc.StatusCode.UNIMPLEMENTED, raw.run, wanted)
    assert (
        message == "The embedded Datastore answers no query with more than 60 equality filters, orders and projections."
    )


def test_a_query_with_sixty_parts_is_answered(raw: DatastoreClient) -> None:
    raw.put(entity(A, tags=list(range(50)), **{f"p{number}": 1 for number in range(10)}))
    wanted = query(
        "A",
        ("and", *(("tags", "=", number) for number in range(50))),
        order=tuple(f"p{number}" for number in range(10)),
    )
    assert raw.keys(wanted) == ["A:1"]
