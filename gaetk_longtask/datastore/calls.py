"""Reads and writes our own entities: each call is made directly, and a transaction takes one call less than NDB's.

NDB begins a transaction by a call of its own. Here, a transaction begins with its first read; Datastore calls that
``new_transaction``. NDB sends each call as a future, for which gRPC starts a thread if no other call is under way.
Here, the thread that needs an answer makes the call. Calls that are to run side by side are `Begun`.

In a transaction of the application's, reads are part of it, and NDB writes.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from itertools import islice
from typing import Any, TypeVar

import grpc
from google.api_core.exceptions import (
    Aborted,
    GoogleAPICallError,
    InternalServerError,
    ServiceUnavailable,
    Unknown,
    from_grpc_error,
)
from google.api_core.retry import exponential_sleep_generator
from google.cloud import ndb
from google.cloud.datastore import helpers
from google.cloud.datastore_v1.services.datastore.transports import DatastoreGrpcTransport
from google.cloud.datastore_v1.types import datastore as datastore_pb2
from google.cloud.datastore_v1.types import entity as entity_pb2
from google.cloud.ndb import _datastore_api, model

log = logging.getLogger(__name__)

T = TypeVar("T")

UNCACHED = {"use_cache": False, "use_global_cache": False}  #: for every call of NDB that reads or writes our entities
#: As NDB.
_RETRIES = 3
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
_TRANSIENT = (ServiceUnavailable, InternalServerError, Aborted, Unknown)

_BEGINNING: Any = {"new_transaction": {"read_write": {}}}  #: the options of a read that begins a transaction
#: Whether the installed version of google-cloud-datastore can ask for some properties of an entity.
_KNOWS_MASKS = "property_mask" in datastore_pb2.LookupRequest.meta.fields

#: Whether a transaction can begin with a read, by the emulator's host.
_emulators: dict[str, bool] = {}
_TRIAL_SECONDS = 5.0  #: the Firestore emulator waits for a lock for two seconds


class _Transaction:
    """One try of a transaction."""

    def __init__(self) -> None:
        #: Empty before the first read.
        self.id = b"" if _can_begin_with_read() else _begin()
        self.mutations: list[dict[str, Any]] = []
        self.callbacks: list[Callable[[], object]] = []

    def commit(self) -> None:
        if not self.id and not self.mutations:
            return
        self.id = self.id or _begin()
        _commit(self.mutations, transaction=self.id)

    def roll_back(self) -> None:
        if self.id:
            with suppress(GoogleAPICallError):  # it ends by itself
                _call("rollback", datastore_pb2.RollbackRequest(transaction=self.id, **_place()))


_current: ContextVar[_Transaction | None] = ContextVar("transaction", default=None)


def transaction(work: Callable[[], T], *, retries: int) -> T:
    """Run `work` in a transaction of our own, and up to `retries` times again if Datastore does not commit it.

    What it reads and writes by the functions of this module is part of the transaction. An NDB context must be active.
    """

    def run() -> tuple[T, _Transaction]:
        current = _Transaction()
        token = _current.set(current)
        try:
            result = work()
            current.commit()
        except Exception:
            current.roll_back()
            raise
        finally:
            _current.reset(token)
        return result, current

    result, committed = _repeated(run, retries)
    for callback in committed.callbacks:
        callback()
    return result


def in_transaction() -> bool:
    """Return whether a transaction is active, ours or one of the application's."""
    return _current.get() is not None or bool(ndb.in_transaction())


def call_on_commit(callback: Callable[[], object]) -> None:
    """Call back after the commit of the active transaction; at once if there is none."""
    current = _current.get()
    if current is not None:
        current.callbacks.append(callback)
    else:
        ndb.get_context().call_on_commit(callback)


def get(
    keys: Sequence[ndb.Key],
    *,
    properties: Sequence[str] = (),
    retries: int = _RETRIES,
    timeout: float | None = None,
) -> list[Any]:
    """Return the entities of the keys, in their order; None for those that do not exist. One call.

    If Datastore can do so, it returns nothing but these `properties` of each entity. `timeout` is in seconds.
    """
    found: dict[Any, Any] = {}
    left = [_key(key) for key in keys]
    mask = {"property_mask": {"paths": properties}} if properties and _KNOWS_MASKS else {}
    while left:
        response = _look_up(datastore_pb2.LookupRequest(keys=left, **mask, **_place()), retries, timeout)
        found |= _entities(response)
        left = list(response.deferred)
    return [found.get(key) for key in keys]


