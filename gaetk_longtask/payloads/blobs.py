"""Turns bytes of any size into what Datastore takes, and back: compressed pieces that a manifest names.

The last ones, up to `INLINE_BYTES`, lie in the task's own entity. What comes before them goes into `LongTaskChunk`
root entities, written before the manifest that names them is committed: a chunk without a manifest is rubbish, a
manifest without a chunk is damage.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import blake2b
from io import BytesIO
from typing import Any, Literal, Self

from google.cloud import ndb

from gaetk_longtask.exceptions import DamagedDataError, TooLargeError
from gaetk_longtask.models import NAMESPACE, UNCACHED, LongTask, LongTaskChunk

#: What can be stored. (`collections.abc.Buffer` comes with Python 3.12.)
Buffer = bytes | bytearray | memoryview

#: The most that App Engine can send: 32 MiB.
LIMIT_BYTES = 32 * 1024 * 1024
#: Stored bytes that may lie in the task's entity; parameters, result and state share its 1 MiB.
INLINE_BYTES = 256 * 1024
#: Raw bytes of a piece; a property takes 1,048,487 bytes, and the Firestore emulator counts the whole entity.
PIECE_BYTES = 1_000_000
#: Stored bytes in one request, or one piece. It takes 10 MiB, but the client holds what it sends several times over.
REQUEST_BYTES = PIECE_BYTES

#: Pieces deleted in one request; a deletion sends no data.
PIECES_A_DELETION = 100

_PROBE_BYTES = 16 * 1024
_WORTHWHILE = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """One stretch of the data, compressed where that helps."""

    fence: int  #: the attempt that wrote it, 0 for parameters; with the number it makes the chunk's name
    number: int  #: unique within the fence
    size: int  #: raw bytes
    stored: int  #: bytes after compression
    digest: str  #: BLAKE2b-128 of the stored bytes, hexadecimal
    compressed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Names every piece of a value; written in the same commit as the state that needs it."""

    layout: dict[str, Any]  #: what the bytes mean, see `payloads`
    fence: int  #: the attempt that wrote it last; 0 for parameters
    chunks: int  #: how many pieces lie in chunks; the others lie one behind the other in the task's entity
    pieces: tuple[Piece, ...]

    @property
    def size(self) -> int:
        """Raw bytes in all."""
        return sum(piece.size for piece in self.pieces)

    def is_same(self, other: Manifest) -> bool:
        """Tell whether it names an equal value, whoever wrote that."""
        digests, others = ([piece.digest for piece in one.pieces] for one in (self, other))
        return self.layout == other.layout and digests == others

    def to_json(self) -> dict[str, Any]:
        """Give the form that the entity keeps."""
        pieces = [[p.fence, p.number, p.size, p.stored, p.digest, p.compressed] for p in self.pieces]
        return {"layout": self.layout, "fence": self.fence, "chunks": self.chunks, "pieces": pieces}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what `to_json` gave."""
        pieces = tuple(
            Piece(fence=fence, number=number, size=size, stored=stored, digest=digest, compressed=compressed)
            for fence, number, size, stored, digest, compressed in data["pieces"]
        )
        return cls(layout=data["layout"], fence=data["fence"], chunks=data["chunks"], pieces=pieces)


#: What a task keeps as stored bytes.
Field = Literal["parameters", "result", "state"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """A value as the task's entity keeps it: ``<field>_manifest`` and ``<field>_blob``."""

    manifest: Manifest
    inline: bytes | None  #: the pieces that lie in the entity itself, one behind the other

    @classmethod
    def of(cls, task: LongTask, field: Field) -> Self | None:
        """Return what a task keeps in a field, or None if the field is empty."""
        manifest = getattr(task, f"{field}_manifest")
        if manifest is None:
            return None
        return cls(manifest=Manifest.from_json(manifest), inline=getattr(task, f"{field}_blob"))


