"""The handler that authors subclass: one URL that starts a task, shows its progress and shows its result."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from flask import after_this_request, request
from flask.typing import ResponseReturnValue, RouteCallable
from flask.views import View

from gaetk_longtask.config import Config
from gaetk_longtask.execution.checkpoints import Checkpoints
from gaetk_longtask.execution.errands import Errand, Execute, ExecutePart, Join, SplitUp
from gaetk_longtask.info import TaskInfo
from gaetk_longtask.models import LongTask
from gaetk_longtask.payloads.serializers import JSONSerializer, Serializer
from gaetk_longtask.payloads.yielded import YieldedResult
from gaetk_longtask.progress.reporter import Reporter
from gaetk_longtask.runtime import TaskOptions
from gaetk_longtask.web import deliveries, visits
from gaetk_longtask.web.answers import Answers
from gaetk_longtask.web.calls import WorkCalls
from gaetk_longtask.web.checks import check_attributes, check_hooks, check_work, takes_task
from gaetk_longtask.web.current import current_runtime, current_user
from gaetk_longtask.web.hooks import get_user_id, task_ended
from gaetk_longtask.web.pages.base import DEFAULT_TITLE
from gaetk_longtask.web.pages.status_page import StatusPage
from gaetk_longtask.web.parameters import parameters_of
from gaetk_longtask.web.places import PARENT
from gaetk_longtask.web.problems import shielded
from gaetk_longtask.web.requests import JobName, asked_job, finish
from gaetk_longtask.web.results import response_with
from gaetk_longtask.web.templating import render

T = TypeVar("T")


class LongRunningTaskHandler(WorkCalls, View):
    """A view whose work takes too long for one request.

    Subclass it, write `execute_task`, and add it to an application that has a `LongTaskManager`. Use one URL rule that
    accepts GET, POST and DELETE, which is the default of ``as_view``.
    """

    #: The number of failed attempts (an exception, or the death of the process) after which a task is `failed`.
    max_attempts: ClassVar[int] = 5
    #: How long an attempt may take. Automatic scaling ends every request after 10 minutes. Basic and manual scaling
    #: allow 24 hours. For more than 10 minutes, set `service` to a service with basic or manual scaling.
    time_limit: ClassVar[timedelta] = timedelta(minutes=10)
    keep_result: ClassVar[timedelta] = timedelta(days=30)  #: how long a task is kept after it has ended
    #: The HTTP methods that start a task. Flask's own ``methods`` in a subclass means the same.
    start_methods: ClassVar[Collection[str]] = ("GET", "POST")
    #: Form fields that may appear in the status page's URL. Do not list passwords: URLs end up in logs and histories.
    bookmark_parameters: ClassVar[Collection[str]] = ()
    #: Whether equal requests of different users join one task, if `may_access` allows it.
    unique_key_shared: ClassVar[bool] = False
    queue: ClassVar[str | None] = None  #: the queue; None for ``LONGTASK_QUEUE``
    service: ClassVar[str | None] = None  #: the App Engine service that does the work; None for ``LONGTASK_SERVICE``
    #: How many parts of a task are at work at the same time, at most 100; counts for tasks that are split from now on.
    parallel: ClassVar[int] = 8
    #: Converts parameters and results to bytes, unless they are `str` or `bytes`.
    serializer: ClassVar[Serializer] = JSONSerializer()
    #: The template of the waiting page; it gets a `StatusPage` as ``page``.
    status_template: ClassVar[str] = "gaetk_longtask/status.html"
    #: What tasks are called on their pages; at most 120 characters. `title_of` gives a single task a title of its own.
    title: ClassVar[str] = DEFAULT_TITLE
    #: Where the visitor begins again if the task has failed or is gone: a URL if it contains ``/``, else the name of an
    #: endpoint. Or a method ``form_url(self, parameters)`` that returns one of these or None; it is not called if the
    #: task's parameters are gone.
    form_url: Any = None

    methods: ClassVar[Collection[str] | None] = ("GET", "POST", "DELETE")

    #: A `TaskInfo` in hooks that serve a visitor; a `LongTask` in `execute_task` and `display_result`; None until
    #: there is a task.
    task: TaskInfo | LongTask | None = None

    _takes_fields: ClassVar[bool] = True  # for `Answers`
    _display_takes_task: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Read the subclass's attributes; raise `TypeError` if one of them is invalid."""
        super().__init_subclass__(**kwargs)
        cls._read_methods(wins="start_methods" not in vars(cls))
        cls._display_takes_task = takes_task(cls.display_result)
        cls._takes_fields = cls.prepare_task is LongRunningTaskHandler.prepare_task
        if isinstance(cls.serializer, type):
            cls.serializer = cls.serializer()
        check_hooks(cls)
        check_attributes(cls)

    @classmethod
    def _read_methods(cls, *, wins: bool = True) -> None:
        """Take Flask's ``methods`` for `start_methods`, if it `wins`; the URL rule always has all of ours."""
        methods: Any = cls.methods
        if methods is LongRunningTaskHandler.methods:
            return
        if wins:  # the checks refuse what is no collection of names
            named = isinstance(methods, Iterable) and not isinstance(methods, str)
            cls.start_methods = tuple(str(each).upper() for each in methods) if named else methods or ("GET",)
        cls.methods = LongRunningTaskHandler.methods

    # What an author overrides.

    if TYPE_CHECKING:
        # With these signatures, mypy and pyright accept overrides with any arguments.
        def prepare_task(self, *args: Any, **kwargs: Any) -> Any:
            """Return the task's parameters."""

        def display_result(self, *args: Any, **kwargs: Any) -> ResponseReturnValue:
            """Return the response that shows the result."""
            raise NotImplementedError
    else:

        def prepare_task(self, **kwargs: Any) -> Any:
            """Return the task's parameters, which are stored with the task.

            By default, these are all query, form and file fields, then the arguments of the URL rule. The CSRF token
            and fields whose names start with ``_`` are left out. A field in the body replaces a query field of the same
            name. A field that is repeated in the query, or in the body, becomes a list. A file becomes `bytes`.
            """
            return parameters_of(request) | kwargs

        def display_result(self, parameters: Any, result: Any, task: Any = None) -> ResponseReturnValue:
            """Return the response that shows the result. An override may leave out `task`.

            By default, text that begins with ``<`` is sent as an HTML document in which no script can run. Other text
            is shown in a page, or sent as plain text if it was yielded or has more than 256 KiB. `bytes` are a
            download, and anything else is JSON. With ``_longtaskdownload=1`` in the URL, everything is a download. A
            result that was yielded is passed as a `YieldedResult`, an iterator.
            """
            answers = Answers(self, request, current_runtime())
            return response_with(
                result,
                text_page=lambda text: answers.text_page(text, parameters),
                download_title=answers.download_title(),
            )

    def execute_task(self, parameters: Any) -> Any:
        """Do the work and return the result, or yield the result in pieces of `str` or `bytes`.

        It runs in a request of the queue, without the visitor's session, user and arguments. If it raises an
        exception, the attempt has failed; `PermanentTaskFailure` ends the task at once. It may run more than once, so
        its writes must be safe to repeat. Work that may take longer than `time_limit` must call `checkpoint`.
        """
        raise NotImplementedError

    def split_task(self, parameters: Any) -> Iterable[Any]:
        """Return or yield the parts of the work, at most 1,000: anything that the serializer accepts.

        Write it and `execute_part` instead of `execute_task`, to have the parts worked on by several requests at the
        same time. Their order is the order of the results in `join_parts`. Without any part, `join_parts` comes at
        once. It can report progress, but must not call `checkpoint`.
        """
        raise NotImplementedError

    def execute_part(self, parameters: Any, part: Any) -> Any:
        """Do one part of the work, in a request of its own; return its result or yield it in pieces.

        All that holds for `execute_task` holds for each part: `max_attempts`, `time_limit`, `checkpoint` and the calls
        that report progress. `self.part` says which part it is. A part that fails for good fails the task.
        """
        raise NotImplementedError

    def join_parts(self, parameters: Any, results: Sequence[Any]) -> Any:
        """Make the task's result of the results of all parts; return it or yield it in pieces.

        `results` loads each result when it is accessed, by index, slice or iteration. A result that was yielded is a
        `YieldedResult`. By default, the task's result is the list of all results, which together must not be larger
        than a result may be (32 MiB).
        """
        return [each.read() if isinstance(each, YieldedResult) else each for each in results]

    def render_status(self, display: StatusPage, task: TaskInfo) -> ResponseReturnValue:
        """Return the waiting page."""
        return render(self.status_template, page=display)

    def may_access(self, task: TaskInfo) -> bool:
        """Return whether this visitor may see, cancel and retry the task: only True lets the visitor in.

        False and None refuse. Anything else refuses too, and is an error in the log. By default, only the
        user who started the task may. If that user was anonymous, everyone who has the task's unguessable URL may.
        """
        user_id = get_user_id(self)  # called for every task, because it may refuse visitors who are not signed in
        return not task.created_by or task.created_by == user_id

    def get_user_id(self) -> str | None:
        """Return the visitor's user id, which is stored as the task's ``created_by``.

        By default, this is what ``LONGTASK_USER`` returns. None means that the visitor is anonymous, as does an empty
        string. Without the setting, all visitors are.
        """
        return current_user()

    def unique_key(self, parameters: Any) -> str | None:
        """Return a key that equal requests have in common: the second request joins the first one's unfinished task.

        Only requests of the same user join one task, unless `unique_key_shared` is set. All anonymous visitors count as
        one user. With None, the default, every request starts a task of its own.
        """
        return None

    def title_of(self, parameters: Any) -> str | None:
        """Return a title for this task, such as "Invoices of May"; with None, the default, it has the class's `title`.

        It is asked once, at the start, also for a task that is started from code. The title is stored with the task.
        White space becomes a single space, and what exceeds 120 characters is cut off.
        """
        return None

    def task_ended(self, task: LongTask) -> None:
        """Do what has to follow the end of a task, such as sending a mail.

        It is called at least once after every end: a result, a failure, a cancellation, or a start that the queue
        refused; `task.status` says which. It runs in a request of the queue and must end within `time_limit`. If it
        raises or its process dies, it is called again, so it must be safe to repeat: `task.id` and `task.fence`
        identify the end. It is not called any more if the visitor has retried the task meanwhile; it is then called for
        the end of the retry. Only tasks that are started while the class overrides it are told.
        """

    # What Flask calls.

    @classmethod
    def as_view(cls, name: str, *class_args: Any, **class_kwargs: Any) -> RouteCallable:
        """Return the view function.

        The class's ``decorators`` apply to visitors only. The queue's requests are checked by the execute key.
        """
        cls._read_methods()  # again: a hook or an attribute may have been set after the class was made
        check_hooks(cls)
        check_work(cls, base=LongRunningTaskHandler)
        check_attributes(cls)
        make_handler = functools.partial(cls, *class_args, **class_kwargs)
        guarded: Any = super().as_view(name, *class_args, **class_kwargs)

        @functools.wraps(guarded)
        def view(**url_values: Any) -> ResponseReturnValue:
            # Also if a decorator, a hook that aborts or an error handler answers.
            after_this_request(finish)
            if asked_job(request) == JobName.EXECUTE:
                handler = make_handler()
                # A handler of its own tells of the end, because it may be another request than that of the work.
                tell = lambda task: make_handler()._tell(task)  # noqa: E731, SLF001  # the class's own
                return deliveries.answer(handler, handler._work, tell)  # noqa: SLF001  # the same
            return shielded(lambda: guarded(**url_values))

        view.make_handler = make_handler  # type: ignore[attr-defined]  # as Flask
        return view

    def dispatch_request(self, **url_values: Any) -> ResponseReturnValue:
        """Return the answer to a visitor's request."""
        return visits.answer(self, self._show)

    @property
    def _runs_no_code_of_author(self) -> bool:
        """Whether a status document is made from nothing but what the library's own methods and plain texts say."""
        cls, base = type(self), LongRunningTaskHandler
        return (
            not vars(self)
            and cls.may_access is base.may_access
            and cls.get_user_id is base.get_user_id
            # Not one that is computed, or translated when it is shown.
            and all(type(text) is str for text in (cls.title, *cls.phases, *cls.facts.values()))
        )

    def _work(self, task: LongTask, errand: Errand, reporter: Reporter, checkpoints: Checkpoints) -> Any:
        self.task, self._reporter, self._checkpoints = task, reporter, checkpoints
        request.environ[PARENT] = task  # of the tasks that this one starts
        self.resumed_from = checkpoints.resumed_from
        match errand:
            case Execute(parameters=parameters):
                return self.execute_task(parameters)
            case SplitUp(parameters=parameters):
                return self.split_task(parameters)
            case ExecutePart(parameters=parameters, part=part, given=given):
                self.part = part
                return self.execute_part(parameters, given)
            case Join(parameters=parameters, results=results):
                return self.join_parts(parameters, results)

    def _tell(self, task: LongTask) -> None:
        self.task = request.environ[PARENT] = task
        task_ended(self, task)

    def _show(self, parameters: Any, result: Any, task: LongTask) -> ResponseReturnValue:
        return self.display_result(parameters, result, *([task] if self._display_takes_task else []))

    @classmethod
    def options(cls, config: Config) -> TaskOptions:
        """Return the options of the class's tasks; the application's settings complete them."""
        elsewhere = cls.service is not None and cls.service != config.service
        return TaskOptions(
            serializer=cls.serializer,
            max_attempts=cls.max_attempts,
            time_limit=cls.time_limit,
            keep_result=cls.keep_result,
            queue=cls.queue or config.queue,
            service=cls.service or config.service,
            version=None if elsewhere else config.version,
            phases=tuple(str(name) for name in cls.phases),
            parallel=cls.parallel if cls.split_task is not LongRunningTaskHandler.split_task else None,
            tells_end=cls.task_ended is not LongRunningTaskHandler.task_ended,
        )
