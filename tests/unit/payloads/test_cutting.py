"""Splitting bytes into blocks, and joining blocks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaetk_longtask.exceptions import DamagedDataError
from gaetk_longtask.payloads import cutting
from gaetk_longtask.payloads.cutting import BLOCK_BYTES, Buffer, Cutter, inline_blocks, pack, unpack
from gaetk_longtask.payloads.manifests import Manifest, Stored

SMALL_BLOCK = 10


@pytest.fixture(scope="module", autouse=True)
def _small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "BLOCK_BYTES", SMALL_BLOCK)
        yield


# Splitting.


@given(st.lists(st.one_of(*[st.binary(max_size=35).map(kind) for kind in (bytes, bytearray, memoryview)])))
def test_buffers_are_joined_and_cut_into_blocks_of_one_size(buffers: list[Buffer]) -> None:
    cutter = Cutter(fence=3, numbers=itertools.count())
    packed = [one for buffer in buffers for one in cutter.cut(buffer)]
    assert [(block.fence, block.number, block.size) for block, _ in packed] == [
        (3, number, SMALL_BLOCK) for number in range(len(packed))
    ]
    assert len(cutter.rest) < SMALL_BLOCK
    packed += cutter.last()
    assert b"".join(unpack(block, data, "t") for block, data in packed) == b"".join(map(bytes, buffers))


def test_only_slices_that_span_two_buffers_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    sources: list[object] = []

    def pack_seen(raw: memoryview, **names: int) -> cutting.Packed:
        sources.append(raw.obj)
        return pack(raw, **names)

    monkeypatch.setattr(cutting, "pack", pack_seen)
    cutter, first, second = Cutter(fence=1, numbers=itertools.count()), bytes(25), bytes(25)
    for buffer in (first, second):
        list(cutter.cut(buffer))
    assert [source is first for source in sources[:2]] == [True, True]
    assert [source is second for source in sources[2:]] == [False, True, True]


def test_the_last_block_can_be_sealed_and_continued() -> None:
    cutter = Cutter(fence=1, numbers=itertools.count())
    assert cutter.last() == []
    assert list(cutter.cut(b"01234")) == []
    (first, data), *_ = cutter.last()
    assert (first.number, first.size, data) == (0, 5, b"01234")
    (whole, _), *_ = cutter.cut(b"56789")
    assert (whole.number, whole.size) == (1, SMALL_BLOCK)


# One block.


@given(st.one_of(st.binary(min_size=1), st.builds(bytes.__mul__, st.binary(min_size=1), st.integers(1, 50_000))))
def test_a_block_comes_back(raw: bytes) -> None:
    block, data = pack(memoryview(raw), fence=3, number=7)
    assert (block.fence, block.number, block.size, block.stored) == (3, 7, len(raw), len(data))
    assert len(data) <= len(raw)
    assert block.compressed == (len(data) < len(raw))
    assert bytes(unpack(block, memoryview(data), "t")) == raw


def test_bytes_that_begin_with_noise_are_not_compressed() -> None:
    raw = os.urandom(20_000) + bytes(BLOCK_BYTES - 20_000)
    block, data = pack(memoryview(raw), fence=1, number=0)
    assert not block.compressed
    assert data == raw


def test_an_uncompressed_block_is_read_without_a_copy() -> None:
    block, data = pack(memoryview(os.urandom(100)), fence=1, number=0)
    assert unpack(block, data, "t") is data


@pytest.mark.parametrize("damaged", [b"0123456780", b"012345678", b"01234567890", b""])
def test_other_bytes_than_were_stored_are_damage(damaged: bytes) -> None:
    block, _ = pack(memoryview(b"0123456789"), fence=1, number=4)
    with pytest.raises(DamagedDataError, match="Block 4 of 01234567 is not what was stored"):
        unpack(block, damaged, "0123456789")


def test_a_block_of_another_size_is_damage() -> None:
    block, data = pack(memoryview(bytes(100)), fence=1, number=0)
    with pytest.raises(DamagedDataError, match="do not add up"):
        unpack(replace(block, size=99), data, "t")


# Blocks in the entity.


def test_the_blocks_after_the_chunks_are_stored_consecutively() -> None:
    packed = [pack(memoryview(raw), fence=1, number=number) for number, raw in enumerate([b"one", b"two", b"three"])]
    manifest = Manifest(layout={}, fence=1, chunks=1, blocks=tuple(block for block, _ in packed))
    found = list(inline_blocks(Stored(manifest=manifest, inline=b"twothree")))
    assert found == packed[1:]
