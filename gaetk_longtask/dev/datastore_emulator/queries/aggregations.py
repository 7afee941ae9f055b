"""Answers an aggregation query: count, sum and average."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from gaetk_longtask.dev.datastore_emulator import encoding
from gaetk_longtask.dev.datastore_emulator.catalog import Catalog
from gaetk_longtask.dev.datastore_emulator.errors import invalid
from gaetk_longtask.dev.datastore_emulator.keys import KEY
from gaetk_longtask.dev.datastore_emulator.messages import Value
from gaetk_longtask.dev.datastore_emulator.queries import cursors
from gaetk_longtask.dev.datastore_emulator.queries.batches import limits
from gaetk_longtask.dev.datastore_emulator.queries.plan import Plan
from gaetk_longtask.dev.datastore_emulator.queries.results import results
from gaetk_longtask.dev.datastore_emulator.versions import View

#: Production's limit.
_MAX_AGGREGATIONS = 5


def check_aggregations(aggregations: Any) -> list[str]:
    """Refuse aggregations that are impossible, name those without an alias, and return their properties."""
    if not aggregations:
        raise invalid("Aggregations can not be empty.")
    if len(aggregations) > _MAX_AGGREGATIONS:
        raise invalid(f"Aggregations can not have more than {_MAX_AGGREGATIONS} operators.")
    names: set[str] = set()
    aliases = [aggregation.alias for aggregation in aggregations]
    number = 0
    for aggregation in aggregations:
        operator = aggregation.WhichOneof("operator")
        if operator is None:
            raise invalid("An aggregation must have an operator.")
        if operator == "count" and aggregation.count.HasField("up_to") and aggregation.count.up_to.value < 0:
            raise invalid("The up_to of a count must be non-negative.")
        if operator != "count":
            names.add(getattr(aggregation, operator).property.name)
        while not aggregation.alias:
            number += 1
            if f"property_{number}" not in aliases:
                aggregation.alias = f"property_{number}"
    if KEY in names:
        raise invalid(f"Aggregations are not supported for the property: {KEY}")
    given = [alias for alias in aliases if alias]
    for alias in given:
        if given.count(alias) > 1:
            raise invalid(f"Aggregation aliases contain duplicate alias: {alias}.")
    return sorted(names)


def aggregate(
    aggregations: Any, names: list[str], query: Any, plan: Plan, catalog: Catalog, view: View
) -> dict[str, Any]:
    """Return the value of each aggregation by its alias."""
    offset, limit = limits(query)
    start = cursors.read(plan, query.start_cursor) if query.start_cursor else None
    end = cursors.read(plan, query.end_cursor) if query.end_cursor else None
    exploded = plan.projection is not None or bool(names)
    count = 0
    numbers: dict[str, list[int | float]] = {name: [] for name in names}
    places = {name: plan.columns.index(name) for name in names}
    at_most = None if limit is None else offset + limit
    rows = results(plan, catalog, view, start=start, end=end, exploded=exploded, at_most=at_most)
    for number, row in enumerate(rows):
        if number < offset:
            continue
        if count == limit:
            break
        count += 1
        for name, place in places.items():
            encoded = row.position.columns[place]
            if encoded[:1] in (encoding.INTEGER, encoding.DOUBLE):
                value = encoding.decode(encoded)
                numbers[name].append(getattr(value, value.WhichOneof("value_type")))
    return {
        aggregation.alias: _count(aggregation.count, count)
        if aggregation.WhichOneof("operator") == "count"
        else _of_numbers(aggregation, numbers)
        for aggregation in aggregations
    }


def _count(wanted: Any, count: int) -> Any:
    return Value(integer_value=min(count, wanted.up_to.value) if wanted.HasField("up_to") else count)


def _of_numbers(aggregation: Any, numbers: dict[str, list[int | float]]) -> Any:
    if aggregation.WhichOneof("operator") == "sum":
        total = _sum(numbers[aggregation.sum.property.name])
        return Value(integer_value=total) if isinstance(total, int) else Value(double_value=total)
    found = numbers[aggregation.avg.property.name]
    return Value(double_value=_sum(found) / len(found)) if found else Value(null_value=0)


def _sum(numbers: Iterable[int | float]) -> int | float:
    """Return an integer if all numbers are integers and their sum is one of 64 bits."""
    numbers = list(numbers)
    if all(isinstance(number, int) for number in numbers):
        total = sum(numbers)
        return total if -(2**63) <= total < 2**63 else float(total)
    try:
        return math.fsum(numbers)
    except (OverflowError, ValueError):  # infinities of both signs, or beyond the largest double
        return sum(map(float, numbers))
