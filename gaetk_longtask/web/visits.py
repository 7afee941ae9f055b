"""One request of a visitor, from dispatch to answer; calls the handler's hooks."""

from __future__ import annotations

import functools
import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, assert_never
from urllib.parse import urlencode

from flask import Request, Response, current_app, got_request_exception, make_response, redirect, render_template

from gaetk_longtask import starting
from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.exceptions import (
    ConfigurationError,
    DamagedDataError,
    EnqueueRefusedError,
    SerializationError,
    TooLargeError,
)
from gaetk_longtask.info import TaskInfo
from gaetk_longtask.models import LongTask
from gaetk_longtask.payloads.yielded import YieldedResult
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.services import Services, TaskOptions
from gaetk_longtask.starting import Draft, find_joinable
from gaetk_longtask.status import Status
from gaetk_longtask.web.pages import StartPage, StatusPage
from gaetk_longtask.web.problems import ProblemError
from gaetk_longtask.web.requests import (
    ID_FIELD,
    JOB_FIELD,
    REFRESH_FIELD,
    JobName,
    asked_language,
    bookmark,
    csrf_field,
    is_cross_site,
    is_parameter,
    is_prefetch,
    is_same_origin,
    is_task_id,
    path_of,
    wants_json,
)

if TYPE_CHECKING:
    from gaetk_longtask.web.handler import LongRunningTaskHandler

log = logging.getLogger(__name__)

_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)

#: How long a poll's own reading of the durable state serves the polls behind it.
_READ_AHEAD_SECONDS = 5


