"""What a Datastore does with entities and keys."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import grpc
import pytest

from tests.dev.datastore_client import DatastoreClient, Point, Unindexed, entity, key, mutation, properties, query
from tests.peers.checklist import Checklist

ENTITIES = Checklist()
A = key("A", 1)
_MOMENT = datetime(2026, 11, 23, 17, 40, 1, 123456)  # noqa: DTZ001 - the message has no time zone

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def refusal(code: grpc.StatusCode, call: Any, *arguments: Any, **options: Any) -> str:
    """Call something that must be refused, and return the message."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **options)
    assert caught.value.code() == code
    return str(caught.value.details())


@ENTITIES("every type of value comes back equal")
def _(client: DatastoreClient) -> None:
    values = {
        "integer": -(2**63),
        "double": 0.1,
        "text": "grün",
        "blob": bytes(range(256)),
        "moment": _MOMENT,
        "nothing": None,
        "yes": True,
        "point": Point(51.5, -0.25),
        "many": [3, "x", None],
        "inner": {"a": 1, "b": {"c": [1, 2]}},
        "empty": [],
    }
    client.put(entity(A, **values))
    assert client.get(A) == [values]


@ENTITIES("a key without a project belongs to the project of the request")
def _(client: DatastoreClient) -> None:
    client.put(entity(key("A", 1), other=key("B", 2)))
    [found] = client.call("Lookup", keys=[key("A", 1, project=client.project)]).found
    assert found.entity.key.partition_id.project_id == client.project
    assert found.entity.properties["other"].key_value.partition_id.project_id == client.project


@ENTITIES("a key of another project is refused")
def _(client: DatastoreClient) -> None:
    refusal(INVALID, client.put, entity(key("A", 1, project="other")))


@ENTITIES("projects do not see each other")
def _(client: DatastoreClient) -> None:
    client.put(entity(A))
    assert client.beside(project="elsewhere").get(A) == []


@ENTITIES("namespaces do not see each other")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, n=1), entity(key("A", 1, namespace="other"), n=2))
    assert client.rows(query("A")) == [{"n": 1}]
    assert client.rows(query("A"), namespace="other") == [{"n": 2}]


@ENTITIES("databases do not see each other, and their keys name them")
def _(client: DatastoreClient) -> None:
    second = client.beside(database="second")
    in_second = key("A", 1, project=client.project, database="second")
    client.put(entity(A, n=1))
    second.put(entity(in_second, n=2))
    assert client.get(A) == [{"n": 1}]
    [found] = second.call("Lookup", keys=[in_second]).found
    assert properties(found.entity) == {"n": 2}
    assert found.entity.key.partition_id.database_id == "second"


@ENTITIES("a key without a database belongs to the database of the request")
def _(client: DatastoreClient) -> None:
    second = client.beside(database="second")
    second.put(entity(key("A", 1)))
    assert client.get(A) == []
    assert second.get(A) == [{}]


@ENTITIES("an insert of what exists is refused: ALREADY_EXISTS")
def _(client: DatastoreClient) -> None:
    client.put(entity(A))
    refusal(grpc.StatusCode.ALREADY_EXISTS, client.commit, mutation("insert", entity(A)))


@ENTITIES("an update of what does not exist is refused: NOT_FOUND")
def _(client: DatastoreClient) -> None:
    refusal(grpc.StatusCode.NOT_FOUND, client.commit, mutation("update", entity(A)))


@ENTITIES("a deletion of what does not exist succeeds")
def _(client: DatastoreClient) -> None:
    client.delete(A)


@ENTITIES("an incomplete key gets an id that was never given before")
def _(client: DatastoreClient) -> None:
    put = client.put(*(entity(key("A")) for _ in range(20))).mutation_results
    allocated = client.call("AllocateIds", keys=[key("A") for _ in range(20)]).keys
    ids = [result.key.path[0].id for result in put] + [made.path[0].id for made in allocated]
    assert len(set(ids)) == 40


@ENTITIES("ids can be reserved")
def _(client: DatastoreClient) -> None:
    client.call("ReserveIds", keys=[key("A", 5), key("A", "name")])


@ENTITIES("a lookup of an incomplete key is refused")
def _(client: DatastoreClient) -> None:
    assert "incomplete" in refusal(INVALID, client.get, key("A"))


@ENTITIES("negative ids are ids")
def _(client: DatastoreClient) -> None:
    client.put(entity(key("A", -5), n=1))
    assert client.get(key("A", -5)) == [{"n": 1}]


@ENTITIES("reserved names of kinds, entities and properties are refused")
def _(client: DatastoreClient) -> None:
    for wrong in (entity(key("__x__", 1)), entity(key("A", "__x__")), entity(A, __x__=1)):
        assert "is reserved" in refusal(INVALID, client.put, wrong)


@ENTITIES("an indexed text may have 1,500 bytes")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, a="é" * 750, b=Unindexed("x" * 1501)))
    for wrong in ("é" * 751, b"x" * 1501, ["x" * 1501], {"b": "x" * 1501}):
        assert "longer than 1500 bytes" in refusal(INVALID, client.put, entity(A, a=wrong))


