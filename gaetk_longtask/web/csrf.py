"""Answers the press of one of our buttons that Flask-WTF has refused: shows the button again, with a fresh token."""

from __future__ import annotations

from http import HTTPStatus

from flask import Response, current_app, g, request, url_for
from werkzeug.exceptions import HTTPException

from gaetk_longtask.web.answers import unpressed, with_query
from gaetk_longtask.web.current import handler_class
from gaetk_longtask.web.requests import JOB_FIELD, JobName, asked_job, is_same_origin, path_of, protect, wants_json


def offer_fresh_button(response: Response) -> Response:
    """Replace Flask-WTF's bare 400 with a page that has the same button and a fresh token; still 400.

    Flask-WTF refuses a request before its view is called, for instance because the token has expired. If an error
    handler of the application has answered instead, the answer is left alone.
    """
    if response.status_code != HTTPStatus.BAD_REQUEST or request.method != "POST" or wants_json(request):
        return response
    pressed = _pressed() if is_same_origin(request) else None
    error = _csrf_error() if pressed else None
    if pressed is None or error is None or response.get_data() != error.get_response().get_data():
        return response
    job, action, task_url = pressed
    page = unpressed(HTTPStatus.BAD_REQUEST, job, action=action, task_url=task_url).response()
    response.set_data(page.get_data())
    return protect(response)


def _pressed() -> tuple[JobName, str, str] | None:
    """Return the button's job, its URL and the URL of the task's page; None if it is not one of our buttons."""
    values = request.view_args or {}
    if request.endpoint == "longtask.steer":  # an operator's button
        return JobName(values["job"]), path_of(request), url_for("longtask.task", task_id=values["task_id"])
    job = asked_job(request)
    if job not in (JobName.CANCEL, JobName.RETRY):
        return None
    if handler_class(current_app.view_functions.get(request.endpoint or "")) is None:
        return None
    query = list(request.args.items(multi=True))
    shown = [(name, JobName.QUERY.value if name == JOB_FIELD else value) for name, value in query]
    return JobName(job), with_query(path_of(request), query), with_query(path_of(request), shown)


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
