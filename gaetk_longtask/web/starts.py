"""Answers a visitor's request to start a task: starts one, joins an equal one, or asks the visitor first."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import Any

from flask import Request, Response, redirect

from gaetk_longtask import starting
from gaetk_longtask.exceptions import ConfigurationError, EnqueueRefusedError, SerializationError, TooLargeError
from gaetk_longtask.models import LongTask
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.starting import Origin
from gaetk_longtask.web.answers import Answers, with_query
from gaetk_longtask.web.forms import check_length, check_query
from gaetk_longtask.web.headers import keep_out_of_frames
from gaetk_longtask.web.hooks import Hooks, get_user_id, may_access, title_of, unique_key
from gaetk_longtask.web.pages.base import StartPage, subject_of
from gaetk_longtask.web.parameters import csrf_field, given_in_url, is_parameter
from gaetk_longtask.web.places import place_of
from gaetk_longtask.web.problems import ProblemError, reaching_the_store, report_exception
from gaetk_longtask.web.requests import JobName, asked_language, is_cross_site, is_prefetch
from gaetk_longtask.web.templating import render

_LONGEST_SHOWN = 200  #: characters of a parameter on that page
_MOST_FILES = 10  #: how many files a refusal names
_MOST_FIELDS = 1000  #: how many fields the page with the start button repeats


class Start:
    """A request without a task id; an NDB context must be active."""

    def __init__(self, hooks: Hooks, request: Request, runtime: Runtime, answers: Answers) -> None:
        self._hooks = hooks
        self._request = request
        self._runtime = runtime
        self._answers = answers

    def answer(self) -> Any:
        """Start a task; refuse requests that must not start one, and ask visitors who come from another site."""
        request = self._request
        if request.method == "HEAD":
            return Response()
        if is_prefetch(request):
            return Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        allowed = tuple(self._hooks.start_methods)
        if request.method not in allowed:
            raise ProblemError(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "This task can only be started by %(methods)s.",
                values={"methods": ", ".join(allowed)},
                allow=allowed,
            )
        if request.url_rule is not None and "GET" not in (request.url_rule.methods or ()):
            message = f"The rule {request.url_rule} must accept GET as well as {request.method}, for the waiting page."
            raise ConfigurationError(f"{message} To start only by POST, set start_methods on the class, not methods.")
        return self._ask_first() if is_cross_site(request) else self._lead_to(self._start())

    def _start(self) -> LongTask:
        request = self._request
        check_query(request)
        check_length(request)
        options = self._hooks.options(self._runtime.config)
        place = place_of(request, in_parts=options.parallel is not None)
        origin = Origin(
            endpoint=request.endpoint or "",
            path=place.path,
            queue_path=place.queue_path,
            base_url=self._runtime.config.base_url or place.base_url,
            method=request.method,
            created_by=get_user_id(self._hooks),
        )
        parameters = self._hooks.prepare_task(**(request.view_args or {}))
        request.form  # noqa: B018  # raises if it can't be read, also where prepare_task does not read it
        origin = replace(origin, partial=request.method == "POST" and self._answers.has_parameters())
        self._answers.task_title = title_of(self._hooks, parameters)
        key, shared = unique_key(self._hooks, parameters), self._hooks.unique_key_shared
        try:
            with reaching_the_store():
                return starting.start(
                    self._runtime,
                    origin,
                    parameters,
                    options,
                    title=self._answers.task_title,
                    key=key,
                    shared=shared,
                    host=request.host,
                    may_join=self._may_join,
                )
        except TooLargeError as exc:
            raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(exc)) from exc
        except SerializationError as exc:
            report_exception(exc)  # an error in prepare_task, not of the visitor
            raise ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, str(exc)) from exc
        except EnqueueRefusedError as exc:
            raise self._answers.refused(exc) from exc

    def _may_join(self, task: LongTask) -> bool:
        return may_access(self._hooks, task.info)

    def _lead_to(self, task: LongTask) -> Any:
        """Redirect the visitor to the task's own page; a program gets the status document."""
        request, answers = self._request, self._answers
        self._hooks.task = task.info
        url = answers.url(JobName.QUERY, task.id)
        if not answers.as_json:
            # After 307 the browser sends the form again. A file must not be sent twice.
            return redirect(url, HTTPStatus.SEE_OTHER if request.files else HTTPStatus.TEMPORARY_REDIRECT)
        snapshot = answers.snapshot(task)
        return answers.document(snapshot), HTTPStatus.ACCEPTED, {"Location": url}

    def _ask_first(self) -> Any:
        """Return a page with a start button, because a page of another site must not start a task."""
        request, path = self._request, self._answers.path
        if self._answers.as_json:
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                "This request comes from another site, so nothing was started. Send it from our own site.",
            )
        if request.files:
            raise self._foreign_files()
        posted = request.method == "POST"
        source = request.form if posted else request.args
        if sum(len(values) for _, values in source.lists()) > _MOST_FIELDS:
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                "This request comes from another site, so nothing was started. Send it from our own site.",
            )
        in_path = [(name, str(value)) for name, value in (request.view_args or {}).items()]
        language = asked_language(request)
        fields = [item for item in source.items(multi=True) if item[0] != csrf_field()]
        given = [item for item in fields if is_parameter(item[0], csrf_field())]
        public = frozenset(self._hooks.bookmark_parameters) if posted else {name for name, _ in given}
        shown = [item for item in given if item[0] in public]
        if posted:
            shown = [item for item in given_in_url(request) if item[0] not in request.form] + shown
        shown = in_path + shown
        page = StartPage(
            language=language,
            title=language.gettext("Start this task?"),
            subject=subject_of(self._hooks.title, language),
            method=request.method.lower(),
            action=with_query(path, request.args.items(multi=True)) if posted else path,
            fields=fields,
            shown=[(_shortened(name), _shortened(value)) for name, value in shown],
            hidden=sum(name not in public for name, _ in given),
        )
        keep_out_of_frames()
        return render("gaetk_longtask/start.html", page=page)

    def _foreign_files(self) -> ProblemError:
        """Return the error for files that another site's form has sent: our page can't send them on."""
        files = [file for _, file in self._request.files.items(multi=True)]
        names = [_shortened(file.filename) for file in files if file.filename]
        if not names:  # no file was chosen
            return ProblemError(
                HTTPStatus.FORBIDDEN,
                "This file was sent from another site. Open our own form and choose the file there.",
                form_url=self._answers.form_url(),
            )
        return ProblemError(
            HTTPStatus.FORBIDDEN,
            "Nothing was started, because another site has sent this upload: %(names)s. "
            "Open our own form and repeat the upload there.",
            values={"names": ", ".join(names[:_MOST_FILES]) + (" …" if names[_MOST_FILES:] else "")},
            form_url=self._answers.form_url(),
        )


def _shortened(value: str) -> str:
    return value if len(value) <= _LONGEST_SHOWN else f"{value[: _LONGEST_SHOWN - 1]}…"
