"""Answers visitors' requests that fail: with a problem document for programs, with a page for people."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import KW_ONLY, dataclass, field
from http import HTTPStatus
from typing import Any, Literal

from flask import Response, current_app, got_request_exception, make_response, request
from flask.typing import ResponseReturnValue

from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.foreign import logging_failures, must_pass
from gaetk_longtask.web.headers import keep_out_of_frames
from gaetk_longtask.web.languages.language import Language
from gaetk_longtask.web.pages.base import DEFAULT_TITLE, Page, subject_of
from gaetk_longtask.web.requests import asked_language, wants_json
from gaetk_longtask.web.templating import render

log = logging.getLogger(__name__)

_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
#: The kinds of problems that the page distinguishes.
Kind = Literal["unknown", "expired", "damaged", "unpressed", "problem"]


@dataclass(eq=False)
class ProblemError(Exception):
    """Ends a request with a problem document (RFC 9457), or with a page that says the same."""

    status: HTTPStatus
    message: str  #: shown in the visitor's language
    _: KW_ONLY
    values: Mapping[str, object] = field(default_factory=dict)  #: replace ``%(name)s`` in the message
    kind: Kind = "problem"
    start_url: str | None = None  #: starts a task again, by GET
    form_url: str | None = None  #: where the visitor begins again
    retry_url: str | None = None  #: where the visitor may retry the same task, by POST
    cancel_url: str | None = None  #: where the visitor may cancel the task, by POST
    task_url: str | None = None  #: the task's own page
    reference: str | None = None  #: the reference that is also in the log
    allow: tuple[str, ...] = ()  #: the methods that are allowed instead
    retry_after_seconds: int | None = None

    def __str__(self) -> str:
        return self.message % self.values if self.values else self.message

    @property
    def again_seconds(self) -> int | None:
        """After how many seconds reloading the page may help; None if it can't."""
        return self.retry_after_seconds if request.method == "GET" and self.retry_url is None else None

    @property
    def leads_nowhere(self) -> bool:
        """Whether the page has no link and no button."""
        ways = self.start_url, self.form_url, self.retry_url, self.cancel_url, self.task_url, self.again_seconds
        return not any(ways)

    def response(self, *, title: object = DEFAULT_TITLE, task_title: str | None = None) -> Response:
        """Return the answer to the current request; `title` is the handler's."""
        page = ProblemPage.of(self, asked_language(request), title=title, task_title=task_title)
        if wants_json(request):
            optional = {"reference": self.reference, "retry": self.retry_url}
            response = document_response(
                {"type": "about:blank", "title": self.status.phrase, "status": self.status.value, "detail": page.detail}
                | {name: value for name, value in optional.items() if value},
                mimetype="application/problem+json",
            )
        else:
            response = make_response(render("gaetk_longtask/problem.html", page=page))
            keep_out_of_frames()
        response.status_code = self.status
        if self.allow:
            response.headers["Allow"] = ", ".join(self.allow)
        if self.retry_after_seconds is not None:
            response.headers["Retry-After"] = str(self.retry_after_seconds)
        return response


@dataclass(frozen=True, kw_only=True, slots=True)
class ProblemPage(Page):
    """The data of `problem.html`."""

    problem: ProblemError
    detail: str  #: what went wrong, and what the visitor can do
    again_seconds: int | None  #: after how many seconds reloading the page may help; None if it can't

    @classmethod
    def of(
        cls,
        problem: ProblemError,
        language: Language,
        *,
        title: object = DEFAULT_TITLE,
        task_title: str | None = None,
    ) -> ProblemPage:
        """Return the page about a problem with the current request, in a language."""
        return cls(
            language=language,
            title=_title(language, problem),
            subject=subject_of(title, language, task_title),
            problem=problem,
            detail=language.gettext(problem.message, **problem.values),
            again_seconds=problem.again_seconds,
        )


def _title(language: Language, problem: ProblemError) -> str:
    match problem.kind, problem.status:
        case "unknown", _:
            return language.gettext("Task not found")
        case "expired", _:
            return language.gettext("Result expired")
        case "damaged", _:
            return language.gettext("The result is damaged")
        case "unpressed", _:
            return language.gettext("Nothing has changed yet")
        case _, HTTPStatus.FORBIDDEN:
            return language.gettext("Access denied")
        case _, HTTPStatus.SERVICE_UNAVAILABLE:
            return language.gettext("Temporarily unavailable")
        case _, HTTPStatus.INTERNAL_SERVER_ERROR:
            return language.gettext("Something went wrong")
        case _:
            return language.gettext("Invalid request")


def document_response(document: Mapping[str, Any], *, mimetype: str) -> Response:
    """Return a document for programs: JSON in UTF-8, in which no letter is escaped."""
    return Response(_ENCODER.encode(document).encode(errors="replace"), mimetype=mimetype)


@contextmanager
def reaching_the_store() -> Iterator[None]:
    """Raise `ProblemError` with 503 if Datastore does not respond."""
    try:
        yield
    except STORE_ERRORS as exc:
        log.warning("Datastore does not respond to a visitor's request: %s", exc)
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The database is not responding. Try again in a moment.",
            retry_after_seconds=5,
        ) from exc


def failed_visit() -> ProblemError:
    """Return the error for a request in which the application's code has raised an exception that Flask passes on."""
    return ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "We could not answer this request. Try again later.")


def shielded(view: Callable[[], ResponseReturnValue]) -> ResponseReturnValue:
    """Return what a view returns. Answer 500 if it raises what is no `Exception`, which would end the process."""
    try:
        return view()
    except Exception:
        raise  # Flask's error handlers answer
    except BaseException as exc:
        if must_pass(exc):
            raise
        report_exception(exc)
        return failed_visit().response()


def not_set_up(exc: ConfigurationError) -> ProblemError:
    """Report a missing or invalid setting, and return the error that says so."""
    report_exception(exc)
    return ProblemError(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "This application is not set up for long-running tasks. The reason is in its log.",
    )


def report_exception(exc: BaseException, **fields: object) -> None:
    """Log an exception and send Flask's signal, as Flask does if no error handler accepts it.

    The log record also gets the fields: at the end of its message, and as ``json_fields`` for google-cloud-logging.
    """
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001  # Flask's documented way
    with logging_failures("an exception could not be reported"):  # else it would change the answer to the queue
        if fields and _add_fields not in app.logger.filters:
            app.logger.addFilter(_add_fields)
        reported = _reported.set((exc, fields))
        try:
            app.log_exception((type(exc), exc, exc.__traceback__))
        finally:
            _reported.reset(reported)
        got_request_exception.send(app, _async_wrapper=app.ensure_sync, exception=exc)


#: What is being reported, and the fields for its log record.
_reported: ContextVar[tuple[BaseException | None, Mapping[str, object]]] = ContextVar("reported", default=(None, {}))


def _add_fields(record: logging.LogRecord) -> bool:
    """Add the fields to the record of what is being reported; a filter, because `Flask.log_exception` takes none."""
    exc, fields = _reported.get()
    if fields and record.exc_info and record.exc_info[1] is exc:
        words = " ".join(f"{name}={value}" for name, value in fields.items())
        record.msg, record.args = f"{record.getMessage()} {words}", ()
        record.json_fields = dict(fields)
    return True
