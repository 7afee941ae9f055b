"""What hooks know of a task: `TaskInfo`, and its `Progress`; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from gaetk_longtask.status import Status

#: In the URL of a task whose start had parameters that are not in that URL: it can't start an equal task.
PARTIAL = ("_longtaskpartial", "1")
_ROUNDING = 1e-9  #: more than the error of a percentage in floating point, less than any step of a real task


Facts = Mapping[str, float | str]  #: what the work has reported, by name


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """The phase that the work is in."""

    name: str
    number: int  #: from 1
    count: int  #: how many phases there are

    def document(self) -> dict[str, Any]:
        """Return it for programs, and as it is stored."""
        return {"name": self.name, "number": self.number, "count": self.count}

    @classmethod
    def from_stored(cls, stored: dict[str, Any]) -> Self:
        """Read what `document` returned."""
        return cls(name=str(stored["name"]), number=int(stored["number"]), count=int(stored["count"]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """How far a task is that is done in parts."""

    done: int  #: how many parts have a result
    total: int

    def document(self) -> dict[str, int]:
        """Return it for programs, and as it is stored."""
        return {"done": self.done, "total": self.total}

    @classmethod
    def from_stored(cls, stored: dict[str, Any]) -> Self:
        """Read what `document` returned."""
        return cls(done=int(stored["done"]), total=int(stored["total"]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Which part of a task `execute_part` works on."""

    number: int  #: from 0, in the order of `split_task`
    total: int  #: how many parts there are


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """The progress of the work, in the author's own words and steps."""

    message: str = ""
    step: float = 0  #: within the phase, if the task has phases
    total_steps: float = 0  #: 0 if unknown
    eta_seconds: float | None = None  #: the time left; None while it would be a guess
    initial: bool = False  #: whether the work has reported no message yet: `message` is ours, not the author's
    phase: Phase | None = None  #: None if the task has no phases, or before the first one
    share: float | None = None  #: the share of the whole task that is done; None if it has neither phases nor parts
    facts: Facts = field(default_factory=dict)  #: what the work has reported, by name
    parts: Parts | None = None  #: None if the task is done in one piece, or not split yet

    @property
    def percent(self) -> int | None:
        """Whole percents of the whole task, from 0 to 100; None if the total is unknown."""
        if self.share is not None:
            share, is_done = self.share, self.share >= 1
        elif self.total_steps > 0:
            share, is_done = self.step / self.total_steps, self.step >= self.total_steps
        else:
            return None
        percent = int(100 * max(0.0, min(1.0, share)) + _ROUNDING)  # 100 * 0.29 is a little less than 29
        return percent if is_done else min(percent, 99)

    @classmethod
    def from_stored(cls, stored: dict[str, Any] | None) -> Self:
        """Read what `stored` wrote."""
        stored = stored or {}
        return cls(
            message=str(stored.get("message", "")),
            step=stored.get("step", 0),
            total_steps=stored.get("total_steps", 0),
            eta_seconds=stored.get("eta_seconds"),  # kept if the next attempt continues at once
            initial=stored.get("initial", False),
            phase=Phase.from_stored(stored["phase"]) if stored.get("phase") else None,
            share=stored.get("share"),
            facts=stored.get("facts") or {},
            parts=Parts.from_stored(stored["parts"]) if stored.get("parts") else None,
        )

    def stored(self) -> dict[str, Any]:
        """Return what outlives the attempt: everything but the estimate."""
        stored: dict[str, Any] = {"message": self.message, "step": self.step, "total_steps": self.total_steps}
        if self.phase is not None:
            stored["phase"] = self.phase.document()
        if self.share is not None:
            stored["share"] = self.share
        if self.parts is not None:
            stored["parts"] = self.parts.document()
        if self.initial:
            stored["initial"] = True
        if self.facts:
            stored["facts"] = dict(self.facts)
        return stored

    def document(self) -> dict[str, Any]:
        """Return it for programs. Unknown numbers are None, never 0."""
        document = {
            "message": self.message,
            "step": _number(self.step) if self.step or self.total_steps else None,
            "total_steps": _number(self.total_steps) or None,
            "percent": self.percent,
            "eta_seconds": None if self.eta_seconds is None else round(self.eta_seconds),
        }
        return document if self.phase is None else document | {"phase": self.phase.document()}


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskInfo:
    """A task as hooks that serve a visitor see it; the entity `LongTask` has the same attributes.

    A field that is added later has a default: a progress store may hold what an older version of the library wrote.
    """

    id: str  #: random and unguessable; it is part of the task's URL
    endpoint: str  #: the Flask endpoint that started it
    path: str  #: the URL path that it was started under, with the script root
    base_url: str  #: scheme and host that it was started under, without a slash at the end
    status: Status
    attempt: int  #: the attempt that works or comes next, from 1; of a failed task, how many there were
    progress: Progress = Progress()  #: `message`, `step`, `percent`, `phase`, `facts` and more
    created_at: datetime  #: aware, UTC
    created_by: str | None = None  #: what ``get_user_id()`` returned at the start
    namespace: str | None = None  #: the NDB namespace that it was started in
    requested_at: datetime  #: when this run was to begin: at the start, at `starts_at`, or at the last retry
    starts_at: datetime | None = None  #: when this run was to begin, if its start was delayed
    ended_at: datetime | None = None  #: None while the task has not ended
    expires_at: datetime | None = None  #: when the task is deleted; None while it has not ended
    error: str | None = None  #: for the visitor: why it failed, if the author gave a reason
    permanent: bool = False  #: whether it failed because the author's code raised `PermanentTaskFailure`
    error_reference: str | None = None  #: for the operator: the reference in the log line about the failure
    partial: bool = False  #: whether it was started by POST with parameters, which `url` does not have
    title: str | None = None  #: what ``title_of()`` returned at the start

    def __repr__(self) -> str:
        """Show what may be in a log: not the whole id, which is the key to the task's page."""
        return f"<TaskInfo {self.id[:8]}… {self.endpoint} {self.status.value}>"

    @property
    def url(self) -> str:
        """The absolute URL of the status page, fit for a mail."""
        return self.base_url + job_url(self.path, self.id, "query") + (f"&{'='.join(PARTIAL)}" if self.partial else "")


#: In the URL of a delivery: the part that it is for.
PART_FIELD = "_longtaskpart"


def job_url(path: str, task_id: str, job: str) -> str:
    """Return the URL path that asks for `job` on a task; both are of characters that need no quoting."""
    return f"{path}?_longtaskjob={job}&_longtaskid={task_id}"


def _number(value: float) -> float:
    return int(value) if float(value).is_integer() else value
