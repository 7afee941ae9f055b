"""One request of the queue, from its headers to the reply; has the handler do the work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from flask import Response, current_app, request

from gaetk_longtask import execution
from gaetk_longtask.checkpoints import Checkpoints
from gaetk_longtask.models import LongTask
from gaetk_longtask.progress.reporter import Reporter
from gaetk_longtask.queues import Delivery
from gaetk_longtask.web.current import handler_class, services_of_current_app
from gaetk_longtask.web.hooks import Hooks
from gaetk_longtask.web.problems import ProblemError, report_exception
from gaetk_longtask.web.requests import JobName, asked_job, delivery_of, is_task_id

#: What a delivery is told of an id that is none.
NO_SUCH_TASK = "no such task"

#: Works with the parameters that an attempt has loaded: the handler's `execute_task`, and what it may call.
Work = Callable[[LongTask, Any, Reporter, Checkpoints], Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """The author's part of an attempt, for `execution`, which knows no Flask."""

    execute: Work
    report_exception: Callable[[BaseException], None] = report_exception


def answer(hooks: Hooks, work: Work) -> Response:
    """Answer the queue's current request, or one that only pretends to be the queue's."""
    delivery = delivery_of(request)
    if delivery is None or request.method != "GET":
        return _forbidden()
    if not is_task_id(delivery.task_id):
        reply = execution.Reply(code=200, reason=NO_SUCH_TASK)
    else:
        reply = _deliver(hooks, delivery, work)
    if reply.code == HTTPStatus.FORBIDDEN:
        return _forbidden()
    return Response(reply.reason + "\n", status=reply.code, mimetype="text/plain")


def _deliver(hooks: Hooks, delivery: Delivery, work: Work) -> execution.Reply:
    try:
        services = services_of_current_app()
        with services.ndb_context():
            return execution.deliver(services, delivery, hooks.options(services.config), _Job(execute=work))
    except Exception as exc:  # noqa: BLE001  # no error handler of the application may turn it into a 200
        report_exception(exc)
        return execution.Reply(code=500, reason="this attempt has failed, see the log")


def _forbidden() -> Response:
    return ProblemError(HTTPStatus.FORBIDDEN, "Only the task queue may send this request.").response()


def is_queue_request() -> bool:
    """Return whether this request is a delivery to one of our handlers, for the application's own ``before_request``.

    Exempt such a request from login and redirects: it gets nowhere but to the check of the task's execute key.
    """
    view = current_app.view_functions.get(request.endpoint or "")
    return (
        handler_class(view) is not None
        and request.method == "GET"
        and asked_job(request) == JobName.EXECUTE
        and delivery_of(request) is not None
    )
