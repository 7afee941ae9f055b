"""What a Datastore does with queries."""

from __future__ import annotations

from typing import Any

from tests.dev.datastore_client import DatastoreClient, Unindexed, entity, key, path, plain, query
from tests.peers.checklist import Checklist
from tests.peers.datastore_entities import INVALID, A, refusal

QUERIES = Checklist()


def store(client: DatastoreClient) -> None:
    """Store seven entities with two properties, some descendants, and one of another kind."""
    client.put(
        *(entity(key("A", number), n=number, third=number % 3, half=number % 2) for number in range(1, 8)),
        entity(key("A", 1, "B", 1), n=1),
        entity(key("A", 1, "B", "x", "C", 1), n=2),
        entity(key("B", 7), n=9),
    )


def numbers(client: DatastoreClient, wanted: Any, **options: Any) -> list[int]:
    return [row["n"] for row in client.rows(wanted, **options)]


@QUERIES("filters by equality")
def _(client: DatastoreClient) -> None:
    store(client)
    assert numbers(client, query("A", ("and", ("third", "=", 1), ("half", "=", 0)))) == [4]


@QUERIES("a range, and an order")
def _(client: DatastoreClient) -> None:
    store(client)
    assert numbers(client, query("A", ("and", ("n", ">", 2), ("n", "<=", 5)), order=("-n",))) == [5, 4, 3]


@QUERIES("several orders in different directions")
def _(client: DatastoreClient) -> None:
    store(client)
    assert numbers(client, query("A", order=("third", "-n"))) == [6, 3, 7, 4, 1, 5, 2]


@QUERIES("an entity comes once, even if several of its values match")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, n=[1, 5, 3]), entity(key("A", 2), n=[4]))
    assert client.keys(query("A", ("n", ">", 2))) == ["A:1", "A:2"]
    assert client.keys(query("A", order=("-n",))) == ["A:1", "A:2"]


@QUERIES("values of all types have one order")
def _(client: DatastoreClient) -> None:
    values = [None, -1, 5, False, True, "", "a", b"b", -0.5, 1.5, key("Z", 1), key("Z", "a")]
    client.put(*(entity(key("A", number), v=each) for number, each in enumerate(reversed(values), 1)))
    assert [row["v"] for row in client.rows(query("A", order=("v",)))][:10] == values[:10]


@QUERIES("what is excluded from the indexes is not found")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, n=Unindexed(1)), entity(key("A", 2), n=1))
    assert client.keys(query("A", ("n", "=", 1))) == ["A:2"]


@QUERIES("a property of an entity within the entity")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, address={"city": "Bonn", "more": {"zip": 1}}), entity(key("A", 2), address={"city": "Ulm"}))
    assert client.keys(query("A", ("address.city", "=", "Bonn"))) == ["A:1"]
    assert client.keys(query("A", ("address.more.zip", "=", 1))) == ["A:1"]
    assert client.keys(query("A", order=("-address.city",))) == ["A:2", "A:1"]


@QUERIES("properties of entities in an array")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, places=[{"city": "Bonn"}, {"city": "Ulm"}]))
    assert client.keys(query("A", ("places.city", "=", "Ulm"))) == ["A:1"]


@QUERIES("ancestors, with and without a kind")
def _(client: DatastoreClient) -> None:
    store(client)
    assert client.keys(query("B", ("__key__", "ancestor", A))) == ["A:1/B:1"]
    assert client.keys(query(None, ("__key__", "ancestor", A))) == ["A:1", "A:1/B:1", "A:1/B:'x'/C:1"]


@QUERIES("all kinds, and ranges of keys")
def _(client: DatastoreClient) -> None:
    store(client)
    assert client.keys(query(None, ("__key__", ">", key("A", 6)))) == ["A:7", "B:7"]
    assert client.keys(query("A", ("__key__", "<", key("A", 3)), order=("-__key__",))) == ["A:2", "A:1"]


@QUERIES("IN")
def _(client: DatastoreClient) -> None:
    store(client)
    assert numbers(client, query("A", ("third", "in", [2, 0]))) == [2, 3, 5, 6]


@QUERIES("NOT_IN")
def _(client: DatastoreClient) -> None:
    store(client)
    assert numbers(client, query("A", ("third", "not in", [2, 0]))) == [1, 4, 7]


@QUERIES("!=")
def _(client: DatastoreClient) -> None:
    store(client)
    assert numbers(client, query("A", ("and", ("third", "!=", 1), ("half", "=", 1)))) == [3, 5]


@QUERIES("OR")
def _(client: DatastoreClient) -> None:
    store(client)
    either = ("or", ("third", "=", 0), ("and", ("half", "=", 1), ("n", "=", 7)))
    assert numbers(client, query("A", either, order=("-n",))) == [7, 6, 3]


@QUERIES("inequalities of two properties")
def _(client: DatastoreClient) -> None:
    store(client)
    assert sorted(numbers(client, query("A", ("and", ("n", ">", 3), ("third", "<", 2))))) == [4, 6, 7]


@QUERIES("an order that does not begin with the inequality")
def _(client: DatastoreClient) -> None:
    store(client)
    assert numbers(client, query("A", ("third", ">", 0), order=("-n",))) == [7, 5, 4, 2, 1]


@QUERIES("keys only")
def _(client: DatastoreClient) -> None:
    store(client)
    batch = client.run(query("A", ("n", "<", 3), projection=("__key__",)))
    assert [(path(each.entity.key), len(each.entity.properties)) for each in batch.entity_results] == [
        ("A:1", 0),
        ("A:2", 0),
    ]


@QUERIES("a projection has a result for each value")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, n=[1, 2], t="a", u=1), entity(key("A", 2), n=1, t="b", u=1))
    assert client.rows(query("A", projection=("n", "t"))) == [
        {"n": 1, "t": "a"},
        {"n": 1, "t": "b"},
        {"n": 2, "t": "a"},
    ]


