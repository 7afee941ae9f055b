"""Answers one request of the queue: reads its headers, runs the handler's work and replies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus

from flask import Response, current_app, request
from flask.globals import request_ctx
from werkzeug.exceptions import SecurityError

from gaetk_longtask.execution import replies, telling
from gaetk_longtask.execution.deliveries import deliver
from gaetk_longtask.execution.errands import Work
from gaetk_longtask.execution.replies import Reply
from gaetk_longtask.queues import Delivery
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.web.current import current_runtime, handler_class
from gaetk_longtask.web.hooks import Hooks
from gaetk_longtask.web.problems import ProblemError, report_exception
from gaetk_longtask.web.requests import JobName, asked_job, delivery_of, is_task_id

NO_SUCH_TASK = "no such task"  #: the reply to a delivery whose id can't be a task id


def answer(hooks: Hooks, work: Work, tell: telling.Hook) -> Response:
    """Return the reply to the queue's current request; 403 if the request is not the queue's.

    `work` does the work of an attempt, and `tell` calls the handler's `task_ended`.
    """
    delivery = delivery_of(request)
    if delivery is None or request.method != "GET":
        return _forbidden()
    unknown = Reply(code=200, reason=NO_SUCH_TASK)
    reply = _deliver(hooks, delivery, work, tell) if is_task_id(delivery.task_id) else unknown
    if reply.code == HTTPStatus.FORBIDDEN:
        return _forbidden()
    return _in_words(reply)


def answer_elsewhere() -> Response | None:
    """Return the reply to a delivery whose URL leads to no handler of ours (any more); None to any other request."""
    if request.method != "GET" or asked_job(request) != JobName.EXECUTE:
        return None
    delivery = delivery_of(request)
    if delivery is None or not is_task_id(delivery.task_id) or not is_task_id(delivery.execute_key):
        return None  # keys are made like ids; the doctor sends another one
    named_elsewhere = replace(delivery, endpoint="")
    reply = _guarded(lambda runtime: replies.elsewhere(runtime, named_elsewhere))
    if reply.code == HTTPStatus.FORBIDDEN:
        return None  # not ours
    return _in_words(reply)


def admit_host() -> None:
    """Let a delivery pass ``TRUSTED_HOSTS``, which need not have App Engine's host names of the application.

    This is safe: only the queue can send a delivery, and the handler checks the task's execute key.
    """
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001  # Flask's documented way
    trusted = [host.lstrip(".") for host in app.config.get("TRUSTED_HOSTS") or ()]
    if not trusted or not isinstance(request.routing_exception, SecurityError):
        return
    if request.method == "GET" and asked_job(request) == JobName.EXECUTE and delivery_of(request) is not None:
        request.environ["HTTP_HOST"] = trusted[0]
        request.routing_exception = None
        request_ctx.url_adapter = app.create_url_adapter(request)
        request_ctx.match_request()


def _deliver(hooks: Hooks, delivery: Delivery, work: Work, tell: telling.Hook) -> Reply:
    def answered(runtime: Runtime) -> Reply:
        reply = deliver(runtime, delivery, hooks.options(runtime.config), work, report_exception)
        return telling.tell(runtime, reply, delivery, tell, report_exception)

    return _guarded(answered)


def _guarded(reply: Callable[[Runtime], Reply]) -> Reply:
    """Return a reply that is made in an NDB context; 500 if that raises anything."""
    try:
        runtime = current_runtime()
        with runtime.ndb_context():
            return reply(runtime)
    except Exception as exc:  # noqa: BLE001  # an error handler of the application might answer 200
        report_exception(exc)
        return Reply(code=500, reason="the delivery failed, see the log")


def _in_words(reply: Reply) -> Response:
    return Response(reply.reason + "\n", status=reply.code, mimetype="text/plain")


def _forbidden() -> Response:
    return ProblemError(HTTPStatus.FORBIDDEN, "Only the task queue may send this request.").response()


def is_queue_request() -> bool:
    """Return whether the current request is the queue's delivery to a handler; for your own ``before_request``.

    Exempt such requests from login and redirects. This is safe: the handler first checks the task's execute key.
    """
    view = current_app.view_functions.get(request.endpoint or "")
    return (
        handler_class(view) is not None
        and request.method == "GET"
        and asked_job(request) == JobName.EXECUTE
        and delivery_of(request) is not None
    )
