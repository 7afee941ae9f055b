"""Builds answers to visitors: the status page or document, the URLs of jobs, and common errors."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode, urlsplit

from flask import Request, Response, redirect, url_for
from werkzeug.routing import BuildError

from gaetk_longtask import listing
from gaetk_longtask.exceptions import EnqueueRefusedError, describe_type
from gaetk_longtask.info import PARTIAL
from gaetk_longtask.models import LongTask
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.web.headers import keep_out_of_frames
from gaetk_longtask.web.hooks import Hooks
from gaetk_longtask.web.languages.language import Language
from gaetk_longtask.web.pages.base import TextPage, subject_of
from gaetk_longtask.web.pages.status_page import StatusPage
from gaetk_longtask.web.parameters import (
    bookmark,
    csrf_field,
    gather,
    given_in_url,
    is_parameter,
    is_partial,
    kept_in_url,
)
from gaetk_longtask.web.problems import ProblemError, document_response
from gaetk_longtask.web.requests import (
    DOWNLOAD_FIELD,
    ID_FIELD,
    JOB_FIELD,
    REFRESH_FIELD,
    JobName,
    asked_language,
    path_of,
    wants_json,
)
from gaetk_longtask.web.templating import render

log = logging.getLogger(__name__)

GONE: Any = object()  #: stands for the parameters of a task that can't be read any more

_progress_html = functools.partial(render, "gaetk_longtask/_progress.html")
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


class Answers:
    """The answers to one request of a visitor."""

    def __init__(self, hooks: Hooks, request: Request, runtime: Runtime) -> None:
        self._hooks = hooks
        self._request = request
        self._runtime = runtime
        self.path = path_of(request)
        self.as_json = wants_json(request)
        self.task_title: str | None = None  #: the task's own title, as soon as the visitor may see it

    def snapshot(self, task: LongTask) -> Snapshot:
        """Return the snapshot of a stored task."""
        return listing.durable(self._runtime, task)

    def page(self, snapshot: Snapshot, parameters: Any = GONE) -> StatusPage:
        """Return the data of the waiting page; the `parameters` are needed for a task that can be started again."""
        again = snapshot.info.status.may_retry and not self.as_json
        return StatusPage.of(
            snapshot,
            title=self._hooks.title,
            now=self._runtime.clock(),
            language=asked_language(self._request),
            refreshes=self.as_json or self._request.args.get(REFRESH_FIELD) != "off",
            bookmark="" if self.as_json else urlencode(kept_in_url(self._request)),
            start_url=self.start_url(parameters) if again else None,
            form_url=self.form_url(parameters) if again else None,
            phases=self._hooks.phases,
            facts=self._hooks.facts,
            progress_html=_progress_html,
        )

    def text_page(self, text: str, parameters: Any) -> Response:
        """Return a page that shows a result which is plain text; a program gets the text."""
        if self.as_json:
            return Response(text, mimetype="text/plain")
        language = asked_language(self._request)
        until = None if self._hooks.task is None else self._hooks.task.expires_at
        page = TextPage(
            language=language,
            title=self._subject(language) or language.gettext("Result"),
            text=text,
            until=language.gettext("Available until %(date)s.", date=language.date(until)) if until else "",
            download=self.url(JobName.SHOWRESULT, self._request.args.get(ID_FIELD, "")) + f"&{DOWNLOAD_FIELD}=1",
            start=self.start_url(parameters),
            form=self.form_url(parameters),
        )
        keep_out_of_frames()
        return Response(render("gaetk_longtask/text.html", page=page))

    def download_title(self) -> str | None:
        """Return what names the file if the visitor wants to keep the result as one; None if it is to be shown."""
        if self._request.args.get(DOWNLOAD_FIELD) != "1":
            return None
        return self._subject(asked_language(self._request)) or self._request.endpoint or ""

    def _subject(self, language: Language) -> str:
        return subject_of(self._hooks.title, language, self._hooks.task.title if self._hooks.task else None)

    def document(self, snapshot: Snapshot) -> Response:
        """Return the status document; ``Retry-After`` says when to ask again, if anything more will happen."""
        document = self.page(snapshot).document()
        response = document_response(document, mimetype="application/json")
        if (seconds := document["poll_after_seconds"]) is not None:
            response.headers["Retry-After"] = str(seconds)
        return response

    def url(self, job: JobName, task_id: str) -> str:
        """Return the URL of a job of a task. It keeps the parameters of the task's URL, or of the start."""
        kept = kept_in_url(self._request) if ID_FIELD in self._request.args else self._bookmark()
        return with_query(self.path, [(JOB_FIELD, job.value), (ID_FIELD, task_id), *kept])

    def see(self, job: JobName, task_id: str) -> Any:
        """Return a redirect to another job of the task, by GET."""
        return redirect(self.url(job, task_id), HTTPStatus.SEE_OTHER)

    def start_url(self, parameters: Any = GONE) -> str | None:
        """Return the URL that starts an equal task by GET, or None.

        It repeats this page's URL. There is none if that URL lacks some of the task's parameters: it says so itself, or
        it does not lead to the `parameters`, for instance because it was in a mail.
        """
        request = self._request
        if "GET" not in self._hooks.start_methods or is_partial(request):
            return None
        if parameters is not GONE and self._hooks._takes_fields:  # noqa: SLF001  # the handler is ours
            given = gather([request.args.to_dict(flat=False)], csrf_field()) | (request.view_args or {})
            try:
                if type(parameters) is not dict or parameters != given:
                    return None
            except Exception:  # noqa: BLE001  # a value's own comparison may raise anything
                return None
        return with_query(self.path, given_in_url(request))

    def form_url(self, parameters: Any = GONE) -> str | None:
        """Return the URL where the visitor begins again, from the handler's `form_url`; None if there is none."""
        wanted = self._hooks.form_url
        if callable(wanted):
            wanted = None if parameters is GONE else wanted(parameters)
        if wanted is None:
            return None
        name = f"{type(self._hooks).__qualname__}.form_url"
        if not isinstance(wanted, str):
            raise TypeError(f"{name} must return a str or None, not {describe_type(wanted)}.")
        try:
            url = wanted if "/" in wanted else url_for(wanted)
        except BuildError:
            log.exception("no link to a form: %s is %r, neither a URL with a slash nor an endpoint", name, wanted)
            return None
        if urlsplit(url).scheme not in ("", "http", "https"):
            log.error("no link to a form: %s is %r, which is not a web address", name, wanted)
            return None
        return url

    def _bookmark(self) -> list[tuple[str, str]]:
        """Return what the task's URL keeps of a request that starts it."""
        request = self._request
        kept = bookmark(request.args, request.form, self._hooks.bookmark_parameters, csrf_field())
        return [*kept, PARTIAL] if self._given() > len(kept) or self._has_other_body() else kept

    def has_parameters(self) -> bool:
        """Return whether a request that starts a task has any parameters."""
        return self._given() > 0 or self._has_other_body()

    def _given(self) -> int:
        """Return how many fields of a request that starts a task are parameters."""
        request, csrf_name = self._request, csrf_field()
        query = [(name, values) for name, values in request.args.lists() if name not in request.form]
        fields = [*query, *request.form.lists()]
        return sum(len(values) for name, values in fields if is_parameter(name, csrf_name))

    def _has_other_body(self) -> bool:
        """Return whether a request that starts a task has a file, or a body that is no form."""
        request = self._request
        return bool(request.files) or (bool(request.content_length) and request.mimetype not in _FORMS)

    def problem(self, problem: ProblemError) -> Response:
        """Return the answer to a request that has failed. The page links to the form if it has no better way."""
        if problem.leads_nowhere and not self.as_json:
            problem.form_url = self.form_url()
        return problem.response(title=self._hooks.title, task_title=self.task_title)

    def unknown(self) -> ProblemError:
        """Return the error for a task id that does not exist."""
        return ProblemError(
            HTTPStatus.NOT_FOUND,
            "We can't find this task. Check the address, or start again.",
            kind="unknown",
            **self.without_parameters(),
        )

    def without_parameters(self, parameters: Any = GONE) -> dict[str, Any]:
        """Return where a visitor begins again whose task is gone: the form, else the same URL without the task.

        The `parameters`, if there still are any, only decide whether that URL starts an equal task: this visitor need
        not have access to the task.
        """
        with self._runtime.ndb_context():  # a poll may have none, and `form_url` may be computed
            form_url = self.form_url()
        return {"form_url": form_url, "start_url": None if form_url else self.start_url(parameters)}

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


def asked_again(status: HTTPStatus, url: str) -> ProblemError:
    """Return the error for the press of a button that did not arrive, if another page has to ask again."""
    message = "This page was open for a long time, or you had to sign in. Press the button again."
    return ProblemError(status, message, kind="unpressed", task_url=url)


def with_query(path: str, parameters: Iterable[tuple[str, str]]) -> str:
    """Return a path with the parameters as its query, if there are any."""
    query = urlencode(list(parameters))
    return f"{path}?{query}" if query else path
