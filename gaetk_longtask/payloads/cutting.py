"""Cuts bytes into compressed blocks, checks blocks and turns them back into bytes; does not use Datastore."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from hashlib import blake2b

from gaetk_longtask.exceptions import DamagedDataError
from gaetk_longtask.payloads.manifests import Block, Stored

#: The types that can be stored. (`collections.abc.Buffer` is new in Python 3.12.)
Buffer = bytes | bytearray | memoryview

#: Raw bytes of a block. A property holds 1,048,487 bytes, and the Firestore emulator counts the whole entity.
BLOCK_BYTES = 1_000_000

_PROBE_BYTES = 16 * 1024
_WORTHWHILE = 0.9


class Cutter:
    """Cuts buffers of any size into slices of `BLOCK_BYTES`; copies only slices that span two buffers."""

    def __init__(self) -> None:
        self.rest = bytearray()  #: the bytes after the last complete slice

    def cut(self, buffer: Buffer) -> Iterator[memoryview]:
        """Yield the slices that the next buffer completes."""
        view = memoryview(buffer).cast("B")
        if self.rest:
            needed = BLOCK_BYTES - len(self.rest)
            self.rest += view[:needed]
            view = view[needed:]
            if len(self.rest) < BLOCK_BYTES:
                return
            yield memoryview(self.rest)
            self.rest = bytearray()
        whole = len(view) - len(view) % BLOCK_BYTES
        for start in range(0, whole, BLOCK_BYTES):
            yield view[start : start + BLOCK_BYTES]
        self.rest += view[whole:]


def pack(raw: memoryview, *, fence: int, number: int) -> tuple[Block, bytes]:
    """Return a block of these bytes, and the bytes to store; they are compressed if a sample compresses well."""
    sample = raw[:_PROBE_BYTES]
    data = zlib.compress(raw, 6) if len(zlib.compress(sample, 1)) < _WORTHWHILE * len(sample) else b""
    compressed = 0 < len(data) < len(raw)
    if not compressed:
        data = bytes(raw)
    block = Block(
        fence=fence, number=number, size=len(raw), stored=len(data), digest=_digest(data), compressed=compressed
    )
    return block, data


def unpack(block: Block, data: Buffer, task_id: str) -> Buffer:
    """Return a block's raw bytes; raise `DamagedDataError` if the data is not the block's."""
    if len(data) != block.stored or _digest(data) != block.digest:
        raise DamagedDataError(f"Block {block.number} of {task_id[:8]} is not what was stored.")
    raw = zlib.decompress(data) if block.compressed else data
    if len(raw) != block.size:
        raise DamagedDataError(f"The blocks of {task_id[:8]} do not add up.")
    return raw


def inline_blocks(stored: Stored) -> Iterator[tuple[Block, memoryview]]:
    """Yield the blocks in the task's entity, each with its stored bytes."""
    view, start = memoryview(stored.inline or b""), 0
    for block in stored.manifest.blocks[stored.manifest.chunks :]:
        yield block, view[start : start + block.stored]
        start += block.stored


def _digest(data: Buffer) -> str:
    return blake2b(data, digest_size=16).hexdigest()
