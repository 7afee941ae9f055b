"""Turns bytes of any size into what Datastore takes, and back: compressed pieces that a manifest names.

Up to `INLINE_BYTES` lie in the task's own entity. More goes into `LongTaskChunk` root entities, written before
the manifest that names them is committed: a chunk without a manifest is rubbish, a manifest without a chunk
is damage.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from io import BytesIO
from typing import Any, Self

from google.cloud import ndb

from gaetk_longtask.exceptions import DamagedDataError, TooLargeError
from gaetk_longtask.models import NAMESPACE, UNCACHED, LongTaskChunk

#: What can be stored. (`collections.abc.Buffer` comes with Python 3.12.)
Buffer = bytes | bytearray | memoryview

#: The most that App Engine can send: 32 MiB.
LIMIT_BYTES = 32 * 1024 * 1024
#: Stored bytes that may lie in the task's entity; parameters, result and state share its 1 MiB.
INLINE_BYTES = 256 * 1024
#: Raw bytes of a piece; a property takes 1,048,487 bytes, and the Firestore emulator counts the whole entity.
PIECE_BYTES = 1_000_000
#: Pieces in one request: together below the emulators' 4 MiB (production takes 10).
PIECES_A_REQUEST = 2

#: Pieces deleted in one request; a deletion sends no data.
PIECES_A_DELETION = 100

_PROBE_BYTES = 16 * 1024
_WORTHWHILE = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """One stretch of the data, compressed where that helps."""

    number: int  #: the last part of the chunk's name, unique within the fence
    size: int  #: raw bytes
    stored: int  #: bytes after compression
    digest: str  #: BLAKE2b-128 of the stored bytes, hexadecimal
    compressed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Names every piece of a value; written in the same commit as the state that needs it."""

    layout: dict[str, Any]  #: what the bytes mean, see `payloads`
    fence: int  #: the attempt that wrote it; 0 for parameters
    inline: bool  #: the pieces lie one behind the other in the task's entity
    pieces: tuple[Piece, ...]

    @property
    def size(self) -> int:
        """Raw bytes in all."""
        return sum(piece.size for piece in self.pieces)

    def to_json(self) -> dict[str, Any]:
        """Give the form that the entity keeps."""
        pieces = [[p.number, p.size, p.stored, p.digest, p.compressed] for p in self.pieces]
        return {"layout": self.layout, "fence": self.fence, "inline": self.inline, "pieces": pieces}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what `to_json` gave."""
        pieces = tuple(
            Piece(number=number, size=size, stored=stored, digest=digest, compressed=compressed)
            for number, size, stored, digest, compressed in data["pieces"]
        )
        return cls(layout=data["layout"], fence=data["fence"], inline=data["inline"], pieces=pieces)


def write(
    buffers: Iterable[Buffer],
    layout: dict[str, Any],
    *,
    task_id: str,
    fence: int,
    expires_at: datetime,
    what: str,
    first_number: int = 0,
) -> tuple[Manifest, bytes | None]:
    """Store what the buffers hold, one behind the other, and give its manifest and what belongs into the entity.

    Holds at most `PIECES_A_REQUEST` pieces besides the buffers. `first_number` keeps the names of one attempt apart
    that writes more than once. The layout is kept by reference: a stream may complete it while it flows.

    Raises:
        TooLargeError: beyond `LIMIT_BYTES`; chunks that were written by then are rubbish for the purge.

    """
    pieces: list[Piece] = []
    waiting: list[tuple[Piece, bytes]] = []
    inline = True
    size = 0
    for raw in _cut(buffers):
        size += raw.nbytes
        check_size(size, what)
        piece, data = _pack(raw, first_number + len(pieces))
        pieces.append(piece)
        waiting.append((piece, data))
        inline = inline and sum(piece.stored for piece in pieces) <= INLINE_BYTES
        if not inline and len(waiting) >= PIECES_A_REQUEST:
            _put(waiting, task_id, fence, expires_at)
            waiting = []
    if not inline:
        _put(waiting, task_id, fence, expires_at)
    manifest = Manifest(layout=layout, fence=fence, inline=inline, pieces=tuple(pieces))
    return manifest, b"".join(data for _, data in waiting) if inline else None


def check_size(size: int, what: str) -> None:
    """Refuse what is too large to be sent.

    Raises:
        TooLargeError: it is more than `LIMIT_BYTES`.

    """
    if size > LIMIT_BYTES:
        message = f"The {what} is larger than {LIMIT_BYTES:,} bytes, the most that App Engine can send."
        raise TooLargeError(message, limit=LIMIT_BYTES)


def read(manifest: Manifest, inline: bytes | None, *, task_id: str) -> bytes:
    """Give back all bytes, held once.

    Raises:
        DamagedDataError: a piece is missing, has another size or other content; nothing is given then.

    """
    return Reader(manifest, inline, task_id=task_id).read()


class Reader:
    """Gives a value's bytes in order, each of them held once; raises `DamagedDataError` as `read` does."""

    def __init__(self, manifest: Manifest, inline: bytes | None, *, task_id: str) -> None:
        self._pieces = _checked(manifest, inline, task_id)
        self._current = memoryview(b"")
        self._left = manifest.size
        self._task_id = task_id

    def read(self, size: int = -1) -> bytes:
        """Give the next `size` bytes, or fewer at the end; all that are left if it is negative."""
        wanted = self._left if size < 0 else min(size, self._left)
        raw = BytesIO()  # gives away its buffer without a copy
        while raw.tell() < wanted:
            if not self._current:
                self._current = memoryview(next(self._pieces, b""))
                if not self._current:
                    message = f"The pieces of {self._task_id[:8]} do not add up."
                    raise DamagedDataError(message)
            part = self._current[: wanted - raw.tell()]
            self._current = self._current[len(part) :]
            raw.write(part)
        self._left -= wanted
        return raw.getvalue()


