"""The types of the documents that an application sends, as its JSON Schema describes them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, NotRequired, TypedDict, TypeGuard

#: What a status document must have, and its links and its progress, so that the client can use it.
_NEEDED = ("status", "done", "poll_after_seconds", "error", "progress", "links")
_LINKS, _PROGRESS = ("self", "result", "cancel", "retry"), ("message", "percent", "eta_seconds")


class PhaseDocument(TypedDict):
    """The phase that the work is in."""

    name: str
    number: int
    count: int


class ProgressDocument(TypedDict):
    """The progress in a status document. Unknown numbers are None."""

    message: str
    step: float | None
    total_steps: float | None
    percent: int | None
    eta_seconds: int | None
    phase: NotRequired[PhaseDocument | None]


class PartsDocument(TypedDict):
    """How far a task is that is done in parts."""

    done: int
    total: int


class LinksDocument(TypedDict):
    """The links in a status document; None if not possible now."""

    self: str
    result: str | None
    cancel: str | None
    retry: str | None


class StatusDocument(TypedDict):
    """The state of a task, as ``/_longtask/status.schema.json`` describes it."""

    id: str
    status: Literal["ready", "started", "error", "done", "finished", "failed", "cancelled"]
    done: bool
    title: str | None
    progress: ProgressDocument
    facts: NotRequired[dict[str, float | str]]
    parts: NotRequired[PartsDocument]
    attempt: int
    elapsed_seconds: float
    created_at: str
    starts_at: NotRequired[str]
    poll_after_seconds: int | None
    error: str | None
    links: LinksDocument


def is_status_document(value: Any) -> TypeGuard[StatusDocument]:
    """Return whether a value has what the client uses of a status document."""
    return _has(value, _NEEDED) and _has(value["links"], _LINKS) and _has(value["progress"], _PROGRESS)


def _has(value: Any, names: Collection[str]) -> bool:
    return isinstance(value, dict) and all(name in value for name in names)
