"""Property transforms: changes that depend on the stored value."""

from __future__ import annotations

from typing import Any

from gaetk_longtask.dev.datastore_emulator.entities import check_properties
from gaetk_longtask.dev.datastore_emulator.errors import invalid
from gaetk_longtask.dev.datastore_emulator.keys import Database, check_name
from gaetk_longtask.dev.datastore_emulator.masks import place
from gaetk_longtask.dev.datastore_emulator.messages import Entity, Value

_NUMBERS = {"integer_value", "double_value"}
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


def check_transform(transform: Any, database: Database) -> None:
    """Refuse a transform that can never be applied."""
    check_name(transform.property, "property.name")
    match transform.WhichOneof("transform_type"):
        case "increment" | "maximum" | "minimum" as kind:
            if getattr(transform, kind).WhichOneof("value_type") not in _NUMBERS:
                raise invalid("Input must be int64 or double.")
        case "append_missing_elements" | "remove_all_from_array" as kind:
            operand = Entity()
            operand.properties[transform.property].array_value.CopyFrom(getattr(transform, kind))
            check_properties(operand, database)
        case "set_to_server_value":
            if transform.set_to_server_value != transform.REQUEST_TIME:
                raise invalid("A property transform must specify a server value.")
        case _:
            raise invalid("A property transform must specify a transform type.")


def apply_transform(entity: Any, transform: Any, now: int) -> Any:
    """Change a property of an entity, and return the value for the client."""
    value = place(entity, transform.property)
    kind = transform.WhichOneof("transform_type")
    match kind:
        case "set_to_server_value":
            value.timestamp_value.FromMicroseconds(now)
        case "increment" | "maximum" | "minimum":
            _set_number(value, kind, getattr(transform, kind))
        case "append_missing_elements":
            _append(_array_of(value), transform.append_missing_elements.values)
            return Value(null_value=0)
        case _:
            array = _array_of(value)
            kept = [element for element in array.values if not _has(transform.remove_all_from_array.values, element)]
            del array.values[:]
            array.values.extend(kept)
            return Value(null_value=0)
    answer = Value()
    answer.CopyFrom(value)
    answer.ClearField("exclude_from_indexes")
    return answer


def _set_number(value: Any, kind: str, operand: Any) -> None:
    given = _number(operand)
    if value.WhichOneof("value_type") not in _NUMBERS:
        changed = given
    else:
        stored = _number(value)
        match kind:
            case "increment":
                changed = stored + given
            case "maximum":
                changed = max(stored, given)
            case _:
                changed = min(stored, given)
    if isinstance(changed, int):
        value.integer_value = min(max(changed, _LOWEST), _HIGHEST)
    else:
        value.double_value = changed


def _number(value: Any) -> int | float:
    number: int | float = getattr(value, value.WhichOneof("value_type"))
    return number


def _array_of(value: Any) -> Any:
    """Return the array of a value; what is none becomes an empty one."""
    if value.WhichOneof("value_type") != "array_value":
        value.Clear()
        value.array_value.SetInParent()
    return value.array_value


def _append(array: Any, elements: Any) -> None:
    for element in elements:
        if not _has(array.values, element):
            array.values.append(element)


def _has(values: Any, wanted: Any) -> bool:
    return any(_are_equal(value, wanted) for value in values)


def _are_equal(one: Any, other: Any) -> bool:
    """Return whether two values are equal; an integer may equal a double."""
    if one.WhichOneof("value_type") in _NUMBERS and other.WhichOneof("value_type") in _NUMBERS:
        first, second = _number(one), _number(other)
        return first == second or (first != first and second != second)
    plain_one, plain_other = Value(), Value()
    for plain, value in ((plain_one, one), (plain_other, other)):
        plain.CopyFrom(value)
        plain.ClearField("exclude_from_indexes")
        plain.ClearField("meaning")
    return bool(plain_one == plain_other)
