"""The handler that authors subclass: one URL that starts a task, shows it at work and shows its result."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import timedelta
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from flask import Request, Response, after_this_request, current_app, jsonify, render_template, request
from flask.typing import ResponseReturnValue, RouteCallable
from flask.views import View

from gaetk_longtask import execution
from gaetk_longtask.checkpoints import Checkpoints
from gaetk_longtask.config import Config
from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.info import TaskInfo
from gaetk_longtask.models import LongTask
from gaetk_longtask.payloads.serializers import JSONSerializer, Serializer
from gaetk_longtask.payloads.yielded import YieldedResult
from gaetk_longtask.progress.reporter import Reporter
from gaetk_longtask.queues import Delivery
from gaetk_longtask.services import Services, TaskOptions
from gaetk_longtask.web import visits
from gaetk_longtask.web.pages import StatusPage
from gaetk_longtask.web.problems import ProblemError
from gaetk_longtask.web.requests import (
    JobName,
    asked_job,
    csrf_field,
    delivery_of,
    gather,
    is_task_id,
    jsonable,
    protect,
)

T = TypeVar("T")

#: What App Engine gives a request on automatic scaling, and on any other (App Engine's documentation).
LONGEST_AUTOMATIC_TIME, LONGEST_TIME = timedelta(minutes=10), timedelta(hours=24)
LONGEST_KEPT = timedelta(days=36_525)
#: Where the manager puts the application's `Services`.
EXTENSION = "gaetk_longtask"

#: What a delivery is told of an id that is none.
NO_SUCH_TASK = "no such task"


class LongRunningTaskHandler(View):
    """A view whose work takes longer than anyone will wait for.

    Subclass it, write `execute_task`, and add it to an application that has a `LongTaskManager`, under one URL rule
    that takes GET and POST (as ``as_view`` arranges it).
    """

    #: The total of steps where `log_progress` does not say; 0 for unknown.
    total_steps: ClassVar[float] = 0
    #: Exceptions and deaths after which a task is `failed`.
    max_attempts: ClassVar[int] = 5
    #: How long an attempt may take. Automatic scaling ends every request after 10 minutes. Basic and manual scaling
    #: give 24 hours; for more than 10 minutes `service` has to name a service that scales so.
    time_limit: ClassVar[timedelta] = timedelta(minutes=10)
    #: How long a task is kept after it has ended.
    keep_result: ClassVar[timedelta] = timedelta(days=30)
    #: The methods that start a task; Flask's own ``methods`` in a subclass means the same.
    start_methods: ClassVar[Collection[str]] = ("GET", "POST")
    #: Form fields that may go into the status page's URL. Not passwords: a URL ends up in logs and histories.
    bookmark_parameters: ClassVar[Collection[str]] = ()
    #: Whether equal requests of different users join one task, if `may_access` lets them in.
    unique_key_shared: ClassVar[bool] = False
    #: The queue; None for ``LONGTASK_QUEUE``.
    queue: ClassVar[str | None] = None
    #: The App Engine service that works; None for ``LONGTASK_SERVICE``.
    service: ClassVar[str | None] = None
    #: How parameters and results become bytes, unless they are `str` or `bytes`.
    serializer: ClassVar[Serializer] = JSONSerializer()
    #: The waiting page; it gets a `StatusPage` as ``page``.
    status_template: ClassVar[str] = "gaetk_longtask/status.html"
    #: The waiting page's heading.
    title: ClassVar[str] = "Please wait"

    methods: ClassVar[Collection[str] | None] = ("GET", "POST")

    #: In `execute_task`: what an earlier attempt has given to `checkpoint` last; None where there is nothing.
    resumed_from: Any = None

    #: A `TaskInfo` in hooks that serve a visitor, a `LongTask` in `execute_task` and `display_result`; None before
    #: there is a task.
    task: TaskInfo | LongTask | None = None

    _display_takes_task: ClassVar[bool] = True
    _reporter: Reporter | None = None
    _checkpoints: Checkpoints | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Understand what the subclass says, and refuse what can't work."""
        super().__init_subclass__(**kwargs)
        if cls.methods is not LongRunningTaskHandler.methods:  # the subclass's own, or a mixin's
            if "start_methods" not in vars(cls):
                cls.start_methods = tuple(method.upper() for method in cls.methods or ("GET",))
            cls.methods = LongRunningTaskHandler.methods
        cls._display_takes_task = _takes_three(cls.display_result)
        if isinstance(cls.serializer, type):
            cls.serializer = cls.serializer()
        _check(cls)

    # What an author overrides.

    if TYPE_CHECKING:
        # Gradual on purpose: mypy and pyright let an override name the arguments that it wants.
        def prepare_task(self, *args: Any, **kwargs: Any) -> Any:
            """Turn the request into the parameters."""

        def display_result(self, *args: Any, **kwargs: Any) -> ResponseReturnValue:
            """Answer with the result."""
            raise NotImplementedError
    else:

        def prepare_task(self, **kwargs: Any) -> Any:
            """Turn the request into the parameters, which the task keeps.

            Every query, form and file field whose name does not start with ``_`` (nor is the CSRF token), then the
            URL's own arguments. A name in the body hides the same name in the query; repetition within one becomes a
            list; a file arrives as `bytes`.
            """
            if request.mimetype == "application/json":
                raise ProblemError(
                    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                    "This handler takes form fields; override prepare_task to take a JSON body.",
                )
            body = request.form.to_dict(flat=False)
            for name, files in request.files.lists():
                body[name] = body.get(name, []) + [file.read() for file in files]
            return gather([request.args.to_dict(flat=False), body], csrf_field()) | kwargs

        def display_result(self, parameters: Any, result: Any, task: Any = None) -> ResponseReturnValue:
            """Answer with the result; an override may leave out `task`.

            By default text is HTML in which nothing can run, `bytes` are a download, anything else is JSON. A result
            that was yielded comes as a `YieldedResult`, which can be iterated over.
            """
            match result:
                case str() | YieldedResult(is_text=True):
                    return Response(result, mimetype="text/html", headers={"Content-Security-Policy": "sandbox"})
                case bytes() | YieldedResult():
                    headers = {"Content-Disposition": "attachment"}
                    return Response(result, mimetype="application/octet-stream", headers=headers)
                case _:
                    return jsonify(jsonable(result))

    def execute_task(self, parameters: Any) -> Any:
        """Do the work and return the result, or yield pieces of `str` or `bytes` that become it.

        Runs in a request of the queue: no session, no user, no arguments of the visitor. What it raises is an attempt
        that failed; `PermanentTaskFailure` ends the task at once. It may run more than once: make what it writes
        harmless twice. Work that may take longer than `time_limit` calls `checkpoint`.
        """
        raise NotImplementedError

    def render_status(self, display: StatusPage, task: TaskInfo) -> ResponseReturnValue:
        """Answer with the waiting page."""
        return render_template(self.status_template, page=display)

    def may_access(self, task: TaskInfo) -> bool:
        """Tell whether this visitor may see, cancel and repeat the task.

        By default whoever has its unguessable URL, and only its creator if `get_user_id` knew who that was.
        """
        user_id = self.get_user_id()  # asked in any case: it may refuse a visitor who proves no identity
        return not task.created_by or task.created_by == user_id

    def get_user_id(self) -> str | None:
        """Tell who is asking; kept as the task's ``created_by``. Nobody by default."""
        return None

    def unique_key(self, parameters: Any) -> str | None:
        """Name what makes two requests equal: the second one joins the task of the first while that lives.

        Only requests of the same user join, unless `unique_key_shared`; all whom `get_user_id` does not know count as
        one user. None, the default, joins nothing.
        """
        return None

    # What an author calls.

    def log_progress(self, message: str, step: float = 0, total_steps: float = 0) -> None:
        """Tell the visitor how far the work has come; stores and returns, cheap enough for the innermost loop.

        Without `step` and `total_steps` only the message changes.

        Raises:
            TaskCancelled: the task was cancelled, or another attempt has taken it over.

        """
        if self._reporter is not None:
            self._reporter.report(message, step, total_steps or (step and self.total_steps))

    def track(
        self, iterable: Iterable[T], message: str = "", total: float | None = None, *, start: int = 0
    ) -> Iterator[T]:
        """Go through `iterable` and report each item as a step; `total` where `iterable` has no length.

        Loops within loops share one bar: it is the outermost one's, and an inner one moves it on within an item.

        `start` is how many items earlier attempts are done with: they are passed over, and the bar goes on behind them.
        The count is yours to keep, in the state that you give to `checkpoint`, so that it and whatever else you have
        reached become durable in one commit; `iterable` has to come in the same order each time.
        """
        if self._reporter is None:
            return islice(iterable, start, None)
        return self._reporter.track(iterable, message, total, start=start)

    def checkpoint(self, state: Any) -> None:
        """Keep what the work has reached, so that the next attempt finds it in `resumed_from`, whatever happens.

        Call it often, with anything that the serializer takes: a state becomes durable every 15 seconds, other calls
        cost less than a microsecond. Near `time_limit` it hands the task over: it does not return, and the next attempt
        goes on from this very state. Pieces that were yielded before the call are kept with it, and count as yielded.
        A state that can't be written is tried again by a later call.

        Raises:
            TaskCancelled: the task was cancelled, or another attempt has taken it over.
            LongTaskError: called within an NDB transaction.

        """
        if self._checkpoints is not None:
            self._checkpoints.offer(state)

    def assert_current(self) -> None:
        """Prove that this attempt still owns the task: call it in your own NDB transaction, before you write.

        The transaction is not committed if the task changes hands before it is, so no attempt that has been given up
        can write your entities. Outside of a transaction it says how things stand, and proves nothing. One read.

        Raises:
            TaskCancelled: the task was cancelled, or another attempt has taken it over.

        """
        if self._checkpoints is not None:
            self._checkpoints.assert_current()

    # What Flask calls.

    @classmethod
    def as_view(cls, name: str, *class_args: Any, **class_kwargs: Any) -> RouteCallable:
        """Make the view function. The class's ``decorators`` guard visitors; the queue passes them, with its key."""
        if cls.execute_task is LongRunningTaskHandler.execute_task:
            message = f"{cls.__qualname__} has no execute_task(self, parameters): write what the task does."
            raise TypeError(message)
        if inspect.iscoroutinefunction(cls.execute_task) or inspect.isasyncgenfunction(cls.execute_task):
            message = f"{cls.__qualname__}.execute_task must not be async: call asyncio.run() in it."
            raise TypeError(message)
        guarded: Any = super().as_view(name, *class_args, **class_kwargs)

        @functools.wraps(guarded)
        def view(**url_values: Any) -> ResponseReturnValue:
            after_this_request(protect)  # whoever answers: a decorator, a hook that aborts, an error handler
            if asked_job(request) == JobName.EXECUTE:
                return cls(*class_args, **class_kwargs)._deliver()  # noqa: SLF001  # the class's own
            return guarded(**url_values)  # type: ignore[no-any-return]  # a view's own value

        view.make_handler = functools.partial(cls, *class_args, **class_kwargs)  # type: ignore[attr-defined]  # as Flask
        return view

    def dispatch_request(self, **url_values: Any) -> ResponseReturnValue:
        """Answer a visitor."""
        services = services_of_current_app()
        asked: Request = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001  # Flask's documented way
        with services.ndb_context():
            return visits.Visit(self, asked, services, self.options(services.config), self._show).answer()

    def _deliver(self) -> Response:
        """Answer the queue, or somebody who pretends to be it."""
        delivery = delivery_of(request)
        if delivery is None or request.method != "GET":
            reply = execution.Reply(code=403, reason="only the task queue may ask for this")
        elif not is_task_id(delivery.task_id):
            reply = execution.Reply(code=200, reason=NO_SUCH_TASK)
        else:
            reply = self._execute(delivery)
        if reply.code == HTTPStatus.FORBIDDEN:
            return ProblemError(HTTPStatus.FORBIDDEN, "Only the task queue may ask for this.").response()
        return Response(reply.reason + "\n", status=reply.code, mimetype="text/plain")

    def _execute(self, delivery: Delivery) -> execution.Reply:
        try:
            services = services_of_current_app()
            with services.ndb_context():
                return execution.deliver(services, delivery, self.options(services.config), _Job(self._work))
        except Exception as exc:  # noqa: BLE001  # no error handler of the application may turn it into a 200
            visits.report_exception(exc)
            return execution.Reply(code=500, reason="this attempt has failed, see the log")

    def _work(self, task: LongTask, parameters: Any, reporter: Reporter, checkpoints: Checkpoints) -> Any:
        self.task, self._reporter, self._checkpoints = task, reporter, checkpoints
        self.resumed_from = checkpoints.resumed_from
        return self.execute_task(parameters)

    def _show(self, parameters: Any, result: Any, task: LongTask) -> ResponseReturnValue:
        if self._display_takes_task:
            return self.display_result(parameters, result, task)
        return self.display_result(parameters, result)

    @classmethod
    def options(cls, config: Config) -> TaskOptions:
        """Join what the class and the application's settings say."""
        elsewhere = cls.service is not None and cls.service != config.service
        return TaskOptions(
            serializer=cls.serializer,
            max_attempts=cls.max_attempts,
            time_limit=cls.time_limit,
            keep_result=cls.keep_result,
            queue=cls.queue or config.queue,
            service=cls.service or config.service,
            version=None if elsewhere else config.version,
        )


