"""The SQL statement that answers a plan.

Each alternative of the plan is a ``select`` that joins the entries of the indexes that it needs. The order of the joins
is ours, so that a query with an order reads an index in that order and can stop after the first results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gaetk_longtask.dev.datastore_emulator.catalog import Catalog
from gaetk_longtask.dev.datastore_emulator.encoding import HIGHEST, after
from gaetk_longtask.dev.datastore_emulator.queries.plan import Alternative, Plan, Span
from gaetk_longtask.dev.datastore_emulator.versions import View

#: A filter that fewer entities pass is worth sorting its results.
_FEW = 1_000


class Position(NamedTuple):
    """A place in the results: the values of the columns, and the key."""

    columns: tuple[bytes, ...]
    key: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """SQL whose rows are the values of the columns, the key, the number of the version, and its times."""

    sql: str
    parameters: dict[str, object]
    #: Whether the same entity may come several times.
    may_repeat: bool


class _MissingError(Exception):
    """Nothing was ever stored that could be found."""


def statement(
    plan: Plan, catalog: Catalog, view: View, *, start: Position | None, end: Position | None
) -> Statement | None:
    """Return the statement for the results after `start` up to `end`, or None if there can't be any."""
    space = catalog.find(*plan.partition)
    kind = None if space is None or plan.kind is None else catalog.find(plan.kind, parent=space)
    if space is None or (plan.kind is not None and kind is None):
        return None
    parameters = _Parameters()
    selects = []
    for alternative in plan.alternatives:
        try:
            select = _Select(plan, alternative, catalog, view, parameters, space=space, kind=kind)
        except _MissingError:
            continue
        selects.append(select.sql(start, end))
    if not selects:
        return None
    keys = " desc" if plan.keys_descending else ""
    # A single select has its constants in every row, so they need no sorting.
    numbers = [
        f"{number}{' desc' if order.descending else ''}"
        for number, order in enumerate(plan.orders, 1)
        if len(selects) > 1 or not _is_constant(plan.alternatives, order.name)
    ]
    sql = f"{' union all '.join(selects)} order by {', '.join([*numbers, f'{len(plan.orders) + 1}{keys}'])}"
    return Statement(sql=sql, parameters=parameters.values, may_repeat=_may_repeat(plan, catalog, kind))


def _is_constant(alternatives: Sequence[Alternative], name: str) -> bool:
    return all(name in alternative.constants for alternative in alternatives)


def _may_repeat(plan: Plan, catalog: Catalog, kind: int | None) -> bool:
    if kind is None:
        return False
    props = (catalog.find(name, parent=kind) for name in plan.columns)
    return any(prop is not None and catalog.has_many(prop) for prop in props)


@dataclass(slots=True)
class _Parameters:
    values: dict[str, object] = field(default_factory=dict)

    def add(self, value: object) -> str:
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f":{name}"


class _Table(NamedTuple):
    """An entry that a result must have."""

    alias: str
    property: int
    span: Span


