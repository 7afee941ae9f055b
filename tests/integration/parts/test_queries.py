"""What the store of parts needs of Datastore, on each local one.

The query has an equality filter and a range of keys, in the order of keys. Datastore's built-in indexes are enough, so
it needs no composite index. They serve "equality filters on properties, and inequality filters on keys"
(https://cloud.google.com/datastore/docs/concepts/indexes#index_configuration). The same page says that filters with a
sort order need a composite index. Keys in ascending order are an exception, because every index has them in that order
(https://cloud.google.com/appengine/docs/legacy/standard/java/datastore/queries#key_filters).
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import ndb

from gaetk_longtask import LongTask
from gaetk_longtask.datastore import calls as datastore_calls
from gaetk_longtask.dev.pieces import DatastoreKind, start_datastore
from gaetk_longtask.dev.processes import MissingPieceError
from gaetk_longtask.execution.part_attempts import _BATCH, _BATCH_BYTES
from gaetk_longtask.models import LongTaskPart
from gaetk_longtask.parts.store import PartStore
from gaetk_longtask.splits import Split, Stage, lane_in, number_in

RUN = 5


@pytest.fixture
def client(each_datastore_host: str, monkeypatch: pytest.MonkeyPatch) -> ndb.Client:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", each_datastore_host)
    return ndb.Client(project=f"test-{secrets.token_hex(6)}")


class Runtime:
    """What a store of parts needs, for queries alone."""

    progress = None
    clock = staticmethod(lambda: datetime.now(UTC))


def a_store(count: int, lanes: int, task_id: str = "task") -> PartStore:
    split = Split(run=RUN, count=count, lanes=lanes, stage=Stage.WORKING, open_at_last_tend=count)
    task = LongTask(key=LongTask.key_of(task_id))
    Runtime.progress = type("Progress", (), {"interval_seconds": 1.0})()  # type: ignore[assignment]  # no more is needed
    return PartStore(Runtime, task, split)  # type: ignore[arg-type]  # the same


def fill(store: PartStore, *, data: bytes = b"") -> list[str]:
    """Store all parts, and some that belong to another run and to another task."""
    names = [store.split.name("task", number) for number in range(store.split.count)]
    others = [name.replace("000000005", "000000004") for name in names]
    others += [name.replace("task", other) for other in ("tas", "tasj", "tasl", "task0") for name in names]
    for each in (names, others):
        for first in range(0, len(each), 500):
            store.store(
                [LongTaskPart(key=LongTaskPart.key_of(n), result_blob=data or None) for n in each[first : first + 500]]
            )
    return names


def finish(name: str) -> None:
    def transact() -> None:
        part = LongTaskPart.load(name)
        part.open = False
        part.save()

    datastore_calls.transaction(transact, retries=5)


def test_the_first_open_part_is_found_right_after_each_commit(client: ndb.Client) -> None:
    with client.context():
        store = a_store(count=40, lanes=3)
        names = fill(store)
        for lane in range(3):
            row = [name for name in names if lane_in(name) == lane]
            for done, name in enumerate(row):
                assert store.first_open(lane) == name
                assert store.done_in_lanes([lane]) == {lane: done}
                finish(name)
            assert store.first_open(lane) is None
        assert store.first_open() is None


def test_a_part_is_found_right_after_it_was_stored_and_not_after_it_was_done(client: ndb.Client) -> None:
    with client.context():
        store = a_store(count=200, lanes=1)
        for number in range(200):
            name = store.split.name("task", number)
            store.store([LongTaskPart(key=LongTaskPart.key_of(name))])
            assert store.first_open(0) == name
            finish(name)
            assert store.first_open(0) is None


def test_the_sdk_finds_no_composite_index_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Cloud SDK's emulator adds each index that a query needs to a file."""
    try:
        piece = start_datastore(DatastoreKind.SDK, data_dir=tmp_path)
    except MissingPieceError as exc:
        pytest.skip(str(exc))
    with piece:
        monkeypatch.setenv("DATASTORE_EMULATOR_HOST", piece.host)
        with ndb.Client(project="test").context():
            store = a_store(count=4, lanes=2)
            names = fill(store)
            assert store.first_open(1) == names[1]
            assert store.first_open() == names[0]
            [found] = tmp_path.rglob("index.yaml")
            assert "LongTaskPart" not in found.read_text()
            LongTaskPart.query(LongTaskPart.open == True, namespace="").order(LongTaskPart.expires_at).get()  # noqa: E712  # a filter
            assert "LongTaskPart" in found.read_text(), "the emulator does not say which indexes are needed"


def test_many_rows_are_asked_side_by_side(client: ndb.Client) -> None:
    with client.context():
        store = a_store(count=300, lanes=100)
        fill(store)
        found = store.firsts_open(range(100))
        assert sorted(found) == list(range(100))
        assert sorted(number_in(name) for name in found.values()) == list(range(100))


def test_a_part_is_never_overwritten_by_a_write_that_comes_late(client: ndb.Client) -> None:
    with client.context():
        store = a_store(count=2, lanes=1)
        names = fill(store)
        finish(names[0])
        with pytest.raises(GoogleAPICallError):
            store.store([LongTaskPart(key=LongTaskPart.key_of(name)) for name in names])
        assert store.first_open() == names[1]


def test_a_full_batch_is_stored_at_once(client: ndb.Client) -> None:
    with client.context():
        store = a_store(count=0, lanes=1)
        names = [store.split.name("task", number) for number in range(_BATCH)]
        blob = bytes(_BATCH_BYTES // _BATCH)
        store.store(
            [LongTaskPart(key=LongTaskPart.key_of(name), parameters_blob=blob, trace="x" * 200) for name in names]
        )
        assert len(store.load(names)) == _BATCH
