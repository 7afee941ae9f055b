"""Values and keys as bytes that sort as Datastore sorts them.

Values of different types sort by type: null, integers and timestamps, booleans, strings and blobs, doubles, points,
keys. An integer equals the timestamp of that many microseconds, and a string equals the blob of its UTF-8.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from gaetk_longtask.dev.datastore_emulator.messages import Key, Value

NULL, INTEGER, BOOLEAN, STRING, DOUBLE, POINT, KEY = (bytes([tag]) for tag in range(1, 8))

#: What ``__property__`` queries call the types.
TYPE_NAMES = {
    NULL: "NULL",
    INTEGER: "INT64",
    BOOLEAN: "BOOLEAN",
    STRING: "STRING",
    DOUBLE: "DOUBLE",
    POINT: "POINT",
    KEY: "REFERENCE",
}

#: Sorts before and after every encoded value and path.
LOWEST, HIGHEST = b"", b"\xff"

_SIGN = 1 << 63
_END = b"\0\1"
_ID, _NAME = 1, 2
#: The mark of a value that comes from an index.
_MEANING_INDEX_VALUE = 18


def after(encoded: bytes) -> bytes:
    """Return the next bytes in the order."""
    return encoded + b"\0"


def below(path: bytes) -> bytes:
    """Return the end of the range that starts with this path and holds all of its descendants."""
    return path + HIGHEST


def encode(value: Any) -> bytes:
    """Return the bytes of a value in an index, which is neither an entity nor an array."""
    match value.WhichOneof("value_type"):
        case "null_value":
            return NULL
        case "integer_value":
            return INTEGER + _integer(value.integer_value)
        case "timestamp_value":
            return INTEGER + _integer(value.timestamp_value.ToMicroseconds())
        case "boolean_value":
            return BOOLEAN + bytes([value.boolean_value])
        case "string_value":
            return STRING + bytes(value.string_value, "utf-8")
        case "blob_value":
            return STRING + bytes(value.blob_value)
        case "double_value":
            return DOUBLE + _double(value.double_value)
        case "geo_point_value":
            return POINT + _double(value.geo_point_value.latitude) + _double(value.geo_point_value.longitude)
        case "key_value":
            return encode_reference(value.key_value)
        case other:
            raise TypeError(other)


def decode(encoded: bytes) -> Any:
    """Return the value of bytes in an index. What was a timestamp is an integer, as in production."""
    value = Value(meaning=_MEANING_INDEX_VALUE)
    content = encoded[1:]
    match encoded[:1]:
        case tag if tag == NULL:
            value.null_value = 0
        case tag if tag == INTEGER:
            value.integer_value = _read_integer(content)
        case tag if tag == BOOLEAN:
            value.boolean_value = content == b"\1"
        case tag if tag == STRING:
            try:
                value.string_value = content.decode()
            except UnicodeDecodeError:
                value.blob_value = content
        case tag if tag == DOUBLE:
            value.double_value = _read_double(content)
        case tag if tag == POINT:
            value.geo_point_value.latitude = _read_double(content[:8])
            value.geo_point_value.longitude = _read_double(content[8:])
        case _:
            value.key_value.CopyFrom(_read_key(content))
    return value


def encode_path(path: Any) -> bytes:
    """Return the bytes of a complete path: ancestors sort before their descendants, and ids before names."""
    parts = []
    for element in path:
        parts.append(_text(element.kind))
        if element.WhichOneof("id_type") == "name":
            parts.append(b"\2" + _text(element.name))
        else:
            parts.append(b"\1" + _integer(element.id))
    return b"".join(parts)


def encode_reference(key: Any) -> bytes:
    """Return the bytes of a key that is a value. Keys of several projects sort by project."""
    partition = key.partition_id
    names = (partition.project_id, partition.database_id, partition.namespace_id)
    return KEY + b"".join(map(_text, names)) + encode_path(key.path)


def decode_path(encoded: bytes, key: Any) -> None:
    """Add the elements of an encoded path to a key."""
    position = 0
    while position < len(encoded):
        kind, position = _read_text(encoded, position)
        element = key.path.add(kind=kind)
        if encoded[position] == _NAME:
            element.name, position = _read_text(encoded, position + 1)
        else:
            element.id = _read_integer(encoded[position + 1 : position + 9])
            position += 9


def _read_key(encoded: bytes) -> Any:
    key = Key()
    partition, position = key.partition_id, 0
    partition.project_id, position = _read_text(encoded, position)
    partition.database_id, position = _read_text(encoded, position)
    partition.namespace_id, position = _read_text(encoded, position)
    decode_path(encoded[position:], key)
    return key


def _integer(number: int) -> bytes:
    return struct.pack(">Q", number + _SIGN)


def _read_integer(encoded: bytes) -> int:
    return int(struct.unpack(">Q", encoded)[0]) - _SIGN


def _double(number: float) -> bytes:
    bits: int = struct.unpack(">Q", struct.pack(">d", math.nan if math.isnan(number) else number))[0]
    # Negative numbers have the highest bit set, and sort the wrong way round.
    return struct.pack(">Q", bits ^ (2**64 - 1) if bits & _SIGN else bits | _SIGN)


def _read_double(encoded: bytes) -> float:
    bits: int = struct.unpack(">Q", encoded)[0]
    return float(struct.unpack(">d", struct.pack(">Q", bits ^ _SIGN if bits & _SIGN else bits ^ (2**64 - 1)))[0])


def _text(text: str) -> bytes:
    return text.encode().replace(b"\0", b"\0\xff") + _END


def _read_text(encoded: bytes, position: int) -> tuple[str, int]:
    end = encoded.index(_END, position)
    return encoded[position:end].replace(b"\0\xff", b"\0").decode(), end + len(_END)