class _Select:
    """The statement for one alternative."""

    def __init__(
        self,
        plan: Plan,
        alternative: Alternative,
        catalog: Catalog,
        view: View,
        parameters: _Parameters,
        *,
        space: int,
        kind: int | None,
    ) -> None:
        self._plan = plan
        self._keys = alternative.keys
        self._view = view
        self._parameters = parameters
        self._space, self._kind = space, kind
        #: The SQL of each column.
        self._columns: list[str] = []
        ordered: list[_Table] = []
        exact: list[_Table] = []
        for name, values in alternative.equal.items():
            prop = self._property(catalog, name)
            exact += [
                _Table(f"q{number}", prop, Span(low=value, high=after(value)))
                for number, value in enumerate(sorted(values), len(exact))
            ]
        for number, name in enumerate(plan.columns):
            if name in alternative.constants:
                self._columns.append(self._parameters.add(min(alternative.equal[name])))
                continue
            span = alternative.spans.get(name, Span())
            ordered.append(_Table(f"r{number}", self._property(catalog, name), span))
            self._columns.append(f"r{number}.value")
        self._tables = self._in_order(ordered, exact)

    def _property(self, catalog: Catalog, name: str) -> int:
        found = None if self._kind is None else catalog.find(name, parent=self._kind)
        if found is None:
            raise _MissingError
        return found

    def _in_order(self, ordered: list[_Table], exact: list[_Table]) -> list[_Table | None]:
        """Return the tables in the order in which they are joined. None is the table of entities."""
        choices: list[tuple[int, _Table | None]] = [(self._estimate(table), table) for table in exact]
        if self._keys.is_bounded:
            choices.append((self._estimate(None), None))
        count, best = min(choices, key=lambda choice: choice[0], default=(_FEW, None))
        first: list[_Table | None]
        if choices and (count < _FEW or not ordered):
            first = [best]
        elif ordered:
            first = [ordered[0]]
        else:
            first = [None]
        return [*first, *(table for table in (*exact, *ordered, None) if table not in first)]

    def _estimate(self, table: _Table | None) -> int:
        """Return how many rows a table has, at most `_FEW`."""
        parameters = _Parameters()
        conditions = self._of_entity(parameters) if table is None else self._of_entry(table, parameters)
        source = "entity as e" if table is None else f"entry as {table.alias}"
        sql = f"select count(*) from (select 1 from {source} where {' and '.join(conditions)} limit {_FEW})"  # noqa: S608 - names of ours, values bound
        [count] = self._view.connection.execute(sql, parameters.values).fetchone()
        return int(count)

    def _of_entry(self, table: _Table, parameters: _Parameters) -> list[str]:
        alias, prop, span = table
        conditions = [f"{alias}.property = {parameters.add(prop)}"]
        if span.high == after(span.low):
            return [*conditions, f"{alias}.value = {parameters.add(span.low)}"]
        return conditions + _in_span(f"{alias}.value", span, parameters)

    def _of_entity(self, parameters: _Parameters) -> list[str]:
        scope = f"e.space = {parameters.add(self._space)}"
        if self._kind is not None:
            scope = f"e.kind = {parameters.add(self._kind)}"
        return [scope, *_in_span("e.key", self._keys, parameters)]

    def sql(self, start: Position | None, end: Position | None) -> str:
        parameters = self._parameters
        first = self._tables[0]
        base, identity = ("e", "e.id") if first is None else (first.alias, f"{first.alias}.entity")
        conditions = []
        sources = []
        for table in self._tables:
            if table is None:
                sources.append("entity as e")
                at = self._parameters.add(self._view.at)
                conditions += [f"e.died > {at}", f"e.born <= {at}"]
                conditions += self._of_entity(parameters) if first is None else [f"e.id = {identity}"]
                continue
            sources.append(f"entry as {table.alias}")
            conditions += self._of_entry(table, parameters)
            if table is not first:
                conditions.append(f"{table.alias}.entity = {identity}")
        if first is not None:
            conditions += _in_span(f"{base}.key", self._keys, parameters)
        if start is not None:
            conditions.append(self._beyond(f"{base}.key", start, inclusive=False, forward=True))
        if end is not None:
            conditions.append(self._beyond(f"{base}.key", end, inclusive=True, forward=False))
        columns = ", ".join([*self._columns, f"{base}.key", identity, "e.born", "e.created"])
        return f"select {columns} from {' cross join '.join(sources)} where {' and '.join(conditions)}"  # noqa: S608 - the same

    def _beyond(self, key: str, position: Position, *, inclusive: bool, forward: bool) -> str:
        """Return the condition for the rows after a position, or with `forward=False` for those before it."""
        descending = [*(order.descending for order in self._plan.orders), self._plan.keys_descending]
        expressions = [*self._columns, key]
        values = [*position.columns, position.key]
        condition = ""
        for expression, value, down in reversed(list(zip(expressions, values, descending, strict=True))):
            sign = ">" if forward != down else "<"
            operand = self._parameters.add(value)
            if not condition:
                condition = f"{expression} {sign}{'=' if inclusive else ''} {operand}"
            else:
                # The first term is what an index can use.
                condition = f"({expression} {sign}= {operand} and ({expression} {sign} {operand} or {condition}))"
        return condition


def _in_span(expression: str, span: Span, parameters: _Parameters) -> list[str]:
    conditions = []
    if span.low:
        conditions.append(f"{expression} >= {parameters.add(span.low)}")
    if span.high != HIGHEST:
        conditions.append(f"{expression} < {parameters.add(span.high)}")
    conditions += [f"{expression} <> {parameters.add(value)}" for value in span.without]
    return conditions
