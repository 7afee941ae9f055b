"""Answers a query with a batch of results."""

from __future__ import annotations

from itertools import islice
from typing import Any

from gaetk_longtask.dev.datastore_emulator import encoding
from gaetk_longtask.dev.datastore_emulator.catalog import Catalog
from gaetk_longtask.dev.datastore_emulator.errors import invalid
from gaetk_longtask.dev.datastore_emulator.masks import Mask
from gaetk_longtask.dev.datastore_emulator.messages import EntityResult, QueryResultBatch
from gaetk_longtask.dev.datastore_emulator.queries import cursors, metadata
from gaetk_longtask.dev.datastore_emulator.queries.plan import Plan
from gaetk_longtask.dev.datastore_emulator.queries.results import Row, results
from gaetk_longtask.dev.datastore_emulator.versions import Version, View

#: A batch ends at so many results, or as soon as it has so many bytes; a client of gRPC accepts 4 MiB.
BATCH_RESULTS = 300
BATCH_BYTES = 3 * 1024 * 1024


def limits(query: Any) -> tuple[int, int | None]:
    """Return the offset and the limit of a query."""
    limit = query.limit.value if query.HasField("limit") else None
    if query.offset < 0:
        raise invalid("Offset must be non-negative.")
    if limit is not None and limit < 0:
        raise invalid("Limit must be non-negative.")
    return query.offset, limit


def fill_batch(batch: Any, query: Any, plan: Plan, catalog: Catalog, view: View, mask: Mask | None) -> object:
    """Fill a batch with the first results of a query, and return what identifies them."""
    offset, limit = limits(query)
    start = cursors.read(plan, query.start_cursor) if query.start_cursor else None
    end = cursors.read(plan, query.end_cursor) if query.end_cursor else None
    batch.entity_result_type = _result_type(plan)
    batch.more_results = QueryResultBatch.NO_MORE_RESULTS
    if query.end_cursor:
        batch.more_results = QueryResultBatch.MORE_RESULTS_AFTER_CURSOR
    position, size, found = start, 0, []
    at_most = offset + min(BATCH_RESULTS, BATCH_RESULTS if limit is None else limit) + 1
    exploded = plan.projection is not None
    rows = results(plan, catalog, view, start=start, end=end, exploded=exploded, at_most=at_most)
    for row in islice(rows, offset):
        batch.skipped_results += 1
        position = row.position
        found.append((row.id, position))
    if batch.skipped_results:
        batch.skipped_cursor = cursors.write(plan, position)
    for row in rows:
        if len(batch.entity_results) == limit:
            batch.more_results = QueryResultBatch.MORE_RESULTS_AFTER_LIMIT
            break
        if len(batch.entity_results) == BATCH_RESULTS or size >= BATCH_BYTES:
            batch.more_results = QueryResultBatch.NOT_FINISHED
            break
        position = row.position
        size += _add(batch, row, plan, catalog, view, mask)
        found.append((row.id, position))
    batch.end_cursor = cursors.write(plan, position)
    return found, batch.more_results


def fill_times(result: Any, version: Version | Row) -> None:
    """Set the version and the times of a result."""
    result.version = version.born
    result.update_time.FromMicroseconds(version.born)
    result.create_time.FromMicroseconds(version.created)


def _result_type(plan: Plan) -> int:
    if plan.projection is not None:
        return int(EntityResult.PROJECTION)
    return int(EntityResult.KEY_ONLY if plan.keys_only else EntityResult.FULL)


def _add(batch: Any, row: Row, plan: Plan, catalog: Catalog, view: View, mask: Mask | None) -> int:
    """Add a result to a batch, and return its size."""
    result = batch.entity_results.add(cursor=cursors.write(plan, row.position))
    if row.id:
        fill_times(result, row)
        if batch.entity_result_type == EntityResult.FULL:
            body = view.get(row.id).body
            result.entity.ParseFromString(body)
            if mask is not None:
                mask.apply(result.entity)
            return len(body)
    key = result.entity.key
    partition = plan.partition
    key.partition_id.project_id, key.partition_id.database_id, key.partition_id.namespace_id = partition
    encoding.decode_path(row.position.key, key)
    values = dict(zip(plan.columns, row.position.columns, strict=True))
    for name in plan.projection or ():
        result.entity.properties[name].CopyFrom(encoding.decode(values[name]))
    if plan.kind == metadata.PROPERTY and not plan.keys_only:
        types = result.entity.properties["property_representation"].array_value.values
        for name in metadata.representation(key, partition, catalog, view):
            types.add().string_value = name
    return int(result.ByteSize())