@ENTITIES("a property may have 1,048,487 bytes")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, a=Unindexed("x" * 1_048_487)))
    refusal(INVALID, client.put, entity(A, a=Unindexed("x" * 1_048_488)))


@ENTITIES("an array in an array is refused")
def _(client: DatastoreClient) -> None:
    refusal(INVALID, client.put, entity(A, a=[[1]]))


@ENTITIES("a commit may have 1,000 entities")
def _(client: DatastoreClient) -> None:
    client.put(*(entity(key("A", number)) for number in range(1, 1001)))
    counted = [len(client.call("Lookup", keys=[key("A", number) for number in (1, 1000)]).found)]
    assert counted == [2]


@ENTITIES("two mutations of an entity are refused outside of a transaction")
def _(client: DatastoreClient) -> None:
    assert "multiple mutations" in refusal(INVALID, client.put, entity(A, n=1), entity(A, n=2))


@ENTITIES("in a transaction, the last of two mutations counts")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, n=1), entity(A, n=2), transaction=client.begin())
    assert client.get(A) == [{"n": 2}]


@ENTITIES("a lookup with a property mask returns the properties of the mask")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, a=1, b={"c": 1, "d": 2}, e=3))
    [found] = client.call("Lookup", keys=[A], property_mask={"paths": ["a", "b.c"]}).found
    assert properties(found.entity) == {"a": 1, "b": {"c": 1}}


@ENTITIES("a write with a property mask keeps the other properties")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, a=1, b={"c": 1, "d": 2}, e=3))
    client.commit(mutation("upsert", entity(A, a=9, b={"c": 9}), mask=["a", "b.c", "e"]))
    assert client.get(A) == [{"a": 9, "b": {"c": 9, "d": 2}}]


@ENTITIES("a transform increments a number and returns it")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, n=1, o=1))
    transforms = [{"property": "n", "increment": {"integer_value": 5}}]
    [result] = client.commit(mutation("upsert", entity(A), mask=[], property_transforms=transforms)).mutation_results
    assert client.get(A) == [{"n": 6, "o": 1}]
    assert [each.integer_value for each in result.transform_results] == [6]


@ENTITIES("transforms take the larger and the smaller number, and the time of the request")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, a=1, b=1))
    transforms = [
        {"property": "a", "maximum": {"integer_value": 5}},
        {"property": "b", "minimum": {"double_value": 0.5}},
        {"property": "c", "set_to_server_value": 1},
    ]
    client.commit(mutation("upsert", entity(A), mask=[], property_transforms=transforms))
    [found] = client.get(A)
    assert (found["a"], found["b"]) == (5, 0.5)
    assert isinstance(found["c"], datetime)


@ENTITIES("transforms add to an array what it lacks, and remove from it")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, a=[1, 2], b=[1, 2, 1]))
    transforms = [
        {"property": "a", "append_missing_elements": {"values": [{"integer_value": 2}, {"integer_value": 3}]}},
        {"property": "b", "remove_all_from_array": {"values": [{"integer_value": 1}]}},
    ]
    client.commit(mutation("upsert", entity(A), mask=[], property_transforms=transforms))
    assert client.get(A) == [{"a": [1, 2, 3], "b": [2]}]


@ENTITIES("a mutation of another version than the stored one is a conflict")
def _(client: DatastoreClient) -> None:
    [first] = client.put(entity(A, n=1)).mutation_results
    client.put(entity(A, n=2))
    [result] = client.commit(mutation("upsert", entity(A, n=3), base_version=first.version)).mutation_results
    assert result.conflict_detected
    assert client.get(A) == [{"n": 2}]


@ENTITIES("a conflict can fail the commit")
def _(client: DatastoreClient) -> None:
    [first] = client.put(entity(A, n=1)).mutation_results
    client.put(entity(A, n=2))
    wrong = mutation("delete", A, base_version=first.version, conflict_resolution_strategy=3)
    refusal(grpc.StatusCode.FAILED_PRECONDITION, client.commit, wrong)


@ENTITIES("a result has the version and the times of its entity")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, n=1))
    [result] = client.put(entity(A, n=2)).mutation_results
    [found] = client.call("Lookup", keys=[A]).found
    assert found.version == result.version
    assert found.update_time == result.update_time
    assert found.create_time.ToNanoseconds() < found.update_time.ToNanoseconds()


@ENTITIES("a lookup of more than 4 MiB defers keys")
def _(client: DatastoreClient) -> None:
    keys = [key("A", number) for number in range(1, 9)]
    for each in keys:
        client.put(entity(each, blob=Unindexed(b"x" * 1_000_000)))
    response = client.call("Lookup", keys=keys)
    assert response.ByteSize() < 4 * 1024 * 1024
    assert len(response.found) + len(response.deferred) == len(keys)


@ENTITIES("a read of the past finds what was there")
def _(client: DatastoreClient) -> None:
    client.put(entity(A, n=1))
    [found] = client.call("Lookup", keys=[A]).found
    client.put(entity(A, n=2))
    client.put(entity(key("A", 2), n=2))
    assert client.get(A, read_time=found.update_time) == [{"n": 1}]
    assert client.rows(query("A"), read_time=found.update_time) == [{"n": 1}]
