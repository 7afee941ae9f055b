"""Bytes of any size are stored in Datastore and read back completely, or not at all."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import grpc
import pytest
from google.cloud import ndb
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.exceptions import DamagedDataError
from gaetk_longtask.models import LongTask, LongTaskChunk
from gaetk_longtask.payloads import chunks, cutting
from gaetk_longtask.payloads.chunks import INLINE_BYTES, ChunkNames, Writer
from gaetk_longtask.payloads.cutting import BLOCK_BYTES
from gaetk_longtask.payloads.encoding import Encoded
from gaetk_longtask.payloads.manifests import Stored, set_stored
from gaetk_longtask.testing import put_between

EXPIRES_AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _context(ndb_client: ndb.Client) -> Iterator[None]:
    with ndb_client.context():
        yield


def write(data: bytes, fence: int = 1) -> Stored:
    encoded = Encoded(layout={"kind": "bytes"}, parts=[data], size=len(data))
    return chunks.write(encoded, names(fence), what="result")


def names(fence: int = 1) -> ChunkNames:
    return ChunkNames(task_id="t", fence=fence, expires_at=EXPIRES_AT)


def entities() -> list[LongTaskChunk]:
    return LongTaskChunk.query().fetch()


@pytest.mark.parametrize("size", [0, 1, INLINE_BYTES, INLINE_BYTES + 1, BLOCK_BYTES, BLOCK_BYTES + 1, 4 * BLOCK_BYTES])
def test_incompressible_bytes_of_every_size_come_back(size: int) -> None:
    data = os.urandom(size)
    stored = write(data)
    assert stored.manifest.size == size
    assert chunks.Reader(stored, task_id="t").read() == data


@pytest.mark.parametrize("size", [0, 1, INLINE_BYTES + 1, BLOCK_BYTES + 1])
def test_datastore_returns_a_manifest_unchanged(size: int) -> None:
    stored = write(os.urandom(size))
    task = LongTask(key=LongTask.key_of("t"))
    set_stored(task, "result", stored)
    task.save()
    assert Stored.of(LongTask.load("t"), "result") == stored


def test_small_values_are_stored_in_the_entity_and_large_ones_in_chunks() -> None:
    assert write(os.urandom(INLINE_BYTES)).manifest.chunks == 0
    assert entities() == []
    assert write(os.urandom(INLINE_BYTES + 1)).manifest.chunks == 1
    assert [chunk.key.id() for chunk in entities()] == ["t.1.0"]
    assert entities()[0].expires_at == EXPIRES_AT


def test_no_block_is_larger_than_datastore_takes() -> None:
    stored = write(os.urandom(3 * BLOCK_BYTES + 7))
    assert max(block.stored for block in stored.manifest.blocks) <= 1_048_487


def test_compressible_blocks_share_a_request_and_others_do_not(ndb_client: ndb.Client) -> None:
    faults = put_between(ndb_client)
    noise = os.urandom(4 * BLOCK_BYTES)
    stored = write(noise)
    assert chunks.Reader(stored, task_id="t").read() == noise
    assert faults.calls == 4 * ["Commit"] + 4 * ["Lookup"]
    faults.calls.clear()
    squeezable = b"".join(noise[start : start + 90_000].rjust(BLOCK_BYTES) for start in range(0, 8 * 90_000, 90_000))
    stored = write(squeezable)
    assert stored.manifest.chunks == 6
    assert chunks.Reader(stored, task_id="t").read() == squeezable
    assert faults.calls == 2 * ["Commit"] + ["Lookup"]


def test_a_missing_chunk_is_damage() -> None:
    stored = write(os.urandom(2 * BLOCK_BYTES))
    entities()[1].key.delete()
    with pytest.raises(DamagedDataError, match="missing"):
        chunks.Reader(stored, task_id="t").read()


def test_an_altered_chunk_is_damage() -> None:
    stored = write(os.urandom(2 * BLOCK_BYTES))
    chunk = entities()[0]
    chunk.data = bytes(len(chunk.data))
    chunk.put()
    with pytest.raises(DamagedDataError, match="not what was stored"):
        chunks.Reader(stored, task_id="t").read()


def test_two_attempts_do_not_share_chunks() -> None:
    first, second = os.urandom(BLOCK_BYTES), os.urandom(BLOCK_BYTES)
    earlier = write(first, fence=1)
    later = write(second, fence=2)
    assert chunks.Reader(earlier, task_id="t").read() == first
    assert chunks.Reader(later, task_id="t").read() == second


# Writing, sealing, and continuing after a seal.

SMALL_BLOCK, SMALL_INLINE = 1000, 300

writes = st.tuples(st.sampled_from([os.urandom, bytes]), st.one_of(st.integers(0, 50), st.integers(0, 4 * SMALL_BLOCK)))
#: Seal and continue, or continue as another attempt after one of the seals so far. 0 is the latest seal.
seals = st.one_of(st.none(), st.integers(0, 3))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.one_of(writes, seals), max_size=20))
@example(steps=[(os.urandom, 2 * SMALL_BLOCK), (bytes, SMALL_BLOCK), None, 0, (os.urandom, 2 * SMALL_BLOCK)])
def test_every_seal_has_exactly_its_bytes(
    steps: list[tuple[Callable[[int], bytes], int] | int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutting, "BLOCK_BYTES", SMALL_BLOCK)
    monkeypatch.setattr(chunks, "BLOCK_BYTES", SMALL_BLOCK)
    monkeypatch.setattr(chunks, "INLINE_BYTES", SMALL_INLINE)
    task_id, written = secrets.token_hex(4), b""
    own = replace(names(fence=1), task_id=task_id)
    writer = Writer({"kind": "bytes"}, own, what="result")
    sealed: list[tuple[bytes, Stored]] = []

    def seal() -> None:
        stored = writer.seal()
        assert len(stored.inline or b"") <= SMALL_INLINE
        assert all(block.stored <= SMALL_BLOCK for block in stored.manifest.blocks)
        assert stored.manifest.size == len(written)
        sealed.append((written, stored))

    for step in steps:
        match step:
            case (make, size):
                data = make(size)
                writer.write(data)
                written += data
            case None:
                seal()
            case back if sealed:
                written, stored = sealed[max(0, len(sealed) - 1 - back)]
                own = replace(own, fence=own.fence + 1, numbers=itertools.count())
                writer = Writer.resume(stored, own, what="result")
        assert sum(len(data) for _, data in writer._waiting) <= SMALL_INLINE
        assert len(writer._cutter.rest) < SMALL_BLOCK
    seal()
    for whole, stored in sealed:
        assert chunks.Reader(stored, task_id=task_id).read() == whole


@pytest.mark.parametrize("lose", ["lose_request", "lose_reply"])
def test_a_failed_seal_can_be_repeated_and_writing_can_continue(lose: str, ndb_client: ndb.Client) -> None:
    faults = put_between(ndb_client)
    data, more = bytes(BLOCK_BYTES) + os.urandom(INLINE_BYTES + 1), os.urandom(INLINE_BYTES)
    writer = Writer({"kind": "bytes"}, names(), what="result")
    writer.write(data)
    getattr(faults, lose)("Commit", grpc.StatusCode.DEADLINE_EXCEEDED)
    with pytest.raises(STORE_ERRORS):
        writer.seal()
    writer.write(more)
    assert chunks.Reader(writer.seal(), task_id="t").read() == data + more
