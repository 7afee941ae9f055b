"""Answers one request of a visitor; calls the handler's hooks."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from http import HTTPStatus
from operator import attrgetter
from typing import Any, assert_never

from flask import Request, Response, current_app, make_response, request
from werkzeug.exceptions import HTTPException

from gaetk_longtask import starting
from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.exceptions import ConfigurationError, DamagedDataError, EnqueueRefusedError, LongTaskError
from gaetk_longtask.healing import heal
from gaetk_longtask.info import TaskInfo
from gaetk_longtask.limits import READY_PATIENCE
from gaetk_longtask.models import LongTask
from gaetk_longtask.payloads.yielded import YieldedResult
from gaetk_longtask.progress.guarded import GuardedProgressStore
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.status import Status
from gaetk_longtask.transitions import works_in_parts
from gaetk_longtask.web import forms
from gaetk_longtask.web.answers import GONE, Answers, unpressed
from gaetk_longtask.web.current import current_runtime
from gaetk_longtask.web.headers import keep_out_of_frames, keep_sandbox
from gaetk_longtask.web.hooks import Hooks, may_access
from gaetk_longtask.web.problems import ProblemError, not_set_up, reaching_the_store
from gaetk_longtask.web.requests import (
    ID_FIELD,
    JOB_FIELD,
    REFRESH_FIELD,
    JobName,
    asked_job,
    asked_language,
    has_possible_host,
    is_same_origin,
    is_task_id,
)
from gaetk_longtask.web.starts import Start

log = logging.getLogger(__name__)

#: Returns the response that shows a result: calls the handler's `display_result`, with or without the task.
Show = Callable[[Any, Any, LongTask], Any]

_READ_AHEAD_SECONDS = 5  #: how long later polls use the durable state that one poll has read
#: The fields that access to a task depends on; they never change.
_whose = attrgetter("endpoint", "path", "created_by", "namespace")


def answer(hooks: Hooks, show: Show) -> Response:
    """Return the answer to a visitor's request; raise `ConfigurationError` without a manager or a project id."""
    runtime = current_runtime()
    asked: Request = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001  # Flask's documented way
    visit = _Visit(hooks, asked, runtime, show)
    with nullcontext() if visit.is_plain_poll else runtime.ndb_context():
        return visit.answer()


