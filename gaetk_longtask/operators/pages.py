"""The operators' pages: all tasks, one task, statistics."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode

from flask import (
    Blueprint,
    redirect,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue

from gaetk_longtask import listing, starting
from gaetk_longtask.exceptions import EnqueueRefusedError, LongTaskError
from gaetk_longtask.failures import Cause, Failure, failures_of, tracebacks
from gaetk_longtask.models import LongTask
from gaetk_longtask.operators import many_pages, overview
from gaetk_longtask.operators.access import METHODS, OperatorPage, Refresh, for_operators
from gaetk_longtask.operators.open_parts import OpenPart, open_parts
from gaetk_longtask.operators.overview import Row, Statistics
from gaetk_longtask.payloads.manifests import Field
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.status import Status
from gaetk_longtask.web import endpoints
from gaetk_longtask.web.hooks import Hooks
from gaetk_longtask.web.pages.status_page import StatusPage
from gaetk_longtask.web.problems import ProblemError
from gaetk_longtask.web.requests import JobName, asked_language, is_same_origin
from gaetk_longtask.web.templating import render

log = logging.getLogger(__name__)

#: The choices in the form, with their seconds.
AGES = {text: overview.parse_age(text).total_seconds() for text in ("10m", "1h", "1d", "7d")}


@dataclass(frozen=True, kw_only=True, slots=True)
class TasksPage(OperatorPage):
    """The values and functions that `overview_tasks.html` may use."""

    rows: list[tuple[Row, StatusPage | None]]  #: each with its progress, if known
    given: dict[str, str]  #: the filter, as in the URL
    totals: dict[Status, int]  #: tasks in each state, up to `overview.COUNTED`; empty if anything else is filtered
    endpoints: list[str]
    cursor: str | None

    def count(self, attempts: int) -> str:
        """Return a number of attempts in words."""
        return self.language.ngettext("%(number)s attempt", "%(number)s attempts", attempts)

    def link(self, **changes: str | None) -> str:
        """Return the URL of a list with another filter, or of the next page."""
        query = {name: value for name, value in (self.given | changes).items() if value}
        return f"{url_for('longtask.tasks')}?{urlencode(query)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskPage(OperatorPage):
    """The values and functions that `overview_task.html` may use."""

    task: LongTask
    status: StatusPage
    max_attempts: int | None  #: None if the application has no such handler
    attempts: int
    parts: list[OpenPart]  #: the first one of each lane that is not done, if the work is done in parts
    failures: list[tuple[Failure, str | None]]  #: attempts that ended badly, with tracebacks, the latest first
    parameters: dict[str, str] | None  #: short texts by name; None unless requested
    trouble: str | None  #: why the parameters can't be shown

    def cause(self, failure: Failure) -> str:
        """Return in words what ended an attempt."""
        names: dict[str, str] = {
            Cause.EXCEPTION: self.gettext("The work raised an exception"),
            Cause.PERMANENT: self.gettext("The work gave up for good"),
            Cause.SERIALIZATION: self.gettext("The result can't be stored"),
            Cause.DAMAGED: self.gettext("Stored data is damaged"),
            Cause.DAMAGED_INPUT: self.gettext("Stored data is damaged"),
            Cause.DIED: self.gettext("The worker died"),
            Cause.DEADLINE: self.gettext("The time limit was exceeded"),
            Cause.NO_PROGRESS: self.gettext("Handed over without progress"),
            Cause.INTERRUPTED: self.gettext("The outcome could not be stored"),
            Cause.REFUSED: self.gettext("The queue refused the task"),
            Cause.GIVEN_UP: self.gettext("Given up: too old, or no attempts left"),
        }
        return names.get(failure.cause, failure.cause)

    def size(self, field: Field) -> str:
        """Return the size of a task's field in words, or an empty text if the field is empty."""
        size = overview.size(self.task, field)
        return "" if size is None else self.language.ngettext("%(number)s byte", "%(number)s bytes", size)


@dataclass(frozen=True, kw_only=True, slots=True)
class StatisticsPage(OperatorPage):
    """The values that `overview_statistics.html` may use."""

    rows: list[Statistics]
    last_runs: int = overview.LAST_RUNS


