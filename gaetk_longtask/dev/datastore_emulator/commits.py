"""Applies the mutations of a commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc

from gaetk_longtask.dev.datastore_emulator import ids
from gaetk_longtask.dev.datastore_emulator.catalog import Catalog
from gaetk_longtask.dev.datastore_emulator.encoding import encode_path
from gaetk_longtask.dev.datastore_emulator.entities import check_entity, check_size, entries, microseconds_of
from gaetk_longtask.dev.datastore_emulator.errors import CallError, invalid
from gaetk_longtask.dev.datastore_emulator.keys import Database, Partition, check_key, is_complete
from gaetk_longtask.dev.datastore_emulator.masks import Mask, mask_of
from gaetk_longtask.dev.datastore_emulator.messages import Entity, Mutation, MutationResult
from gaetk_longtask.dev.datastore_emulator.store import Commit
from gaetk_longtask.dev.datastore_emulator.transforms import apply_transform, check_transform
from gaetk_longtask.dev.datastore_emulator.versions import Version


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A mutation that has been checked."""

    operation: str
    mutation: Any
    partition: Partition
    #: Without an id, if Datastore chooses it.
    key: Any
    #: The bytes of its path; None without an id.
    path: bytes | None
    mask: Mask | None


def check_mutation(mutation: Any, database: Database) -> Change:
    """Check a mutation, and fill in what the client left out."""
    operation = mutation.WhichOneof("operation")
    if operation is None:
        raise invalid("Mutation is missing operation.")
    content = getattr(mutation, operation)
    if operation == "delete":
        if mutation.property_transforms:
            raise invalid("Delete mutation cannot have PropertyTransforms.")
        key, partition = content, check_key(content, database)
    else:
        key, partition = content.key, check_entity(content, database, incomplete=operation in ("insert", "upsert"))
    for transform in mutation.property_transforms:
        check_transform(transform, database)
    return Change(
        operation=operation,
        mutation=mutation,
        partition=partition,
        key=key,
        path=encode_path(key.path) if is_complete(key) else None,
        mask=mask_of(mutation),
    )


def check_distinct(changes: list[Change]) -> None:
    """Refuse two mutations of the same entity."""
    keys = [(change.partition, change.path) for change in changes if change.path is not None]
    if len(set(keys)) < len(keys):
        raise invalid("A non-transactional commit may not contain multiple mutations affecting the same entity.")


def apply(change: Change, commit: Commit, catalog: Catalog) -> Any:
    """Apply a mutation, and return its result."""
    result, key, path = MutationResult(), change.key, change.path
    space = catalog.find(*change.partition)
    if path is None:
        path = ids.complete(key, space, commit)
        result.key.CopyFrom(key)
    before = commit.view.find(space, path)
    if _is_conflict(change.mutation, before):
        result.conflict_detected = True
        result.version = 0 if before is None else before.born
        return result
    result.version = commit.now
    match change.operation, before:
        case "insert", Version():
            raise CallError(grpc.StatusCode.ALREADY_EXISTS, "entity already exists")
        case "update", None:
            raise CallError(grpc.StatusCode.NOT_FOUND, "no entity to update")
        case "delete", None:
            return result
        case "delete", Version():
            commit.versions.end(before, commit.now)
            return result
    entity = _changed(change, before, result, commit.now)
    check_size(entity)
    created = commit.versions.put(
        space=(space := catalog.make(*change.partition)),
        kind=catalog.make(key.path[-1].kind, parent=space),
        key=path,
        body=entity.SerializeToString(),
        entries=entries(entity),
        now=commit.now,
        before=before,
    )
    result.create_time.FromMicroseconds(created)
    result.update_time.FromMicroseconds(commit.now)
    return result


def _is_conflict(mutation: Any, before: Version | None) -> bool:
    """Return whether the entity is not the one that the mutation expects, or raise if that is to fail."""
    stored = 0 if before is None else before.born
    match mutation.WhichOneof("conflict_detection_strategy"):
        case "base_version":
            expected = mutation.base_version
        case "update_time":
            expected = microseconds_of(mutation.update_time, "update_time")
        case _:
            return False
    if expected > stored > 0:
        raise invalid("Invalid base version, it is greater than the stored version")
    if expected != stored and mutation.conflict_resolution_strategy == Mutation.FAIL:
        raise CallError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"the stored version ({stored}) does not match the required base version ({expected})",
        )
    return bool(expected != stored)


def _changed(change: Change, before: Version | None, result: Any, now: int) -> Any:
    """Return the entity after the mutation."""
    entity = getattr(change.mutation, change.operation)
    if change.mask is not None:
        stored = Entity() if before is None else Entity.FromString(before.body)
        stored.key.CopyFrom(change.key)
        change.mask.merge(stored, entity)
        entity = stored
    for transform in change.mutation.property_transforms:
        result.transform_results.append(apply_transform(entity, transform, now))
    return entity