def _checked(manifest: Manifest, inline: bytes | None, task_id: str) -> Iterator[Buffer]:
    for piece, data in _stored(manifest, inline, task_id):
        if len(data) != piece.stored or _digest(data) != piece.digest:
            message = f"Piece {piece.number} of {task_id[:8]} is not what was stored."
            raise DamagedDataError(message)
        raw = zlib.decompress(data) if piece.compressed else data
        if len(raw) != piece.size:
            message = f"The pieces of {task_id[:8]} do not add up."
            raise DamagedDataError(message)
        yield raw


def delete_some(task_id: str) -> bool:
    """Delete pieces of a task that is going for good, whoever wrote them; False once there are none left."""
    first, last = LongTaskChunk.key_of(f"{task_id}."), LongTaskChunk.key_of(f"{task_id}/")
    query = LongTaskChunk.query(LongTaskChunk.key > first, LongTaskChunk.key < last, namespace=NAMESPACE)
    keys = query.fetch(PIECES_A_DELETION, keys_only=True)
    ndb.delete_multi(keys)
    return bool(keys)


def _stored(manifest: Manifest, inline: bytes | None, task_id: str) -> Iterator[tuple[Piece, Buffer]]:
    if manifest.inline:
        view, start = memoryview(inline or b""), 0
        for piece in manifest.pieces:
            yield piece, view[start : start + piece.stored]
            start += piece.stored
        return
    for first in range(0, len(manifest.pieces), PIECES_A_REQUEST):
        batch = manifest.pieces[first : first + PIECES_A_REQUEST]
        chunks = LongTaskChunk.load_all([_name(task_id, manifest.fence, piece.number) for piece in batch])
        for piece, chunk in zip(batch, chunks, strict=True):
            if chunk is None:
                message = f"Piece {piece.number} of {task_id[:8]} is missing."
                raise DamagedDataError(message)
            yield piece, chunk.data


def _cut(buffers: Iterable[Buffer]) -> Iterator[memoryview]:
    """Cut into pieces without a copy of whole buffers; only what straddles two of them is put together."""
    rest = bytearray()
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        if rest:
            needed = PIECE_BYTES - len(rest)
            rest += view[:needed]
            view = view[needed:]
            if len(rest) < PIECE_BYTES:
                continue
            yield memoryview(rest)
            rest = bytearray()
        whole = len(view) - len(view) % PIECE_BYTES
        for start in range(0, whole, PIECE_BYTES):
            yield view[start : start + PIECE_BYTES]
        rest += view[whole:]
    if rest:
        yield memoryview(rest)


def _pack(raw: memoryview, number: int) -> tuple[Piece, bytes]:
    data = b""
    sample = raw[:_PROBE_BYTES]
    if len(zlib.compress(sample, 1)) < _WORTHWHILE * len(sample):
        data = zlib.compress(raw, 6)
    compressed = 0 < len(data) < len(raw)
    if not compressed:
        data = bytes(raw)
    piece = Piece(number=number, size=len(raw), stored=len(data), digest=_digest(data), compressed=compressed)
    return piece, data


def _put(waiting: list[tuple[Piece, bytes]], task_id: str, fence: int, expires_at: datetime) -> None:
    for first in range(0, len(waiting), PIECES_A_REQUEST):
        batch = waiting[first : first + PIECES_A_REQUEST]
        keys = [LongTaskChunk.key_of(_name(task_id, fence, piece.number)) for piece, _ in batch]
        chunks = [
            LongTaskChunk(key=key, data=data, expires_at=expires_at) for key, (_, data) in zip(keys, batch, strict=True)
        ]
        ndb.put_multi(chunks, **UNCACHED)


def _name(task_id: str, fence: int, number: int) -> str:
    return f"{task_id}.{fence}.{number}"


def _digest(data: Buffer) -> str:
    return blake2b(data, digest_size=16).hexdigest()