def add_pages(blueprint: Blueprint) -> None:
    """Add the routes. Each request decides whether the pages exist for its sender."""
    reading, acting = ("GET", "HEAD"), ("POST",)
    for rule, name, view, allowed in (
        ("/tasks", "tasks", _tasks, reading),
        ("/tasks/<task_id>", "task", _task, reading),
        ("/tasks/<task_id>/<any(cancel, retry):job>", "steer", _steer, acting),
        ("/many", "many", many_pages.answer, (*reading, *acting)),
        ("/statistics", "statistics", _statistics, reading),
    ):
        served = for_operators(view, allowed)
        blueprint.add_url_rule(rule, name, served, methods=METHODS, provide_automatic_options=False)


def _tasks(runtime: Runtime) -> ResponseReturnValue:
    if beginning := request.args.get("id", "").strip():
        task = overview.find(runtime, beginning)
        return redirect(url_for("longtask.task", task_id=task.id), HTTPStatus.SEE_OTHER)
    given = overview.given_filter(request.args)
    try:
        found = overview.tasks(runtime, overview.parse_filter(given), cursor=request.args.get("cursor") or None)
    except ValueError as exc:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            "This address is invalid. Choose from the form.",
            start_url=url_for("longtask.tasks"),
        ) from exc
    language, handlers = asked_language(request), endpoints.handlers()
    page = TasksPage(
        title=language.gettext("Tasks"),
        language=language,
        now=runtime.clock(),
        rows=[
            (row, _status_page(runtime, row.live, handlers.get(row.endpoint)) if row.live else None)
            for row in found.rows
        ],
        given=given,
        totals={} if given.keys() - {"status"} else overview.count(Status),
        endpoints=sorted({*handlers, *filter(None, [given.get("endpoint")])}),
        cursor=found.cursor,
        refresh=Refresh.of(request),
    )
    return render("gaetk_longtask/overview_tasks.html", page=page, ages=AGES, statuses=Status, most=overview.COUNTED)


def _task(runtime: Runtime, task_id: str) -> ResponseReturnValue:
    task = overview.find(runtime, task_id)
    live = listing.latest(runtime, task)
    handler = endpoints.handlers().get(task.endpoint)
    parameters = trouble = None
    if "parameters" in request.args:
        try:
            parameters = overview.parameters(runtime, task, endpoints.serializer(task.endpoint))
        except LongTaskError as exc:  # too large, damaged, or signed with a key that is not set
            trouble = str(exc)
    texts = tracebacks(task)
    page = TaskPage(
        title=task.endpoint,
        subject=task.title or "",
        language=asked_language(request),
        now=runtime.clock(),
        task=task,
        status=_status_page(runtime, live, handler, phases=handler.phases if handler else ()),
        max_attempts=handler.max_attempts if handler else None,
        attempts=Row.of(task, live).attempts,
        parts=open_parts(runtime, task),
        failures=[(failure, texts.get(failure.reference)) for failure in reversed(failures_of(task))],
        parameters=parameters,
        trouble=trouble,
        refresh=Refresh.of(request),
    )
    return render("gaetk_longtask/overview_task.html", page=page)


def _steer(runtime: Runtime, task_id: str, job: str) -> ResponseReturnValue:
    if not is_same_origin(request):
        raise ProblemError(HTTPStatus.FORBIDDEN, "Use the button on the task's page.")
    task = overview.find(runtime, task_id)
    try:
        if job == JobName.CANCEL:
            starting.cancel(runtime, task.id)
        else:
            starting.retry(runtime, task.id)
    except EnqueueRefusedError as exc:
        message = "The work could not be started. Nothing is lost. Try again."
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE, message, retry_url=request.path, reference=exc.reference
        ) from exc
    return redirect(url_for("longtask.task", task_id=task.id), HTTPStatus.SEE_OTHER)


def _statistics(runtime: Runtime) -> ResponseReturnValue:
    language, rows = asked_language(request), overview.statistics(endpoints.handlers())
    page = StatisticsPage(title=language.gettext("Statistics"), language=language, now=runtime.clock(), rows=rows)
    return render("gaetk_longtask/overview_statistics.html", page=page)


def _status_page(
    runtime: Runtime, snapshot: Snapshot, handler: type[Hooks] | None, *, phases: Sequence[str] = ()
) -> StatusPage:
    """Return a task's progress. Without `phases`, only the present phase is shown."""
    return StatusPage.of(
        snapshot,
        title=snapshot.info.endpoint,
        now=runtime.clock(),
        language=asked_language(request),
        phases=phases,
        facts=handler.facts if handler else None,
        progress_html=functools.partial(render, "gaetk_longtask/_progress.html"),
    )
