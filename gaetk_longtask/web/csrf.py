"""Answers the press of one of our buttons that Flask-WTF has refused: shows the button again, with a fresh token."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Response, current_app, g, request, url_for
from werkzeug.exceptions import HTTPException

from gaetk_longtask.foreign import logging_failures
from gaetk_longtask.web.answers import asked_again, unpressed, with_query
from gaetk_longtask.web.current import handler_class
from gaetk_longtask.web.pages.base import DEFAULT_TITLE
from gaetk_longtask.web.parameters import csrf_field
from gaetk_longtask.web.problems import ProblemError
from gaetk_longtask.web.requests import JOB_FIELD, JobName, asked_job, is_same_origin, path_of, protect, wants_json


def offer_fresh_button(response: Response) -> Response:
    """Replace Flask-WTF's bare 400 with a page that has the same button and a fresh token; still 400.

    Flask-WTF refuses a request before its view is called, for instance because the token has expired. If an error
    handler of the application has answered instead, the answer is left alone.
    """
    if response.status_code != HTTPStatus.BAD_REQUEST or request.method != "POST" or wants_json(request):
        return response
    problem = _pressed() if is_same_origin(request) else None
    error = _csrf_error() if problem else None
    if problem is None or error is None or response.get_data() != error.get_response().get_data():
        return response
    with logging_failures("the button can't be shown again"):  # the handler's title may raise anything
        response.set_data(problem.response(title=_title()).get_data())
        return protect(response)
    return response


def _pressed() -> ProblemError | None:
    """Return the error that offers the pressed button again; None if it is not one of our buttons."""
    values, status = request.view_args or {}, HTTPStatus.BAD_REQUEST
    if request.endpoint == "longtask.steer":  # an operator's button
        task_url = url_for("longtask.task", task_id=values["task_id"])
        return unpressed(status, JobName(values["job"]), action=path_of(request), task_url=task_url)
    if request.endpoint == "longtask.many":  # the same for many tasks, which asks again
        fields = [item for item in request.form.items(multi=True) if item[0] != csrf_field()]
        return asked_again(status, with_query(path_of(request), fields))
    job = asked_job(request)
    if job not in (JobName.CANCEL, JobName.RETRY):
        return None
    if handler_class(current_app.view_functions.get(request.endpoint or "")) is None:
        return None
    query = list(request.args.items(multi=True))
    shown = [(name, JobName.QUERY.value if name == JOB_FIELD else value) for name, value in query]
    action, task_url = with_query(path_of(request), query), with_query(path_of(request), shown)
    return unpressed(status, JobName(job), action=action, task_url=task_url)


def _title() -> object:
    """Return the title of the handler; the default on the operators' pages. The task's own is not read."""
    view: Any = current_app.view_functions.get(request.endpoint or "")
    return view.make_handler().title if handler_class(view) else DEFAULT_TITLE


def _csrf_error() -> HTTPException | None:
    """Return the error that Flask-WTF raises for the current request; None if it accepts the request."""
    check = getattr(current_app.extensions.get("csrf"), "protect", None)
    if check is None or g.get("csrf_valid"):
        return None
    try:
        check()
    except HTTPException as exc:
        return exc
    return None
