"""Stores the bytes of a value in `LongTaskChunk` entities, reads and deletes them.

The last blocks, up to `INLINE_BYTES`, are stored in the task's own entity. The blocks before them are stored in chunks,
one block in each. Chunks are written before the manifest that names them is committed. So a chunk without a manifest is
garbage, and a manifest without its chunks is damaged.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from io import BytesIO
from itertools import islice
from typing import Any, Self, TypeVar

from google.cloud import ndb

from gaetk_longtask.datastore.calls import Begun, begin_put
from gaetk_longtask.datastore.entities import NAMESPACE
from gaetk_longtask.exceptions import DamagedDataError, TooLargeError
from gaetk_longtask.models import LongTaskChunk
from gaetk_longtask.payloads.cutting import BLOCK_BYTES, Buffer, Cutter, Packed, inline_blocks, unpack
from gaetk_longtask.payloads.encoding import Encoded
from gaetk_longtask.payloads.manifests import Block, Field, Manifest, Stored

T = TypeVar("T")

LIMIT_BYTES = 32 * 1024 * 1024  #: the largest response of App Engine: 32 MiB
#: The most stored bytes of a value in the task's entity; parameters, result and state share the entity's 1 MiB.
INLINE_BYTES = 256 * 1024
#: Stored bytes in one request. Datastore accepts 10 MiB, but the client holds several copies of what it sends.
REQUEST_BYTES = BLOCK_BYTES
#: How many requests for chunks of one value are under way at once. Each needs about three times `REQUEST_BYTES`.
AT_ONCE = 4

CHUNKS_A_DELETION = 100  #: the number of chunks that are deleted in one request; a deletion sends no data


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkNames:
    """The names of the chunks that one attempt writes, and how long they are kept."""

    task_id: str
    fence: int  #: 0 for parameters
    expires_at: datetime
    numbers: Iterator[int] = field(default_factory=itertools.count)  #: shared by all values that the attempt writes


class Writer:
    """Stores bytes as they arrive. What has been written so far can be sealed, and more can be written after it.

    In memory, it holds one block, up to `INLINE_BYTES` of compressed blocks, and `AT_ONCE` requests: chunks are stored
    while the caller makes the next bytes. It keeps a reference to the layout, so the caller can complete the layout
    while writing.
    """

    def __init__(self, layout: dict[str, Any], names: ChunkNames, *, what: Field) -> None:
        self.layout = layout
        self._names = names
        self._what = what
        self._size = 0
        self._chunks: list[Block] = []
        self._waiting: list[Packed] = []
        self._under_way: deque[Begun] = deque()
        self._cutter = Cutter(fence=names.fence, numbers=names.numbers)

    @classmethod
    def resume(cls, stored: Stored, names: ChunkNames, *, what: Field) -> Self:
        """Return a writer that continues after what another attempt has sealed.

        Raise `DamagedDataError` if the inline blocks are not what was sealed; chunks are not checked.
        """
        manifest = stored.manifest
        writer = cls(dict(manifest.layout), names, what=what)
        writer._size = manifest.size
        writer._chunks = list(manifest.blocks[: manifest.chunks])
        for block, data in inline_blocks(stored):
            raw = unpack(block, data, names.task_id)
            if block.size < BLOCK_BYTES:  # the last one
                writer._cutter.rest += raw
            else:
                own = replace(block, fence=names.fence, number=next(names.numbers))
                writer._waiting.append((own, bytes(data)))
        return writer

    def write(self, buffer: Buffer) -> None:
        """Store the next bytes; raise `TooLargeError` above `LIMIT_BYTES`: the purge deletes what is written."""
        self._size += memoryview(buffer).nbytes
        _check_size(self._size, self._what)
        for packed in self._cutter.cut(buffer):
            self._waiting.append(packed)
            if _stored_bytes(self._waiting) > INLINE_BYTES:
                self._flush()

    def seal(self) -> Stored:
        """Make everything written so far durable, except for what this returns, which the caller must commit."""
        last = self._cutter.last()
        if _stored_bytes([*self._waiting, *last]) > INLINE_BYTES:
            self._flush()
        if _stored_bytes(last) > INLINE_BYTES:
            self._waiting, last = last, []
            self._cutter.rest = bytearray()
            self._flush()
        self._await_all_but(0)
        tail = [*self._waiting, *last]
        manifest = Manifest(
            layout=dict(self.layout),
            fence=self._names.fence,
            chunks=len(self._chunks),
            blocks=(*self._chunks, *(block for block, _ in tail)),
        )
        inline = b"".join(data for _, data in tail) if tail or not self._chunks else None
        return Stored(manifest=manifest, inline=inline)

    def close(self) -> None:
        """Wait for the chunks under way, without `seal`; nothing more may be written."""
        while self._under_way:
            self._under_way.popleft().wait()

    def _flush(self) -> None:
        """Begin to store the waiting blocks. If this raises, it can be repeated: nothing is lost, or stored twice."""
        while self._waiting:
            self._await_all_but(AT_ONCE - 1)
            batch = next(_requests([block for block, _ in self._waiting]))
            chunks = [
                LongTaskChunk(
                    key=LongTaskChunk.key_of(_name(self._names.task_id, block)),
                    data=data,
                    expires_at=self._names.expires_at,
                )
                for block, data in self._waiting[batch]
            ]
            self._under_way.append(begin_put(chunks))
            self._chunks += [block for block, _ in self._waiting[batch]]
            del self._waiting[batch]

    def _await_all_but(self, number: int) -> None:
        while len(self._under_way) > number:
            self._under_way[0].result()
            self._under_way.popleft()


def write(encoded: Encoded, names: ChunkNames, *, what: Field) -> Stored:
    """Store a value, and return what the caller must commit; raise `TooLargeError` before anything is written."""
    _check_size(encoded.size, what)
    writer = Writer(encoded.layout, names, what=what)
    with closing(writer):
        for buffer in encoded.parts:
            writer.write(buffer)
        return writer.seal()


def _check_size(size: int, what: Field) -> None:
    if size > LIMIT_BYTES:
        message = f"Too much data in the {what}: App Engine can send at most {LIMIT_BYTES:,} bytes."
        raise TooLargeError(message, limit=LIMIT_BYTES)


class Reader:
    """Reads a value's bytes in order; raises `DamagedDataError` if a block is missing or wrong.

    It holds one copy of what it returns, and up to `AT_ONCE` chunks that are read ahead.
    """

    def __init__(self, stored: Stored, *, task_id: str) -> None:
        self._blocks = raw_blocks(stored, task_id=task_id)
        self._current = memoryview(b"")
        self._left = stored.manifest.size
        self._task_id = task_id

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, or fewer at the end; all remaining bytes if `size` is negative."""
        wanted = self._left if size < 0 else min(size, self._left)
        raw = BytesIO()  # its getvalue() makes no copy
        while raw.tell() < wanted:
            if not self._current:
                self._current = memoryview(next(self._blocks, b""))
                if not self._current:
                    raise DamagedDataError(f"The blocks of {self._task_id[:8]} do not add up.")
            part = self._current[: wanted - raw.tell()]
            self._current = self._current[len(part) :]
            raw.write(part)
        self._left -= wanted
        return raw.getvalue()


