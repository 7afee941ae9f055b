"""Makes our own calls to Datastore in fewer round trips than NDB, and without gRPC's futures.

NDB begins each transaction by a call of its own. Here, a transaction begins with its first read: `Lookup` accepts
``new_transaction``, and returns the id of the transaction with what it has found. NDB needs to know nothing of this. It
gets a stand-in for the id, and each later call replaces it.

NDB sends each call as a future, for which gRPC starts a thread if no other call is under way. In `own_calls`, a call
has ended when NDB gets its future. Calls that are to run side by side are `Begun`.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import grpc
from google.api_core import exceptions
from google.cloud import ndb
from google.cloud.datastore_v1.services.datastore.transports import DatastoreGrpcTransport
from google.cloud.datastore_v1.types import datastore as datastore_pb2
from google.cloud.ndb import _datastore_api, _retry

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Whether a transaction can begin with its first read, by the emulator's host.
_emulators: dict[str, bool] = {}
_BEGINNING: Any = {"new_transaction": {"read_write": {}}}  #: the options of a read that begins a transaction
_TRIAL_SECONDS = 5.0  #: the Firestore emulator waits for a lock for two seconds


@contextmanager
def own_calls() -> Iterator[None]:
    """Make the calls of NDB directly, one after the other. The client of the active context stays as it is."""
    context = ndb.get_context()
    if isinstance(context.client, _Client):
        yield
    else:
        with context.new(client=_Client(context.client)).use():
            yield


def transaction(work: Callable[[], T], *, retries: int) -> T:
    """Run `work` as a transaction, up to `retries` times more. Its first read begins it."""
    with own_calls():
        return ndb.transaction(work, retries=retries)  # type: ignore[no-any-return]  # ndb is untyped


class Begun:
    """A call that is under way while its caller does something else.

    It does not depend on NDB's event loop. So it may be begun in one NDB context, and its response read in another.
    """

    def __init__(self, method: str, request: Any) -> None:
        """Send the request. It must be one that may be applied twice."""
        self._method = method
        self._request = request
        self._metadata = _datastore_api._add_routing_info((), request)  # noqa: SLF001  # as NDB does
        stub = ndb.get_context().client.stub
        self._future: Any = getattr(stub, method).future(request, metadata=self._metadata)

    def result(self) -> Any:
        """Return the response. Repeat the call if NDB would, or if the error was raised before."""
        future, self._future = self._future, None
        if future is not None:
            try:
                return future.result()
            except grpc.RpcError as exc:
                error = exceptions.from_grpc_error(exc)  # type: ignore[no-untyped-call]  # google-api-core is untyped
                if not _retry.is_transient_error(error):
                    raise error from exc
        with own_calls():
            return _datastore_api.make_call(self._method, self._request, metadata=self._metadata).result()

    def wait(self) -> None:
        """Return when the call has ended, even if it has failed."""
        if self._future is not None:
            self._future.exception()


class _Client:
    """An NDB client whose stub makes the calls directly."""

    def __init__(self, client: ndb.Client) -> None:
        self._client = client
        self.stub = _Stub(client)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class _Stub:
    """The methods of Datastore as NDB calls them, within one `own_calls`."""

    def __init__(self, client: ndb.Client) -> None:
        self._client = client
        self._stub = client.stub
        #: The ids of the transactions that begin with a read, by their stand-ins; empty before that read.
        self._ids: dict[bytes, bytes] = {}
        self.begin_transaction = _Method(self._begin_transaction)
        self.lookup = _Method(self._lookup)
        self.commit = _Method(self._commit)
        self.rollback = _Method(self._rollback)

    def __getattr__(self, method: str) -> _Method:
        return _Method(getattr(self._stub, method))

    def _begin_transaction(self, request: Any, **options: Any) -> Any:
        if not _begins_with_read(self._client):
            return self._stub.begin_transaction(request, **options)
        stand_in = b"the %d. transaction" % len(self._ids)
        self._ids[stand_in] = b""
        return datastore_pb2.BeginTransactionResponse(transaction=stand_in)

    def _lookup(self, request: Any, **options: Any) -> Any:
        stand_in = request.read_options.transaction
        if stand_in not in self._ids:
            return self._stub.lookup(request, **options)
        request = datastore_pb2.LookupRequest(request)  # a copy: NDB may repeat its own
        if begun := self._ids[stand_in]:
            request.read_options.transaction = begun
            return self._stub.lookup(request, **options)
        request.read_options = _BEGINNING
        response = self._stub.lookup(request, **options)
        self._ids[stand_in] = response.transaction
        return response

    def _commit(self, request: Any, **options: Any) -> Any:
        if request.transaction in self._ids:
            if not self._ids[request.transaction]:  # nothing was read
                place = {"project_id": request.project_id, "database_id": request.database_id}
                begin = datastore_pb2.BeginTransactionRequest(**place)
                self._ids[request.transaction] = self._stub.begin_transaction(begin, **options).transaction
            request.transaction = self._ids[request.transaction]
        return self._stub.commit(request, **options)

    def _rollback(self, request: Any, **options: Any) -> Any:
        begun = self._ids.get(request.transaction)
        if begun == b"":
            return datastore_pb2.RollbackResponse()
        request.transaction = begun or request.transaction
        return self._stub.rollback(request, **options)


class _Method:
    """A method of Datastore whose future has ended when NDB gets it."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def future(self, request: Any, **options: Any) -> _Ended:
        try:
            return _Ended(self._call(request, **options), None)
        except Exception as exc:  # noqa: BLE001  # as a future of gRPC does
            return _Ended(None, exc)


class _Ended:
    """What NDB needs of a future."""

    def __init__(self, result: Any, exception: Exception | None) -> None:
        self._result = result
        self._exception = exception

    def result(self) -> Any:
        if self._exception is not None:
            raise self._exception
        return self._result

    def exception(self) -> Exception | None:
        return self._exception

    def add_done_callback(self, callback: Callable[[_Ended], object]) -> None:
        callback(self)


def _begins_with_read(client: ndb.Client) -> bool:
    """Return whether a transaction can begin with its first read. An emulator is tried once.

    The Firestore emulator can't: it begins two transactions, and the one whose id it does not return keeps what was
    read locked for a minute.
    """
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
    place = {"project_id": client.project, "database_id": client.database}
    key = ndb.Key("LongTask", secrets.token_urlsafe(), namespace="")._key.to_protobuf()  # noqa: SLF001  # as NDB does
    # With a connection of its own: faults that a test has put into the client's are not for this.
    with closing(grpc.insecure_channel(client.host)) as channel:
        stub: Any = DatastoreGrpcTransport(host=client.host, channel=channel)
        lookup = datastore_pb2.LookupRequest(keys=[key], read_options=_BEGINNING, **place)
        begun = stub.lookup(lookup, timeout=_TRIAL_SECONDS).transaction
        delete = {"mode": "TRANSACTIONAL", "transaction": begun, "mutations": [{"delete": key}]}
        try:
            stub.commit(datastore_pb2.CommitRequest(**delete, **place), timeout=_TRIAL_SECONDS)
        except grpc.RpcError as exc:
            if isinstance(exc, grpc.Call) and exc.code() is grpc.StatusCode.ABORTED:
                return False
            raise
    return True
