"""Values that need no chunks, because they fit into the task's entity."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaetk_longtask.exceptions import DamagedDataError, TooLargeError
from gaetk_longtask.payloads import chunks
from gaetk_longtask.payloads.chunks import LIMIT_BYTES, ChunkNames, Reader, Writer
from gaetk_longtask.payloads.cutting import BLOCK_BYTES, Buffer
from gaetk_longtask.payloads.encoding import Encoded
from gaetk_longtask.payloads.manifests import Stored

NAMES = ChunkNames(task_id="t", fence=1, expires_at=datetime(2026, 1, 1, tzinfo=UTC))


def write(*buffers: Buffer) -> Stored:
    encoded = Encoded(layout={"kind": "bytes"}, parts=buffers, size=sum(map(len, buffers)))
    return chunks.write(encoded, NAMES, what="result")


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.one_of(st.integers(0, 20), st.integers(0, BLOCK_BYTES * 2)), max_size=5), data=st.data())
def test_buffers_are_joined_wherever_they_are_cut(sizes: list[int], data: st.DataObject) -> None:
    noise = memoryview(os.urandom(1000))
    wrap = data.draw(st.sampled_from([bytes, bytearray, memoryview]))
    buffers = [wrap((bytes(noise) * (size // 1000 + 1))[:size]) for size in sizes]
    stored = write(*buffers)
    assert chunks.Reader(stored, task_id="t").read() == b"".join(bytes(buffer) for buffer in buffers)
    assert all(block.size == BLOCK_BYTES for block in stored.manifest.blocks[:-1])


def test_a_long_value_that_compresses_well_is_stored_in_the_entity() -> None:
    stored = write(b"again and again " * 500_000)
    assert stored.manifest.chunks == 0
    assert stored.inline is not None
    assert len(stored.inline) < 100_000
    assert chunks.Reader(stored, task_id="t").read() == b"again and again " * 500_000


@given(st.lists(st.integers(0, BLOCK_BYTES), max_size=5))
def test_a_reader_returns_as_many_bytes_as_requested(sizes: list[int]) -> None:
    data = bytes(range(256)) * 10_000
    reader, start = Reader(write(data), task_id="t"), 0
    for size in sizes:
        assert reader.read(size) == data[start : start + size]
        start += size
    assert reader.read() == data[start:]
    assert reader.read(1) == b""


def test_more_than_the_limit_is_refused() -> None:
    with pytest.raises(TooLargeError, match=r"in the result: .* 33,554,432 bytes") as caught:
        write(b"x" * (LIMIT_BYTES + 1))
    assert caught.value.limit == LIMIT_BYTES


def test_the_limit_itself_is_taken() -> None:
    stored = write(b"x" * LIMIT_BYTES)
    assert stored.manifest.size == LIMIT_BYTES


def test_a_stream_that_exceeds_the_limit_is_refused() -> None:
    writer = Writer({"kind": "bytes"}, NAMES, what="result")
    writer.write(bytes(LIMIT_BYTES))
    with pytest.raises(TooLargeError):
        writer.write(b"x")


def test_a_layout_that_a_stream_completes_is_sealed_in_its_final_form() -> None:
    layout = {"yielded": 0}
    writer = Writer(layout, NAMES, what="result")
    first = writer.seal()
    layout["yielded"] = 1
    assert [first.manifest.layout, writer.seal().manifest.layout] == [{"yielded": 0}, {"yielded": 1}]


def test_a_shortened_entity_is_damage() -> None:
    stored = write(b"0123456789")
    assert stored.inline is not None
    shortened = replace(stored, inline=stored.inline[:-1])
    with pytest.raises(DamagedDataError):
        chunks.Reader(shortened, task_id="t").read()
    with pytest.raises(DamagedDataError):
        chunks.check_presence(shortened, task_id="t")
    with pytest.raises(DamagedDataError):
        Writer.resume(shortened, NAMES, what="result")


def test_an_inconsistent_manifest_is_damage() -> None:
    stored = write(b"0123456789")
    wrong = replace(stored.manifest, blocks=(replace(stored.manifest.blocks[0], size=11),))
    with pytest.raises(DamagedDataError, match="add up"):
        chunks.Reader(replace(stored, manifest=wrong), task_id="t").read()