class Visit:
    """A visitor's request to a handler; an NDB context must be active."""

    def __init__(
        self,
        handler: LongRunningTaskHandler,
        request: Request,
        services: Services,
        options: TaskOptions,
        show: Callable[[Any, Any, LongTask], Any],
    ) -> None:
        """Serve with the handler's hooks; `show` is its `display_result`, whatever that takes."""
        self._handler = handler
        self._request = request
        self._services = services
        self._options = options
        self._show = show
        self._path = path_of(request)
        self._json = wants_json(request)

    def answer(self) -> Response:
        """Do what the request asks for."""
        try:
            return make_response(self._dispatch())
        except ProblemError as problem:
            return problem.response()
        except ConfigurationError as exc:
            report_exception(exc)
            return ProblemError(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "This application is not set up for long-running tasks. Its log says what is missing.",
            ).response()

    def _dispatch(self) -> Any:
        try:
            task_id = self._request.args.get(ID_FIELD)
        except UnicodeDecodeError as exc:
            raise ProblemError(HTTPStatus.BAD_REQUEST, "The query of this URL is not UTF-8.") from exc
        job = self._request.args.get(JOB_FIELD)
        if task_id is None and job is None:
            return self._consider_start()
        if task_id is None:
            raise ProblemError(
                HTTPStatus.BAD_REQUEST,
                "%(job)s needs a %(id)s: follow the link of the status page.",
                values={"job": f"{JOB_FIELD}={job}", "id": ID_FIELD},
                start_url=self._start_url(),
            )
        try:
            name = JobName(job or JobName.QUERY)
        except ValueError:
            raise ProblemError(
                HTTPStatus.BAD_REQUEST,
                "%(job)s is one of %(names)s.",
                values={"job": JOB_FIELD, "names": ", ".join(JobName)},
            ) from None
        snapshot = self._find(task_id)
        self._handler.task = snapshot.info
        with self._services.ndb_context.namespace(snapshot.info.namespace):
            if not self._handler.may_access(snapshot.info):
                raise _not_yours()
            match name:
                case JobName.QUERY:
                    return self._query(snapshot)
                case JobName.SHOWRESULT:
                    return self._show_result(snapshot)
                case JobName.CANCEL | JobName.RETRY:
                    return self._steer(name, snapshot)
                case JobName.EXECUTE:
                    raise ProblemError(HTTPStatus.FORBIDDEN, "Only the task queue may ask for this.")
                case _:  # pragma: no cover  # mypy proves that there is none
                    assert_never(name)

    # Starting.

    def _consider_start(self) -> Any:
        request = self._request
        if request.method == "HEAD":
            return Response()
        if is_prefetch(request):
            return Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        allowed = tuple(self._handler.start_methods)
        if request.method not in allowed:
            raise ProblemError(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "This task is started by %(methods)s.",
                values={"methods": ", ".join(allowed)},
                allow=allowed,
            )
        if request.url_rule is not None and "GET" not in (request.url_rule.methods or ()):
            message = f"The rule {request.url_rule} must take GET besides {request.method}, for the page that watches."
            raise ConfigurationError(f"{message} Restrict starting by start_methods on the class, not by methods.")
        if is_cross_site(request):
            return self._start_button()
        return self._start()

    def _start(self) -> Any:
        handler, request = self._handler, self._request
        draft = Draft(
            endpoint=request.endpoint or "",
            path=self._path,
            base_url=self._services.config.base_url or request.host_url.rstrip("/"),
            method=request.method,
            created_by=handler.get_user_id(),
        )
        parameters = handler.prepare_task(**(request.view_args or {}))
        draft = self._with_unique_name(draft, parameters)
        try:
            with reaching_the_store():
                task = starting.start(self._services, draft, parameters, self._options)
        except TooLargeError as exc:
            raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(exc)) from exc
        except SerializationError as exc:
            report_exception(exc)  # prepare_task made it: the visitor can't help it
            raise ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, str(exc)) from exc
        except EnqueueRefusedError as exc:
            raise self._refused(exc) from exc
        handler.task = task.info
        url = self._url(JobName.QUERY, task.id, self._bookmark())
        if not self._json:
            # 307 has the browser send the form once more, which is harmless, but not an upload.
            return redirect(url, HTTPStatus.SEE_OTHER if request.files else HTTPStatus.TEMPORARY_REDIRECT)
        snapshot = Snapshot.of(task, now=self._services.clock())
        headers = {"Location": url, "Retry-After": str(self._page(snapshot).refresh)}
        return self._document(snapshot), HTTPStatus.ACCEPTED, headers

    def _with_unique_name(self, draft: Draft, parameters: Any) -> Draft:
        key = self._handler.unique_key(parameters)
        if key is None:
            return draft
        if self._handler.unique_key_shared:
            name = starting.unique_name(draft, key, shared=True)
            with reaching_the_store():
                found = find_joinable(self._services.store, name)
            if found is None or self._handler.may_access(found.info):
                return replace(draft, unique_name=name)
        return replace(draft, unique_name=starting.unique_name(draft, key, shared=False))

    def _start_button(self) -> Any:
        """Let the visitor decide: the request comes from a foreign page, which must not start anything."""
        request = self._request
        if request.files:
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                "Another site has sent a file here. Open our own form and choose the file there.",
            )
        source = request.form if request.method == "POST" else request.args
        language = asked_language(request)
        page = StartPage(
            language=language,
            title=language.gettext("Start this task?"),
            method=request.method.lower(),
            action=self._path + (_query(request.args.items(multi=True)) if request.method == "POST" else ""),
            fields=[item for item in source.items(multi=True) if item[0] != csrf_field()],
        )
        return render_template("gaetk_longtask/start.html", page=page)

    # Watching.

    def _find(self, task_id: str) -> Snapshot:
        """Give the latest that is known of the task: from the progress store alone, if it has fresh news."""
        if not is_task_id(task_id):
            raise self._unknown()
        now = self._services.clock()
        snapshot = self._services.progress.read(task_id)
        if snapshot is None or snapshot.needs_check(now):
            with reaching_the_store():
                snapshot = self._read_task(task_id, snapshot)
        if snapshot is None or (snapshot.info.endpoint, snapshot.info.path) != (self._request.endpoint, self._path):
            raise self._unknown()
        if snapshot.info.expires_at is not None and snapshot.info.expires_at <= now:
            raise ProblemError(
                HTTPStatus.GONE,
                "What came of this task is kept for a while only, and that is over.",
                kind="expired",
                start_url=self._start_url(),
            )
        return snapshot

    def _unknown(self) -> ProblemError:
        return ProblemError(
            HTTPStatus.NOT_FOUND,
            "There is no such task (any more). Is the address complete?",
            kind="unknown",
            start_url=self._start_url(),
        )

    def _read_task(self, task_id: str, known: Snapshot | None) -> Snapshot | None:
        """Read the durable state, and have the task enqueued again if it has been silent for too long."""
        task = self._services.store.get(task_id)
        if task is None:
            return None
        task = starting.heal(self._services, task)
        snapshot = Snapshot.of(task, now=self._services.clock())
        if known is not None and known.order == snapshot.order:
            return known  # it has heard more of the work's progress than the entity
        self._services.progress.add(snapshot, seconds=_READ_AHEAD_SECONDS)
        return snapshot

    def _query(self, snapshot: Snapshot) -> Any:
        if self._json:
            return self._document(snapshot)
        info = snapshot.info
        if self._request.method == "POST":
            return redirect(self._url(JobName.QUERY, info.id, self._given()), HTTPStatus.SEE_OTHER)
        if info.status is Status.DONE and REFRESH_FIELD not in self._request.args:
            return redirect(self._url(JobName.SHOWRESULT, info.id, self._given()), HTTPStatus.SEE_OTHER)
        return self._handler.render_status(self._page(snapshot), info)

    # Collecting.

    def _show_result(self, snapshot: Snapshot) -> Any:
        store, task_id = self._services.store, snapshot.info.id
        first = snapshot.info.status is Status.DONE and self._request.method != "HEAD"
        with reaching_the_store():
            task = store.show(task_id) if first else store.get(task_id)
        if task is None:
            raise self._unknown()
        if _whose(task.info) != _whose(snapshot.info):
            log.error("the progress store gives %s to somebody whose it is not", task_id[:8])
            raise _not_yours()
        if not task.status.has_result:
            if self._json:
                raise ProblemError(
                    HTTPStatus.CONFLICT,
                    "There is no result: the task is %(status)s.",
                    values={"status": task.status},
                )
            if snapshot.info.status.has_result:  # its page would lead here again
                store.publish(task)
                return self._query(Snapshot.of(task, now=self._services.clock()))
            return redirect(self._url(JobName.QUERY, task_id, self._given()), HTTPStatus.SEE_OTHER)
        try:
            with reaching_the_store():
                parameters = self._services.load(task, "parameters", self._handler.serializer)
        except DamagedDataError as exc:
            log.exception("parameters of %s are damaged", task_id[:8])
            raise ProblemError(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "What was stored of this task is damaged. Start a new one.",
                kind="damaged",
                start_url=self._start_url(),
            ) from exc
        try:
            with reaching_the_store():
                result = self._services.load_result(task, self._handler.serializer)
            self._handler.task = task
            return self._show(parameters, result, task)
        except DamagedDataError as exc:
            log.exception("result of %s is damaged", task_id[:8])
            raise ProblemError(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "The stored result is damaged and can't be shown. The work can be done again.",
                kind="damaged",
                retry_url=self._url(JobName.RETRY, task_id, []),
            ) from exc

    # Steering.

    def _steer(self, name: JobName, snapshot: Snapshot) -> Any:
        if self._request.method != "POST":
            raise ProblemError(
                HTTPStatus.METHOD_NOT_ALLOWED, "%(job)s takes POST alone.", values={"job": name}, allow=("POST",)
            )
        if not is_same_origin(self._request):
            raise ProblemError(HTTPStatus.FORBIDDEN, "Use the button on the task's own page.")
        task_id = snapshot.info.id
        task: LongTask | None
        with reaching_the_store():
            if name is JobName.CANCEL:
                task = self._services.store.cancel(task_id)
            else:
                try:
                    fence = snapshot.fence if self._is_damaged(snapshot) else None
                    task = starting.retry(self._services, task_id, damaged_fence=fence)
                except EnqueueRefusedError as exc:
                    raise self._refused(exc) from exc
        if self._json and task is not None:
            return self._document(Snapshot.of(task, now=self._services.clock()))
        return redirect(self._url(JobName.QUERY, task_id, self._given()), HTTPStatus.SEE_OTHER)

    def _is_damaged(self, snapshot: Snapshot) -> bool:
        task = self._services.store.get(snapshot.info.id) if snapshot.info.status.has_result else None
        if task is None or not task.status.has_result:
            return False
        try:
            result = self._services.load_result(task, self._handler.serializer)
            if isinstance(result, YieldedResult):
                deque(result, maxlen=0)
        except DamagedDataError:
            return True
        return False

    # Answers.

    def _page(self, snapshot: Snapshot) -> StatusPage:
        return StatusPage.of(
            snapshot,
            title=self._handler.title,
            now=self._services.clock(),
            language=asked_language(self._request),
            refreshes=self._request.args.get(REFRESH_FIELD) != "off",
            bookmark="" if self._json else urlencode(self._given()),
            start_url=self._start_url() if snapshot.info.status.may_retry else None,
            progress_html=functools.partial(render_template, "gaetk_longtask/_progress.html"),
        )

    def _document(self, snapshot: Snapshot) -> Response:
        return Response(_ENCODER.encode(self._page(snapshot).document()), mimetype="application/json")

    def _refused(self, exc: EnqueueRefusedError) -> ProblemError:
        return ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The work could not be started just now. Nothing is lost: try again.",
            retry_url=self._url(JobName.RETRY, exc.task_id, []) if exc.task_id else None,
            reference=exc.reference,
            retry_after_seconds=60,
        )

    def _url(self, job: JobName, task_id: str, parameters: list[tuple[str, str]]) -> str:
        return f"{self._path}?{urlencode([(JOB_FIELD, job.value), (ID_FIELD, task_id), *parameters])}"

    def _given(self) -> list[tuple[str, str]]:
        """Give the parameters that this URL has besides ours."""
        return [item for item in self._request.args.items(multi=True) if is_parameter(item[0], csrf_field())]

    def _bookmark(self) -> list[tuple[str, str]]:
        return bookmark(self._request.args, self._request.form, self._handler.bookmark_parameters, csrf_field())

    def _start_url(self) -> str | None:
        if "GET" not in self._handler.start_methods:
            return None
        return self._path + _query(self._given())


def report_exception(exc: BaseException) -> None:
    """Log it and send Flask's signal, as Flask does for an exception that nobody handles."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001  # Flask's documented way
    try:
        app.log_exception((type(exc), exc, exc.__traceback__))
        got_request_exception.send(app, _async_wrapper=app.ensure_sync, exception=exc)
    except Exception:  # error reporting that fails itself must not turn into the queue's answer
        log.exception("reporting an exception has failed")


def _not_yours() -> ProblemError:
    return ProblemError(HTTPStatus.FORBIDDEN, "This task belongs to somebody else.")


def _whose(info: TaskInfo) -> tuple[str | None, ...]:
    """Give what never changes of a task, and what access to it hangs on."""
    return info.endpoint, info.path, info.created_by, info.namespace


def _query(parameters: Iterable[tuple[str, str]]) -> str:
    text = urlencode(list(parameters))
    return f"?{text}" if text else ""


@contextmanager
def reaching_the_store() -> Iterator[None]:
    """Turn Datastore's silence into an answer for the visitor."""
    try:
        yield
    except STORE_ERRORS as exc:
        log.warning("the store does not answer a visitor: %s", exc)
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The database does not answer just now. Try again in a moment.",
            retry_after_seconds=5,
        ) from exc
