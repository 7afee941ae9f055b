"""The results of a plan, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gaetk_longtask.dev.datastore_emulator.catalog import Catalog
from gaetk_longtask.dev.datastore_emulator.queries import metadata
from gaetk_longtask.dev.datastore_emulator.queries.plan import Plan
from gaetk_longtask.dev.datastore_emulator.queries.statements import Position, statement
from gaetk_longtask.dev.datastore_emulator.versions import View


class Row(NamedTuple):
    """A result."""

    position: Position
    #: The number of the version and its times; 0 for metadata.
    id: int
    born: int
    created: int


def results(
    plan: Plan,
    catalog: Catalog,
    view: View,
    *,
    start: Position | None = None,
    end: Position | None = None,
    exploded: bool = False,
    at_most: int | None = None,
) -> Iterator[Row]:
    """Yield the results after `start` up to `end`.

    An entity is one result, or with `exploded`, one for each combination of its values in the columns. With
    `at_most`, the caller takes no more than that many; fewer are sorted then.
    """
    if plan.kind in metadata.KINDS:
        for path in metadata.names(plan, catalog, view):
            if (start is None or path > start.key) and (end is None or path <= end.key):
                yield Row(Position((), path), 0, 0, 0)
        return
    first = statement(plan, catalog, view, start=start, end=end)
    # An entity may have been a result before the start, with another value. To know that, begin at the beginning.
    is_replayed = first is not None and first.may_repeat and start is not None and not exploded
    if is_replayed:
        first = statement(plan, catalog, view, start=None, end=end)
    if first is None:
        return
    sql = first.sql
    is_unique = len(plan.alternatives) == 1 and (exploded or not first.may_repeat)
    if at_most is not None and is_unique and not plan.distinct:
        sql += f" limit {at_most}"
    rows = _rows(view, sql, first.parameters, len(plan.columns))
    if plan.distinct:
        rows = _distinct(rows, plan, None if is_replayed else start)
    if not is_unique:
        rows = _unique(rows, exploded=exploded)
    if is_replayed and start is not None:
        rows = _after(rows, plan, start)
    yield from rows


def _rows(view: View, sql: str, parameters: dict[str, object], width: int) -> Iterator[Row]:
    for row in view.connection.execute(sql, parameters):
        yield Row(Position(row[:width], row[width]), *row[width + 1 :])


def _distinct(rows: Iterator[Row], plan: Plan, start: Position | None) -> Iterator[Row]:
    """Yield the first row of each combination of the distinct properties, which are the first columns."""
    width = len(set(plan.distinct))
    last = None if start is None else start.columns[:width]
    for row in rows:
        if (combination := row.position.columns[:width]) != last:
            last = combination
            yield row


def _unique(rows: Iterator[Row], *, exploded: bool) -> Iterator[Row]:
    seen = set()
    for row in rows:
        identity = (row.id, row.position.columns) if exploded else row.id
        if identity not in seen:
            seen.add(identity)
            yield row


def _after(rows: Iterator[Row], plan: Plan, start: Position) -> Iterator[Row]:
    descending = [*(order.descending for order in plan.orders), plan.keys_descending]
    beyond = [*start.columns, start.key]
    for row in rows:
        for value, other, down in zip((*row.position.columns, row.position.key), beyond, descending, strict=True):
            if value != other:
                if (value > other) != down:
                    yield row
                break
