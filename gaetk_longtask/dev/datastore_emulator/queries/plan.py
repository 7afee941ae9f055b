"""What a query asks for, checked and in disjunctive normal form, independent of how it is answered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

import grpc

from gaetk_longtask.dev.datastore_emulator.encoding import HIGHEST, LOWEST, after, below, encode_path
from gaetk_longtask.dev.datastore_emulator.entities import check_operand
from gaetk_longtask.dev.datastore_emulator.errors import CallError, invalid
from gaetk_longtask.dev.datastore_emulator.keys import KEY, Partition, check_key, check_name
from gaetk_longtask.dev.datastore_emulator.messages import CompositeFilter, PropertyFilter, PropertyOrder

#: Production's limits.
_MAX_ALTERNATIVES = 30
_MAX_IN, _MAX_NOT_IN = 30, 10
#: SQLite joins at most 64 tables, one for each of these parts. Production's limit is higher.
_MAX_PARTS = 60

_Op = PropertyFilter


class Order(NamedTuple):
    """A column to sort by."""

    name: str
    descending: bool = False


@dataclass(kw_only=True, slots=True)
class Span:
    """A range of bytes, without those that are left out."""

    low: bytes = LOWEST
    high: bytes = HIGHEST
    without: list[bytes] = field(default_factory=list)

    @property
    def is_bounded(self) -> bool:
        """Return whether it is less than everything."""
        return self.low > LOWEST or self.high < HIGHEST

    def limit(self, op: int, operand: bytes) -> None:
        """Narrow the range by a comparison."""
        if op in (_Op.EQUAL, _Op.GREATER_THAN_OR_EQUAL):
            self.low = max(self.low, operand)
        if op == _Op.GREATER_THAN:
            self.low = max(self.low, after(operand))
        if op in (_Op.EQUAL, _Op.LESS_THAN_OR_EQUAL):
            self.high = min(self.high, after(operand))
        if op == _Op.LESS_THAN:
            self.high = min(self.high, operand)


@dataclass(kw_only=True, slots=True)
class Alternative:
    """Conditions that an entity meets all of."""

    #: Values that a property must have; different values of an array may meet them.
    equal: dict[str, set[bytes]] = field(default_factory=dict)
    #: A value of the property must be in the span.
    spans: dict[str, Span] = field(default_factory=dict)
    keys: Span = field(default_factory=Span)

    @property
    def constants(self) -> set[str]:
        """Return the properties whose values have no order, because a filter names the value."""
        return self.equal.keys() - self.spans.keys()


@dataclass(kw_only=True, slots=True)
class Plan:
    """A query that is ready to be answered."""

    partition: Partition
    #: None for all kinds.
    kind: str | None
    #: An entity is found if it meets one of them.
    alternatives: list[Alternative]
    #: The order of the results; after these columns, they are in the order of their keys.
    orders: list[Order]
    keys_descending: bool
    #: The properties of a projection; None for whole entities or keys only.
    projection: list[str] | None
    keys_only: bool
    distinct: list[str]

    @property
    def columns(self) -> list[str]:
        """Return the names of the columns that identify a position in the results."""
        return [order.name for order in self.orders]


class _Condition(NamedTuple):
    name: str
    op: int
    operands: list[bytes]


def plan(query: Any, partition: Partition, *, exploded: Iterable[str] = ()) -> Plan:
    """Check a query and return what it asks for. Entities are exploded by the properties of an aggregation."""
    if len(query.kind) > 1:
        raise invalid("multiple kinds not supported")
    if query.HasField("find_nearest"):
        raise invalid("The embedded Datastore has no vector search; production has.")
    kind = query.kind[0].name if query.kind else None
    if kind is not None:
        check_name(kind, "kind", reserved=True)
    conditions = _Conditions(partition, kind)
    alternatives = conditions.alternatives(query.filter) if query.HasField("filter") else [Alternative()]
    projected = [projection.property.name for projection in query.projection]
    projection = _projection(projected, conditions.equal_names)
    orders, keys_descending = _given_orders(query)
    if len(alternatives) == 1:
        # All results have the same value there.
        orders = [order for order in orders if order.name not in alternatives[0].constants]
    distinct = _distinct(query)
    _add_orders(orders, distinct, sorted(conditions.unequal_names), sorted({*(projection or ()), *exploded}))
    _check_parts(alternatives, orders)
    if kind is None and (orders or keys_descending):
        raise invalid("kind is required for all orders except __key__ ascending")
    return Plan(
        partition=partition,
        kind=kind,
        alternatives=alternatives,
        orders=orders,
        keys_descending=keys_descending,
        projection=projection,
        keys_only=projected == [KEY],
        distinct=distinct,
    )


def _projection(projected: list[str], equal: set[str]) -> list[str] | None:
    if len(set(projected)) < len(projected):
        raise invalid("cannot project a property multiple times")
    if equal.intersection(projected):
        raise invalid("cannot use projection on a property with an equality filter")
    return [name for name in projected if name != KEY] if projected not in ([], [KEY]) else None


def _given_orders(query: Any) -> tuple[list[Order], bool]:
    """Return the columns that the query is ordered by before the key, and whether keys are in descending order."""
    orders: list[Order] = []
    for order in query.order:
        name, descending = order.property.name, order.direction == PropertyOrder.DESCENDING
        if name == KEY:
            return orders, descending
        check_name(name, "property.name", reserved=True)
        if all(name != other.name for other in orders):
            orders.append(Order(name, descending))
    return orders, False


def _distinct(query: Any) -> list[str]:
    distinct = [reference.name for reference in query.distinct_on]
    if KEY in distinct:
        raise invalid("group by is not supported for the property: __key__")
    return distinct


def _add_orders(orders: list[Order], distinct: list[str], unequal: list[str], projection: list[str]) -> None:
    """Add the columns that the results are also ordered by."""
    leading = [order.name for order in orders[: len(set(distinct))]]
    if orders and distinct and not set(leading) <= set(distinct):
        raise invalid("must specify all group by orderings before any non group by orderings")
    for name in (*sorted(distinct), *unequal, *projection):
        if all(name != order.name for order in orders):
            orders.append(Order(name))


def _check_parts(alternatives: list[Alternative], orders: list[Order]) -> None:
    parts = len(orders) + max(sum(map(len, alternative.equal.values())) for alternative in alternatives)
    if parts > _MAX_PARTS:
        raise CallError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"The embedded Datastore answers no query with more than {_MAX_PARTS} equality filters, orders and"
            " projections.",
        )


class _Conditions:
    """Turns filters into alternatives."""

    def __init__(self, partition: Partition, kind: str | None) -> None:
        self._partition = partition
        self._kind = kind
        #: The properties that have a filter by equality, and those that have another one.
        self.equal_names: set[str] = set()
        self.unequal_names: set[str] = set()
        self._excluding: set[int] = set()
        self._is_split = False

    def alternatives(self, wanted: Any) -> list[Alternative]:
        normal = self._normal(wanted)
        if self._is_split and _Op.NOT_IN in self._excluding:
            raise invalid("'NOT_IN' cannot be used in the same query with 'IN' or 'OR'.")
        if len({_ancestor(conditions) for conditions in normal}) > 1:
            raise invalid("All disjunctions must have a common and unique ancestor constraint.")
        return [_alternative(conditions) for conditions in normal]

    def _normal(self, wanted: Any) -> list[list[_Condition]]:
        match wanted.WhichOneof("filter_type"):
            case "property_filter":
                return [[condition] for condition in self._of_property(wanted.property_filter)]
            case "composite_filter":
                return self._of_composite(wanted.composite_filter)
            case _:
                raise invalid("a filter must have exactly one of its fields set")

    def _of_composite(self, wanted: Any) -> list[list[_Condition]]:
        if not wanted.filters:
            raise invalid("a composite filter must have at least one sub-filter")
        parts = [self._normal(part) for part in wanted.filters]
        match wanted.op:
            case CompositeFilter.AND:
                combined = 1
                for part in parts:
                    combined *= len(part)
                _check_alternatives(combined)
                return [[condition for part in chosen for condition in part] for chosen in product(*parts)]
            case CompositeFilter.OR:
                self._is_split = self._is_split or len(parts) > 1
                _check_alternatives(sum(map(len, parts)))
                return [conditions for part in parts for conditions in part]
            case _:
                raise invalid("a composite filter must specify an operator")

    def _of_property(self, wanted: Any) -> list[_Condition]:
        name, op = wanted.property.name, wanted.op
        check_name(name, "property.name", reserved=True)
        if name != KEY and self._kind is None:
            raise invalid("kind is required for non-__key__ filters")
        if op == _Op.HAS_ANCESTOR and name != KEY:
            raise invalid("property must be __key__")
        match op:
            case _Op.OPERATOR_UNSPECIFIED:
                raise invalid("a property filter must specify an operator")
            case _Op.IN | _Op.NOT_IN:
                operands = self._operands_of_list(wanted, _Op.Operator.Name(op))
            case _:
                operands = [self._operand(name, wanted.value)]
        if op in (_Op.NOT_EQUAL, _Op.NOT_IN):
            if self._excluding:
                raise invalid("Only a single 'NOT_EQUAL' or 'NOT_IN' is allowed per query.")
            self._excluding.add(op)
        if name != KEY:
            (self.equal_names if op in (_Op.EQUAL, _Op.IN) else self.unequal_names).add(name)
        if op == _Op.IN:
            self._is_split = True
            return [_Condition(name, _Op.EQUAL, [operand]) for operand in dict.fromkeys(operands)]
        return [_Condition(name, op, operands)]

    def _operands_of_list(self, wanted: Any, op: str) -> list[bytes]:
        if wanted.value.WhichOneof("value_type") != "array_value":
            raise invalid(f"{op} requires an ArrayValue.")
        values, limit = wanted.value.array_value.values, _MAX_IN if op == "IN" else _MAX_NOT_IN
        if not values:
            raise invalid(f"{op} requires an non-empty ArrayValue.")
        if len(values) > limit:
            raise invalid(
                f"{op} supports up to {limit} values. There are {len(values)} values in the {op} filter in your query."
            )
        return [self._operand(wanted.property.name, value) for value in values]

    def _operand(self, name: str, value: Any) -> bytes:
        if name != KEY:
            return check_operand(name, value, self._partition.in_database)
        if value.WhichOneof("value_type") != "key_value":
            raise invalid("__key__ filter value must be a Key")
        partition = check_key(value.key_value, self._partition.in_database, reserved=True)
        if partition != self._partition and self._kind != "__namespace__":
            raise invalid("The key in the filter has another namespace than the query.")
        return encode_path(value.key_value.path)


def _check_alternatives(count: int) -> None:
    if count > _MAX_ALTERNATIVES:
        raise invalid(f"Query has {count} disjunctions after normalization. At most {_MAX_ALTERNATIVES} are supported.")


def _ancestor(conditions: list[_Condition]) -> bytes | None:
    ancestors = {condition.operands[0] for condition in conditions if condition.op == _Op.HAS_ANCESTOR}
    if len(ancestors) > 1:
        raise invalid("All disjunctions must have a common and unique ancestor constraint.")
    return next(iter(ancestors), None)


def _alternative(conditions: list[_Condition]) -> Alternative:
    made = Alternative()
    for name, op, operands in conditions:
        if op == _Op.EQUAL and name != KEY:
            made.equal.setdefault(name, set()).update(operands)
            continue
        span = made.keys if name == KEY else made.spans.setdefault(name, Span())
        if op == _Op.HAS_ANCESTOR:
            span.limit(_Op.GREATER_THAN_OR_EQUAL, operands[0])
            span.limit(_Op.LESS_THAN, below(operands[0]))
        elif op in (_Op.NOT_EQUAL, _Op.NOT_IN):
            span.without.extend(operands)
        else:
            span.limit(op, operands[0])
    return made
