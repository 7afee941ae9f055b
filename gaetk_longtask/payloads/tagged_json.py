"""JSON with tags for the types that JSON lacks."""

from __future__ import annotations

import base64
import dataclasses
import json
import reprlib
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from math import inf, isfinite, isnan
from types import NoneType
from typing import Any, NoReturn
from uuid import UUID
from zoneinfo import ZoneInfo

from gaetk_longtask.exceptions import DamagedDataError, SerializationError, describe_type

#: How deep containers may be nested. A value of this depth needs about a third of Python's default recursion limit,
#: which leaves room for a web framework's own stack.
MAX_DEPTH = 100

_ITEM, _MEMBER, _ZONE = "{path}[{step}]", "list({path})[{step}]", "{path}.tzinfo"

#: The exceptions that damaged data causes in the readers of tags; a missing time zone is a LookupError or an OSError.
_DAMAGE = (ValueError, TypeError, LookupError, ArithmeticError, OSError, RecursionError)


def dumps(value: Any, field: str) -> bytes:
    """Return the value as UTF-8; raise `SerializationError`, with a path that begins with `field`, if it is refused."""
    try:
        packed = _Packer(field).pack(value)
        return json.dumps(packed, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except RecursionError as exc:
        type_name = describe_type(value)
        message = f"{field}, of class {type_name}, can't be stored: it is nested too deeply. Flatten it."
        raise SerializationError(message, path=field, type_name=type_name) from exc


def loads(data: bytes, field: str) -> Any:
    """Return the value that `dumps` has written; raise `DamagedDataError` for data that it does not write."""
    try:
        return json.loads(str(data, "utf-8"), object_hook=_revive, parse_constant=_no_constant)
    except _DAMAGE as exc:
        raise DamagedDataError(f"The stored {field} can't be read: {exc!r}") from exc


class _Packer:
    """Converts a value to what `json` can write, and keeps the path to the current part for error messages."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._path: list[list[Any]] = []
        self._open: set[int] = set()

    def pack(self, value: Any) -> Any:
        packer = _PACKERS.get(type(value))
        if packer is None:
            self._refuse(value, "JSONSerializer does not support this class", _remedy(type(value)))
        return packer(self, value)

    def pack_text(self, value: str) -> str:
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                self._refuse(value, "it contains surrogates, which are not text", "Convert it with os.fsencode(…)")
        return value

    def pack_int(self, value: int) -> int:
        if value.bit_length() > 2048:  # Python's limit can't be set lower than this
            try:
                str(value)
            except ValueError:
                self._refuse(value, "it has more digits than Python can read", "Convert it with hex(…)")
        return value

    def pack_float(self, value: float) -> Any:
        if isfinite(value):
            return value
        if isnan(value):
            self._refuse(value, "NaN is not equal to itself", "Use None for unknown values")
        return {"$float": str(value)}

    def pack_decimal(self, value: Decimal) -> Any:
        if value.is_nan():
            self._refuse(value, "NaN is not equal to itself", "Use None for unknown values")
        return {"$decimal": str(value)}

    def pack_list(self, value: Iterable[Any], step: str = _ITEM) -> list[Any]:
        return self._each(value, enumerate(value), step)

    def pack_members(self, value: Iterable[Any]) -> list[Any]:
        return sorted(self.pack_list(value, _MEMBER), key=repr)  # the same bytes in every process

    def pack_dict(self, value: dict[Any, Any]) -> Any:
        keys = self.pack_list(value.keys(), _MEMBER)
        values = self._each(value, value.items(), _ITEM)
        plain = all(type(key) is str for key in keys) and not (len(keys) == 1 and keys[0].startswith("$"))
        return dict(zip(keys, values, strict=True)) if plain else {"$dict": list(zip(keys, values, strict=True))}

    def pack_clock(self, value: time | datetime) -> Any:
        zone = self._each(value, [(None, value.tzinfo)], _ZONE)[0]
        return {f"${type(value).__name__}": [value.replace(tzinfo=None).isoformat(), value.fold, zone]}

    def pack_timezone(self, value: timezone) -> Any:
        offset, name = value.utcoffset(None), value.tzname(None)
        named = name != timezone(offset).tzname(None)
        return {"$timezone": [self.pack(offset), *([self.pack(name)] if named else [])]}

    def pack_zone(self, value: ZoneInfo) -> Any:
        # In the hour that clocks repeat (PEP 495), times are only equal if they share the zone object.
        try:
            shared = ZoneInfo(value.key)
        except _DAMAGE:  # read from a file, it may have any name or none
            shared = None
        if shared is not value:
            self._refuse(value, "it is not the zone that its key names", "Create it with zoneinfo.ZoneInfo(…)")
        return {"$zone": value.key}

    def _each(self, container: Any, steps: Iterable[tuple[Any, Any]], how: str) -> list[Any]:
        if id(container) in self._open:
            self._refuse(container, "it contains itself", "Remove the inner one")
        if len(self._path) >= MAX_DEPTH:
            self._refuse(container, f"it is nested more than {MAX_DEPTH} deep", "Flatten it")
        packed = []
        here = [how, None]
        self._path.append(here)
        self._open.add(id(container))
        for here[1], item in steps:  # a refusal reads here[1]
            packed.append(self.pack(item))
        self._open.remove(id(container))
        self._path.pop()
        return packed

    def _refuse(self, value: Any, reason: str, remedy: str) -> NoReturn:
        path = self._field
        for how, step in self._path:
            path = how.format(path=path, step=reprlib.repr(step))
        short = path if len(path) <= 100 else f"{path[:48]}…{path[-48:]}"
        type_name = describe_type(value)
        message = f"{short}, of class {type_name}, can't be stored: {reason}. {remedy}."
        raise SerializationError(message, path=path, type_name=type_name)


_PACKERS: dict[type, Callable[[_Packer, Any], Any]] = {
    NoneType: lambda _, value: value,
    bool: lambda _, value: value,
    int: _Packer.pack_int,
    float: _Packer.pack_float,
    str: _Packer.pack_text,
    list: _Packer.pack_list,
    dict: _Packer.pack_dict,
    tuple: lambda packer, value: {"$tuple": packer.pack_list(value)},
    set: lambda packer, value: {"$set": packer.pack_members(value)},
    frozenset: lambda packer, value: {"$frozenset": packer.pack_members(value)},
    bytes: lambda _, value: {"$bytes": base64.b64encode(value).decode()},
    Decimal: _Packer.pack_decimal,
    date: lambda _, value: {"$date": value.isoformat()},
    time: _Packer.pack_clock,
    datetime: _Packer.pack_clock,
    timedelta: lambda _, value: {"$timedelta": [value.days, value.seconds, value.microseconds]},
    UUID: lambda _, value: {"$uuid": str(value)},
    timezone: _Packer.pack_timezone,
    ZoneInfo: _Packer.pack_zone,
}


def _revive(packed: dict[str, Any]) -> Any:
    """Return the value of a tagged object, which has one key that begins with ``$``. `json` calls it inside out."""
    if len(packed) != 1:
        return packed
    [(tag, content)] = packed.items()
    return _REVIVERS[tag](content) if tag.startswith("$") else packed


def _items(content: Any) -> list[Any]:
    if type(content) is not list:
        raise TypeError("not a list")
    return content


def _decimal(content: str) -> Decimal:
    if (value := Decimal(content)).is_nan():
        raise ValueError("not a number")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_REVIVERS: dict[str, Callable[[Any], Any]] = {
    "$dict": lambda content: dict(_items(content)),
    "$tuple": lambda content: tuple(_items(content)),
    "$set": lambda content: set(_items(content)),
    "$frozenset": lambda content: frozenset(_items(content)),
    "$bytes": lambda content: base64.b64decode(content, validate=True),
    "$float": lambda content: {"inf": inf, "-inf": -inf}[content],
    "$decimal": _decimal,
    "$date": date.fromisoformat,
    "$time": lambda content: time.fromisoformat(content[0]).replace(fold=content[1], tzinfo=content[2]),
    "$datetime": lambda content: datetime.fromisoformat(content[0]).replace(fold=content[1], tzinfo=content[2]),
    "$timedelta": lambda content: timedelta(*_items(content)),
    "$uuid": lambda content: UUID(str(content)),
    "$timezone": lambda content: timezone(*_items(content)),
    "$zone": ZoneInfo,
}


#: How to convert an object to plain data, by its base class; the first match counts.
_REMEDIES: dict[type, str] = {
    **{base: f"Convert it to a plain datetime.{base.__name__}" for base in (datetime, date, time, timedelta)},
    tzinfo: "Use datetime.timezone or zoneinfo.ZoneInfo, for instance with astimezone(datetime.UTC)",
    **{
        base: f"Convert it with {base.__name__}(…)"
        for base in (str, int, float, tuple, list, dict, set, frozenset, bytes, Decimal)
    },
    bytearray: "Convert it with bytes(…)",
    memoryview: "Convert it with bytes(…)",
    Mapping: "Convert it with dict(…)",
    Iterable: "Convert it with list(…)",
    object: "Use plain data such as strings, numbers, lists and dicts, or set serializer = PickleSerializer()",
}


def _remedy(cls: type) -> str:
    """Return how the author can convert an object of a class that is not supported."""
    if issubclass(cls, Enum):
        return "Store its .value"
    for method in ("to_dict", "tolist"):
        if hasattr(cls, method) and cls not in _REMEDIES:
            return f"Convert it with its {method}()"
    if dataclasses.is_dataclass(cls):
        return "Convert it with dataclasses.asdict(…)"
    return next(remedy for base, remedy in _REMEDIES.items() if issubclass(cls, base))