class _Visit:
    """A visitor's request to a handler; an NDB context must be active unless it `is_plain_poll`."""

    def __init__(self, hooks: Hooks, request: Request, runtime: Runtime, show: Show) -> None:
        self._hooks = hooks
        self._request = request
        self._runtime = runtime
        self._show = show
        self._answers = Answers(hooks, request, runtime)
        self._task: LongTask | None = None  #: the entity, if this request has read it

    @property
    def is_plain_poll(self) -> bool:
        """Whether a program asks for the status, and only code of the library's own answers, which needs no context."""
        return (
            self._answers.as_json
            and asked_job(self._request) == JobName.QUERY
            and self._request.method != "DELETE"
            and self._runtime.config.user is None
            and not isinstance(self._runtime.progress, GuardedProgressStore)  # the application's own
            and "babel" not in current_app.extensions  # the application's function selects the language
            and self._hooks._runs_no_code_of_author  # noqa: SLF001  # the handler is ours
        )

    def answer(self) -> Response:
        """Return the answer to the request."""
        try:
            return make_response(self._dispatch())
        except ProblemError as problem:
            return self._answers.problem(problem)
        except HTTPException as exc:
            bad_form = forms.problem_of(self._request, exc)
            if bad_form is None:
                raise
            return self._answers.problem(bad_form)
        except ConfigurationError as exc:
            return not_set_up(exc).response(title=self._hooks.title)

    def _dispatch(self) -> Any:
        if not has_possible_host(self._request):
            raise ProblemError(HTTPStatus.BAD_REQUEST, "The Host header of this request is not a host.")
        try:
            task_id, job = self._request.args.get(ID_FIELD), self._request.args.get(JOB_FIELD)
        except UnicodeDecodeError as exc:
            raise ProblemError(HTTPStatus.BAD_REQUEST, "The query of this URL is not UTF-8.") from exc
        if task_id is None and job is None:
            return Start(self._hooks, self._request, self._runtime, self._answers).answer()
        if task_id is None:
            raise ProblemError(
                HTTPStatus.BAD_REQUEST,
                "%(job)s needs %(id)s. Use the link on the task's page.",
                values={"job": f"{JOB_FIELD}={job}", "id": ID_FIELD},
                **self._answers.without_parameters(),
            )
        try:
            name = JobName(job or JobName.QUERY)
        except ValueError:
            raise ProblemError(
                HTTPStatus.BAD_REQUEST,
                "%(job)s must be one of %(names)s.",
                values={"job": JOB_FIELD, "names": ", ".join(JobName)},
            ) from None
        if self._request.method == "DELETE":
            name = _meant_by_delete(name)
        snapshot = self._find(task_id)
        self._hooks.task = snapshot.info
        with self._runtime.ndb_context.namespace(snapshot.info.namespace):
            if not may_access(self._hooks, snapshot.info):
                raise _not_yours()
            self._answers.task_title = snapshot.info.title
            self._check_expiry(snapshot.info)
            match name:
                case JobName.QUERY:
                    return self._query(snapshot)
                case JobName.SHOWRESULT:
                    return self._show_result(snapshot)
                case JobName.CANCEL | JobName.RETRY:
                    return self._steer(name, snapshot)
                case JobName.EXECUTE:
                    raise ProblemError(HTTPStatus.FORBIDDEN, "Only the task queue may send this request.")
                case _:  # pragma: no cover  # mypy proves that there is none
                    assert_never(name)

    def _find(self, task_id: str) -> Snapshot:
        """Return the latest snapshot of the task; Datastore is read only if the progress store has no fresh one."""
        if not is_task_id(task_id):
            raise self._answers.unknown()
        now = self._runtime.clock()
        snapshot = self._runtime.progress.read(task_id)
        if snapshot is None or snapshot.needs_check(now):
            with self._runtime.ndb_context(), reaching_the_store():
                snapshot = self._read_task(task_id, snapshot)
        place = self._request.endpoint, self._answers.path
        if snapshot is None or (snapshot.info.endpoint, snapshot.info.path) != place:
            raise self._answers.unknown()
        return snapshot

    def _check_expiry(self, info: TaskInfo) -> None:
        if info.expires_at is not None and info.expires_at <= self._runtime.clock():
            raise ProblemError(
                HTTPStatus.GONE,
                "This result has expired. Results are kept for %(duration)s.",
                values={"duration": asked_language(self._request).span(self._hooks.keep_result.total_seconds())},
                kind="expired",
                **self._answers.without_parameters(self._parameters_of_expired(info)),
            )

    def _read_task(self, task_id: str, known: Snapshot | None) -> Snapshot | None:
        """Read the durable state; enqueue the task again if it is due."""
        task = self._runtime.store.get(task_id)
        if task is None:
            return None
        try:
            task = heal(self._runtime, task)
        except STORE_ERRORS as exc:  # the state is known all the same
            log.warning("%s not enqueued again, Datastore does not respond: %s", task_id[:8], exc)
        self._task, snapshot = task, self._answers.snapshot(task)
        if known is None:
            self._runtime.progress.add(snapshot, seconds=_READ_AHEAD_SECONDS)
        elif known.state == snapshot.state:
            return self._known_better(known, task)
        elif known.state < snapshot.state:  # it has missed a transition
            self._runtime.store.publish(task)
        return snapshot

    def _known_better(self, known: Snapshot, task: LongTask) -> Snapshot:
        """Return a snapshot whose progress is newer than that of the entity.

        If the parts of the task are silent, it is published without a heartbeat, so that the next polls read no entity
        before the task is due, but for a minute at most: an instance that can't reach the store may end the task.
        """
        if not works_in_parts(task):
            return known
        soon = self._runtime.clock() + READY_PATIENCE
        due_at = soon if task.due_at is None else min(task.due_at, soon)
        known = replace(known, beat_at=None, beat_seconds=0, due_at=due_at)
        self._runtime.progress.write(known)
        return known

    def _query(self, snapshot: Snapshot) -> Any:
        if self._answers.as_json:
            return self._answers.document(snapshot)
        info = snapshot.info
        if self._request.method == "POST":
            return self._answers.see(JobName.QUERY, info.id)
        if info.status is Status.DONE and REFRESH_FIELD not in self._request.args:
            return self._answers.see(JobName.SHOWRESULT, info.id)
        keep_out_of_frames()
        return self._hooks.render_status(self._answers.page(snapshot, self._parameters(info)), info)

    def _parameters(self, info: TaskInfo) -> Any:
        """Return the parameters of a task that can be started again; `GONE` if they are not needed or not readable."""
        if not info.status.may_retry or self._task is None:
            return GONE
        with reaching_the_store():
            return self._load_parameters(self._task)

    def _parameters_of_expired(self, info: TaskInfo) -> Any:
        """Return the parameters of an expired task; `GONE` if they are purged or not readable."""
        with self._runtime.ndb_context(), self._runtime.ndb_context.namespace(info.namespace):
            try:
                task = self._task or self._runtime.store.get(info.id)
                return GONE if task is None else self._load_parameters(task)
            except STORE_ERRORS:  # the visitor need not wait for a link
                return GONE

    def _load_parameters(self, task: LongTask) -> Any:
        try:
            return self._runtime.load(task, "parameters", self._hooks.serializer)
        except LongTaskError:  # damaged, or signed with a key that is not set
            log.warning("the parameters of %s can't be read", task.id[:8])
            return GONE

    def _show_result(self, snapshot: Snapshot) -> Any:
        store, task_id = self._runtime.store, snapshot.info.id
        first = snapshot.info.status is Status.DONE and self._request.method != "HEAD"
        with reaching_the_store():
            task = store.show(task_id) if first else store.get(task_id)
        if task is None:
            raise self._answers.unknown()
        if _whose(task.info) != _whose(snapshot.info):
            log.error("the progress store and Datastore disagree about the owner of %s", task_id[:8])
            self._answers.task_title = None
            raise _not_yours()
        if not task.status.has_result:
            if self._answers.as_json:
                raise ProblemError(
                    HTTPStatus.CONFLICT, "There is no result: the task is %(status)s.", values={"status": task.status}
                )
            if snapshot.info.status.has_result:  # the waiting page would redirect here again
                store.publish(task)
                return self._query(self._answers.snapshot(task))
            return self._answers.see(JobName.QUERY, task_id)
        try:
            with reaching_the_store():
                parameters = self._runtime.load(task, "parameters", self._hooks.serializer)
        except DamagedDataError as exc:
            log.exception("the parameters of %s are damaged", task_id[:8])
            raise ProblemError(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "The stored data of this task is damaged. Start again.",
                kind="damaged",
                **self._answers.without_parameters(),
            ) from exc
        try:
            with reaching_the_store():
                result = self._runtime.load_result(task, self._hooks.serializer)
            self._hooks.task = task
            response = make_response(self._show(parameters, result, task))
        except DamagedDataError as exc:
            log.exception("the result of %s is damaged", task_id[:8])
            raise ProblemError(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "The stored result is damaged and can't be shown. Try again to repeat the work.",
                kind="damaged",
                retry_url=self._answers.url(JobName.RETRY, task_id),
            ) from exc
        keep_sandbox(response)
        return response

    def _steer(self, name: JobName, snapshot: Snapshot) -> Any:
        task_id = snapshot.info.id
        if self._request.method not in ("POST", "DELETE"):
            raise self._unposted(name, task_id)
        if not is_same_origin(self._request):
            raise ProblemError(HTTPStatus.FORBIDDEN, "Use the button on the task's page.")
        try:
            with reaching_the_store():
                if name is JobName.CANCEL:
                    task = starting.cancel(self._runtime, task_id, latest=snapshot)
                else:
                    fence = snapshot.fence if self._is_damaged(snapshot) else None
                    task = starting.retry(self._runtime, task_id, damaged_fence=fence, may_join=self._may_join)
        except EnqueueRefusedError as exc:
            raise self._answers.refused(exc) from exc
        if self._answers.as_json and task is not None:
            return self._answers.document(self._answers.snapshot(task))
        return self._answers.see(JobName.QUERY, task.id if task is not None else task_id)

    def _may_join(self, task: LongTask) -> bool:
        return may_access(self._hooks, task.info)

    def _unposted(self, name: JobName, task_id: str) -> ProblemError:
        status = HTTPStatus.METHOD_NOT_ALLOWED
        if self._answers.as_json:
            return ProblemError(status, "%(job)s only accepts POST.", values={"job": name}, allow=("POST",))
        action, task_url = (self._answers.url(job, task_id) for job in (name, JobName.QUERY))
        return unpressed(status, name, action=action, task_url=task_url)  # the login has led here, for instance

    def _is_damaged(self, snapshot: Snapshot) -> bool:
        task = self._runtime.store.get(snapshot.info.id) if snapshot.info.status.has_result else None
        if task is None or not task.status.has_result:
            return False
        try:
            result = self._runtime.load_result(task, self._hooks.serializer)
            if isinstance(result, YieldedResult):
                deque(result, maxlen=0)
        except DamagedDataError:
            return True
        return False


def _meant_by_delete(name: JobName) -> JobName:
    if name is JobName.QUERY:
        return JobName.CANCEL
    allow = ("GET", "HEAD", "POST") if name is JobName.SHOWRESULT else ("POST",)
    raise ProblemError(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "DELETE cancels a task. Send it to the address of the task's page.",
        allow=allow,
    )


def _not_yours() -> ProblemError:
    return ProblemError(HTTPStatus.FORBIDDEN, "This task belongs to another user.")