def set_stored(task: LongTask, field: Field, stored: Stored | None) -> None:
    """Set a task's field to a value that is stored, or clear it with None; the caller saves the task."""
    setattr(task, f"{field}_manifest", stored.manifest.to_json() if stored else None)
    setattr(task, f"{field}_blob", stored.inline if stored else None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelf:
    """Where one attempt puts its chunks, whatever they are of."""

    task_id: str
    fence: int
    expires_at: datetime
    numbers: Iterator[int] = field(default_factory=itertools.count)


class Writer:
    """Stores bytes as they come; what has come so far can be sealed, and more be written behind it.

    Holds a piece, and `INLINE_BYTES` of compressed ones. The layout is kept by reference: a stream may complete it
    while it flows.
    """

    def __init__(self, layout: dict[str, Any], shelf: Shelf, *, what: str) -> None:
        self.layout = layout
        self._shelf = shelf
        self._what = what
        self._size = 0
        self._chunks: list[Piece] = []
        self._waiting: list[tuple[Piece, bytes]] = []
        self._rest = bytearray()

    @classmethod
    def resume(cls, stored: Stored, shelf: Shelf, *, what: str) -> Self:
        """Go on where another attempt has sealed.

        Raises:
            DamagedDataError: what lies in the entity is not what was sealed; chunks are not looked at.

        """
        manifest = stored.manifest
        writer = cls(dict(manifest.layout), shelf, what=what)
        writer._size = manifest.size
        writer._chunks = list(manifest.pieces[: manifest.chunks])
        for piece, data in _in_entity(stored):
            raw = _unpacked(piece, data, shelf.task_id)
            if piece.size < PIECE_BYTES:  # the last one
                writer._rest += raw
            else:
                own = replace(piece, fence=shelf.fence, number=next(shelf.numbers))
                writer._waiting.append((own, bytes(data)))
        return writer

    def write(self, buffer: Buffer) -> None:
        """Take the next bytes.

        Raises:
            TooLargeError: beyond `LIMIT_BYTES`; chunks that were written by then are rubbish for the purge.

        """
        view = memoryview(buffer).cast("B")
        self._size += view.nbytes
        check_size(self._size, self._what)
        # Cut without a copy of whole buffers; only what straddles two of them is put together.
        if self._rest:
            needed = PIECE_BYTES - len(self._rest)
            self._rest += view[:needed]
            view = view[needed:]
            if len(self._rest) < PIECE_BYTES:
                return
            self._keep(memoryview(self._rest))
            self._rest = bytearray()
        whole = len(view) - len(view) % PIECE_BYTES
        for start in range(0, whole, PIECE_BYTES):
            self._keep(view[start : start + PIECE_BYTES])
        self._rest += view[whole:]

    def seal(self) -> Stored:
        """Make all that was written durable, but for what the caller is to commit."""
        tail = list(self._waiting)
        if self._rest:
            tail.append(self._packed(memoryview(self._rest)))
        if _stored_bytes(tail) > INLINE_BYTES:
            self._flush()
            tail = tail[-1:] if self._rest else []
        if _stored_bytes(tail) > INLINE_BYTES:
            self._put(tail)
            self._rest, tail = bytearray(), []
        manifest = Manifest(
            layout=dict(self.layout),
            fence=self._shelf.fence,
            chunks=len(self._chunks),
            pieces=(*self._chunks, *(piece for piece, _ in tail)),
        )
        inline = b"".join(data for _, data in tail) if tail or not self._chunks else None
        return Stored(manifest=manifest, inline=inline)

    def _keep(self, raw: memoryview) -> None:
        self._waiting.append(self._packed(raw))
        if _stored_bytes(self._waiting) > INLINE_BYTES:
            self._flush()

    def _packed(self, raw: memoryview) -> tuple[Piece, bytes]:
        data = b""
        sample = raw[:_PROBE_BYTES]
        if len(zlib.compress(sample, 1)) < _WORTHWHILE * len(sample):
            data = zlib.compress(raw, 6)
        compressed = 0 < len(data) < len(raw)
        if not compressed:
            data = bytes(raw)
        piece = Piece(
            fence=self._shelf.fence,
            number=next(self._shelf.numbers),
            size=len(raw),
            stored=len(data),
            digest=_digest(data),
            compressed=compressed,
        )
        return piece, data

    def _flush(self) -> None:
        self._put(self._waiting)
        self._waiting = []

    def _put(self, packed: list[tuple[Piece, bytes]]) -> None:
        shelf = self._shelf
        for batch in _requests([piece for piece, _ in packed]):
            chunks = [
                LongTaskChunk(
                    key=LongTaskChunk.key_of(_name(shelf.task_id, piece)), data=data, expires_at=shelf.expires_at
                )
                for piece, data in packed[batch]
            ]
            ndb.put_multi(chunks, **UNCACHED)
        self._chunks += [piece for piece, _ in packed]


def write(buffers: Iterable[Buffer], layout: dict[str, Any], shelf: Shelf, *, what: str) -> Stored:
    """Store what the buffers hold, one behind the other; the caller commits what this returns.

    Raises:
        TooLargeError: as `Writer.write`.

    """
    writer = Writer(layout, shelf, what=what)
    for buffer in buffers:
        writer.write(buffer)
    return writer.seal()


def check_size(size: int, what: str) -> None:
    """Refuse what is too large to be sent.

    Raises:
        TooLargeError: it is more than `LIMIT_BYTES`.

    """
    if size > LIMIT_BYTES:
        message = f"Too large for App Engine, which sends at most {LIMIT_BYTES:,} bytes: the {what}."
        raise TooLargeError(message, limit=LIMIT_BYTES)


def read(stored: Stored, *, task_id: str) -> bytes:
    """Return all bytes, held once.

    Raises:
        DamagedDataError: a piece is missing, has another size or other content; nothing is returned then.

    """
    return Reader(stored, task_id=task_id).read()


class Reader:
    """Gives a value's bytes in order, each of them held once; raises `DamagedDataError` as `read` does."""

    def __init__(self, stored: Stored, *, task_id: str) -> None:
        self._pieces = pieces(stored, task_id=task_id)
        self._current = memoryview(b"")
        self._left = stored.manifest.size
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


def pieces(stored: Stored, *, task_id: str) -> Iterator[Buffer]:
    """Yield a value's pieces in order, each of them checked; raise `DamagedDataError` as `read` does."""
    for piece, data in _in_chunks(stored.manifest, task_id):
        yield _unpacked(piece, data, task_id)
    for piece, view in _in_entity(stored):
        yield _unpacked(piece, view, task_id)


def _unpacked(piece: Piece, data: Buffer, task_id: str) -> Buffer:
    if len(data) != piece.stored or _digest(data) != piece.digest:
        message = f"Piece {piece.number} of {task_id[:8]} is not what was stored."
        raise DamagedDataError(message)
    raw = zlib.decompress(data) if piece.compressed else data
    if len(raw) != piece.size:
        message = f"The pieces of {task_id[:8]} do not add up."
        raise DamagedDataError(message)
    return raw


def check_presence(stored: Stored, *, task_id: str) -> None:
    """Find out whether every chunk is there, without reading any; one query for keys.

    Raises:
        DamagedDataError: a chunk is missing, or what lies in the entity is not what was stored.

    """
    for piece, view in _in_entity(stored):
        _unpacked(piece, view, task_id)
    manifest = stored.manifest
    if not manifest.chunks:
        return
    found = {key.id() for key in _chunks_of(task_id).fetch(keys_only=True)}
    for piece in manifest.pieces[: manifest.chunks]:
        if _name(task_id, piece) not in found:
            raise DamagedDataError(_missing(piece, task_id))


def discard(manifest: Manifest, task_id: str) -> None:
    """Delete the chunks of a manifest that nothing refers to any more."""
    keys = [LongTaskChunk.key_of(_name(task_id, piece)) for piece in manifest.pieces[: manifest.chunks]]
    if keys:
        ndb.delete_multi(keys)


def delete_some(task_id: str) -> bool:
    """Delete pieces of a task that is going for good, whoever wrote them; False once there are none left."""
    keys = _chunks_of(task_id).fetch(PIECES_A_DELETION, keys_only=True)
    ndb.delete_multi(keys)
    return bool(keys)


def _in_chunks(manifest: Manifest, task_id: str) -> Iterator[tuple[Piece, Buffer]]:
    for batch in _requests(manifest.pieces[: manifest.chunks]):
        pieces = manifest.pieces[batch]
        chunks = LongTaskChunk.load_all([_name(task_id, piece) for piece in pieces])
        for piece, chunk in zip(pieces, chunks, strict=True):
            if chunk is None:
                raise DamagedDataError(_missing(piece, task_id))
            yield piece, chunk.data


def _in_entity(stored: Stored) -> Iterator[tuple[Piece, memoryview]]:
    view, start = memoryview(stored.inline or b""), 0
    for piece in stored.manifest.pieces[stored.manifest.chunks :]:
        yield piece, view[start : start + piece.stored]
        start += piece.stored


def _chunks_of(task_id: str) -> Any:
    first, last = LongTaskChunk.key_of(f"{task_id}."), LongTaskChunk.key_of(f"{task_id}/")
    return LongTaskChunk.query(LongTaskChunk.key > first, LongTaskChunk.key < last, namespace=NAMESPACE)


def _missing(piece: Piece, task_id: str) -> str:
    return f"Piece {piece.number} of {task_id[:8]} is missing."


def _requests(pieces: Sequence[Piece]) -> Iterator[slice]:
    """Tell which pieces go through one request together."""
    first = size = 0
    for index, piece in enumerate(pieces):
        size += piece.stored
        if size > REQUEST_BYTES and index > first:
            yield slice(first, index)
            first, size = index, piece.stored
    if pieces:
        yield slice(first, len(pieces))


def _stored_bytes(packed: list[tuple[Piece, bytes]]) -> int:
    return sum(piece.stored for piece, _ in packed)


def _name(task_id: str, piece: Piece) -> str:
    return f"{task_id}.{piece.fence}.{piece.number}"


def _digest(data: Buffer) -> str:
    return blake2b(data, digest_size=16).hexdigest()
