"""What a waiting page shows, as the template's context and as the status document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from markupsafe import Markup

from gaetk_longtask.models import TaskInfo, job_url
from gaetk_longtask.snapshot import Snapshot
from gaetk_longtask.status import Status

#: How often to look, by how long it has taken already: (for tasks younger than … seconds, look every … seconds).
_PACES = ((10, 1), (60, 2), (600, 3))
_SLOWEST_PACE = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """Where the visitor may go from here; None where it is not possible now."""

    self: str  #: this page, fit for a bookmark
    result: str | None
    cancel: str | None  #: by POST
    retry: str | None  #: by POST

    @classmethod
    def of(cls, info: TaskInfo, *, bookmark: str = "") -> Self:
        """Give what is possible in this state; `bookmark` is the query that keeps the URL meaningful."""

        def link(job: str) -> str:
            return job_url(info.path, info.id, job) + (f"&{bookmark}" if bookmark else "")

        return cls(
            self=link("query"),
            result=link("showresult") if info.status.has_result else None,
            cancel=None if info.status.ended else link("cancel"),
            retry=link("retry") if info.status.may_retry else None,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusPage:
    """All that a status template may use.

    The names of the original work as well: ``display["info"]``, ``display["refresh"]``, ``display["statusinfo"]``.
    """

    task: TaskInfo
    title: str  #: the handler's `title`
    status: Status
    message: str  #: the last that the work has said
    step: float
    total_steps: float  #: 0 where unknown
    percent: int | None  #: 0 to 100, None where unknown
    eta_seconds: float | None  #: the time left, None while it would be a guess
    elapsed_seconds: float  #: since the visitor asked for it
    refresh: int | None  #: look again after so many seconds; None if nothing more will happen
    error: str | None  #: why it failed, if the author said so
    error_reference: str | None  #: what the operator finds in the log
    links: Links
    progress_html: Callable[..., str]  #: renders what `info` gives

    @classmethod
    def of(
        cls, snapshot: Snapshot, *, title: str, now: datetime, progress_html: Callable[..., str], bookmark: str = ""
    ) -> Self:
        """Show a snapshot at the time `now`."""
        info, progress = snapshot.info, snapshot.progress
        elapsed = max(0.0, ((snapshot.ended_at or now) - snapshot.requested_at).total_seconds())
        return cls(
            task=info,
            title=title,
            status=info.status,
            message=progress.message,
            step=progress.step,
            total_steps=progress.total_steps,
            percent=progress.percent,
            eta_seconds=None if info.status.ended else progress.eta_seconds,
            elapsed_seconds=elapsed,
            refresh=None if info.status.ended else _pace(elapsed),
            error=snapshot.error,
            error_reference=snapshot.error_reference,
            links=Links.of(info, bookmark=bookmark),
            progress_html=progress_html,
        )

    @property
    def done(self) -> bool:
        """Nothing more will happen; also true of a task that failed or was cancelled."""
        return self.status.ended

    @property
    def info(self) -> Markup:
        """The progress as HTML, as the original's templates expect it."""
        return Markup(self.progress_html(page=self))  # noqa: S704  # a template's output, escaped there

    @property
    def statusinfo(self) -> Mapping[str, Any]:
        """What the work has said, as the original's templates expect it."""
        return {"message": self.message, "step": self.step, "total_steps": self.total_steps}

    def __getitem__(self, name: str) -> Any:
        """Give an attribute by its name, as the original's dictionary did."""
        if name.startswith("_"):
            raise KeyError(name)
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None

    def document(self) -> dict[str, Any]:
        """Give the status document: one small JSON object, for programs. Unknown numbers are None, never 0."""
        return {
            "id": self.task.id,
            "status": self.status.value,
            "done": self.done,
            "progress": {
                "message": self.message,
                "step": _number(self.step) if self.step or self.total_steps else None,
                "total_steps": _number(self.total_steps) or None,
                "percent": self.percent,
                "eta_seconds": None if self.eta_seconds is None else round(self.eta_seconds),
            },
            "attempt": self.task.attempt,
            "elapsed_seconds": round(self.elapsed_seconds, 1),
            "created_at": self.task.created_at.isoformat(timespec="seconds"),
            "poll_after_seconds": self.refresh,
            "error": self._error(),
            "links": {
                "self": self.links.self,
                "result": self.links.result,
                "cancel": self.links.cancel,
                "retry": self.links.retry,
            },
        }

    def _error(self) -> str | None:
        if self.status is not Status.FAILED:
            return None
        return self.error or f"The task failed. Reference: {self.error_reference}"


def _pace(elapsed_seconds: float) -> int:
    return next((pace for younger_than, pace in _PACES if elapsed_seconds < younger_than), _SLOWEST_PACE)


def _number(value: float) -> float:
    return int(value) if float(value).is_integer() else value
