"""Translates GQL into the messages for queries."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from gaetk_longtask.dev.datastore_emulator.errors import invalid
from gaetk_longtask.dev.datastore_emulator.keys import KEY
from gaetk_longtask.dev.datastore_emulator.messages import (
    AggregationQuery,
    CompositeFilter,
    Filter,
    PropertyFilter,
    PropertyOrder,
    Query,
    Value,
)
from gaetk_longtask.dev.datastore_emulator.queries.gql_tokens import Tokens

_OPERATORS = {
    "=": PropertyFilter.EQUAL,
    "!=": PropertyFilter.NOT_EQUAL,
    "<": PropertyFilter.LESS_THAN,
    "<=": PropertyFilter.LESS_THAN_OR_EQUAL,
    ">": PropertyFilter.GREATER_THAN,
    ">=": PropertyFilter.GREATER_THAN_OR_EQUAL,
}
#: The same comparison with its sides exchanged.
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}
_AGGREGATIONS = ("COUNT", "COUNT_UP_TO", "SUM", "AVG")


def read_query(gql: Any) -> Any:
    """Return the query that a ``GqlQuery`` is."""
    return _Reader(gql).whole(_Reader.query)


def read_aggregation_query(gql: Any) -> Any:
    """Return the aggregation query that a ``GqlQuery`` is."""
    return _Reader(gql).whole(_Reader.aggregation_query)


class _Reader:
    def __init__(self, gql: Any) -> None:
        self._gql = gql
        self._tokens = Tokens(gql.query_string)

    def whole(self, read: Callable[[_Reader], Any]) -> Any:
        found = read(self)
        if self._tokens.peek().kind != "end":
            raise self._tokens.unexpected("the end of the query")
        return found

    def query(self) -> Any:
        tokens, query = self._tokens, Query()
        tokens.expect("SELECT")
        if tokens.skip("DISTINCT", "ON"):
            tokens.expect("(")
            for name in self._list(self._name):
                query.distinct_on.add(name=name)
            tokens.expect(")")
        is_distinct = tokens.skip("DISTINCT")
        if not tokens.skip("*"):
            for name in self._list(self._name):
                query.projection.add().property.name = name
                if is_distinct:
                    query.distinct_on.add(name=name)
        self._rest(query)
        return query

    def aggregation_query(self) -> Any:
        tokens, query = self._tokens, AggregationQuery()
        is_outer = tokens.skip("AGGREGATE")
        if not is_outer:
            tokens.expect("SELECT")
        self._list(lambda: self._aggregation(query.aggregations.add()))
        if is_outer:
            tokens.expect("OVER", "(")
            query.nested_query.CopyFrom(self.query())
            tokens.expect(")")
        else:
            self._rest(query.nested_query)
        return query

    def _aggregation(self, aggregation: Any) -> None:
        tokens = self._tokens
        name = next((name for name in _AGGREGATIONS if tokens.has(name, "(")), None)
        if name is None:
            raise tokens.unexpected(" or ".join(_AGGREGATIONS))
        tokens.expect(name, "(")
        match name:
            case "COUNT":
                tokens.expect("*")
                aggregation.count.SetInParent()
            case "COUNT_UP_TO":
                aggregation.count.up_to.value = self._integer()
            case "SUM":
                aggregation.sum.property.name = self._name()
            case _:
                aggregation.avg.property.name = self._name()
        tokens.expect(")")
        if tokens.skip("AS"):
            aggregation.alias = self._name()

    def _rest(self, query: Any) -> None:
        tokens = self._tokens
        if tokens.skip("FROM"):
            query.kind.add(name=self._name())
        if tokens.skip("WHERE"):
            query.filter.CopyFrom(self._alternatives())
        if tokens.skip("ORDER", "BY"):
            self._list(lambda: self._order(query.order.add()))
        if tokens.skip("LIMIT"):
            if tokens.skip("FIRST"):
                tokens.expect("(")
                self._list(lambda: self._limit(query))
                tokens.expect(")")
            else:
                self._limit(query)
        if tokens.skip("OFFSET"):
            self._offset(query)
            while tokens.skip("+"):
                self._offset(query)

    def _order(self, order: Any) -> None:
        order.property.name = self._name()
        order.direction = PropertyOrder.DESCENDING if self._tokens.skip("DESC") else PropertyOrder.ASCENDING
        self._tokens.skip("ASC")

    def _limit(self, query: Any) -> None:
        if (cursor := self._cursor()) is not None:
            query.end_cursor = cursor
        else:
            query.limit.value = self._integer()

    def _offset(self, query: Any) -> None:
        if (cursor := self._cursor()) is not None:
            query.start_cursor = cursor
        else:
            query.offset = self._integer()

    def _alternatives(self) -> Any:
        return self._joined("OR", CompositeFilter.OR, lambda: self._joined("AND", CompositeFilter.AND, self._condition))

    def _joined(self, word: str, op: int, read: Callable[[], Any]) -> Any:
        parts = [read()]
        while self._tokens.skip(word):
            parts.append(read())
        if len(parts) == 1:
            return parts[0]
        return Filter(composite_filter=CompositeFilter(op=op, filters=parts))

    def _condition(self) -> Any:
        tokens = self._tokens
        if tokens.skip("("):
            inner = self._alternatives()
            tokens.expect(")")
            return inner
        if not self._is_name():
            return self._mirrored(self._value())
        name = self._name()
        if tokens.skip("IS", "NULL"):
            return _filter(name, PropertyFilter.EQUAL, Value(null_value=0))
        if tokens.skip("CONTAINS"):
            return _filter(name, PropertyFilter.EQUAL, self._value())
        if tokens.skip("HAS", "ANCESTOR"):
            return _filter(name, PropertyFilter.HAS_ANCESTOR, self._value())
        if tokens.skip("NOT", "IN"):
            return _filter(name, PropertyFilter.NOT_IN, self._value())
        if tokens.skip("IN"):
            return _filter(name, PropertyFilter.IN, self._value())
        return _filter(name, _OPERATORS[self._operator()], self._value())

    def _mirrored(self, value: Any) -> Any:
        """Read the rest of a condition that begins with a value."""
        if self._tokens.skip("IN"):
            return _filter(self._name(), PropertyFilter.EQUAL, value)
        if self._tokens.skip("HAS", "DESCENDANT"):
            return _filter(self._name(), PropertyFilter.HAS_ANCESTOR, value)
        op = _OPERATORS[_MIRRORED[self._operator()]]
        return _filter(self._name(), op, value)

    def _operator(self) -> str:
        if self._tokens.peek().text not in _OPERATORS:
            raise self._tokens.unexpected("an operator")
        return self._tokens.next().text

    def _value(self) -> Any:
        tokens = self._tokens
        if tokens.peek().kind == "binding":
            return self._bound("value").value
        if not self._gql.allow_literals:
            raise invalid(f"Disallowed literal: {tokens.peek().text}.")
        for word, literal in (("NULL", {"null_value": 0}), ("TRUE", {"boolean_value": True})):
            if tokens.skip(word):
                return Value(**literal)
        if tokens.skip("FALSE"):
            return Value(boolean_value=False)
        if tokens.has("ARRAY", "("):
            value = Value()
            value.array_value.values.extend(self._call("ARRAY", self._value))
            return value
        if tokens.has("KEY", "("):
            return self._key()
        if tokens.has("BLOB", "("):
            return Value(blob_value=_blob(self._text_of("BLOB")))
        if tokens.has("DATETIME", "("):
            return _timestamp(self._text_of("DATETIME"))
        sign = -1 if tokens.skip("-") else 1
        match tokens.peek().kind:
            case "integer":
                return Value(integer_value=sign * self._integer())
            case "double":
                return Value(double_value=sign * float(tokens.next().text))
            case "text" if sign == 1:
                return Value(string_value=tokens.next().name)
        raise tokens.unexpected("a value")

    def _key(self) -> Any:
        tokens, value = self._tokens, Value()
        key = value.key_value
        tokens.expect("KEY", "(")
        for word, part in (("PROJECT", "project_id"), ("DATABASE", "database_id"), ("NAMESPACE", "namespace_id")):
            if tokens.has(word, "("):
                setattr(key.partition_id, part, self._text_of(word))
                tokens.expect(",")
        while True:
            element = key.path.add(kind=tokens.next().name)
            tokens.expect(",")
            if tokens.peek().kind == "text":
                element.name = tokens.next().name
            else:
                element.id = self._integer()
            if not tokens.skip(","):
                break
        tokens.expect(")")
        return value

    def _call(self, word: str, read: Callable[[], Any]) -> list[Any]:
        self._tokens.expect(word, "(")
        found = self._list(read)
        self._tokens.expect(")")
        return found

    def _text_of(self, word: str) -> str:
        [token] = self._call(word, self._tokens.next)
        return str(token.name)

    def _list(self, read: Callable[[], Any]) -> list[Any]:
        found = [read()]
        while self._tokens.skip(","):
            found.append(read())
        return found

    def _is_name(self) -> bool:
        token = self._tokens.peek()
        calls = any(self._tokens.has(word, "(") for word in ("ARRAY", "KEY", "BLOB", "DATETIME"))
        literal = any(self._tokens.has(word) for word in ("NULL", "TRUE", "FALSE"))
        return token.kind in ("word", "quoted") and not calls and not literal

    def _name(self) -> str:
        if self._tokens.peek().kind not in ("word", "quoted"):
            raise self._tokens.unexpected("a name")
        return self._tokens.next().name

    def _integer(self) -> int:
        token = self._tokens.peek()
        if token.kind == "binding":
            return int(self._bound("value").value.integer_value)
        if token.kind != "integer" or int(token.text) >= 2**63:
            raise self._tokens.unexpected("an integer")
        return int(self._tokens.next().text)

    def _cursor(self) -> bytes | None:
        token = self._tokens.peek()
        if token.kind != "binding" or self._parameter().WhichOneof("parameter_type") != "cursor":
            return None
        return bytes(self._bound("cursor").cursor)

    def _bound(self, kind: str) -> Any:
        parameter = self._parameter()
        if parameter.WhichOneof("parameter_type") != kind:
            raise self._tokens.unexpected(f"a {kind}")
        self._tokens.next()
        return parameter

    def _parameter(self) -> Any:
        name = self._tokens.peek().text[1:]
        if name.isdecimal():
            if not 0 < int(name) <= len(self._gql.positional_bindings):
                raise invalid(f"Absent positional binding: {name}.")
            return self._gql.positional_bindings[int(name) - 1]
        if name not in self._gql.named_bindings:
            raise invalid(f"Absent named binding: {name}.")
        return self._gql.named_bindings[name]


def _filter(name: str, op: int, value: Any) -> Any:
    if op == PropertyFilter.HAS_ANCESTOR and name != KEY:
        raise invalid("property must be __key__")
    made = Filter()
    made.property_filter.property.name = name
    made.property_filter.op = op
    made.property_filter.value.CopyFrom(value)
    return made


def _blob(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as exc:
        raise invalid(f"GQL: {text[:40]!r} is not base64") from exc


def _timestamp(text: str) -> Any:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise invalid(f"GQL: {text[:40]!r} is not a time in RFC 3339") from exc
    value = Value()
    value.timestamp_value.FromDatetime(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    return value
