"""Entities: which ones are refused, what the client left out, and their entries in the indexes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gaetk_longtask.dev.datastore_emulator import encoding
from gaetk_longtask.dev.datastore_emulator.errors import invalid
from gaetk_longtask.dev.datastore_emulator.keys import (
    MAX_NAME_BYTES,
    Database,
    Partition,
    check_key,
    check_name,
    check_reference,
    is_complete,
)

#: Production's limits.
MAX_INDEXED_BYTES = MAX_NAME_BYTES
_MAX_ENTITY_BYTES = 1_048_572
_MAX_VALUE_BYTES = 1_048_487
_MAX_ENTRIES = 20_000
_MAX_DEPTH = 20

_LATITUDE, _LONGITUDE = 90.0, 180.0
#: The years 1 to 9999.
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799

#: The name of a property, and an encoded value.
Entries = set[tuple[str, bytes]]


def check_entity(entity: Any, database: Database, *, incomplete: bool = False) -> Partition:
    """Check an entity that a client stores, fill in what it left out, and return the partition of its key."""
    if not entity.HasField("key"):
        raise invalid("Entity is missing key.")
    partition = check_key(entity.key, database, incomplete=incomplete)
    check_properties(entity, database)
    return partition


def check_properties(entity: Any, database: Database, depth: int = 0) -> None:
    """Check the properties of an entity, or of an entity within one."""
    if depth > _MAX_DEPTH:
        raise invalid(f"Entities are nested more than {_MAX_DEPTH} levels deep.")
    for name, value in entity.properties.items():
        check_name(name, "property.name")
        _check_value(name, value, database, depth)


def check_size(entity: Any) -> None:
    """Refuse an entity that is too large for Datastore."""
    if entity.ByteSize() > _MAX_ENTITY_BYTES:
        raise invalid(f"The entity is larger than {_MAX_ENTITY_BYTES} bytes.")


def microseconds_of(timestamp: Any, what: str) -> int:
    """Return a time that is not part of an entity in microseconds, or refuse it."""
    try:
        return int(timestamp.ToMicroseconds())
    except ValueError as exc:
        raise invalid(f"The {what} is not a valid time.") from exc


def check_operand(name: str, value: Any, database: Database) -> bytes:
    """Check a value that a query compares with, and return it as it is in an index."""
    which = value.WhichOneof("value_type")
    if which in ("array_value", "entity_value"):
        raise invalid(f"{'A list' if which == 'array_value' else 'An entity'} value is not allowed")
    _check_value(name, value, database, 0)
    return encoding.encode(value)


def entries(entity: Any) -> Entries:
    """Return the entries of an entity in the indexes. An entity within the entity adds ``property.inner``."""
    found: Entries = set()
    for name, value in entity.properties.items():
        found.update(_entries(name, value))
    if len(found) > _MAX_ENTRIES:
        raise invalid("Too many indexed properties")
    return found


def _entries(name: str, value: Any) -> Iterator[tuple[str, bytes]]:
    if value.exclude_from_indexes:
        return
    match value.WhichOneof("value_type"):
        case "array_value":
            if not value.array_value.values:
                yield name, encoding.NULL
            for element in value.array_value.values:
                yield from _entries(name, element)
        case "entity_value":
            inner = value.entity_value
            if inner.HasField("key") and inner.key.path and is_complete(inner.key):
                yield f"{name}.__key__", encoding.encode_reference(inner.key)
            for inner_name, inner_value in inner.properties.items():
                yield from _entries(f"{name}.{inner_name}", inner_value)
        case _:
            yield name, encoding.encode(value)


def _check_value(name: str, value: Any, database: Database, depth: int) -> None:
    which = value.WhichOneof("value_type")
    match which:
        case "string_value":
            text = value.string_value
            # A character has at most four bytes.
            if len(text) * 4 > MAX_INDEXED_BYTES:
                _check_length(name, len(text.encode()), value)
        case "blob_value":
            _check_length(name, len(value.blob_value), value)
        case "array_value":
            if value.exclude_from_indexes:
                raise invalid("Exclude from indexes cannot be set on a list value")
            for element in value.array_value.values:
                if element.WhichOneof("value_type") == "array_value":
                    raise invalid("list_value cannot contain a Value containing another list_value.")
                _check_value(name, element, database, depth)
        case "entity_value":
            inner = value.entity_value
            if inner.HasField("key"):
                check_reference(inner.key, database, incomplete=True)
            check_properties(inner, database, depth + 1)
        case "key_value":
            check_reference(value.key_value, database)
        case "timestamp_value":
            _check_timestamp(value.timestamp_value)
        case "geo_point_value":
            _check_point(value.geo_point_value)
        case None:
            raise invalid(f'The value "{name}" does not contain a value.')


def _check_length(name: str, length: int, value: Any) -> None:
    limit = _MAX_VALUE_BYTES if value.exclude_from_indexes else MAX_INDEXED_BYTES
    if length > limit:
        raise invalid(f'The value of property "{name}" is longer than {limit} bytes.')


def _check_timestamp(timestamp: Any) -> None:
    if not _FIRST_SECOND <= timestamp.seconds <= _LAST_SECOND:
        raise invalid("Timestamp seconds exceeds limit for field")
    if not 0 <= timestamp.nanos < 1_000_000_000:
        raise invalid("Timestamp nanos exceeds limit for field")
    timestamp.nanos -= timestamp.nanos % 1_000


def _check_point(point: Any) -> None:
    if not -_LATITUDE <= point.latitude <= _LATITUDE:
        raise invalid("Geo point latitude outside permitted range -90.0 to 90.0.")
    if not -_LONGITUDE <= point.longitude <= _LONGITUDE:
        raise invalid("Geo point longitude outside permitted range -180.0 to 180.0.")