class _Job:
    """The author's part of an attempt, for `execution`, which knows no Flask."""

    def __init__(self, work: Callable[[LongTask, Any, Reporter, Checkpoints], Any]) -> None:
        self.execute = work

    report_exception = staticmethod(visits.report_exception)


def is_queue_request() -> bool:
    """Tell whether this request is a delivery to one of our handlers, for the application's own ``before_request``.

    Exempt such a request from login and redirects: it gets nowhere but to the check of the task's execute key.
    """
    view = current_app.view_functions.get(request.endpoint or "")
    return (
        handler_class(view) is not None
        and request.method == "GET"
        and asked_job(request) == JobName.EXECUTE
        and delivery_of(request) is not None
    )


def handler_class(view: Any) -> type[LongRunningTaskHandler] | None:
    """Give the handler behind a view function, if it is one of ours."""
    cls = getattr(view, "view_class", None)
    return cls if isinstance(cls, type) and issubclass(cls, LongRunningTaskHandler) else None


def services_of_current_app() -> Services:
    """Give what the manager has put together for the current application."""
    services = current_app.extensions.get(EXTENSION)
    if not isinstance(services, Services):
        message = "This application has no LongTaskManager: write LongTaskManager(app) where the app is made."
        raise ConfigurationError(message)
    return services


