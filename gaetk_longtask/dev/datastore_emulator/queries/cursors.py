"""Cursors: positions in the results of a query, as bytes for clients."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from gaetk_longtask.dev.datastore_emulator.errors import invalid
from gaetk_longtask.dev.datastore_emulator.messages import ArrayValue
from gaetk_longtask.dev.datastore_emulator.queries.plan import Plan
from gaetk_longtask.dev.datastore_emulator.queries.statements import Position


def write(plan: Plan, position: Position | None) -> bytes:
    """Return the cursor for a position; None is the position before all results."""
    cursor = ArrayValue()
    for name in _query(plan):
        cursor.values.add().string_value = name
    if position is not None:
        for part in (*position.columns, position.key):
            cursor.values.add().blob_value = part
    return bytes(cursor.SerializeToString())


def read(plan: Plan, cursor: bytes) -> Position | None:
    """Return the position of a cursor that came from the same query."""
    try:
        values = ArrayValue.FromString(cursor).values
    except DecodeError as exc:
        raise invalid("The cursor is not one of this Datastore.") from exc
    names = [value.string_value for value in values if value.WhichOneof("value_type") == "string_value"]
    parts = [value.blob_value for value in values if value.WhichOneof("value_type") == "blob_value"]
    expected = _query(plan)
    if names != expected or len(parts) not in (0, len(expected)):
        raise invalid("cursor does not match query")
    return Position(tuple(parts[:-1]), parts[-1]) if parts else None


def _query(plan: Plan) -> list[str]:
    """Return what a query must have in common with the one that a cursor came from."""
    return [plan.kind or "", *plan.columns]