def raw_blocks(stored: Stored, *, task_id: str, skip: int = 0) -> Iterator[Buffer]:
    """Yield a value's bytes block by block, and check each block; raise `DamagedDataError` as `Reader` does.

    The first `skip` blocks are left out.
    """
    manifest = stored.manifest
    for block, data in _in_chunks(manifest.blocks[skip : manifest.chunks], task_id):
        yield unpack(block, data, task_id)
    for block, view in islice(inline_blocks(stored), max(0, skip - manifest.chunks), None):
        yield unpack(block, view, task_id)


def check_presence(stored: Stored, *, task_id: str) -> None:
    """Raise `DamagedDataError` if a chunk is missing, or if the inline blocks are not what was stored.

    Reads no chunk; one keys-only query.
    """
    for block, view in inline_blocks(stored):
        unpack(block, view, task_id)
    manifest = stored.manifest
    if not manifest.chunks:
        return
    found = {key.id() for key in _chunks_of(task_id).fetch(keys_only=True)}
    for block in manifest.blocks[: manifest.chunks]:
        if _name(task_id, block) not in found:
            raise DamagedDataError(_missing(block, task_id))


def discard(manifest: Manifest, task_id: str) -> None:
    """Delete the chunks of a manifest that nothing refers to any more."""
    keys = [LongTaskChunk.key_of(_name(task_id, block)) for block in manifest.blocks[: manifest.chunks]]
    if keys:
        ndb.delete_multi(keys)


def delete_some(task_id: str) -> bool:
    """Delete some chunks of a task that is being purged, from any attempt; return False if there were none."""
    keys = _chunks_of(task_id).fetch(CHUNKS_A_DELETION, keys_only=True)
    ndb.delete_multi(keys)
    return bool(keys)


def expired(now: datetime, limit: int) -> list[str]:
    """Return the ids of tasks of which some chunks have expired; one keys-only query."""
    query = LongTaskChunk.query(LongTaskChunk.expires_at <= now, namespace=NAMESPACE)
    keys = query.order(LongTaskChunk.expires_at).fetch(limit, keys_only=True)
    return list(dict.fromkeys(str(key.id()).partition(".")[0] for key in keys))


def extend(task_id: str, expires_at: datetime) -> None:
    """Let the chunks of a task that is still needed expire later."""
    for key in _chunks_of(task_id).fetch(keys_only=True):
        if chunk := LongTaskChunk.load(key.id()):
            chunk.expires_at = expires_at
            chunk.save()


def _in_chunks(stored: Sequence[Block], task_id: str) -> Iterator[tuple[Block, Buffer]]:
    requests = (stored[batch] for batch in _requests(stored))
    for blocks, load in ahead((blocks, _begin_load(blocks, task_id)) for blocks in requests):
        for block, chunk in zip(blocks, load(), strict=True):
            if chunk is None:
                raise DamagedDataError(_missing(block, task_id))
            yield block, chunk.data


def _begin_load(blocks: Sequence[Block], task_id: str) -> Callable[[], list[Any]]:
    return LongTaskChunk.begin_load_all([_name(task_id, block) for block in blocks])


def ahead(begun: Iterator[T]) -> Iterator[T]:
    """Yield what an iterator of requests yields, and let it begin `AT_ONCE` of them before the first one is needed."""
    under_way = deque(islice(begun, AT_ONCE))
    while under_way:
        yield under_way.popleft()
        under_way.extend(islice(begun, 1))


def _chunks_of(task_id: str) -> Any:
    return LongTaskChunk.below(task_id)


def _missing(block: Block, task_id: str) -> str:
    return f"Block {block.number} of {task_id[:8]} is missing."


def _requests(blocks: Sequence[Block]) -> Iterator[slice]:
    """Yield which blocks go into one request together."""
    first = size = 0
    for index, block in enumerate(blocks):
        size += block.stored
        if size > REQUEST_BYTES and index > first:
            yield slice(first, index)
            first, size = index, block.stored
    if blocks:
        yield slice(first, len(blocks))


def _stored_bytes(packed: list[Packed]) -> int:
    return sum(block.stored for block, _ in packed)


def _name(task_id: str, block: Block) -> str:
    return f"{task_id}.{block.fence}.{block.number}"
