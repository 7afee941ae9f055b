"""A client of a Datastore that sends the messages as they are, and short ways to write them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

import grpc

from gaetk_longtask.dev.datastore_emulator.messages import (
    METHODS,
    REQUESTS,
    RESPONSES,
    Entity,
    Filter,
    Key,
    Mutation,
    Query,
    Value,
)

_SERVICE = "google.datastore.v1.Datastore"
_SECONDS = 60
_OPERATORS = {"<": 1, "<=": 2, ">": 3, ">=": 4, "=": 5, "in": 6, "!=": 9, "ancestor": 11, "not in": 13}


class Point(NamedTuple):
    latitude: float
    longitude: float


class Unindexed(NamedTuple):
    """A value that is excluded from the indexes."""

    value: Any


def key(*path: str | int | None, namespace: str = "", project: str = "", database: str = "") -> Any:
    """Return the key of a path of kinds and ids. Nothing else is set, as with the clients for Node and Go."""
    made = Key()
    made.partition_id.namespace_id = namespace
    made.partition_id.project_id = project
    made.partition_id.database_id = database
    for kind, identity in zip(path[::2], [*path[1::2], None], strict=False):
        match identity:
            case int():
                made.path.add(kind=kind, id=identity)
            case str():
                made.path.add(kind=kind, name=identity)
            case None:
                made.path.add(kind=kind)
    return made


def value(plain: Any) -> Any:
    """Return the message for a Python value."""
    made = Value()
    match plain:
        case Unindexed():
            made = value(plain.value)
            made.exclude_from_indexes = True
        case None:
            made.null_value = 0
        case bool():
            made.boolean_value = plain
        case int():
            made.integer_value = plain
        case float():
            made.double_value = plain
        case str():
            made.string_value = plain
        case bytes():
            made.blob_value = plain
        case datetime():
            made.timestamp_value.FromDatetime(plain)
        case Point():
            made.geo_point_value.latitude, made.geo_point_value.longitude = plain
        case list():
            made.array_value.SetInParent()
            made.array_value.values.extend(map(value, plain))
        case dict():
            made.entity_value.CopyFrom(entity(None, **plain))
        case Key():
            made.key_value.CopyFrom(plain)
        case Entity():
            made.entity_value.CopyFrom(plain)
        case _:
            made.CopyFrom(plain)
    return made


def entity(of: Any, **properties: Any) -> Any:
    """Return an entity with a key."""
    made = Entity()
    if of is not None:
        made.key.CopyFrom(of)
    for name, plain in properties.items():
        made.properties[name].CopyFrom(value(plain))
    return made


def where(*condition: Any) -> Any:
    """Return a filter: ``("n", ">", 1)``, or ``("and", …)`` and ``("or", …)`` with such ones."""
    made = Filter()
    if condition[0] in ("and", "or"):
        made.composite_filter.op = 1 if condition[0] == "and" else 2
        made.composite_filter.filters.extend(where(*part) for part in condition[1:])
        return made
    name, operator, operand = condition
    made.property_filter.property.name = name
    made.property_filter.op = _OPERATORS[operator]
    made.property_filter.value.CopyFrom(value(operand))
    return made


def query(
    kind: str | None = None,
    condition: tuple[Any, ...] | None = None,
    *,
    order: tuple[str, ...] = (),
    projection: tuple[str, ...] = (),
    distinct: tuple[str, ...] = (),
    **fields: Any,
) -> Any:
    """Return a query. In `order`, a minus sign means descending."""
    limit = fields.pop("limit", None)
    made = Query(**fields)
    if kind is not None:
        made.kind.add(name=kind)
    if condition is not None:
        made.filter.CopyFrom(where(*condition))
    for name in order:
        made.order.add(direction=2 if name.startswith("-") else 1).property.name = name.removeprefix("-")
    for name in projection:
        made.projection.add().property.name = name
    for name in distinct:
        made.distinct_on.add(name=name)
    if limit is not None:
        made.limit.value = limit
    return made


def mutation(operation: str, content: Any, *, mask: list[str] | None = None, **fields: Any) -> Any:
    """Return a mutation: ``insert``, ``update``, ``upsert`` or ``delete``."""
    made = Mutation(**{operation: content}, **fields)
    if mask is not None:
        made.property_mask.SetInParent()
        made.property_mask.paths.extend(mask)
    return made


def path(of: Any) -> str:
    """Return a key as text."""
    return "/".join(f"{element.kind}:{element.id or repr(element.name)}" for element in of.path)


def plain(of: Any) -> Any:
    """Return the Python value of a message."""
    match of.WhichOneof("value_type"):
        case "null_value" | None:
            return None
        case "array_value":
            return [plain(element) for element in of.array_value.values]
        case "entity_value":
            return properties(of.entity_value)
        case "timestamp_value":
            return of.timestamp_value.ToDatetime()
        case "key_value":
            return path(of.key_value)
        case "geo_point_value":
            return Point(of.geo_point_value.latitude, of.geo_point_value.longitude)
        case which:
            return getattr(of, which)


def properties(of: Any) -> dict[str, Any]:
    """Return the properties of an entity."""
    return {name: plain(found) for name, found in sorted(of.properties.items())}


class DatastoreClient:
    """A client of an emulator."""

    def __init__(self, host: str, channel: grpc.Channel, project: str = "demo", database: str = "") -> None:
        self.host, self.project, self.database = host, project, database
        self._channel = channel
        self._calls = {
            name: channel.unary_unary(
                f"/{_SERVICE}/{name}",
                request_serializer=REQUESTS[name].SerializeToString,
                response_deserializer=RESPONSES[name].FromString,
            )
            for name in METHODS
        }

    def beside(self, project: str | None = None, database: str = "") -> DatastoreClient:
        """Return a client of another project or database."""
        return DatastoreClient(self.host, self._channel, project or self.project, database)

    def call(self, method: str, **fields: Any) -> Any:
        """Call a method of the service."""
        request = REQUESTS[method](**{"project_id": self.project, "database_id": self.database} | fields)
        # The SDK's emulator finds the database here.
        name = f"projects/{self.project}/databases/{self.database}"
        metadata = [("google-cloud-resource-prefix", name)] if self.database else []
        return self._calls[method](request, timeout=_SECONDS, metadata=metadata)

    def commit(self, *mutations: Any, transaction: bytes | None = None) -> Any:
        """Commit mutations."""
        if transaction is None:
            return self.call("Commit", mode=2, mutations=mutations)
        return self.call("Commit", mode=1, mutations=mutations, transaction=transaction)

    def put(self, *entities: Any, transaction: bytes | None = None) -> Any:
        """Put entities."""
        return self.commit(*(mutation("upsert", each) for each in entities), transaction=transaction)

    def delete(self, *keys: Any) -> Any:
        """Delete entities."""
        return self.commit(*(mutation("delete", each) for each in keys))

    def begin(self, **options: Any) -> bytes:
        """Begin a transaction."""
        return bytes(self.call("BeginTransaction", transaction_options=options or {"read_write": {}}).transaction)

    def get(self, *keys: Any, **options: Any) -> list[dict[str, Any]]:
        """Return the properties of the entities that exist."""
        response = self.call("Lookup", keys=keys, read_options=options)
        return [properties(found.entity) for found in response.found]

    def run(self, wanted: Any, *, namespace: str = "", **options: Any) -> Any:
        """Return the batch that answers a query."""
        partition = {"namespace_id": namespace}
        return self.call("RunQuery", query=wanted, partition_id=partition, read_options=options).batch

    def keys(self, wanted: Any, **options: Any) -> list[str]:
        """Return the keys that a query finds."""
        return [path(found.entity.key) for found in self.run(wanted, **options).entity_results]

    def rows(self, wanted: Any, **options: Any) -> list[dict[str, Any]]:
        """Return the properties that a query finds."""
        return [properties(found.entity) for found in self.run(wanted, **options).entity_results]

    def aggregate(self, wanted: Any, *aggregations: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Return the values of aggregations."""
        response = self.call(
            "RunAggregationQuery",
            aggregation_query={"nested_query": wanted, "aggregations": aggregations},
            read_options=options,
        )
        [result] = response.batch.aggregation_results
        return {name: plain(found) for name, found in sorted(result.aggregate_properties.items())}


@contextmanager
def connected(host: str) -> Iterator[DatastoreClient]:
    """Lend a client of the emulator that listens there."""
    with grpc.insecure_channel(host, options=[("grpc.max_receive_message_length", -1)]) as channel:
        yield DatastoreClient(host, channel)
