"""Encodes a value: decides which parts are stored raw and which are serialized. Decodes it again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.exceptions import DamagedDataError, SerializationError, describe_type
from gaetk_longtask.payloads.serializers import JSONSerializer, PickleSerializer, Serializer, Signer

_SLICE_CHARACTERS = 250_000  #: the number of characters of a text that are encoded at a time


class Kind(StrEnum):
    """How the bytes of a payload are encoded."""

    TEXT = "text"  #: UTF-8, as it is
    BYTES = "bytes"  #: as they are
    OBJECT = "object"  #: one serialized object
    MAPPING = "mapping"  #: a table of the uploads (JSON), the rest of the dict (serialized), the uploads (raw)


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """A value as bytes."""

    #: What `decode` needs besides the bytes: a JSON object for the manifest, small however many uploads there are.
    layout: dict[str, Any]
    #: The bytes in order, not joined. Uploads are the objects of the value, not copies. Iterate only once.
    parts: Iterable[bytes]
    size: int  #: of all parts together, in bytes


class BinaryReader(Protocol):
    """A source of bytes in order, such as a file."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next `size` bytes, or fewer at the end; all remaining bytes if `size` is negative."""


def encode(value: Any, serializer: Serializer, signer: Signer) -> Encoded:
    """Encode parameters, a result or a checkpoint's state.

    `str` and `bytes` are stored raw. So are the values of a `dict` that are `bytes` or a list of `bytes` (uploads). A
    subclass of `str` or `bytes`, such as ``markupsafe.Markup``, is stored as an equal plain `str` or `bytes`.
    Everything else is serialized. Raise `SerializationError` if the value can't be stored.
    """
    match value:
        case dict() if type(value) is dict and any(_is_upload(*item) for item in value.items()):
            return _encode_mapping(value, serializer, signer)
        case bytes():
            layout = {"kind": Kind.BYTES.value}
            return Encoded(layout=layout, parts=[value if type(value) is bytes else bytes(value)], size=len(value))
        case str():
            # In slices, so that a long text is not held twice. This first pass raises before anything is stored.
            size = sum(map(len, _slices(value, signer)))
            return Encoded(layout={"kind": Kind.TEXT.value}, parts=_slices(value, signer), size=size)
        case _:
            dumped = _dumped(serializer, value, signer)
            layout = {"kind": Kind.OBJECT.value, "serializer": serializer.name}
            return Encoded(layout=layout, parts=[dumped], size=len(dumped))


def decode(layout: dict[str, Any], data: BinaryReader, serializer: Serializer, signer: Signer) -> Any:
    """Return a value that is equal to the encoded one; a `dict` keeps its order.

    The layout names the serializer: the handler's own, or one of the library's, so that a handler can change from one
    to the other. A pickle is only read for a handler whose own serializer is a `PickleSerializer`. Raise
    `DamagedDataError` if the data was not made by `encode`.
    """
    match layout:
        case {"kind": Kind.TEXT.value}:
            try:
                return str(data.read(), "utf-8")
            except UnicodeDecodeError as exc:
                raise DamagedDataError(f"The stored {signer.field} is not UTF-8.") from exc
        case {"kind": Kind.BYTES.value}:
            return data.read()
        case {"kind": Kind.OBJECT.value, "serializer": str(name)}:
            return _serializer(name, serializer, signer).loads(data.read(), signer)
        case {"kind": Kind.MAPPING.value, "serializer": str(name), "table": int(table), "rest": int(rest)}:
            return _decode_mapping((table, rest), data, _serializer(name, serializer, signer), signer)
        case _:
            raise DamagedDataError(f"The layout of the stored {signer.field} is unknown: {layout!r}")


def _slices(text: str, signer: Signer) -> Iterator[bytes]:
    for start in range(0, len(text), _SLICE_CHARACTERS):
        yield _utf8(text[start : start + _SLICE_CHARACTERS], signer, at=start)


def _utf8(text: str, signer: Signer, *, at: int = 0) -> bytes:
    try:
        return str.encode(text, "utf-8")
    except UnicodeEncodeError as exc:
        type_name = describe_type(text)
        message = (
            f"{signer.field}, of class {type_name}, can't be stored: the character at index {at + exc.start} is a "
            "surrogate, which UTF-8 can't encode. Use bytes, for instance from os.fsencode(…)."
        )
        raise SerializationError(message, path=signer.field, type_name=type_name) from exc