def begin_get(keys: Sequence[ndb.Key]) -> Callable[[], list[Any]]:
    """Begin what `get` does outside of any transaction; return a function that waits for it and returns the same."""
    lookup = Begun("lookup", datastore_pb2.LookupRequest(keys=[_key(key) for key in keys], **_place()))

    def result() -> list[Any]:
        response = lookup.result()
        if response.deferred:  # too large for one response
            return get(keys)
        found = _entities(response)
        return [found.get(key) for key in keys]

    return result


def _entities(response: Any) -> dict[Any, Any]:
    entities = [model._entity_from_protobuf(each.entity) for each in response.found]  # noqa: SLF001  # as NDB does
    return {entity.key: entity for entity in entities}


def _look_up(request: Any, retries: int, timeout: float | None) -> Any:
    current = _current.get()
    if current is None:
        if active := ndb.get_context().transaction:
            request.read_options = {"transaction": active}
        return _repeated(lambda: _call("lookup", request, timeout), retries)
    # What fails in a transaction is repeated with it.
    request.read_options = {"transaction": current.id} if current.id else _BEGINNING
    response = _call("lookup", request, timeout)
    current.id = current.id or response.transaction
    return response


def put(entity: ndb.Model) -> None:
    """Write an entity, by the active transaction if there is one."""
    if _current.get() is None and ndb.in_transaction():
        entity.put(**UNCACHED)
    else:
        _write([{"upsert": _to_protobuf(entity)}])


def insert_all_once(entities: Sequence[ndb.Model]) -> None:
    """Write several new entities in one call, outside of any transaction. It is not repeated, whatever it raises.

    A call that comes late can't overwrite them.
    """
    _commit([{"insert": _to_protobuf(entity)} for entity in entities])


def delete(keys: Sequence[ndb.Key]) -> None:
    """Delete entities, by the active transaction if there is one."""
    if _current.get() is None and ndb.in_transaction():
        ndb.delete_multi(keys)
    else:
        _write([{"delete": _key(key)} for key in keys])


def begin_put(entities: Sequence[ndb.Model]) -> Begun:
    """Begin to write several entities, in one call outside of any transaction."""
    request = datastore_pb2.CommitRequest(mode="NON_TRANSACTIONAL", **_place())
    for entity in entities:
        # Into the request at once: a `Mutation` of its own would be one more copy.
        request._pb.mutations.add().upsert.CopyFrom(_to_protobuf(entity)._pb)  # noqa: SLF001  # of proto-plus
    return Begun("commit", request)


class Begun:
    """A call that is under way while its caller does something else.

    It may be begun in one NDB context, and its response read in another.
    """

    def __init__(self, method: str, request: Any) -> None:
        """Send the request, which must be one that may be applied twice."""
        self._method = method
        self._request = request
        stub = ndb.get_context().client.stub
        self._future: Any = getattr(stub, method).future(request, metadata=_routing(request))

    def result(self) -> Any:
        """Return the response. The call is repeated as any other, also by the next `result` after an error."""
        return _repeated(self._once, _RETRIES)

    def _once(self) -> Any:
        future, self._future = self._future, None
        if future is None:
            return _call(self._method, self._request)
        with _errors_of_google():
            return future.result()

    def wait(self) -> None:
        """Return when the call has ended, even if it has failed."""
        if self._future is not None:
            self._future.exception()


def insert(entity: ndb.Model) -> None:
    """Write an entity outside of any transaction; raise `AlreadyExists` if there is one. NDB can only overwrite."""
    _repeated(lambda: _commit([{"insert": _to_protobuf(entity)}]), _RETRIES)


def _write(mutations: list[dict[str, Any]]) -> None:
    current = _current.get()
    if current is not None:
        current.mutations += mutations
    elif mutations:
        _repeated(lambda: _commit(mutations), _RETRIES)


