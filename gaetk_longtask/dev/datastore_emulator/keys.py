"""Keys: which ones are refused, and what the client left out."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from gaetk_longtask.dev.datastore_emulator.errors import CallError, invalid

#: The name by which queries mean the key.
KEY = "__key__"

#: Production's limits.
MAX_NAME_BYTES = 1_500
_MAX_ELEMENTS = 100

RESERVED = re.compile(r"__.*__", re.DOTALL)
_NAMESPACE = re.compile(r"[0-9A-Za-z._-]{0,100}")


class Database(NamedTuple):
    """A database of a project."""

    project: str
    database: str


class Partition(NamedTuple):
    """A namespace in a database of a project."""

    project: str
    database: str
    namespace: str

    @property
    def in_database(self) -> Database:
        """Return the database that it is in."""
        return Database(self.project, self.database)


def database_of(request: Any) -> Database:
    """Return the database that a request is for."""
    if not request.project_id:
        raise invalid("missing project id in header")
    if request.database_id == "(default)":
        raise invalid('"(default)" is an invalid database id.')
    return Database(request.project_id, request.database_id)


def partition_of(partition_id: Any, database: Database) -> Partition:
    """Fill in the project and the database that a client left out, and return the partition."""
    _fill(partition_id, database)
    found = Partition(partition_id.project_id, partition_id.database_id, partition_id.namespace_id)
    if found[:2] != database:
        raise _mismatch(database, found)
    if not _NAMESPACE.fullmatch(found.namespace):
        raise invalid(f'Illegal string "{found.namespace}" in namespace id.')
    return found


def check_key(key: Any, database: Database, *, incomplete: bool = False, reserved: bool = False) -> Partition:
    """Check a key that entities of this database can have, fill in what was left out, and return its partition.

    With `incomplete`, the last element may lack its id. With `reserved`, names such as ``__kind__`` are allowed.
    """
    partition = partition_of(key.partition_id, database)
    _check_path(key, incomplete=incomplete, reserved=reserved)
    return partition


def check_reference(key: Any, database: Database, *, incomplete: bool = False) -> None:
    """Check a key that is a value. It may refer to any project; fill in what was left out."""
    _fill(key.partition_id, database)
    _check_path(key, incomplete=incomplete, reserved=True)


def is_complete(key: Any) -> bool:
    """Return whether the key has an id or a name."""
    return key.path[-1].WhichOneof("id_type") is not None


def check_name(text: str, what: str, *, reserved: bool = False) -> None:
    """Check the name of a kind, a property or an entity."""
    if not text:
        raise invalid(f"The {what} is the empty string.")
    if len(text) * 4 > MAX_NAME_BYTES and len(text.encode()) > MAX_NAME_BYTES:
        raise invalid(f"The {what} is longer than {MAX_NAME_BYTES} bytes.")
    if not reserved and text.startswith("__") and RESERVED.fullmatch(text):
        raise invalid(f'The {what} "{text}" is reserved.')


def incomplete_key(key: Any) -> CallError:
    """Return the error for a key without an id."""
    return invalid(f"Key path element must not be incomplete: {describe(key)}")


def describe(key: Any) -> str:
    """Return a path as error messages show it."""
    shown = []
    for element in key.path:
        which = element.WhichOneof("id_type")
        value = "" if which is None else f'"{element.name}"' if which == "name" else element.id
        shown.append(f"{element.kind}: {value}")
    return f"[{', '.join(shown)}]"


def _fill(partition_id: Any, database: Database) -> None:
    if not partition_id.project_id:
        partition_id.project_id = database.project
    if not partition_id.database_id and database.database and partition_id.project_id == database.project:
        partition_id.database_id = database.database


def _mismatch(database: Database, found: Partition) -> CallError:
    theirs, ours = (f"{project}#{name}" if name else project for project, name in (found[:2], database))
    return invalid(f"mismatched databases within request: {ours} vs. {theirs}")


def _check_path(key: Any, *, incomplete: bool, reserved: bool) -> None:
    if not key.path:
        raise invalid("Key path is empty.")
    if len(key.path) > _MAX_ELEMENTS:
        raise invalid(f"Key path is too long. Cannot exceed {_MAX_ELEMENTS} elements.")
    last = len(key.path) - 1
    for number, element in enumerate(key.path):
        check_name(element.kind, "kind", reserved=reserved)
        match element.WhichOneof("id_type"):
            case "name":
                check_name(element.name, "key path element name", reserved=reserved)
            case "id":
                if element.id == 0:
                    raise invalid("Key path id is invalid. Must not be zero.")
            case _ if not (incomplete and number == last):
                raise incomplete_key(key)
