"""The base of our kinds: root entities in the default namespace, outside of NDB's caches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from google.cloud import ndb

from gaetk_longtask.datastore import calls as datastore_calls

NAMESPACE = ""  #: the namespace of our kinds, whatever namespace the application works in


class Entity(ndb.Model):
    """An entity that NDB never caches: a cached task would break every promise about it.

    The flags on the class only work with NDB's default policies, so every call of NDB that concerns our kinds repeats
    them, see `datastore_calls.UNCACHED`.
    """

    _use_cache = False
    _use_global_cache = False

    @classmethod
    def key_of(cls, name: str) -> ndb.Key:
        """Return the key for a name; keys never come from a request."""
        return ndb.Key(cls, name, namespace=NAMESPACE)

    @classmethod
    def load(cls, name: str, **options: Any) -> Any:
        """Return the entity of a name; None if there is none. For the `options`, see `datastore_calls.get`."""
        return datastore_calls.get([cls.key_of(name)], **options)[0]

    @classmethod
    def load_all(cls, names: Sequence[str], **options: Any) -> list[Any]:
        """Return several entities, in the order of their names; one request."""
        return datastore_calls.get([cls.key_of(name) for name in names], **options)

    @classmethod
    def begin_load_all(cls, names: Sequence[str]) -> Callable[[], list[Any]]:
        """Request several entities, and return a function that waits for them and returns them as `load_all` does."""
        return datastore_calls.begin_get([cls.key_of(name) for name in names])

    @classmethod
    def between(cls, first: str, last: str) -> Any:
        """Return the query for the entities whose names lie between two names."""
        return cls.query(cls.key > cls.key_of(first), cls.key < cls.key_of(last), namespace=NAMESPACE)

    @classmethod
    def below(cls, name: str) -> Any:
        """Return the query for the entities whose names begin with a name and a dot."""
        return cls.between(f"{name}.", f"{name}/")

    def insert(self) -> None:
        """Write the entity outside of any transaction; raise `AlreadyExists` if there is one."""
        datastore_calls.insert(self)

    def save(self) -> None:
        """Write the entity, by the active transaction if there is one."""
        datastore_calls.put(self)
