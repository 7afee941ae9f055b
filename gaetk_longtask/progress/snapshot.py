"""What is known of a task at one moment: all that a waiting page shows, as progress stores keep it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, Self

from gaetk_longtask.models import TaskInfo
from gaetk_longtask.status import Status

if TYPE_CHECKING:
    from gaetk_longtask.models import LongTask

#: What is kept of a message for the visitor, in characters.
LONGEST_MESSAGE = 500
#: Beats an owner may miss before it counts as dead.
MISSED_BEATS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far the work has come, in the author's own words and steps."""

    message: str = ""
    step: float = 0
    total_steps: float = 0  #: 0 where unknown
    eta_seconds: float | None = None  #: None while it would be a guess

    @property
    def percent(self) -> int | None:
        """Whole percents from 0 to 100, or None where the total is unknown."""
        if self.total_steps <= 0:
            return None
        return int(100 * max(0.0, min(1.0, self.step / self.total_steps)))

    @classmethod
    def from_stored(cls, stored: dict[str, Any] | None) -> Self:
        """Read what `stored` wrote."""
        stored = stored or {}
        return cls(
            message=str(stored.get("message", "")),
            step=stored.get("step", 0),
            total_steps=stored.get("total_steps", 0),
            eta_seconds=stored.get("eta_seconds"),  # kept where the next attempt goes on at once
        )

    def stored(self) -> dict[str, Any]:
        """Give what outlives the attempt: all but the estimate."""
        return {"message": self.message, "step": self.step, "total_steps": self.total_steps}


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """News about a task. Of two, the one with the higher `order` is the later."""

    info: TaskInfo
    fence: int
    progress: Progress
    requested_at: datetime
    ended_at: datetime | None = None
    due_at: datetime | None = None
    expires_at: datetime | None = None
    error: str | None = None
    error_reference: str | None = None
    beat_at: datetime | None = None  #: the owner's last sign of life; None unless an attempt works
    beat_seconds: float = 0  #: how far apart the owner's signs of life are

    @property
    def order(self) -> tuple[int, int]:
        """Rises with every claim, cancel and retry, and within one attempt with the status."""
        return self.fence, self.info.status.rank

    def is_silent(self, now: datetime) -> bool:
        """Tell whether the owner has missed so many beats that it must be dead."""
        if self.beat_at is None:
            return False
        return (now - self.beat_at).total_seconds() > MISSED_BEATS * self.beat_seconds

    def needs_check(self, now: datetime) -> bool:
        """Tell whether the task itself must be looked at: its owner is silent, or its time is over."""
        if self.info.status.ended:
            return False
        if self.beat_at is not None:
            return self.is_silent(now)
        return self.due_at is not None and self.due_at <= now

    def beating(self, progress: Progress, now: datetime) -> Self:
        """Give the owner's next sign of life."""
        return replace(self, progress=progress, beat_at=now)

    @classmethod
    def of(cls, task: LongTask, *, now: datetime, beat_seconds: float = 0) -> Self:
        """Take the durable state; `beat_seconds` only for the one who has just claimed the task."""
        return cls(
            info=task.info,
            fence=task.fence,
            progress=Progress.from_stored(task.progress),
            requested_at=task.requested_at,
            ended_at=task.ended_at,
            due_at=task.due_at,
            expires_at=task.expires_at,
            error=task.error,
            error_reference=task.error_reference,
            beat_at=now if beat_seconds else None,
            beat_seconds=beat_seconds,
        )

    def to_json(self) -> bytes:
        """Write it as progress stores keep it; never pickle."""
        info = self.info
        fields = [
            *(info.id, info.endpoint, info.path, info.base_url, info.status.value, info.attempt),
            *(_seconds(info.created_at), info.created_by, info.namespace, self.fence),
            *(self.progress.message, self.progress.step, self.progress.total_steps, self.progress.eta_seconds),
            *(_seconds(self.requested_at), _seconds(self.ended_at), _seconds(self.due_at), _seconds(self.expires_at)),
            *(self.error, self.error_reference, _seconds(self.beat_at), self.beat_seconds),
        ]
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes | str | None, task_id: str) -> Self | None:
        """Read what `to_json` wrote for this task; anything else is no news."""
        try:
            fields = _DECODER.decode(data if isinstance(data, str) else str(data or b"null", "utf-8"))
            if not isinstance(fields, list):
                return None
            (found_id, endpoint, path, base_url, status, attempt, created_at, created_by, namespace, fence) = fields[
                :10
            ]
            (message, step, total_steps, eta, requested_at, ended_at, due_at, expires_at) = fields[10:18]
            (error, error_reference, beat_at, beat_seconds) = fields[18:]
            if found_id != task_id:
                return None
            return cls(
                info=TaskInfo(
                    id=found_id,
                    endpoint=str(endpoint),
                    path=str(path),
                    base_url=str(base_url),
                    status=Status(status),
                    attempt=int(attempt),
                    created_at=datetime.fromtimestamp(created_at, UTC),
                    created_by=_text(created_by),
                    namespace=_text(namespace),
                ),
                fence=int(fence),
                progress=Progress(
                    message=str(message), step=float(step), total_steps=float(total_steps), eta_seconds=_number(eta)
                ),
                requested_at=datetime.fromtimestamp(requested_at, UTC),
                ended_at=_moment(ended_at),
                due_at=_moment(due_at),
                expires_at=_moment(expires_at),
                error=_text(error),
                error_reference=_text(error_reference),
                beat_at=_moment(beat_at),
                beat_seconds=float(beat_seconds),
            )
        except (ValueError, TypeError, OverflowError, OSError, RecursionError):
            return None


def _no_number(name: str) -> NoReturn:
    message = f"{name} is no number"
    raise ValueError(message)


_DECODER = json.JSONDecoder(parse_constant=_no_number)


def presentable(message: object) -> str:
    """Make of whatever an author calls a message a text that every page and store takes; never raises."""
    try:
        text = str(message)
    except Exception:  # noqa: BLE001  # an author's class, on another thread than the author's
        text = type(message).__name__
    return text[:LONGEST_MESSAGE].encode(errors="replace").decode()


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        message = "not a text"
        raise TypeError(message)
    return value


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _seconds(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment else None


def _moment(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None
