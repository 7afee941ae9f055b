"""The queries that ask for namespaces, kinds and properties, and the version of an entity group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gaetk_longtask.dev.datastore_emulator import encoding
from gaetk_longtask.dev.datastore_emulator.catalog import Catalog
from gaetk_longtask.dev.datastore_emulator.errors import invalid
from gaetk_longtask.dev.datastore_emulator.keys import Partition
from gaetk_longtask.dev.datastore_emulator.messages import Key
from gaetk_longtask.dev.datastore_emulator.queries.plan import Plan
from gaetk_longtask.dev.datastore_emulator.versions import View

NAMESPACE, KIND, PROPERTY = "__namespace__", "__kind__", "__property__"
KINDS = (NAMESPACE, KIND, PROPERTY)
#: The last element of a key below a root; its entity has the version of the root's group.
GROUP = "__entity_group__"

#: The id of the namespace without a name.
_NO_NAME = 1


def names(plan: Plan, catalog: Catalog, view: View) -> Iterator[bytes]:
    """Yield the paths that a metadata query finds, in their order."""
    if plan.orders or any(alternative.equal for alternative in plan.alternatives):
        raise invalid("Only comparison filters on __key__ supported")
    if plan.keys_descending:
        raise invalid("Only ascending order on __key__ supported")
    for path in sorted(map(encoding.encode_path, _paths(plan, catalog, view))):
        if any(
            alternative.keys.low <= path < alternative.keys.high and path not in alternative.keys.without
            for alternative in plan.alternatives
        ):
            yield path


def representation(key: Any, partition: Partition, catalog: Catalog, view: View) -> list[str]:
    """Return the names of the types that a property has, from the key of a ``__property__``."""
    space = catalog.find(*partition) or 0
    kind = catalog.find(key.path[0].name, parent=space) or 0
    prop = catalog.find(key.path[1].name, parent=kind)
    return sorted(
        name for tag, name in encoding.TYPE_NAMES.items() if prop is not None and _has_entries(view, prop, tag)
    )


def group_version(partition: Partition, root: Any, catalog: Catalog, view: View) -> int:
    """Return when an entity of a group was last changed, as far as that is remembered; at least 1."""
    low = encoding.encode_path([root])
    changes = view.connection.execute(
        "select max(born), max(case when died <= :at then died end) from entity"
        " where space = :space and key >= :low and key < :high and born <= :at",
        {"at": view.at, "space": catalog.find(*partition), "low": low, "high": encoding.below(low)},
    ).fetchone()
    return max(1, *(change or 0 for change in changes))


def _paths(plan: Plan, catalog: Catalog, view: View) -> Iterator[Any]:
    if plan.kind == NAMESPACE:
        database = catalog.find(*plan.partition.in_database)
        for name, space in [] if database is None else catalog.children(database):
            if _has_entities(view, "space", space):
                yield _path((NAMESPACE, name or _NO_NAME))
        return
    namespace = catalog.find(*plan.partition)
    for name, kind in [] if namespace is None else catalog.children(namespace):
        if plan.kind == KIND:
            if _has_entities(view, "kind", kind):
                yield _path((KIND, name))
            continue
        for inner, prop in catalog.children(kind):
            if _has_entries(view, prop):
                yield _path((KIND, name), (PROPERTY, inner))


def _path(*elements: tuple[str, str | int]) -> Any:
    key = Key()
    for kind, identity in elements:
        element = key.path.add(kind=kind)
        if isinstance(identity, int):
            element.id = identity
        else:
            element.name = identity
    return key.path


def _has_entities(view: View, column: str, number: int) -> bool:
    sql = f"select 1 from entity where {column} = ? and died > ? and born <= ? limit 1"  # noqa: S608 - two columns
    return view.connection.execute(sql, (number, view.at, view.at)).fetchone() is not None


def _has_entries(view: View, prop: int, tag: bytes = b"") -> bool:
    found = view.connection.execute(
        "select 1 from entry cross join entity as e on e.id = entry.entity"
        " where property = ? and value >= ? and value < ? and died > ? and born <= ? limit 1",
        (prop, tag or encoding.LOWEST, bytes([tag[0] + 1]) if tag else encoding.HIGHEST, view.at, view.at),
    )
    return found.fetchone() is not None
