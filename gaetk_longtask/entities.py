"""Reads and writes entities of our kinds: outside of NDB's caches, and with what NDB lacks or does slowly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from google.cloud import ndb
from google.cloud.datastore import helpers
from google.cloud.datastore_v1.types import datastore as datastore_pb2
from google.cloud.datastore_v1.types import entity as entity_pb2
from google.cloud.ndb import _datastore_api, _options, model, tasklets

from gaetk_longtask.datastore_calls import Begun, own_calls

NAMESPACE = ""  #: the namespace of our kinds, whatever namespace the application works in
UNCACHED = {"use_cache": False, "use_global_cache": False}  #: for every call that reads or writes them
#: Whether the installed version of google-cloud-datastore can ask for some properties of an entity.
_KNOWS_MASKS = "property_mask" in datastore_pb2.LookupRequest.meta.fields


class Entity(ndb.Model):
    """Root entities outside of NDB's caches: a cached task would break every promise about it.

    The flags on the class only work with NDB's default policies, so every call repeats them.
    """

    _use_cache = False
    _use_global_cache = False

    @classmethod
    def key_of(cls, name: str) -> ndb.Key:
        """Return the key for a name; keys never come from a request."""
        return ndb.Key(cls, name, namespace=NAMESPACE)

    @classmethod
    def load(cls, name: str, **options: Any) -> Any:
        """Return the entity of a name; None if there is none."""
        with own_calls():
            return cls.key_of(name).get(**UNCACHED, **options)

    @classmethod
    def load_all(cls, names: list[str], **options: Any) -> list[Any]:
        """Return several entities, in the order of their names; one request."""
        keys = [cls.key_of(name) for name in names]
        with own_calls():
            return ndb.get_multi(keys, **UNCACHED, **options)  # type: ignore[no-any-return]  # ndb is untyped

    @classmethod
    def begin_load_all(cls, names: list[str]) -> Callable[[], list[Any]]:
        """Request several entities, and return a function that waits for them and returns them as `load_all` does."""
        request = datastore_pb2.LookupRequest(**_place(), keys=[_key(cls, name) for name in names])
        lookup = Begun("lookup", request)

        def load() -> list[Any]:
            response = lookup.result()
            if response.deferred:  # too large for one response
                return cls.load_all(names)
            entities = [model._entity_from_protobuf(each.entity) for each in response.found]  # noqa: SLF001  # as NDB does
            found = {entity.key.id(): entity for entity in entities}
            return [found.get(name) for name in names]

        return load

    @classmethod
    def load_parts(cls, names: list[str], properties: list[str]) -> list[Any]:
        """Return those of several entities that exist, in any order, with nothing but these properties.

        NDB has no such call. An emulator that does not know the mask returns whole entities.
        """
        keys = [_key(cls, name) for name in names]
        found = []
        while keys:
            request = datastore_pb2.LookupRequest(
                **_place(),
                keys=keys,
                **({"property_mask": {"paths": properties}} if _KNOWS_MASKS else {}),
            )
            metadata = _datastore_api._add_routing_info((), request)  # noqa: SLF001  # the same
            answer = _datastore_api.make_call("lookup", request, metadata=metadata).result()
            found += [model._entity_from_protobuf(each.entity) for each in answer.found]  # noqa: SLF001  # the same
            keys = list(answer.deferred)
        return found

    def insert(self) -> None:
        """Write the entity outside of a transaction; raise `AlreadyExists` if there is one. NDB can only overwrite."""
        _commit(datastore_pb2.Mutation(insert=self._stored()))

    def save(self) -> None:
        """Write the entity; in a transaction, at its commit.

        NDB's own put also makes a text of the whole entity, which takes longer than to store it.
        """
        mutation = datastore_pb2.Mutation(upsert=self._stored())
        if not ndb.in_transaction():
            _commit(mutation)
            return
        batch = _datastore_api._get_commit_batch(ndb.get_context().transaction, _options.Options())  # noqa: SLF001  # as NDB's put
        written = tasklets.Future()
        written.set_result(None)
        batch.mutations.append(mutation)
        batch.futures.append(written)

    @classmethod
    def begin_save_all(cls, entities: Sequence[Entity]) -> Begun:
        """Begin to write several entities, in one request outside of any transaction."""
        request = datastore_pb2.CommitRequest(**_place(), mode="NON_TRANSACTIONAL")
        for entity in entities:
            # Into the request at once, and not through a `Mutation`: each step would hold one more copy.
            request._pb.mutations.add().upsert.CopyFrom(entity._stored()._pb)  # noqa: SLF001  # of proto-plus
        return Begun("commit", request)

    def _stored(self) -> Any:
        """Return what `helpers.entity_to_protobuf` returns, in a third of the time: with few objects of proto-plus."""
        entity = model._entity_to_ds_entity(self)  # noqa: SLF001  # as NDB's own put
        stored = entity_pb2.Entity(key=entity.key.to_protobuf())
        for name, value in entity.items():
            prop = stored._pb.properties.get_or_create(name)  # noqa: SLF001  # of proto-plus
            helpers._set_protobuf_value(prop, value)  # noqa: SLF001  # as `entity_to_protobuf`
            is_list = isinstance(value, list)
            if name in entity.exclude_from_indexes:
                for each in prop.array_value.values if is_list else [prop]:
                    each.exclude_from_indexes = True
            helpers._set_pb_meaning_from_entity(entity, name, value, prop, is_list=is_list)  # noqa: SLF001  # the same
        return stored


def _place() -> dict[str, Any]:
    client = ndb.get_context().client
    return {"project_id": client.project, "database_id": client.database}


def _key(kind: type[Entity], name: str) -> Any:
    return kind.key_of(name)._key.to_protobuf()  # noqa: SLF001  # as NDB does


def _commit(mutation: Any) -> None:
    with own_calls():
        _datastore_api._datastore_commit([mutation], None).result()  # noqa: SLF001  # as NDB's own put
