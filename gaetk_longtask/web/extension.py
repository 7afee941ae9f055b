"""Connects the library to a Flask application; keeps no reference to it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, current_app, has_request_context, request
from flask.globals import request_ctx
from flask.typing import ResponseReturnValue
from google.cloud import ndb
from werkzeug.utils import import_string

from gaetk_longtask import maintenance
from gaetk_longtask.config import Config, find_location, given_settings, given_variables, need_project
from gaetk_longtask.contexts import NdbContexts
from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.info import TaskInfo
from gaetk_longtask.listing import PAGE
from gaetk_longtask.models import LongTask
from gaetk_longtask.progress.durations import Durations
from gaetk_longtask.progress.guarded import GuardedProgressStore
from gaetk_longtask.progress.phase_times import PhaseTimes
from gaetk_longtask.progress.stores import ProgressStore
from gaetk_longtask.progress.urls import progress_store_at
from gaetk_longtask.queues import CloudTasksQueue, TaskQueue
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.status import Status
from gaetk_longtask.store import TaskStore
from gaetk_longtask.web import deliveries, endpoints, forms
from gaetk_longtask.web import tasks as stored_tasks
from gaetk_longtask.web.commands import OperatorCommands
from gaetk_longtask.web.csrf import offer_fresh_button
from gaetk_longtask.web.current import EXTENSION, current_runtime, handler_class
from gaetk_longtask.web.headers import ProtectedApp
from gaetk_longtask.web.languages.language import Languages
from gaetk_longtask.web.requests import LANGUAGES, current_trace
from gaetk_longtask.web.uploads import upload_attributes

_HOST = "_longtask_host"  #: the argument of our own rules that stands for any host
URL_PREFIX = "/_longtask"  #: the URL prefix of the static files and of all other pages that belong to no handler


def utcnow() -> datetime:
    """Return the current time, aware, UTC."""
    return datetime.now(UTC)


class LongTaskManager:
    """Adds long-running tasks to an application: ``LongTaskManager(app)``, or ``LongTaskManager().init_app(app)``.

    It opens no connections. Each client connects when it is first used.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        ndb_client: ndb.Client | None = None,
        queue: TaskQueue | None = None,
        progress: ProgressStore | None = None,
        clock: Callable[[], datetime] = utcnow,
    ) -> None:
        """Call `init_app` if there is an `app`.

        Pass your application's own `ndb_client` if it has one. `queue`, `progress` and `clock` are for tests (see
        `gaetk_longtask.testing`), and for a queue or progress store of your own.
        """
        self._ndb_client = ndb_client
        self._queue = queue
        self._progress = progress
        self._clock = clock
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Read the ``LONGTASK_*`` settings; add the static files, the operators' pages and ``flask longtask``.

        Raises:
            ConfigurationError: a setting is unknown or invalid, or needs a package that is not installed; or the
                application already has a manager.
        """
        if EXTENSION in app.extensions:
            raise ConfigurationError("This application already has a LongTaskManager. Call init_app only once.")
        config = Config.from_mapping(app.config, os.environ)
        app.extensions[LANGUAGES] = Languages.of(Path(app.root_path) / "translations", config.language)
        contexts = NdbContexts(self._ndb_client, lambda: need_project(config))
        progress = (
            GuardedProgressStore(self._progress)
            if self._progress is not None
            else progress_store_at(config.progress_url, contexts)
        )
        queue = self._queue
        if queue is None:
            location = functools.partial(find_location, config, os.environ)
            queue = CloudTasksQueue(project=lambda: need_project(config), location=location)
        store = TaskStore(progress, self._clock, trace=lambda: current_trace(config.project))
        app.extensions[EXTENSION] = Runtime(
            config=config,
            settings=given_settings(app.config),
            variables=given_variables(app.config, os.environ),
            store=store,
            queue=queue,
            progress=progress,
            ndb_context=contexts,
            durations=Durations(store.last_runs, self._clock),
            phase_times=PhaseTimes(self._clock),
            clock=self._clock,
            secret_keys=lambda: _secret_keys(app.config),
        )
        # First of all: it changes how the application's own hooks see the request.
        app.before_request_funcs.setdefault(None, []).insert(0, _prepare_request)
        app.before_request(_answer_elsewhere)
        blueprint = _Pages(
            "longtask", "gaetk_longtask", url_prefix=URL_PREFIX, static_folder="static", template_folder="templates"
        )
        blueprint.add_url_rule("/sweep", "_sweep", lambda: _by_cron(maintenance.sweep))
        blueprint.add_url_rule("/purge", "_purge", lambda: _by_cron(maintenance.purge))
        blueprint.app_context_processor(lambda: {"longtask_upload": upload_attributes})
        blueprint.add_url_rule("/status.schema.json", "schema", lambda: _schema(blueprint))
        # Imported by name: an application without these pages starts faster.
        if config.user is not None:
            import_string("gaetk_longtask.web.mine:add_page")(blueprint)
        if config.admin is not None:
            import_string("gaetk_longtask.operators.pages:add_pages")(blueprint)
        app.register_blueprint(blueprint)
        app.wsgi_app = ProtectedApp(app.wsgi_app)  # type: ignore[method-assign]  # Flask's documented way
        app.after_request(offer_fresh_button)
        app.cli.add_command(OperatorCommands())

    @staticmethod
    def start(
        endpoint: str,
        parameters: Any,
        *,
        url_values: Mapping[str, Any] | None = None,
        created_by: str | None = None,
        delay: timedelta | None = None,
    ) -> LongTask:
        """Start a task from code (cron, webhook, command line, test) and return it as it is stored.

        Needs an application context. `endpoint` is the handler's endpoint. `url_values` are the arguments of its URL
        rule. If `parameters` is a `dict`, they are added to it as in a request: converted, and with the rule's
        defaults. Inside an NDB transaction, the task is created by that transaction and enqueued after its commit.

        With a `delay` of at most 30 days, the work begins that much later, and the waiting page says when. Until then
        the task can be cancelled, and equal requests join it. A retry begins at once.

        The task's absolute URL begins with ``LONGTASK_BASE_URL``, else with the host of the current request, or of the
        task whose work starts it, else with Flask's ``SERVER_NAME``. Without any of them, a warning is logged.

        Raises:
            LongTaskError: there is no such handler, or its URL can't be built, or a request for this URL would reach
                another handler or have other arguments.
            SerializationError, TooLargeError: the parameters can't be stored; nothing was stored.
            EnqueueRefusedError: the queue refused the task, which is stored as `failed`.
            TypeError, ValueError: `delay` is no `timedelta`, is negative or is more than 30 days; nothing was stored.
        """
        return endpoints.start(endpoint, parameters, url_values=url_values, created_by=created_by, delay=delay)

    @staticmethod
    def task(task_id: str) -> TaskInfo:
        """Return a task with its latest progress. Needs an application context, but no request.

        This and the following methods act for the application: they do not ask the handler's `may_access`.

        Raises:
            UnknownTaskError: there is no such task, or it was deleted.
        """
        return stored_tasks.task(task_id)

    @staticmethod
    def tasks(
        *,
        created_by: str | None = None,
        endpoint: str | None = None,
        status: Status | str | None = None,
        limit: int = PAGE,
    ) -> list[TaskInfo]:
        """Return the newest tasks with their latest progress, newest first; at most `limit`, up to 1,000.

        Each argument that is not None leaves out all other tasks. With ``created_by=None``, these are the tasks of all
        users: check first that the visitor is known. Queries need the indexes of `index.yaml`.

        Raises:
            LongTaskError: an argument is impossible.
            ConfigurationError: Datastore has no index for the query.
        """
        return stored_tasks.tasks(created_by=created_by, endpoint=endpoint, status=status, limit=limit)

    @staticmethod
    def cancel(task_id: str) -> TaskInfo:
        """Cancel a task, and return it as it is then. One that has ended stays as it is: look at its `status`.

        Raises:
            UnknownTaskError: there is no such task, or it was deleted.
        """
        return stored_tasks.cancel(task_id)

    @staticmethod
    def retry(task_id: str) -> TaskInfo:
        """Start a task again that failed or was cancelled, and return it as it is then. Any other stays as it is.

        If an equal task (see `unique_key`) has not ended, nothing starts, and that one is returned.

        Raises:
            UnknownTaskError: there is no such task, or it was deleted.
            EnqueueRefusedError: the queue refused the task, which is `failed` again.
        """
        return stored_tasks.retry(task_id)

    @staticmethod
    def delete(task_id: str, *, untold: bool = False) -> TaskInfo:
        """Delete a task at once, with its parameters, result and tracebacks; return it as it was before.

        A task that has not ended is cancelled first, and what its attempt still does is lost. If the handler has
        `task_ended`, it is told of the end first: the deletion is refused until then. With `untold`, the task is
        deleted all the same, and the handler is never told.

        Raises:
            UnknownTaskError: there is no such task, or it was deleted already.
            EndUntoldError: the task has ended, perhaps by this call, and `task_ended` has not returned yet.
        """
        return stored_tasks.delete(task_id, untold=untold)


class _Pages(Blueprint):
    """Our own pages; under each host, if the application matches hosts."""

    def make_setup_state(self, app: Any, options: dict[str, Any], first_registration: bool = False) -> Any:  # noqa: FBT001, FBT002  # as in Flask
        """Add the host to each rule, and let `url_for` build them without it."""
        state = super().make_setup_state(app, options, first_registration)
        if app.url_map.host_matching:
            state.add_url_rule = functools.partial(state.add_url_rule, host=f"<{_HOST}>")  # type: ignore[method-assign]  # of this state alone
            app.url_value_preprocessors[self.name].append(lambda endpoint, values: (values or {}).pop(_HOST, None))
            app.url_default_functions[None].append(_give_host)
        return state


def _give_host(endpoint: str, values: dict[str, Any]) -> None:
    if endpoint.startswith("longtask.") and has_request_context():
        values.setdefault(_HOST, request_ctx.url_adapter.server_name if request_ctx.url_adapter else request.host)


def _prepare_request() -> None:
    """Let deliveries pass ``TRUSTED_HOSTS``; make a visitor's request raise where its form is damaged."""
    if request.routing_exception is not None:
        deliveries.admit_host()
    if _is_handlers():
        forms.watch(request._get_current_object())  # type: ignore[attr-defined]  # noqa: SLF001  # Flask's documented way


def _answer_elsewhere() -> Response | None:
    return None if _is_handlers() else deliveries.answer_elsewhere()


def _is_handlers() -> bool:
    """Return whether the current request has reached one of our handlers."""
    return handler_class(current_app.view_functions.get(request.endpoint or "")) is not None


def _schema(blueprint: Blueprint) -> Response:
    """Return the JSON Schema of the status document, which is one of the static files."""
    response = blueprint.send_static_file("status.schema.json")
    response.mimetype = "application/schema+json"
    return response


def _by_cron(work: Callable[[Runtime], maintenance.Report]) -> ResponseReturnValue:
    """Run `work` if App Engine's cron asks for it; App Engine removes this header from all other requests."""
    if request.headers.get("X-Appengine-Cron") != "true":
        return Response("Only cron may send this request.\n", status=HTTPStatus.FORBIDDEN, mimetype="text/plain")
    runtime = current_runtime()
    with runtime.ndb_context():
        report = work(runtime)
    return {"done": report.done, "left": report.left}


def _secret_keys(settings: Mapping[str, Any]) -> Sequence[str | bytes]:
    fallbacks = settings.get("SECRET_KEY_FALLBACKS") or []
    return [key for key in (settings.get("SECRET_KEY"), *fallbacks) if key]
