"""Our own calls to Datastore: the round trips of a transaction, on every local Datastore."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from threading import Thread

import grpc
import pytest
from google.api_core.exceptions import AlreadyExists, PermissionDenied, ServiceUnavailable
from google.cloud import ndb
from google.cloud.datastore_v1.types import datastore as datastore_pb2

from gaetk_longtask.datastore import calls as datastore_calls
from gaetk_longtask.datastore.calls import call_on_commit, delete, get, in_transaction, insert, put, transaction
from gaetk_longtask.dev.pieces import DatastoreKind
from gaetk_longtask.testing import Faults, put_between

READ_AND_WRITTEN = ["Lookup", "Commit"]


class Counter(ndb.Model):
    """An entity of the tests."""

    _use_cache = False
    value = ndb.IntegerProperty(default=0)
    note = ndb.TextProperty()
    seen = ndb.DateTimeProperty()


@pytest.fixture
def host(each_datastore_host: str) -> str:
    return each_datastore_host


@pytest.fixture
def client(host: str, monkeypatch: pytest.MonkeyPatch) -> ndb.Client:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", host)
    return ndb.Client(project=f"test-{secrets.token_hex(6)}")


@pytest.fixture
def faults(client: ndb.Client) -> Faults:
    return put_between(client)


@pytest.fixture
def key(client: ndb.Client, faults: Faults) -> Iterator[ndb.Key]:
    """The key of a stored counter; a context is active."""
    with client.context():
        with faults.resting():
            key = Counter(id="one").put()
        yield key


@pytest.fixture
def begins_with_read(host: str, key: ndb.Key) -> bool:
    """Whether this Datastore can begin a transaction with a read, as the first transaction finds out."""
    transaction(lambda: None, retries=0)
    return datastore_calls._emulators[host]


def value_of(key: ndb.Key) -> int:
    """Return what the counter is; in a transaction, what it was when that began."""
    [counter] = get([key])
    return int(counter.value)


def increment(key: ndb.Key) -> int:
    [counter] = get([key])
    counter.value += 1
    put(counter)
    return int(counter.value)


def test_only_the_firestore_emulator_needs_a_call_to_begin(
    host: str, key: ndb.Key, request: pytest.FixtureRequest
) -> None:
    transaction(lambda: increment(key), retries=0)
    is_firestore = request.node.callspec.params["each_datastore_host"] is DatastoreKind.FIRESTORE
    assert datastore_calls._emulators[host] is not is_firestore


def test_a_transaction_begins_with_its_first_read(key: ndb.Key, faults: Faults, begins_with_read: bool) -> None:
    faults.calls.clear()
    assert transaction(lambda: increment(key), retries=0) == 1
    assert faults.calls == (READ_AND_WRITTEN if begins_with_read else ["BeginTransaction", *READ_AND_WRITTEN])
    assert value_of(key) == 1


def test_what_it_reads_later_is_read_in_the_same_transaction(client: ndb.Client, key: ndb.Key, faults: Faults) -> None:
    seen = []

    def read_twice() -> None:
        seen.append(value_of(key))
        if len(seen) == 1:
            interfere(client, key)
        seen.append(value_of(key))
        increment(key)

    transaction(read_twice, retries=3)
    assert seen[0] == seen[1]
    assert seen[-2] == seen[-1]


def interfere(client: ndb.Client, key: ndb.Key) -> None:
    """Let somebody else begin to write the counter."""

    def write() -> None:
        with client.context():
            Counter(key=key, value=100).put()

    Thread(target=write).start()


def test_nothing_is_lost_in_a_race(client: ndb.Client, key: ndb.Key) -> None:
    def run() -> None:
        with client.context():
            for _ in range(5):
                transaction(lambda: increment(key), retries=20)

    threads = [Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value_of(key) == 20


def test_without_a_read_it_begins_before_its_commit(key: ndb.Key, faults: Faults, begins_with_read: bool) -> None:
    faults.calls.clear()
    transaction(lambda: put(Counter(key=key, value=7)), retries=0)
    assert faults.calls == ["BeginTransaction", "Commit"]
    assert value_of(key) == 7


def test_an_error_rolls_back_what_has_begun(key: ndb.Key, faults: Faults, begins_with_read: bool) -> None:
    def fail(*, read: bool) -> None:
        if read:
            increment(key)
        raise ZeroDivisionError

    for read, calls in ((True, ["Lookup", "Rollback"]), (False, [])):
        faults.calls.clear()
        with pytest.raises(ZeroDivisionError):
            transaction(lambda read=read: fail(read=read), retries=0)
        if begins_with_read:
            assert faults.calls == calls
    assert value_of(key) == 0
    assert transaction(lambda: increment(key), retries=0) == 1  # nothing is locked


@pytest.mark.parametrize("lose", [Faults.lose_request, Faults.lose_reply])
def test_a_read_that_is_lost_on_the_way_is_repeated(
    key: ndb.Key, faults: Faults, begins_with_read: bool, lose: Callable[[Faults, str], None]
) -> None:
    lose(faults, "Lookup")
    faults.calls.clear()
    assert transaction(lambda: increment(key), retries=2) == 1
    assert value_of(key) == 1
    if begins_with_read:
        assert faults.calls[:3] == ["Lookup", "Lookup", "Commit"]


def test_a_commit_whose_request_is_lost_leads_to_another_transaction(
    key: ndb.Key, faults: Faults, begins_with_read: bool
) -> None:
    faults.lose_request("Commit")
    faults.calls.clear()
    assert transaction(lambda: increment(key), retries=2) == 1
    assert value_of(key) == 1
    if begins_with_read:
        assert faults.calls[:5] == ["Lookup", "Commit", "Rollback", "Lookup", "Commit"]


def test_errors_are_those_of_googles_clients(key: ndb.Key, faults: Faults) -> None:
    faults.lose_request("Lookup", grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(PermissionDenied):
        get([key])
    faults.lose_request("Lookup", times=4)
    with pytest.raises(ServiceUnavailable):
        get([key])
    assert value_of(key) == 0


def test_several_entities_are_read_by_one_call(key: ndb.Key, faults: Faults) -> None:
    missing = ndb.Key(Counter, "missing")
    other = Counter(id="other", value=3).put()
    faults.calls.clear()
    found = get([other, missing, key, other])
    assert faults.calls == ["Lookup"]
    assert [counter and counter.value for counter in found] == [3, None, 0, 3]
    assert get([]) == []


def test_empty_properties_are_stored_only_if_a_query_can_find_them(key: ndb.Key) -> None:
    put(Counter(key=key, note="kept"))
    assert (get([key])[0].note, get([key])[0].seen) == ("kept", None)
    put(Counter(key=key))
    assert get([key])[0].note is None
    [found] = datastore_calls._look_up(lookup_of(key), 0, None).found
    assert set(found.entity.properties) == {"value", "seen"}
    assert Counter.query(Counter.seen == None).get(keys_only=True) == key  # noqa: E711  # ndb's way


def lookup_of(key: ndb.Key) -> datastore_pb2.LookupRequest:
    return datastore_pb2.LookupRequest(keys=[key._key.to_protobuf()], **datastore_calls._place())


def test_a_deletion_is_part_of_the_transaction(key: ndb.Key, faults: Faults) -> None:
    other = Counter(id="other").put()

    def work(*, fail: bool) -> None:
        increment(key)
        delete([other])
        if fail:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        transaction(lambda: work(fail=True), retries=0)
    assert get([other])[0] is not None
    transaction(lambda: work(fail=False), retries=0)
    assert get([other]) == [None]
    delete([key, other])
    assert get([key]) == [None]
    faults.calls.clear()
    delete([])
    assert faults.calls == []


def test_an_insertion_overwrites_nothing(key: ndb.Key) -> None:
    with pytest.raises(AlreadyExists):
        insert(Counter(key=key, value=9))
    assert value_of(key) == 0
    insert(Counter(id="new", value=9))
    assert value_of(ndb.Key(Counter, "new")) == 9


def test_callbacks_wait_for_the_commit(key: ndb.Key, faults: Faults) -> None:
    seen = []

    def work() -> None:
        increment(key)
        call_on_commit(lambda: seen.append((value_of(key), in_transaction())))
        assert in_transaction()

    faults.lose_request("Commit")
    transaction(work, retries=1)
    assert seen == [(1, False)]  # once, although there were two tries


def test_without_a_transaction_a_callback_is_called_at_once(key: ndb.Key) -> None:
    seen = []
    call_on_commit(lambda: seen.append(value_of(key)))
    assert seen == [0]


def test_the_applications_own_transactions_stay_as_they_are(key: ndb.Key, faults: Faults) -> None:
    def work() -> None:
        counter = key.get()
        counter.value += 1
        counter.put()

    faults.calls.clear()
    ndb.transaction(work)
    assert faults.calls == ["BeginTransaction", *READ_AND_WRITTEN]


def test_in_the_applications_transaction_we_take_part(client: ndb.Client, key: ndb.Key) -> None:
    def work() -> int:
        seen = increment(key)
        assert in_transaction()
        call_on_commit(lambda: committed.append(True))
        return seen

    committed: list[bool] = []
    assert ndb.transaction(work) == 1
    assert committed == [True]
    assert value_of(key) == 1
    for change in (lambda: increment(key), lambda: delete([key])):
        with pytest.raises(ZeroDivisionError):
            ndb.transaction(lambda change=change: (change(), 1 / 0))
        assert value_of(key) == 1


def test_an_emulator_that_does_not_answer_is_tried_out_again(
    host: str, key: ndb.Key, faults: Faults, begins_with_read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datastore_calls, "_emulators", {})
    with monkeypatch.context() as patch:
        patch.setattr(datastore_calls, "_TRIAL_SECONDS", -1.0)
        faults.calls.clear()
        transaction(lambda: increment(key), retries=0)
        assert faults.calls == ["BeginTransaction", *READ_AND_WRITTEN]
        assert datastore_calls._emulators == {}
    transaction(lambda: increment(key), retries=0)
    assert datastore_calls._emulators == {host: begins_with_read}


def test_datastore_itself_is_not_tried_out(key: ndb.Key, client: ndb.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datastore_calls, "_emulators", {})
    monkeypatch.setattr(client, "secure", True)
    assert datastore_calls._can_begin_with_read()
    assert datastore_calls._emulators == {}
