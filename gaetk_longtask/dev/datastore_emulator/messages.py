"""The messages of ``google.datastore.v1`` as plain protobuf classes, which are much faster than their wrappers."""

from __future__ import annotations

from typing import Any

from google.cloud.datastore_v1.types import datastore, entity, query

#: The calls of the service.
METHODS = (
    "Lookup",
    "RunQuery",
    "RunAggregationQuery",
    "BeginTransaction",
    "Commit",
    "Rollback",
    "AllocateIds",
    "ReserveIds",
)


def _plain(wrapper: Any) -> Any:
    return wrapper.pb()


Key: Any = _plain(entity.Key)
Value: Any = _plain(entity.Value)
ArrayValue: Any = _plain(entity.ArrayValue)
Entity: Any = _plain(entity.Entity)
Query: Any = _plain(query.Query)
AggregationQuery: Any = _plain(query.AggregationQuery)
Filter: Any = _plain(query.Filter)
PropertyFilter: Any = _plain(query.PropertyFilter)
CompositeFilter: Any = _plain(query.CompositeFilter)
EntityResult: Any = _plain(query.EntityResult)
QueryResultBatch: Any = _plain(query.QueryResultBatch)
PropertyOrder: Any = _plain(query.PropertyOrder)
Mutation: Any = _plain(datastore.Mutation)
MutationResult: Any = _plain(datastore.MutationResult)
CommitRequest: Any = _plain(datastore.CommitRequest)

REQUESTS: dict[str, Any] = {name: _plain(getattr(datastore, f"{name}Request")) for name in METHODS}
RESPONSES: dict[str, Any] = {name: _plain(getattr(datastore, f"{name}Response")) for name in METHODS}
