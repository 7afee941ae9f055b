"""The calls of the service ``google.datastore.v1.Datastore``, independent of how they arrive."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from gaetk_longtask.dev.datastore_emulator import commits, ids
from gaetk_longtask.dev.datastore_emulator.encoding import encode_path
from gaetk_longtask.dev.datastore_emulator.errors import CallError, invalid
from gaetk_longtask.dev.datastore_emulator.keys import (
    Database,
    check_key,
    database_of,
    describe,
    is_complete,
    partition_of,
)
from gaetk_longtask.dev.datastore_emulator.masks import mask_of
from gaetk_longtask.dev.datastore_emulator.messages import RESPONSES, CommitRequest, QueryResultBatch
from gaetk_longtask.dev.datastore_emulator.queries import gql, metadata
from gaetk_longtask.dev.datastore_emulator.queries.aggregations import aggregate, check_aggregations
from gaetk_longtask.dev.datastore_emulator.queries.batches import BATCH_BYTES, fill_batch, fill_times
from gaetk_longtask.dev.datastore_emulator.queries.plan import plan
from gaetk_longtask.dev.datastore_emulator.store import Store
from gaetk_longtask.dev.datastore_emulator.transactions import Read, Transaction, Transactions, check_reads, read_time
from gaetk_longtask.dev.datastore_emulator.versions import NOW, Version, View

logger = logging.getLogger(__name__)

#: Production's limit.
MAX_REQUEST_BYTES = 10 * 1024 * 1024
_QUERIES = ("RunQuery", "RunAggregationQuery")


def microseconds() -> int:
    """Return the time."""
    return time.time_ns() // 1_000


class Datastore:
    """Serves any number of projects and databases, from several threads."""

    def __init__(self, directory: Path | None, clock: Callable[[], int] = microseconds) -> None:
        self._store = Store(directory, clock)
        self._transactions = Transactions(self._store, clock)
        self._calls: dict[str, Callable[[Any, Any, Database], None]] = {
            "Lookup": self._lookup,
            "RunQuery": self._run_query,
            "RunAggregationQuery": self._run_aggregation_query,
            "BeginTransaction": self._begin_transaction,
            "Commit": self._commit,
            "Rollback": self._rollback,
            "AllocateIds": self._allocate_ids,
            "ReserveIds": self._reserve_ids,
        }

    def answer(self, method: str, request: Any) -> Any:
        """Return the response to a request, or raise :class:`CallError`."""
        if request.ByteSize() > MAX_REQUEST_BYTES:
            raise invalid(f"The request is over {MAX_REQUEST_BYTES} bytes.")
        if method in _QUERIES and request.HasField("explain_options"):
            raise CallError(
                grpc.StatusCode.UNIMPLEMENTED, "The embedded Datastore explains no queries; production does."
            )
        response = RESPONSES[method]()
        try:
            self._calls[method](request, response, database_of(request))
        except CallError:
            raise
        except Exception as exc:  # neither a full disk nor a bug may close the connection without an answer
            logger.exception("%s failed", method)
            raise CallError(grpc.StatusCode.INTERNAL, f"The emulator failed: {type(exc).__name__}: {exc}") from exc
        return response

    def reset(self) -> None:
        """Delete all entities and forget all transactions. Allocated ids stay allocated."""
        self._transactions.clear()
        self._store.clear()

    def close(self) -> None:
        """Close the database; call it when no request is running."""
        self._store.close()

    @contextmanager
    def _reading(self, request: Any, response: Any) -> Iterator[tuple[View, Callable[[Read, object], None]]]:
        """Lend a view of the time that the request wants, and a function that notes what was read for a transaction."""
        options, transaction, at = request.read_options, None, None
        match options.WhichOneof("consistency_type"):
            case "transaction":
                transaction = self._transactions.reading(options.transaction)
            case "new_transaction":
                response.transaction = self._transactions.begin(options.new_transaction)
                transaction = self._transactions.reading(response.transaction)
            case "read_time":
                at = self._store.time_of(read_time(options.read_time))

        def note(read: Read, found: object) -> None:
            if transaction is not None and not transaction.is_read_only:
                transaction.reads.append((read, found))

        with self._store.viewing(at if transaction is None else transaction.at) as view:
            yield view, note

    def _lookup(self, request: Any, response: Any, database: Database) -> None:
        mask = mask_of(request)
        keys = [(check_key(key, database, reserved=True), key) for key in request.keys]

        def find(view: View) -> list[Version | None]:
            spaces = [self._store.catalog.find(*partition) for partition, _ in keys]
            return [view.find(space, encode_path(key.path)) for space, (_, key) in zip(spaces, keys, strict=True)]

        with self._reading(request, response) as (view, note):
            found = find(view)
            note(lambda later: _numbers(find(later)), _numbers(found))
            groups = {
                number: metadata.group_version(partition, key.path[0], self._store.catalog, view)
                for number, (partition, key) in enumerate(keys)
                if key.path[-1].kind == metadata.GROUP
            }
            at = self._store.present() if view.at == NOW else view.at
        response.read_time.FromMicroseconds(at)
        size = 0
        for number, ((_, key), version) in enumerate(zip(keys, found, strict=True)):
            if size >= BATCH_BYTES:
                response.deferred.add().CopyFrom(key)
            elif version is not None:
                size += len(version.body)
                result = response.found.add()
                result.entity.ParseFromString(version.body)
                fill_times(result, version)
                if mask is not None:
                    mask.apply(result.entity)
            elif number in groups:
                entity = response.found.add(version=groups[number]).entity
                entity.key.CopyFrom(key)
                entity.properties["__version__"].integer_value = groups[number]
            else:
                response.missing.add(version=at).entity.key.CopyFrom(key)

    def _run_query(self, request: Any, response: Any, database: Database) -> None:
        match request.WhichOneof("query_type"):
            case "query":
                query = request.query
            case "gql_query":
                query = gql.read_query(request.gql_query)
                response.query.CopyFrom(query)
            case _:
                raise invalid("one of fields Query.query and Query.gql_query must be set")
        wanted = plan(query, partition_of(request.partition_id, database))
        mask = mask_of(request)

        def fill(view: View, batch: Any) -> object:
            return fill_batch(batch, query, wanted, self._store.catalog, view, mask)

        with self._reading(request, response) as (view, note):
            note(lambda later: fill(later, QueryResultBatch()), fill(view, response.batch))
            response.batch.read_time.FromMicroseconds(self._store.present() if view.at == NOW else view.at)

    def _run_aggregation_query(self, request: Any, response: Any, database: Database) -> None:
        match request.WhichOneof("query_type"):
            case "aggregation_query":
                query = request.aggregation_query
            case "gql_query":
                query = gql.read_aggregation_query(request.gql_query)
                response.query.CopyFrom(query)
            case _:
                raise invalid("one of fields Query.query and Query.gql_query must be set")
        names = check_aggregations(query.aggregations)
        wanted = plan(query.nested_query, partition_of(request.partition_id, database), exploded=names)

        def values(view: View) -> dict[str, Any]:
            catalog = self._store.catalog
            return aggregate(query.aggregations, names, query.nested_query, wanted, catalog, view)

        with self._reading(request, response) as (view, note):
            found = values(view)
            note(lambda later: _texts(values(later)), _texts(found))
            response.batch.read_time.FromMicroseconds(self._store.present() if view.at == NOW else view.at)
        properties = response.batch.aggregation_results.add().aggregate_properties
        for alias, value in found.items():
            properties[alias].CopyFrom(value)
        response.batch.more_results = QueryResultBatch.NO_MORE_RESULTS

    def _begin_transaction(self, request: Any, response: Any, database: Database) -> None:
        response.transaction = self._transactions.begin(request.transaction_options)

    def _rollback(self, request: Any, response: Any, database: Database) -> None:
        self._transactions.end(request.transaction)

    def _commit(self, request: Any, response: Any, database: Database) -> None:
        name = self._transaction_of(request)
        transaction = None if name is None else self._transactions.get(name)
        changes = [commits.check_mutation(mutation, database) for mutation in request.mutations]
        if transaction is None:
            commits.check_distinct(changes)
        elif transaction.is_read_only and changes:
            raise invalid("Cannot modify entities in a read-only transaction.")
        if name is not None:
            transaction = self._transactions.take(name)
        refusal = None
        try:
            if changes:
                refusal = self._apply(changes, transaction, response)
        except BaseException:
            if name is not None and transaction is not None:
                self._transactions.fail(name, transaction)
            raise
        if refusal is not None:
            raise refusal

    def _transaction_of(self, request: Any) -> bytes | None:
        """Return the transaction that a commit ends, or None if it is not transactional."""
        selector = request.WhichOneof("transaction_selector")
        if request.mode == CommitRequest.NON_TRANSACTIONAL:
            if selector is not None:
                raise invalid("non-transaction commit cannot specify a transaction")
            return None
        match selector:
            case "transaction":
                return bytes(request.transaction)
            case "single_use_transaction":
                return self._transactions.begin(request.single_use_transaction)
            case _:
                raise invalid("transactional commit requires a transaction")

    def _apply(self, changes: list[commits.Change], transaction: Transaction | None, response: Any) -> CallError | None:
        """Apply all changes, or without a transaction those before the first one that is refused."""
        with self._store.committing() as commit:
            if transaction is not None:
                check_reads(transaction, commit.view, self._store.last)
            for change in changes:
                try:
                    response.mutation_results.append(commits.apply(change, commit, self._store.catalog))
                except CallError as exc:
                    if transaction is not None:
                        raise
                    return exc
            response.commit_time.FromMicroseconds(commit.now)
        return None

    def _allocate_ids(self, request: Any, response: Any, database: Database) -> None:
        partitions = [check_key(key, database, incomplete=True) for key in request.keys]
        for key in request.keys:
            if is_complete(key):
                raise invalid(f"Key path element must not be complete: {describe(key)}")
        with self._store.committing() as commit:
            for key, partition in zip(request.keys, partitions, strict=True):
                ids.complete(key, self._store.catalog.find(*partition), commit)
                response.keys.add().CopyFrom(key)

    def _reserve_ids(self, request: Any, response: Any, database: Database) -> None:
        for key in request.keys:
            check_key(key, database)
        with self._store.committing() as commit:
            ids.reserve(request.keys, commit)


def _numbers(versions: list[Version | None]) -> list[int | None]:
    return [None if version is None else version.id for version in versions]


def _texts(values: dict[str, Any]) -> dict[str, bytes]:
    return {alias: value.SerializeToString() for alias, value in values.items()}