def _to_protobuf(entity: ndb.Model) -> Any:
    """Return what NDB would send for an entity, in a third of the time: with few objects of proto-plus.

    Empty properties are left out, unless a query can find them.
    """
    properties = model._entity_to_ds_entity(entity)  # noqa: SLF001  # as NDB's own put
    unindexed = properties.exclude_from_indexes
    stored = entity_pb2.Entity(key=_key(entity.key))
    for name, value in properties.items():
        if value is None and name in unindexed:
            continue
        prop = stored._pb.properties.get_or_create(name)  # noqa: SLF001  # of proto-plus
        helpers._set_protobuf_value(prop, value)  # noqa: SLF001  # as `helpers.entity_to_protobuf`
        is_list = isinstance(value, list)
        if name in unindexed:
            for each in prop.array_value.values if is_list else [prop]:
                each.exclude_from_indexes = True
        helpers._set_pb_meaning_from_entity(properties, name, value, prop, is_list=is_list)  # noqa: SLF001  # the same
    return stored


def _key(key: ndb.Key) -> Any:
    return key._key.to_protobuf()  # noqa: SLF001  # as NDB does


def _begin() -> bytes:
    request = datastore_pb2.BeginTransactionRequest(**_place())
    return bytes(_call("begin_transaction", request).transaction)


def _commit(mutations: list[dict[str, Any]], *, transaction: bytes | None = None) -> None:
    mode = {"mode": "TRANSACTIONAL", "transaction": transaction} if transaction else {"mode": "NON_TRANSACTIONAL"}
    _call("commit", datastore_pb2.CommitRequest(mutations=mutations, **mode, **_place()))


def _place() -> dict[str, Any]:
    client = ndb.get_context().client
    return {"project_id": client.project, "database_id": client.database}


def _call(method: str, request: Any, timeout: float | None = None) -> Any:
    """Call a method of Datastore."""
    stub = ndb.get_context().client.stub
    with _errors_of_google():
        return getattr(stub, method)(request, timeout=timeout, metadata=_routing(request))


def _routing(request: Any) -> Any:
    return _datastore_api._add_routing_info((), request)  # noqa: SLF001  # as NDB does


@contextmanager
def _errors_of_google() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as exc:
        raise from_grpc_error(exc) from exc  # type: ignore[no-untyped-call]  # google-api-core is untyped


def _repeated(call: Callable[[], T], retries: int) -> T:
    """Repeat a call that fails for a moment, with growing pauses."""
    for pause in islice(exponential_sleep_generator(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS), retries):
        try:
            return call()
        except _TRANSIENT as exc:
            log.debug("Datastore is called again in %.1f s: %s", pause, exc)
            time.sleep(pause)
    return call()


def _can_begin_with_read() -> bool:
    """Return whether a transaction can begin with a read. An emulator is tried out once.

    The Firestore emulator can't: it begins two transactions, and the one whose id it does not return keeps what was
    read locked for a minute.
    """
    client = ndb.get_context().client
    if client.secure:
        return True
    if client.host not in _emulators:
        try:
            _emulators[client.host] = _try_out(client)
        except grpc.RpcError as exc:
            log.debug("%s has not said whether a transaction can begin with a read: %s", client.host, exc)
            return False
    return _emulators[client.host]


def _try_out(client: ndb.Client) -> bool:
    """Begin a transaction with a read and commit it. What it reads and deletes does not exist."""
    key = _key(ndb.Key("LongTask", secrets.token_urlsafe(), namespace=""))
    # With a connection of its own: faults that a test has put into the client's are not for this.
    with closing(grpc.insecure_channel(client.host)) as channel:
        stub: Any = DatastoreGrpcTransport(host=client.host, channel=channel)
        lookup = datastore_pb2.LookupRequest(keys=[key], read_options=_BEGINNING, **_place())
        begun = stub.lookup(lookup, timeout=_TRIAL_SECONDS).transaction
        delete = {"mode": "TRANSACTIONAL", "transaction": begun, "mutations": [{"delete": key}]}
        try:
            stub.commit(datastore_pb2.CommitRequest(**delete, **_place()), timeout=_TRIAL_SECONDS)
        except grpc.RpcError as exc:
            if isinstance(exc, grpc.Call) and exc.code() is grpc.StatusCode.ABORTED:
                return False
            raise
    return True