def _takes_three(display_result: Any) -> bool:
    """Tell the original's signature ``(parameters, result, task)`` from the article's ``(parameters, result)``."""
    try:
        inspect.signature(display_result).bind(None, None, None, None)
    except TypeError:
        return False
    return True


def _check(cls: type[LongRunningTaskHandler]) -> None:
    """Find a permanent mistake when the class is made."""
    name = cls.__qualname__
    for attribute in ("time_limit", "keep_result"):
        value = getattr(cls, attribute)
        if not isinstance(value, timedelta) or value <= timedelta(0):
            message = f"{name}.{attribute} must be a positive datetime.timedelta, not {value!r}."
            raise TypeError(message)
    if cls.keep_result > LONGEST_KEPT:
        message = f"{name}.keep_result is more than a hundred years, which is more than Datastore can tell."
        raise TypeError(message)
    if cls.time_limit > LONGEST_TIME:
        message = f"{name}.time_limit is more than the 24 hours that App Engine gives any request: call checkpoint()."
        raise TypeError(message)
    if cls.time_limit > LONGEST_AUTOMATIC_TIME and cls.service is None:
        message = (
            f"{name}.time_limit is more than the 10 minutes that App Engine gives a request on automatic scaling. Keep "
            "to them and call checkpoint(), or name the service on basic or manual scaling that does the work: "
            f"{name}.service = 'worker'; 'default' if it is the only one."
        )
        raise TypeError(message)
    if type(cls.max_attempts) is not int or cls.max_attempts < 1:
        message = f"{name}.max_attempts must be a whole number from 1, not {cls.max_attempts!r}."
        raise TypeError(message)
    if not callable(getattr(cls.serializer, "dumps", None)) or not callable(getattr(cls.serializer, "loads", None)):
        message = f"{name}.serializer must be a serializer, such as JSONSerializer(), not {cls.serializer!r}."
        raise TypeError(message)
    for attribute in ("start_methods", "bookmark_parameters"):
        value = getattr(cls, attribute)
        if isinstance(value, str):
            message = f"{name}.{attribute} must be a collection of names, not one string; write ({value!r},)."
            raise TypeError(message)
    unknown = set(cls.start_methods) - {"GET", "POST"}
    if unknown or not cls.start_methods:
        message = f"{name}.start_methods may hold GET and POST, not {sorted(unknown)}."
        raise TypeError(message)
    if not cls.init_every_request:
        message = f"{name}.init_every_request must stay True: a handler keeps the request's task on itself."
        raise TypeError(message)
