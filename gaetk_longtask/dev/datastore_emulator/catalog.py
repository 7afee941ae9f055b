"""The numbers that stand for projects, databases, namespaces, kinds and properties in the tables."""

from __future__ import annotations

import sqlite3

_Names = tuple[str, ...]


class Catalog:
    """Knows all names. Make names, and :meth:`load` after a failure, only while holding the lock of the writer."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._writer = connection
        self._ids: dict[tuple[int, str], int] = {}
        #: The properties of which an entity ever had several values.
        self._many: set[int] = set()
        self.load()

    def load(self) -> None:
        """Read all names; after a rolled back commit, those that it made are forgotten."""
        rows = self._writer.execute("select id, parent, text, many from name").fetchall()
        self._ids = {(parent, text): identity for identity, parent, text, _ in rows}
        self._many = {identity for identity, *_, many in rows if many}

    def find(self, *names: str, parent: int = 0) -> int | None:
        """Return the number of a name below others, or None if nothing was ever stored there."""
        identity: int | None = parent
        for name in names:
            identity = self._ids.get((identity or 0, name))
            if identity is None:
                return None
        return identity

    def make(self, *names: str, parent: int = 0) -> int:
        """Return the number of a name below others; make what does not exist."""
        identity = parent
        for name in names:
            found = self._ids.get((identity, name))
            if found is None:
                cursor = self._writer.execute("insert into name (parent, text) values (?, ?)", (identity, name))
                found = self._ids[identity, name] = cursor.lastrowid or 0
            identity = found
        return identity

    def children(self, parent: int) -> list[tuple[str, int]]:
        """Return the names below another one, with their numbers, sorted."""
        return sorted((text, identity) for (above, text), identity in self._ids.copy().items() if above == parent)

    def has_many(self, prop: int) -> bool:
        """Return whether an entity ever had several values of this property."""
        return prop in self._many

    def note_many(self, prop: int) -> None:
        """Remember that an entity has several values of this property."""
        if prop not in self._many:
            self._writer.execute("update name set many = 1 where id = ?", (prop,))
            self._many.add(prop)
