"""The handler that authors subclass: one URL that starts a task, shows it at work and shows its result."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from flask import after_this_request, render_template, request
from flask.typing import ResponseReturnValue, RouteCallable
from flask.views import View

from gaetk_longtask.checkpoints import Checkpoints
from gaetk_longtask.config import Config
from gaetk_longtask.info import TaskInfo
from gaetk_longtask.models import LongTask
from gaetk_longtask.payloads.serializers import JSONSerializer, Serializer
from gaetk_longtask.progress.reporter import Reporter
from gaetk_longtask.services import TaskOptions
from gaetk_longtask.web import deliveries, visits
from gaetk_longtask.web.checks import check_attributes, check_work, takes_task
from gaetk_longtask.web.pages import StatusPage
from gaetk_longtask.web.parameters import parameters_of
from gaetk_longtask.web.requests import JobName, asked_job, protect
from gaetk_longtask.web.results import response_with

T = TypeVar("T")


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
        cls._display_takes_task = takes_task(cls.display_result)
        if isinstance(cls.serializer, type):
            cls.serializer = cls.serializer()
        check_attributes(cls)

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
            return parameters_of(request) | kwargs

        def display_result(self, parameters: Any, result: Any, task: Any = None) -> ResponseReturnValue:
            """Answer with the result; an override may leave out `task`.

            By default text is HTML in which nothing can run, `bytes` are a download, anything else is JSON. A result
            that was yielded comes as a `YieldedResult`, which can be iterated over.
            """
            return response_with(result)

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
            self._reporter.bar.report(message, step, total_steps or (step and self.total_steps))

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
        return self._reporter.bar.track(iterable, message, total, start=start)

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
        check_work(cls, placeholder=LongRunningTaskHandler.execute_task)
        make_handler = functools.partial(cls, *class_args, **class_kwargs)
        guarded: Any = super().as_view(name, *class_args, **class_kwargs)

        @functools.wraps(guarded)
        def view(**url_values: Any) -> ResponseReturnValue:
            after_this_request(protect)  # whoever answers: a decorator, a hook that aborts, an error handler
            if asked_job(request) == JobName.EXECUTE:
                handler = make_handler()
                return deliveries.answer(handler, handler._work)  # noqa: SLF001  # the class's own
            return guarded(**url_values)  # type: ignore[no-any-return]  # a view's own value

        view.make_handler = make_handler  # type: ignore[attr-defined]  # as Flask
        return view

    def dispatch_request(self, **url_values: Any) -> ResponseReturnValue:
        """Answer a visitor."""
        return visits.answer(self, self._show)

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