def _serializer(name: str, own: Serializer, signer: Signer) -> Serializer:
    match name:
        case own.name:
            return own
        case JSONSerializer.name:
            return JSONSerializer()
        case PickleSerializer.name if isinstance(own, PickleSerializer):
            return PickleSerializer()
        case _:
            message = (
                f"The stored {signer.field} was written by the serializer {name!r}, but the handler's is {own.name!r}. "
                "Give the handler the former serializer again, or start the task again."
            )
            raise DamagedDataError(message)


def _dumped(serializer: Serializer, value: Any, signer: Signer) -> bytes:
    try:
        return serializer.dumps(value, signer)
    except STORE_ERRORS as exc:  # the author's own, which must not be taken for ours
        raise RuntimeError(f"The serializer raised {type(exc).__name__}: {exc}") from exc


def _is_upload(key: Any, value: Any) -> bool:
    if type(key) is not str or key.encode(errors="ignore").decode() != key:
        return False
    values = value if type(value) is list else [value]
    return bool(values) and all(type(one) is bytes for one in values)


def _encode_mapping(value: dict[Any, Any], serializer: Serializer, signer: Signer) -> Encoded:
    sizes: dict[str, int | list[int]] = {}
    uploads: list[bytes] = []
    rest: dict[Any, Any] = {}
    for key, one in value.items():
        if not _is_upload(key, one):
            rest[key] = one
            continue
        rest[key] = None  # keeps the key's place
        sizes[key] = [len(upload) for upload in one] if type(one) is list else len(one)
        uploads += one if type(one) is list else [one]
    # The table is part of the data: with ten thousand pictures it would be too large for the manifest.
    table = json.dumps(sizes, separators=(",", ":")).encode()
    dumped = _dumped(serializer, rest, signer)
    layout = {"kind": Kind.MAPPING.value, "serializer": serializer.name, "table": len(table), "rest": len(dumped)}
    parts = [table, dumped, *uploads]
    return Encoded(layout=layout, parts=parts, size=sum(map(len, parts)))


def _decode_mapping(
    heads: tuple[int, int], data: BinaryReader, serializer: Serializer, signer: Signer
) -> dict[Any, Any]:
    damaged = DamagedDataError(f"The uploads in the stored {signer.field} do not fit its table.")

    def take(size: Any) -> bytes:
        if type(size) is not int or size < 0 or len(taken := data.read(size)) < size:
            raise damaged
        return taken

    table, dumped = map(take, heads)
    try:
        sizes = json.loads(table)
    except (ValueError, RecursionError) as exc:
        raise damaged from exc
    value = serializer.loads(dumped, signer)
    if type(value) is not dict or type(sizes) is not dict or not value.keys() >= sizes.keys():
        raise damaged
    for key, size in sizes.items():
        value[key] = [take(one) for one in size] if type(size) is list else take(size)
    if data.read(1):
        raise damaged
    return value


def yielded_layout() -> dict[str, Any]:
    """Return the layout of a result that is yielded, before its first piece."""
    return {"kind": Kind.TEXT.value, "yielded": 0}


def encode_pieces(pieces: Iterator[object], layout: dict[str, Any], signer: Signer) -> Iterator[bytes]:
    """Encode a yielded result piece by piece, and count the pieces in the layout.

    The first piece decides whether the result is `str` or `bytes`. Raise `SerializationError` if a later piece has
    another type, or if a piece can't be encoded.
    """
    for piece in pieces:
        number = layout["yielded"]
        if number == 0:
            layout["kind"] = (Kind.BYTES if isinstance(piece, bytes) else Kind.TEXT).value
        if not isinstance(piece, bytes if layout["kind"] == Kind.BYTES.value else str):
            path, type_name = f"{signer.field}, piece {number}", describe_type(piece)
            message = f"{path}, is of class {type_name}: yield only str, or only bytes."
            raise SerializationError(message, path=path, type_name=type_name)
        layout["yielded"] = number + 1
        yield bytes(piece) if isinstance(piece, bytes) else _utf8(str(piece), signer)
