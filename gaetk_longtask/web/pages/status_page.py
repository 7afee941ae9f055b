"""The context of the waiting page, and the status document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Any, Self

from markupsafe import Markup

from gaetk_longtask.info import Parts, TaskInfo
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.status import Status
from gaetk_longtask.web.languages.language import Language
from gaetk_longtask.web.pages.base import DEFAULT_TITLE, Page, subject_of
from gaetk_longtask.web.pages.links import Links
from gaetk_longtask.web.pages.phases import PhaseState, ShownFact, ShownPhase

#: How often to poll, by age: (tasks younger than … seconds, poll every … seconds).
_PACES = ((10, 1), (60, 2), (600, 3))
_SLOWEST_PACE = 5
_PACE_BEFORE_START = 60  #: while a delayed task waits; the slowest that longtask.js accepts


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusPage(Page):
    """The context of a status template.

    The original library's names work as well: ``display["info"]``, ``display["refresh"]``, ``display["statusinfo"]``.
    """

    task: TaskInfo  #: `id`, `url`, `attempt`, `progress`, `created_at`, `created_by` and more
    eta_seconds: float | None  #: the time left, None while it would be a guess
    typical_seconds: float | None  #: how long such a task usually takes, if it reports no steps
    elapsed_seconds: float  #: since the start or the last retry; 0 before a delayed start
    starts_in_seconds: float | None = None  #: the time until a delayed start; None once it is over
    refreshes: bool  #: whether the page refreshes automatically where there is no JavaScript
    links: Links
    progress_html: Callable[..., str]  #: renders what `info` gives
    phases: tuple[ShownPhase, ...] = ()  #: each with `name`, `number` and `state`; empty if the class has none
    facts: tuple[ShownFact, ...] = ()  #: each with `name`, `label`, `value` and `text`

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        *,
        title: object,
        now: datetime,
        progress_html: Callable[..., str],
        language: Language | None = None,
        refreshes: bool = True,
        bookmark: str = "",
        start_url: str | None = None,
        form_url: str | None = None,
        phases: Sequence[object] = (),
        facts: Mapping[str, object] | None = None,
    ) -> Self:
        """Return the page for a snapshot at the time `now`. `phases` and `facts` are those of the class."""
        task, language = snapshot.info, language or Language()
        elapsed = max(0.0, ((task.ended_at or now) - task.requested_at).total_seconds())
        eta = None if task.status.ended else task.progress.eta_seconds
        typical = None
        if eta is not None and task.progress.percent is None and snapshot.beat_at is not None:
            # The owner has subtracted the time that had elapsed when it reported.
            typical = eta + (snapshot.beat_at - task.requested_at).total_seconds()
            eta = typical - elapsed if typical > elapsed else None
        subject = subject_of(title, language, task.title)
        return cls(
            task=task,
            title=subject or language.gettext(DEFAULT_TITLE),
            subject=subject,
            language=language,
            eta_seconds=eta,
            typical_seconds=typical,
            elapsed_seconds=elapsed,
            starts_in_seconds=_starts_in(task, now),
            refreshes=refreshes,
            links=Links(task=task, bookmark=bookmark, start_url=start_url, form_url=form_url),
            progress_html=progress_html,
            phases=ShownPhase.all_of(task.progress, phases),
            facts=ShownFact.all_of(task.progress, facts or {}, language),
        )

    @property
    def status(self) -> Status:
        """The state of the task; its `value` is the name."""
        return self.task.status

    @property
    def message(self) -> str:
        """The last message of the work."""
        if not self.task.progress.initial:
            return self.task.progress.message
        if self.starts_in_seconds is not None:
            return self.gettext("Waiting to start")
        return self.gettext("Working") if self.status is Status.STARTED else self.gettext("Starting")

    @property
    def step(self) -> float:
        """How many steps are done."""
        return self.task.progress.step

    @property
    def total_steps(self) -> float:
        """How many steps there are; 0 if unknown."""
        return self.task.progress.total_steps

    @property
    def percent(self) -> int | None:
        """The progress from 0 to 100; None if unknown."""
        return self.task.progress.percent

    @property
    def parts(self) -> Parts | None:
        """How many parts are done, and how many there are; None if the work is one piece, or not split yet."""
        return self.task.progress.parts

    @property
    def parts_done(self) -> str:
        """The same in words; empty if there are none."""
        if self.parts is None:
            return ""
        done, total = self.language.number(self.parts.done), self.language.number(self.parts.total)
        return self.gettext("Parts done: %(done)s of %(total)s", done=done, total=total)

    @property
    def refresh(self) -> int | None:
        """Poll again after this many seconds; None if the task has ended."""
        if self.done:
            return None
        if self.starts_in_seconds is not None:
            return min(ceil(self.starts_in_seconds), _PACE_BEFORE_START)
        for younger_than, pace in _PACES:
            if self.elapsed_seconds < younger_than:
                return pace
        return _SLOWEST_PACE

    @property
    def error(self) -> str | None:
        """Why the task failed, if the author gave a reason."""
        return self.task.error

    @property
    def error_reference(self) -> str | None:
        """The reference that is also in the log."""
        return self.task.error_reference

    @property
    def explanation(self) -> str:
        """What it means that the task is in its state; may be empty."""
        match self.status:
            case Status.READY if self.starts_in_seconds is not None and self.task.starts_at is not None:
                day, time = self.language.date(self.task.starts_at), f"{self.task.starts_at:%H:%M}"
                return self.gettext("Starts on %(date)s at %(time)s UTC.", date=day, time=time)
            case Status.READY:
                return self.gettext("The work starts as soon as there is capacity.")
            case Status.ERROR:
                return self.gettext("The last attempt was interrupted. Trying again shortly.")
            case Status.DONE | Status.FINISHED if self.task.expires_at is not None:
                return self.gettext("Available until %(date)s.", date=self.language.date(self.task.expires_at))
            case Status.FAILED if self.error:
                return self.error
            case Status.FAILED if self.task.permanent:
                return self.gettext("The work can't be completed. Another attempt would not help.")
            case Status.FAILED if self.task.attempt == 0:
                return self.gettext("The work could not be started.")
            case Status.FAILED if self.task.attempt > 1:
                return self.language.ngettext(
                    "Something went wrong. We tried %(number)s time.",
                    "Something went wrong. We tried %(number)s times.",
                    self.task.attempt,
                )
            case Status.FAILED:
                return self.gettext("Something went wrong.")
            case Status.CANCELLED:
                return self.gettext("The work stops at its next step, if it has not stopped yet. You can try again.")
            case _:
                return ""

    @property
    def done(self) -> bool:
        """Whether the task has ended; also true if it failed or was cancelled."""
        return self.status.ended

    @property
    def heading(self) -> str:
        """The title while the task is running, then how it ended."""
        match self.status:
            case Status.READY | Status.STARTED:
                return self.title
            case Status.ERROR:
                return self.gettext("Trying again")
            case Status.DONE | Status.FINISHED:
                return self.gettext("The result is ready")
            case Status.FAILED:
                return self.gettext("The task failed")
            case Status.CANCELLED:
                return self.gettext("The task was cancelled")

    @property
    def document_title(self) -> str:
        """The title of the document without the percentage: the heading and the subject, or the state alone."""
        if not self.subject:
            return self.state if self.heading == self.title else self.heading
        return self.heading if self.subject == self.heading else f"{self.heading} – {self.subject}"

    @property
    def state(self) -> str:
        """The state of the task in a word or two."""
        match self.status:
            case Status.READY:
                return self.gettext("Waiting to start")
            case Status.STARTED if self.task.attempt > 1:
                return self.gettext("Working, attempt %(number)s", number=self.task.attempt)
            case Status.STARTED:
                return self.gettext("Working")
            case Status.ERROR:
                return self.gettext("Attempt %(number)s starts shortly", number=self.task.attempt)
            case Status.DONE | Status.FINISHED:
                return self.gettext("Finished")
            case Status.FAILED:
                return self.gettext("Failed")
            case Status.CANCELLED:
                return self.gettext("Cancelled")

    @property
    def announcement(self) -> str:
        """What a screen reader says when the page changes to this state; may be empty."""
        match self.status:
            case Status.READY | Status.ERROR:
                return ""
            case Status.STARTED if self.task.attempt > 1:
                return self.gettext("Attempt %(number)s has started.", number=self.task.attempt)
            case Status.STARTED:
                return self.gettext("The work has started.")
            case _:
                return self.heading

    @property
    def elapsed(self) -> str:
        """The time since the start or the last retry, in words; empty in the first second."""
        seconds = round(self.elapsed_seconds, 1)  # as in the document, from which `longtask.js` makes the same words
        return self.language.duration(seconds) if seconds >= 1 else ""

    @property
    def time_left(self) -> str:
        """The time left or, without steps, how long such tasks usually take, in words; empty if unknown."""
        if self.eta_seconds is None:
            return ""
        if self.typical_seconds is not None:
            usual = self.language.estimate(self.typical_seconds)
            return self.gettext("usually takes about %(duration)s", duration=usual)
        return self.gettext("about %(duration)s left", duration=self.language.estimate(round(self.eta_seconds)))

    @property
    def info(self) -> Markup:
        """The progress as HTML, as the original's templates expect it."""
        return Markup(self.progress_html(page=self))  # noqa: S704  # a template's output, escaped there

    @property
    def statusinfo(self) -> Mapping[str, Any]:
        """The progress as a mapping, as the original's templates expect it."""
        return {"message": self.message, "step": self.step, "total_steps": self.total_steps}

    @property
    def phase_words(self) -> dict[str, str]:
        """Return the states of phases in words, for screen readers."""
        return {state.value: state.word(self.language) for state in PhaseState}

    def __getitem__(self, name: str) -> Any:
        """Return an attribute by its name, as the original's dictionary did."""
        if name.startswith("_"):
            raise KeyError(name)
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None

    def document(self) -> dict[str, Any]:
        """Return the status document, one small JSON object for programs. Unknown numbers are None, never 0."""
        task, links = self.task, self.links
        progress = task.progress.document()
        progress["message"] = self.message
        progress["eta_seconds"] = None if self.eta_seconds is None else round(self.eta_seconds)
        if self.phases:
            present = next((each for each in self.phases if each.state is PhaseState.NOW), None)
            progress["phase"] = progress["phase"] | {"name": present.name} if present else None
        starts_at = task.starts_at
        document = {
            "id": task.id,
            "status": task.status.value,
            "done": task.status.ended,
            "title": self.subject or None,
            "progress": progress,
            "attempt": task.attempt,
            "elapsed_seconds": round(self.elapsed_seconds, 1),
            "created_at": task.created_at.isoformat(timespec="seconds"),
            **({"starts_at": starts_at.isoformat(timespec="seconds")} if starts_at is not None else {}),
            "poll_after_seconds": self.refresh,
            "error": self._error(),
            "links": {"self": links.self, "result": links.result, "cancel": links.cancel, "retry": links.retry},
        }
        if self.parts is not None:
            document["parts"] = self.parts.document()
        if self.facts:
            document["facts"] = {each.name: each.value for each in self.facts if each.value is not None}
        return document

    def _error(self) -> str | None:
        if self.status is not Status.FAILED:
            return None
        return self.error or self.gettext("The task failed. Reference: %(reference)s", reference=self.error_reference)


def _starts_in(task: TaskInfo, now: datetime) -> float | None:
    if task.status is not Status.READY or task.starts_at is None or task.starts_at <= now:
        return None
    return (task.starts_at - now).total_seconds()
