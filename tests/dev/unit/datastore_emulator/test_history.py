"""Old versions and transactions are kept for a time, and then they are not."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from gaetk_longtask.dev.datastore_emulator import versions
from gaetk_longtask.dev.datastore_emulator.datastore import Datastore
from gaetk_longtask.dev.datastore_emulator.errors import CallError
from gaetk_longtask.dev.datastore_emulator.messages import REQUESTS
from tests.dev.datastore_client import Unindexed, entity, key, mutation, plain, query

SECOND = 1_000_000
START = 1_800_000_000 * SECOND
A = key("A", 1)


class Clock:
    """A clock in microseconds that the test moves."""

    now = START

    def __call__(self) -> int:
        return self.now


class Local:
    """An emulator in this process."""

    def __init__(self, directory: Path | None = None) -> None:
        self.clock = Clock()
        self.datastore = Datastore(directory, self.clock)

    def call(self, method: str, **fields: Any) -> Any:
        return self.datastore.answer(method, REQUESTS[method](project_id="demo", **fields))

    def put(self, *entities: Any, after: float = 1, **fields: Any) -> None:
        """Put entities so many seconds after the last call."""
        self.clock.now += int(after * SECOND)
        mutations = [mutation("upsert", each) for each in entities]
        self.call("Commit", mutations=mutations, **({"mode": 2} | fields))

    def read(self, **options: Any) -> list[int]:
        found = self.call("Lookup", keys=[A], read_options=options).found
        return [plain(each.entity.properties["n"]) for each in found]

    def read_at(self, microseconds: int) -> list[int]:
        return self.read(read_time={"seconds": microseconds // SECOND, "nanos": microseconds % SECOND * 1000})


@pytest.fixture
def local() -> Iterator[Local]:
    made = Local()
    yield made
    made.datastore.close()


def test_every_time_of_the_last_hour_can_be_read(local: Local) -> None:
    for number in range(1, 4):
        local.put(entity(A, n=number))
    assert [local.read_at(START + seconds * SECOND) for seconds in (0, 1, 2, 3)] == [[], [1], [2], [3]]
    assert local.read_at(START + SECOND - 1) == []


def test_a_deleted_entity_can_be_read_at_an_earlier_time(local: Local) -> None:
    local.put(entity(A, n=1))
    local.clock.now += SECOND
    local.call("Commit", mode=2, mutations=[mutation("delete", A)])
    assert (local.read(), local.read_at(START + SECOND)) == ([], [1])
    found = local.call(
        "RunQuery", query=query("A", ("n", "=", 1)), read_options={"read_time": {"seconds": START // SECOND + 1}}
    )
    assert len(found.batch.entity_results) == 1


def test_older_times_and_the_future_are_refused(local: Local) -> None:
    local.put(entity(A, n=1))
    with pytest.raises(CallError, match="within the last hour"):
        local.read_at(local.clock.now - 3601 * SECOND)
    with pytest.raises(CallError, match="in the future"):
        local.read_at(local.clock.now + 1)


def test_after_an_hour_old_versions_are_deleted(local: Local) -> None:
    for number in range(5):
        local.put(entity(A, n=number))
    assert versions_of(local) == 5
    local.put(entity(A, n=9), after=3601)
    assert versions_of(local) == 2
    assert local.read() == [9]


def test_many_bytes_of_old_versions_are_deleted_earlier(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "_KEPT_BYTES", 25_000)
    for number in range(10):
        local.put(entity(A, n=number, blob=Unindexed(b"x" * 10_000)))
    assert versions_of(local) == 3
    with pytest.raises(CallError, match="too old"):
        local.read_at(START + 5 * SECOND)
    assert local.read_at(START + 9 * SECOND) == [8]


def versions_of(local: Local) -> int:
    with local.datastore._store.viewing() as view:
        [count] = view.connection.execute("select count(*) from entity").fetchone()
        return int(count)


def test_a_transaction_is_over_after_270_seconds(local: Local) -> None:
    transaction = local.call("BeginTransaction").transaction
    local.put(entity(A, n=1), after=269, mode=1, transaction=transaction)
    transaction = local.call("BeginTransaction").transaction
    with pytest.raises(CallError, match="expired"):
        local.put(entity(A, n=2), after=271, mode=1, transaction=transaction)


def test_a_transaction_reads_what_was_there_at_its_first_read(local: Local) -> None:
    transaction = local.call("BeginTransaction").transaction
    local.put(entity(A, n=1))
    assert local.read(transaction=transaction) == [1]
    local.put(entity(A, n=2))
    assert local.read(transaction=transaction) == [1]
    with pytest.raises(CallError, match="contention"):
        local.put(entity(A, n=3), mode=1, transaction=transaction)


def test_a_transaction_is_not_aborted_by_what_it_did_not_read(local: Local) -> None:
    local.put(*(entity(key("A", number), n=number) for number in range(1, 5)))
    transaction = local.call("BeginTransaction").transaction
    local.call("RunQuery", query=query("A", ("n", "<", 3)), read_options={"transaction": transaction})
    local.put(entity(key("A", 4), n=40))
    local.put(entity(key("A", 3), n=3), mode=1, transaction=transaction)


def test_a_transaction_is_aborted_by_what_its_query_would_find_now(local: Local) -> None:
    local.put(*(entity(key("A", number), n=number) for number in range(1, 5)))
    transaction = local.call("BeginTransaction").transaction
    local.call("RunQuery", query=query("A", ("n", "<", 3)), read_options={"transaction": transaction})
    local.put(entity(key("A", 4), n=2))
    with pytest.raises(CallError, match="contention"):
        local.put(entity(key("A", 3), n=3), mode=1, transaction=transaction)


def test_reading_and_writing_do_not_wait_for_a_reader(local: Local) -> None:
    local.put(entity(A, n=1))
    with local.datastore._store.viewing() as view:
        before = view.find(local.datastore._store.catalog.find("demo", "", ""), b"")
        local.put(entity(A, n=2))
        assert local.read() == [2]
        assert view.find(local.datastore._store.catalog.find("demo", "", ""), b"") == before


def test_ids_are_not_given_again_after_a_reset_or_a_restart(tmp_path: Path) -> None:
    given: list[int] = []
    local = Local(tmp_path)
    for _ in range(3):
        given += [made.path[0].id for made in local.call("AllocateIds", keys=[key("A")] * 3).keys]
        local.datastore.reset()
        local.datastore.close()
        local = Local(tmp_path)
    local.datastore.close()
    assert len(set(given)) == 9


def test_a_reserved_id_is_never_given(local: Local) -> None:
    [first] = local.call("AllocateIds", keys=[key("A")]).keys
    other = Local()
    other.call("ReserveIds", keys=[first])
    [given] = other.call("AllocateIds", keys=[key("A")]).keys
    other.datastore.close()
    assert given.path[0].id != first.path[0].id


def test_after_a_restart_everything_is_there(tmp_path: Path) -> None:
    local = Local(tmp_path)
    local.put(entity(A, n=[1, 2]))
    local.put(entity(A, n=[3, 4]))
    moment = local.clock.now - SECOND
    local.datastore.close()
    again = Local(tmp_path)
    again.clock.now = local.clock.now
    assert again.read() == [[3, 4]]
    assert again.read_at(moment) == [[1, 2]]
    found = again.call("RunQuery", query=query("A", ("n", ">", 2), order=("-n",))).batch.entity_results
    again.datastore.close()
    assert len(found) == 1


def test_calls_that_commit_the_same_transaction_at_once_apply_it_once(local: Local) -> None:
    insert = mutation("insert", entity(key("Payment", None)))

    def commit(transaction: bytes) -> str:
        try:
            local.call("Commit", mode=1, transaction=transaction, mutations=[insert])
        except CallError as exc:
            return exc.message
        return "committed"

    rounds = 30
    with ThreadPoolExecutor(4) as pool:
        for _ in range(rounds):
            transaction = local.call("BeginTransaction").transaction
            answers = sorted(pool.map(commit, [transaction] * 4))
            assert answers == ["committed", *["transaction has expired or is invalid"] * 3]
    found = local.call("RunQuery", query=query("Payment")).batch.entity_results
    assert len(found) == rounds


def test_an_error_of_the_database_is_an_answer_and_the_transaction_can_be_rolled_back(
    local: Local, caplog: pytest.LogCaptureFixture
) -> None:
    transaction = local.call("BeginTransaction").transaction
    local.datastore.close()
    with pytest.raises(CallError, match="The emulator failed: ProgrammingError") as caught:
        local.put(entity(A), mode=1, transaction=transaction)
    assert caught.value.code == grpc.StatusCode.INTERNAL
    assert "Commit failed" in caplog.text
    local.call("Rollback", transaction=transaction)
