"""What a task's entity contains of a stored value: the manifest, which lists all blocks, and the inline blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from gaetk_longtask.models import WorkUnit

Field = Literal["parameters", "result", "state"]  #: the fields of a task that contain stored values


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A part of a value's bytes, compressed if that makes it smaller."""

    fence: int  #: the attempt that wrote it, 0 for parameters; the chunk's name consists of fence and number
    number: int  #: unique within the fence
    size: int  #: raw bytes
    stored: int  #: bytes after compression
    digest: str  #: BLAKE2b-128 of the stored bytes, hexadecimal
    compressed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Lists all blocks of a value; written in the same commit as the task's state that needs it."""

    layout: dict[str, Any]  #: what the bytes mean, see `encoding`
    fence: int  #: the attempt that wrote it last; 0 for parameters
    chunks: int  #: how many blocks are stored in chunks; the others are stored inline
    blocks: tuple[Block, ...]

    @property
    def size(self) -> int:
        """The number of raw bytes of all blocks."""
        return sum(block.size for block in self.blocks)

    def is_same(self, other: Manifest) -> bool:
        """Return whether both describe equal values, even if different attempts wrote them."""
        digests, others = ([block.digest for block in one.blocks] for one in (self, other))
        return self.layout == other.layout and digests == others

    def to_json(self) -> dict[str, Any]:
        """Return the form that is stored in the entity."""
        blocks = [[b.fence, b.number, b.size, b.stored, b.digest, b.compressed] for b in self.blocks]
        return {"layout": self.layout, "fence": self.fence, "chunks": self.chunks, "pieces": blocks}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the manifest from which `to_json` made this data."""
        blocks = tuple(
            Block(fence=fence, number=number, size=size, stored=stored, digest=digest, compressed=compressed)
            for fence, number, size, stored, digest, compressed in data["pieces"]
        )
        return cls(layout=data["layout"], fence=data["fence"], chunks=data["chunks"], blocks=blocks)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """A value as it is stored in the task's entity, in ``<field>_manifest`` and ``<field>_blob``."""

    manifest: Manifest
    inline: bytes | None  #: the inline blocks, concatenated

    @classmethod
    def of(cls, task: WorkUnit, field: Field) -> Self | None:
        """Return the stored value of a task's field, or None if the field is empty."""
        manifest = getattr(task, f"{field}_manifest")
        if manifest is None:
            return None
        return cls(manifest=Manifest.from_json(manifest), inline=getattr(task, f"{field}_blob"))


def set_stored(task: WorkUnit, field: Field, stored: Stored | None) -> None:
    """Set a task's field to a stored value, or clear it with None; the caller saves the task."""
    setattr(task, f"{field}_manifest", stored.manifest.to_json() if stored else None)
    setattr(task, f"{field}_blob", stored.inline if stored else None)
