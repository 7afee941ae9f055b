"""Property masks: which properties a read returns, and which ones a write changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gaetk_longtask.dev.datastore_emulator.keys import KEY, check_name
from gaetk_longtask.dev.datastore_emulator.messages import Entity


@dataclass(frozen=True, slots=True)
class Mask:
    """Names of properties; ``outer.inner`` is a property of an entity within the entity."""

    paths: Sequence[str]

    def apply(self, entity: Any) -> None:
        """Remove the properties that the mask does not name."""
        kept = Entity()
        for path in self.paths:
            if (value := value_at(entity, path)) is not None:
                place(kept, path).CopyFrom(value)
        entity.ClearField("properties")
        entity.MergeFrom(kept)

    def merge(self, entity: Any, changes: Any) -> None:
        """Set the properties that the mask names to their values in `changes`; remove those that it lacks."""
        for path in self.paths:
            value = value_at(changes, path)
            if value is not None:
                place(entity, path).CopyFrom(value)
            else:
                _remove(entity, path)


def mask_of(message: Any) -> Mask | None:
    """Return the mask of a request or of a mutation, or None if it has none."""
    if not message.HasField("property_mask"):
        return None
    paths = [path for path in message.property_mask.paths if path != KEY]
    for path in paths:
        check_name(path, "property mask path")
    return Mask(paths)


def value_at(entity: Any, path: str) -> Any | None:
    """Return the value of a property, or None if there is none."""
    holder, name = _holder(entity, path)
    return holder.properties.get(name)


def place(entity: Any, path: str) -> Any:
    """Return the value of a property, to be set; entities on the way to it are made."""
    holder, name = _holder(entity, path)
    while "." in name and name not in holder.properties:
        outer, _, name = name.partition(".")
        holder = holder.properties[outer].entity_value
        holder.SetInParent()
    return holder.properties[name]


def _remove(entity: Any, path: str) -> None:
    holder, name = _holder(entity, path)
    if name in holder.properties:
        del holder.properties[name]


def _holder(entity: Any, path: str) -> tuple[Any, str]:
    """Return the innermost existing entity on the way to a property, and the rest of the path."""
    while path not in entity.properties:
        outer, dot, rest = path.partition(".")
        if not dot or outer not in entity.properties:
            break
        if entity.properties[outer].WhichOneof("value_type") != "entity_value":
            break
        entity, path = entity.properties[outer].entity_value, rest
    return entity, path
