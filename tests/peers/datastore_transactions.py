"""What a Datastore does with transactions."""

from __future__ import annotations

from typing import Any

import grpc

from tests.dev.datastore_client import DatastoreClient, entity, key, plain, query
from tests.peers.checklist import Checklist
from tests.peers.datastore_entities import INVALID, A, refusal

TRANSACTIONS = Checklist()
B = key("B", 1)


@TRANSACTIONS("a commit is all or nothing")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, n=1))
    transaction = client.begin()
    wrong = {"insert": entity(A, n=2)}
    refusal(grpc.StatusCode.ALREADY_EXISTS, client.commit, {"upsert": entity(B, n=2)}, wrong, transaction=transaction)
    assert client.get(A, B) == [{"n": 1}]


@TRANSACTIONS("of two that read the same and write it, one is aborted or waits")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, n=1))
    one, other = client.begin(), client.begin()
    assert client.get(A, transaction=one) == client.get(A, transaction=other)
    assert sorted([_outcome(client, one), _outcome(client, other)]) == ["ABORTED", "OK"]


def _outcome(client: DatastoreClient, transaction: bytes | None, of: Any = A) -> str:
    """Put an entity, and return the name of the status code."""
    try:
        client.put(entity(of, n=2), transaction=transaction)
    except grpc.RpcError as exc:
        return str(exc.code().name)
    return "OK"


@TRANSACTIONS("what it writes is seen after its commit only")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, n=1))
    transaction = client.begin()
    assert client.get(A, transaction=transaction) == [{"n": 1}]
    client.put(entity(A, n=2), transaction=transaction)
    assert client.get(A) == [{"n": 2}]


@TRANSACTIONS("a read-only one sees a snapshot, and no other one waits for it")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, n=1), entity(B, n=1))
    transaction = client.begin(read_only={})
    assert client.get(A, transaction=transaction) == [{"n": 1}]
    client.put(entity(B, n=2))
    assert client.get(B, transaction=transaction) == [{"n": 1}]


@TRANSACTIONS("a read-only one writes nothing")
def _(client: DatastoreClient) -> None:
    refusal(INVALID, client.put, entity(A), transaction=client.begin(read_only={}))


@TRANSACTIONS("it begins with its first lookup")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, n=1))
    response = client.call("Lookup", keys=[A], read_options={"new_transaction": {"read_write": {}}})
    assert plain(response.found[0].entity.properties["n"]) == 1
    client.put(entity(A, n=2), transaction=response.transaction)
    assert client.get(A) == [{"n": 2}]


@TRANSACTIONS("it begins with its first query")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, n=1))
    options = {"new_transaction": {"read_write": {}}}
    response = client.call("RunQuery", query=query("A", ("__key__", "ancestor", A)), read_options=options)
    assert len(response.batch.entity_results) == 1
    client.put(entity(A, n=2), transaction=response.transaction)


@TRANSACTIONS("a query without an ancestor is part of it")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, n=1))
    transaction = client.begin()
    assert client.keys(query("A", ("n", "=", 1)), transaction=transaction) == ["A:1"]
    client.call("Rollback", transaction=transaction)


@TRANSACTIONS("a count is part of it")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, n=1))
    transaction = client.begin()
    assert client.aggregate(query("A"), {"alias": "n", "count": {}}, transaction=transaction) == {"n": 1}
    client.call("Rollback", transaction=transaction)


@TRANSACTIONS("what its query would find now aborts it")
def _(client: DatastoreClient) -> None:
    transaction = client.begin(read_write={})
    assert client.keys(query("B", ("__key__", "ancestor", A)), transaction=transaction) == []
    # An emulator with locks refuses the other one.
    outcomes = [_outcome(client, None, key("A", 1, "B", 1)), _outcome(client, transaction)]
    assert outcomes.count("OK") == 1


@TRANSACTIONS("it may write to 100 entity groups")
def _(client: DatastoreClient) -> None:
    client.put(*(entity(key("A", number)) for number in range(1, 101)), transaction=client.begin())
    assert len(client.keys(query("A"))) == 100


@TRANSACTIONS("a commit may be a transaction of its own")
def _(client: DatastoreClient) -> None:
    options = {"mode": 1, "single_use_transaction": {"read_write": {}}}
    client.call("Commit", mutations=[{"upsert": entity(A, n=1)}], **options)
    assert client.get(A) == [{"n": 1}]


@TRANSACTIONS("after its rollback it is over")
def _(client: DatastoreClient) -> None:
    transaction = client.begin()
    client.call("Rollback", transaction=transaction)
    refusal(INVALID, client.put, entity(A), transaction=transaction)
    assert client.get(A) == []


@TRANSACTIONS("after its commit it is over")
def _(client: DatastoreClient) -> None:
    transaction = client.begin()
    client.put(entity(A, n=1), transaction=transaction)
    refusal(INVALID, client.put, entity(A, n=2), transaction=transaction)


@TRANSACTIONS("a transaction that never began is refused clearly")
def _(client: DatastoreClient) -> None:
    refusal(INVALID, client.get, A, transaction=b"nonsense")
