"""What a task's entity keeps of a stored value: the manifest that names its blocks, and those that lie inline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from gaetk_longtask.models import LongTask

#: What a task keeps as stored bytes.
Field = Literal["parameters", "result", "state"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One stretch of a value's bytes, compressed where that helps."""

    fence: int  #: the attempt that wrote it, 0 for parameters; with the number it makes the chunk's name
    number: int  #: unique within the fence
    size: int  #: raw bytes
    stored: int  #: bytes after compression
    digest: str  #: BLAKE2b-128 of the stored bytes, hexadecimal
    compressed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Names every block of a value; written in the same commit as the state that needs it."""

    layout: dict[str, Any]  #: what the bytes mean, see `encoding`
    fence: int  #: the attempt that wrote it last; 0 for parameters
    chunks: int  #: how many blocks lie in chunks; the others lie inline
    blocks: tuple[Block, ...]

    @property
    def size(self) -> int:
        """Raw bytes in all."""
        return sum(block.size for block in self.blocks)

    def is_same(self, other: Manifest) -> bool:
        """Return whether both name equal values; the attempts that wrote them may differ."""
        digests, others = ([block.digest for block in one.blocks] for one in (self, other))
        return self.layout == other.layout and digests == others

    def to_json(self) -> dict[str, Any]:
        """Return the form that the entity keeps."""
        blocks = [[b.fence, b.number, b.size, b.stored, b.digest, b.compressed] for b in self.blocks]
        return {"layout": self.layout, "fence": self.fence, "chunks": self.chunks, "pieces": blocks}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what `to_json` returned."""
        blocks = tuple(
            Block(fence=fence, number=number, size=size, stored=stored, digest=digest, compressed=compressed)
            for fence, number, size, stored, digest, compressed in data["pieces"]
        )
        return cls(layout=data["layout"], fence=data["fence"], chunks=data["chunks"], blocks=blocks)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """A value as the task's entity keeps it: ``<field>_manifest`` and ``<field>_blob``."""

    manifest: Manifest
    inline: bytes | None  #: the blocks that lie in the entity itself, one behind the other

    @classmethod
    def of(cls, task: LongTask, field: Field) -> Self | None:
        """Return what a task keeps in a field, or None if the field is empty."""
        manifest = getattr(task, f"{field}_manifest")
        if manifest is None:
            return None
        return cls(manifest=Manifest.from_json(manifest), inline=getattr(task, f"{field}_blob"))


def set_stored(task: LongTask, field: Field, stored: Stored | None) -> None:
    """Set a task's field to a stored value, or clear it with None; the caller saves the task."""
    setattr(task, f"{field}_manifest", stored.manifest.to_json() if stored else None)
    setattr(task, f"{field}_blob", stored.inline if stored else None)
