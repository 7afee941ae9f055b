"""Builds answers to visitors: the status page or document, the URLs of jobs, and common errors."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from flask import Request, Response, redirect, render_template

from gaetk_longtask.exceptions import EnqueueRefusedError
from gaetk_longtask.models import LongTask
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.web.hooks import Hooks
from gaetk_longtask.web.pages import StatusPage
from gaetk_longtask.web.parameters import given_in_url
from gaetk_longtask.web.problems import ProblemError
from gaetk_longtask.web.requests import ID_FIELD, JOB_FIELD, REFRESH_FIELD, JobName, asked_language, path_of, wants_json

_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


class Answers:
    """The answers to one request of a visitor."""

    def __init__(self, hooks: Hooks, request: Request, runtime: Runtime) -> None:
        self._hooks = hooks
        self._request = request
        self._runtime = runtime
        self.path = path_of(request)
        self.as_json = wants_json(request)

    def snapshot(self, task: LongTask) -> Snapshot:
        """Return the snapshot of a stored task."""
        return Snapshot.of(task, now=self._runtime.clock())

    def page(self, snapshot: Snapshot) -> StatusPage:
        """Return the data of the waiting page."""
        return StatusPage.of(
            snapshot,
            title=self._hooks.title,
            now=self._runtime.clock(),
            language=asked_language(self._request),
            refreshes=self._request.args.get(REFRESH_FIELD) != "off",
            bookmark="" if self.as_json else urlencode(given_in_url(self._request)),
            start_url=self.start_url() if snapshot.info.status.may_retry else None,
            progress_html=functools.partial(render_template, "gaetk_longtask/_progress.html"),
        )

    def document(self, snapshot: Snapshot) -> Response:
        """Return the status document."""
        return Response(_ENCODER.encode(self.page(snapshot).document()), mimetype="application/json")

    def url(self, job: JobName, task_id: str, parameters: Iterable[tuple[str, str]] = ()) -> str:
        """Return the URL of a job of a task, with the parameters in its query."""
        return with_query(self.path, [(JOB_FIELD, job.value), (ID_FIELD, task_id), *parameters])

    def see(self, job: JobName, task_id: str) -> Any:
        """Return a redirect to another job of the task, by GET; the URL keeps its parameters."""
        return redirect(self.url(job, task_id, given_in_url(self._request)), HTTPStatus.SEE_OTHER)

    def start_url(self) -> str | None:
        """Return the URL that starts a new task; None if GET does not start one."""
        return with_query(self.path, given_in_url(self._request)) if "GET" in self._hooks.start_methods else None

    def unknown(self) -> ProblemError:
        """Return the error for a task id that does not exist."""
        return ProblemError(
            HTTPStatus.NOT_FOUND,
            "We can't find this task. Check the address, or start again.",
            kind="unknown",
            start_url=self.start_url(),
        )

    def refused(self, exc: EnqueueRefusedError) -> ProblemError:
        """Return the error for a task that the queue refused; the visitor can retry it."""
        return ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The work could not be started. Nothing is lost. Try again.",
            retry_url=self.url(JobName.RETRY, exc.task_id) if exc.task_id else None,
            reference=exc.reference,
            retry_after_seconds=60,
        )


def unpressed(status: HTTPStatus, job: JobName, *, action: str, task_url: str) -> ProblemError:
    """Return the error for a button whose press did not arrive: the page has the button again, with a fresh token."""
    return ProblemError(
        status,
        "This page was open for a long time, or you had to sign in. Press the button again.",
        kind="unpressed",
        retry_url=action if job is JobName.RETRY else None,
        cancel_url=action if job is JobName.CANCEL else None,
        task_url=task_url,
        allow=("POST",) if status is HTTPStatus.METHOD_NOT_ALLOWED else (),
    )


def with_query(path: str, parameters: Iterable[tuple[str, str]]) -> str:
    """Return a path with the parameters as its query, if there are any."""
    query = urlencode(list(parameters))
    return f"{path}?{query}" if query else path
