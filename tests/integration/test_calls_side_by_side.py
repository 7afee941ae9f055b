"""Chunks of one value are stored and read side by side: how many at once, in which order, and what an error does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import grpc
import pytest
from flask import Flask
from google.api_core.exceptions import DeadlineExceeded
from google.cloud import ndb
from google.cloud.datastore_v1.types import datastore as datastore_pb2

from gaetk_longtask import LongTask, Status
from gaetk_longtask.contexts import NdbContexts
from gaetk_longtask.models import LongTaskChunk
from gaetk_longtask.payloads import chunks
from gaetk_longtask.payloads.chunks import AT_ONCE, ChunkNames, Reader, Writer
from gaetk_longtask.payloads.cutting import BLOCK_BYTES
from gaetk_longtask.payloads.encoding import Encoded
from gaetk_longtask.payloads.manifests import Stored
from gaetk_longtask.payloads.yielded import YieldedResult
from gaetk_longtask.testing import Faults, InMemoryQueue, RpcFault
from tests.support import Work, deliver, load, raising

LOST = grpc.StatusCode.DEADLINE_EXCEEDED  # ndb does not retry after this code
NAMES = ChunkNames(task_id="t", fence=1, expires_at=datetime(2026, 1, 1, tzinfo=UTC))


class Note(ndb.Model):
    text = ndb.TextProperty()


class Watch:
    """Counts how many calls a client has begun, and how many of them nobody has waited for yet. It can lose calls."""

    def __init__(self, client: ndb.Client, *, lost: dict[int, grpc.StatusCode] | None = None) -> None:
        self._stub = client.stub
        self._lost = lost or {}
        self.begun = self.under_way = self.most = 0
        client.stub = self

    def __getattr__(self, method: str) -> Any:
        return _Method(getattr(self._stub, method), self)

    def begin(self, call: Any) -> _Future:
        """Begin a call, or lose it."""
        code = self._lost.get(self.begun)
        self.begun += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        return _Future(RpcFault(code) if code else call(), self)


@dataclass(frozen=True)
class _Method:
    call: Any
    watch: Watch

    def __call__(self, request: Any, **options: Any) -> Any:
        return self.call(request, **options)

    def future(self, request: Any, **options: Any) -> _Future:
        return self.watch.begin(partial(self.call.future, request, **options))


@dataclass(frozen=True)
class _Future:
    future: Any
    watch: Watch

    def result(self) -> Any:
        self.watch.under_way -= 1
        return self.future.result()

    def exception(self) -> Any:
        self.watch.under_way -= 1
        return self.future.exception()

    def add_done_callback(self, callback: Any) -> None:  # ndb
        self.future.add_done_callback(lambda _: callback(self))


@pytest.fixture
def _context(ndb_client: ndb.Client) -> Iterator[None]:
    with ndb_client.context():
        yield


def write(data: bytes) -> Stored:
    return chunks.write(Encoded(layout={"kind": "bytes"}, parts=[data], size=len(data)), NAMES, what="result")


@pytest.mark.usefixtures("_context")
class TestStoring:
    def test_a_few_chunks_are_under_way_at_once_and_none_at_the_end(self, ndb_client: ndb.Client) -> None:
        watch = Watch(ndb_client)
        write(os.urandom(2 * AT_ONCE * BLOCK_BYTES))
        assert (watch.most, watch.under_way, watch.begun) == (AT_ONCE, 0, 2 * AT_ONCE)

    @pytest.mark.parametrize("lost", range(3))
    def test_a_chunk_that_can_not_be_stored_is_an_error_after_the_others_have_ended(
        self, lost: int, ndb_client: ndb.Client
    ) -> None:
        watch = Watch(ndb_client, lost={lost: LOST})
        with pytest.raises(DeadlineExceeded):
            write(os.urandom(3 * BLOCK_BYTES))
        assert (watch.under_way, watch.begun) == (0, 3)

    def test_a_chunk_that_was_lost_for_the_moment_is_stored_again(self, ndb_client: ndb.Client) -> None:
        Watch(ndb_client, lost={1: grpc.StatusCode.UNAVAILABLE})
        data = os.urandom(3 * BLOCK_BYTES)
        assert Reader(write(data), task_id="t").read() == data

    @pytest.mark.parametrize("at_once", [1, AT_ONCE])
    def test_a_seal_that_has_failed_can_be_repeated(
        self, at_once: int, ndb_client: ndb.Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(chunks, "AT_ONCE", at_once)
        Watch(ndb_client, lost={0: LOST})
        data = os.urandom(BLOCK_BYTES + BLOCK_BYTES // 2)
        writer = Writer({"kind": "bytes"}, NAMES, what="result")
        writer.write(data)
        with pytest.raises(DeadlineExceeded):
            writer.seal()
        stored = writer.seal()
        assert [block.size for block in stored.manifest.blocks] == [BLOCK_BYTES, BLOCK_BYTES // 2]
        assert Reader(stored, task_id="t").read() == data

    def test_an_entity_of_ours_and_one_of_the_authors_share_a_transaction(self) -> None:
        def put() -> list[ndb.Key]:
            first = Note(text="before").put_async()
            LongTask(key=LongTask.key_of("ours"), title="between").save()
            return [first.result(), Note(text="after").put()]

        keys = ndb.transaction(put)
        assert [key.get().text for key in keys] == ["before", "after"]
        assert LongTask.load("ours").title == "between"


@pytest.mark.usefixtures("_context")
class TestReading:
    def test_a_few_chunks_are_read_ahead(self, ndb_client: ndb.Client) -> None:
        data = os.urandom(2 * AT_ONCE * BLOCK_BYTES)
        stored = write(data)
        watch = Watch(ndb_client)
        blocks = chunks.raw_blocks(stored, task_id="t")
        first = bytes(next(blocks))
        assert watch.under_way == AT_ONCE - 1
        assert b"".join([first, *map(bytes, blocks)]) == data
        assert (watch.most, watch.under_way, watch.begun) == (AT_ONCE, 0, 2 * AT_ONCE)

    def test_a_chunk_whose_response_was_lost_is_read_again(self, ndb_client: ndb.Client) -> None:
        data = os.urandom(3 * BLOCK_BYTES)
        stored = write(data)
        Watch(ndb_client, lost={1: grpc.StatusCode.UNAVAILABLE})
        assert Reader(stored, task_id="t").read() == data

    def test_chunks_that_datastore_defers_are_read_in_a_second_request(self, ndb_client: ndb.Client) -> None:
        data = b"".join(os.urandom(90_000).rjust(BLOCK_BYTES) for _ in range(6))
        stored = write(data)
        assert stored.manifest.chunks > 1
        deferring = Watch(ndb_client)

        def defer(call: Any) -> _Future:
            del deferring.begin
            response = call().result()
            deferred = [found.entity.key for found in response.found[1:]]
            return _Future(
                _Answer(datastore_pb2.LookupResponse(found=response.found[:1], deferred=deferred)), deferring
            )

        deferring.begin = defer  # type: ignore[method-assign]  # for the first call only
        assert Reader(stored, task_id="t").read() == data


@dataclass(frozen=True)
class _Answer:
    response: Any

    def result(self) -> Any:
        return self.response


def test_a_yielded_result_is_read_ahead_from_one_ndb_context_to_the_next(
    ndb_client: ndb.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "check_presence", lambda stored, task_id: None)  # a query, which would count
    with ndb_client.context():
        stored = write(os.urandom((AT_ONCE + 1) * BLOCK_BYTES))
        watch = Watch(ndb_client)
        result = YieldedResult(stored, task_id="t", contexts=NdbContexts(ndb_client, lambda: "tests"))
    assert len(next(result)) == BLOCK_BYTES
    assert (watch.under_way, watch.begun) == (AT_ONCE - 1, AT_ONCE)
    assert sum(len(next(result)) for _ in range(AT_ONCE)) == AT_ONCE * BLOCK_BYTES
    assert (watch.under_way, watch.begun) == (0, AT_ONCE + 1)


class TestAttempts:
    def test_no_result_is_committed_before_all_of_its_chunks(
        self, app: Flask, task: LongTask, queue: InMemoryQueue, faults: Faults, work: type[Work]
    ) -> None:
        def do(handler: Work) -> bytes:
            faults.lose_request("Commit", LOST)
            return os.urandom(3 * BLOCK_BYTES)

        work.do = do
        assert deliver(app, queue) == 500
        stored = load(app, task)
        assert (stored.status, stored.result_manifest) == (Status.ERROR, None)

    def test_an_attempt_that_fails_waits_for_the_chunks_that_it_has_begun(
        self, app: Flask, task: LongTask, queue: InMemoryQueue, ndb_client: ndb.Client, work: type[Work]
    ) -> None:
        begun = []

        def do(handler: Work) -> Iterator[bytes]:
            yield os.urandom(2 * BLOCK_BYTES)
            begun.append((watch.under_way, watch.begun))
            raising(ValueError())(handler)

        work.do = do
        watch = Watch(ndb_client)
        assert deliver(app, queue) == 500
        assert begun[0][0] == 2
        assert watch.under_way == 0
        with ndb_client.context():
            assert len(LongTaskChunk.query().fetch(keys_only=True)) == 2
