"""The entities of the embedded Datastore: in memory, and in a SQLite file if they are to be kept."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from google.appengine.api import datastore_file_stub
from google.appengine.datastore import datastore_pb, datastore_pbs, datastore_stub_util, entity_bytes_pb2
from google.appengine.runtime import apiproxy_errors

#: Results in one answer. The stub runs the whole query again for each answer, so its own limit of 20 is slow.
_BATCH_SIZE = 1_000
#: Production's limits for one entity, and for an indexed string or the name in a key.
_MAX_ENTITY_BYTES = 1_048_572
_MAX_INDEXED_BYTES = 1_500

_SCHEMA = """
create table if not exists entity (key blob primary key, entity blob not null, version integer not null);
create table if not exists counter (space text primary key, value integer not null);
"""


class EntityStore(datastore_file_stub.DatastoreFileStub):  # type: ignore[misc]  # untyped base
    """Google's stub, with a database in place of the pickle that it writes at the end of the process.

    After :meth:`commit`, changes survive the death of the process. Not thread safe.
    """

    _commit_timestamp: int

    def __init__(self, path: Path | None) -> None:
        datastore_stub_util.BaseDatastore._BATCH_SIZE = _BATCH_SIZE  # noqa: SLF001 - the only way to it
        datastore_stub_util._MAXIMUM_RESULTS = _BATCH_SIZE  # noqa: SLF001 - as above
        datastore_pbs.MAX_INDEXED_STRING_CHARS = datastore_pbs.MAX_INDEXED_BLOB_BYTES = _MAX_INDEXED_BYTES
        self._database = None if path is None else _open(path)
        super().__init__("unused", None, trusted=True, use_atexit=False, auto_id_policy=datastore_stub_util.SCATTERED)
        if self._database is not None:
            self._load(self._database)

    def _load(self, database: sqlite3.Connection) -> None:
        for encoded, version in database.execute("select entity, version from entity"):
            entity = entity_bytes_pb2.EntityProto.FromString(encoded)
            metadata = entity_bytes_pb2.EntityMetadata(updated_version=version)
            self._StoreRecord(datastore_stub_util.EntityRecord(entity, metadata))
            self._commit_timestamp = max(self._commit_timestamp, version)
        for space, value in database.execute("select space, value from counter").fetchall():
            super()._SetIdCounter(space, value)

    def commit(self) -> None:
        """Make all changes since the last call durable; call it after every request."""
        self._query_cursors.clear()  # for an API that we do not serve
        if self._database is not None:
            self._database.commit()

    def Write(self) -> None:  # noqa: N802 - the stub's name
        """Do nothing: every commit has applied its changes, and the stub would go through all entity groups."""

    def CheckRequest(self, service: str, call: str, request: Any) -> None:  # noqa: N802 - the stub's name
        """Refuse what production refuses; the stub's limit of 1 MiB for a request is the old API's."""
        if call == "Put" and any(entity.ByteSize() > _MAX_ENTITY_BYTES for entity in request.entity):
            raise apiproxy_errors.ApplicationError(
                datastore_pb.Error.BAD_REQUEST, f"The entity is larger than {_MAX_ENTITY_BYTES} bytes."
            )

    def _Dynamic_Rollback(self, transaction: Any, response: Any) -> None:  # noqa: N802 - the stub's name
        """Roll back an open transaction; ndb also rolls back those that a refused commit has ended."""
        if transaction.handle in self._txn_map:
            super()._Dynamic_Rollback(transaction, response)

    def Clear(self) -> None:  # noqa: N802 - the stub's name
        """Delete all entities; allocated ids stay allocated."""
        super().Clear()
        if self._database is not None:
            self._database.execute("delete from entity")

    def _Put(self, record: Any, insert: bool) -> None:  # noqa: FBT001, N802 - the stub's signature
        super()._Put(record, insert)
        if self._database is not None:
            self._database.execute(
                "insert or replace into entity values (?, ?, ?)",
                (_key(record.entity.key), record.entity.SerializeToString(), record.metadata.updated_version),
            )

    def _Delete(self, key: Any) -> None:  # noqa: N802 - the stub's name
        super()._Delete(key)
        if self._database is not None:
            self._database.execute("delete from entity where key = ?", (_key(key),))

    def _SetIdCounter(self, id_space: str, value: int) -> None:  # noqa: N802 - the stub's name
        super()._SetIdCounter(id_space, value)
        if self._database is not None:
            self._database.execute("insert or replace into counter values (?, ?)", (id_space, value))

    def _DatastoreStub__UpdateQueryHistory(self, query: Any) -> None:  # noqa: N802 - the stub's name, mangled
        """Do nothing: the list of all queries would grow without end."""


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False, timeout=1.0)
    # One process owns the file. Changes survive a kill of the process, but maybe not a power cut.
    database.execute("pragma locking_mode=exclusive")
    database.execute("pragma journal_mode=wal")
    database.execute("pragma synchronous=off")
    database.executescript(_SCHEMA)
    return database


def _key(reference: Any) -> bytes:
    return bytes(reference.SerializeToString(deterministic=True))