@QUERIES("distinct")
def _(client: DatastoreClient) -> None:
    store(client)
    rows = client.rows(query("A", projection=("third", "n"), distinct=("third",), order=("third", "-n")))
    assert rows == [{"n": 6, "third": 0}, {"n": 7, "third": 1}, {"n": 5, "third": 2}]


@QUERIES("limit and offset")
def _(client: DatastoreClient) -> None:
    store(client)
    batch = client.run(query("A", order=("n",), offset=2, limit=3))
    assert [plain(each.entity.properties["n"]) for each in batch.entity_results] == [3, 4, 5]
    assert batch.skipped_results == 2


@QUERIES("pages by cursor, and up to a cursor")
def _(client: DatastoreClient) -> None:
    store(client)
    first = client.run(query("A", order=("-third",), limit=3))
    rest = client.keys(query("A", order=("-third",), start_cursor=first.end_cursor))
    until = client.keys(query("A", order=("-third",), end_cursor=first.end_cursor))
    assert [path(each.entity.key) for each in first.entity_results] == until
    assert sorted(until + rest) == [f"A:{number}" for number in range(1, 8)]


@QUERIES("a cursor that is nonsense is refused")
def _(client: DatastoreClient) -> None:
    refusal(INVALID, client.run, query("A", start_cursor=b"nonsense"))


@QUERIES("more_results says whether there are more results")
def _(client: DatastoreClient) -> None:
    store(client)
    assert client.run(query("A", limit=3)).more_results == 2
    assert client.run(query("A", limit=7)).more_results == 3


@QUERIES("a batch has less than 4 MiB")
def _(client: DatastoreClient) -> None:
    for start in range(1, 601, 200):
        client.put(*(entity(key("A", start + more), t=Unindexed("x" * 10_000)) for more in range(200)))
    batch = client.run(query("A"))
    assert batch.ByteSize() < 4 * 1024 * 1024
    assert batch.more_results == 1
    assert len(client.run(query("A", start_cursor=batch.end_cursor)).entity_results) > 0


@QUERIES("count, up to a number")
def _(client: DatastoreClient) -> None:
    store(client)
    found = client.aggregate(
        query("A"), {"alias": "all", "count": {}}, {"alias": "few", "count": {"up_to": {"value": 3}}}
    )
    assert found == {"all": 7, "few": 3}


@QUERIES("sum and average")
def _(client: DatastoreClient) -> None:
    store(client)
    sum_, average = {"alias": "s", "sum": {"property": {"name": "n"}}}, {"avg": {"property": {"name": "n"}}}
    wanted = query("A", ("third", "=", 1))
    assert client.aggregate(wanted, sum_, average | {"alias": "a"}) == {"a": 4.0, "s": 12}
    assert client.aggregate(query("Z"), sum_, average | {"alias": "a"}) == {"a": None, "s": 0}


@QUERIES("__kind__")
def _(client: DatastoreClient) -> None:
    store(client)
    assert client.keys(query("__kind__")) == ["__kind__:'A'", "__kind__:'B'", "__kind__:'C'"]


@QUERIES("__property__, with the types")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, a=["x", 1.5], b=Unindexed(1), c={"d": 1}))
    found = client.run(query("__property__")).entity_results
    assert [path(each.entity.key).rpartition(":")[2] for each in found] == ["'a'", "'c.d'"]
    assert plain(found[0].entity.properties["property_representation"]) == ["DOUBLE", "STRING"]


@QUERIES("__namespace__, also from within a namespace")
def _(client: DatastoreClient) -> None:
    client.put(entity(A), entity(key("A", 1, namespace="other")))
    for namespace in ("", "other"):
        names = client.keys(query("__namespace__"), namespace=namespace)
        assert names == ["__namespace__:1", "__namespace__:'other'"]


def gql(client: DatastoreClient, text: str, **bindings: Any) -> list[str]:
    wanted = {"query_string": text, "allow_literals": True, **bindings}
    return [path(each.entity.key) for each in client.call("RunQuery", gql_query=wanted).batch.entity_results]


@QUERIES("GQL with literals")
def _(client: DatastoreClient) -> None:
    store(client)
    assert gql(client, "SELECT * FROM A WHERE half = 1 AND n > 1 ORDER BY n DESC LIMIT 2 OFFSET 1") == ["A:5", "A:3"]
    assert gql(client, "SELECT __key__ FROM B WHERE __key__ HAS ANCESTOR KEY(A, 1)") == ["A:1/B:1"]


@QUERIES("GQL with bindings")
def _(client: DatastoreClient) -> None:
    store(client)
    named = {"least": {"value": {"integer_value": 6}}}
    assert gql(client, "SELECT * FROM A WHERE n >= @least", named_bindings=named) == ["A:6", "A:7"]
    positional = [{"value": {"integer_value": 2}}]
    assert gql(client, "SELECT * FROM A WHERE n = @1", positional_bindings=positional) == ["A:2"]


@QUERIES("a count in GQL")
def _(client: DatastoreClient) -> None:
    store(client)
    wanted = {"query_string": "SELECT COUNT(*) AS n FROM A WHERE half = 1", "allow_literals": True}
    [result] = client.call("RunAggregationQuery", gql_query=wanted).batch.aggregation_results
    assert plain(result.aggregate_properties["n"]) == 4


@QUERIES("a query returns the properties of a mask")
def _(client: DatastoreClient) -> None:
    store(client)
    response = client.call("RunQuery", query=query("A", limit=1), property_mask={"paths": ["n"]})
    assert list(response.batch.entity_results[0].entity.properties) == ["n"]
