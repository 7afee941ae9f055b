"""What the library needs of a handler, and what it accepts from a hook. Modules below `handler` use only this."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Protocol

from flask.typing import ResponseReturnValue

from gaetk_longtask.config import Config
from gaetk_longtask.foreign import says_yes
from gaetk_longtask.info import TaskInfo
from gaetk_longtask.models import LongTask
from gaetk_longtask.payloads.serializers import Serializer
from gaetk_longtask.runtime import TaskOptions
from gaetk_longtask.web.pages.base import as_title
from gaetk_longtask.web.pages.status_page import StatusPage


class Hooks(Protocol):
    """The handler of one request; `LongRunningTaskHandler` documents its members."""

    title: ClassVar[str]
    status_template: ClassVar[str]
    phases: ClassVar[Sequence[str]]
    facts: ClassVar[Mapping[str, str]]
    max_attempts: ClassVar[int]
    keep_result: ClassVar[timedelta]
    start_methods: ClassVar[Collection[str]]
    bookmark_parameters: ClassVar[Collection[str]]
    unique_key_shared: ClassVar[bool]
    serializer: ClassVar[Serializer]
    form_url: Any
    _takes_fields: ClassVar[bool]  #: whether `prepare_task` is the default, so the parameters are the request's fields

    task: TaskInfo | LongTask | None  #: set before any hook that may use it is called

    @property
    def _runs_no_code_of_author(self) -> bool:
        """Whether a status document is made from nothing but what the library's own methods and plain texts say."""

    @classmethod
    def options(cls, config: Config) -> TaskOptions:
        """Return the options of its tasks."""

    def get_user_id(self) -> str | None:
        """Return the visitor's user id; None if the visitor is anonymous."""

    def prepare_task(self, **kwargs: Any) -> Any:
        """Return the parameters of the current request."""

    def unique_key(self, parameters: Any) -> str | None:
        """Return a key that equal requests have in common, or None."""

    def title_of(self, parameters: Any) -> str | None:
        """Return a title for the task, or None."""

    def may_access(self, task: TaskInfo) -> bool:
        """Return whether the visitor may see, cancel and retry the task."""

    def render_status(self, display: StatusPage, task: TaskInfo) -> ResponseReturnValue:
        """Return the waiting page."""

    def task_ended(self, task: LongTask) -> None:
        """Do what has to follow the end of the task."""


def may_access(hooks: Hooks, task: TaskInfo) -> bool:
    """Return whether `may_access` has returned True, see `says_yes`."""
    return says_yes(hooks.may_access(task), hook=_name(hooks, "may_access"))


def get_user_id(hooks: Hooks) -> str | None:
    """Return what `get_user_id` returns, None for an empty string; raise `TypeError` unless it is a string or None."""
    return text_or_none(hooks.get_user_id(), hook=_name(hooks, "get_user_id")) or None


def unique_key(hooks: Hooks, parameters: Any) -> str | None:
    """Return what `unique_key` returns; raise `TypeError` unless it is a string or None."""
    return text_or_none(hooks.unique_key(parameters), hook=_name(hooks, "unique_key"))


def title_of(hooks: Hooks, parameters: Any) -> str | None:
    """Return what `title_of` returns, see `as_title`; None if it is blank. Raise `TypeError` if it is no string."""
    return as_title(text_or_none(hooks.title_of(parameters), hook=_name(hooks, "title_of")) or "") or None


def task_ended(hooks: Hooks, task: LongTask) -> None:
    """Call `task_ended`; raise `TypeError` if it has only returned what would do its work."""
    answer: object = hooks.task_ended(task)  # type: ignore[func-returns-value]  # an author's may return anything
    if inspect.isawaitable(answer) or inspect.isgenerator(answer):
        if inspect.iscoroutine(answer):
            answer.close()  # else Python warns that it was never awaited
        raise TypeError(f"{_name(hooks, 'task_ended')}() must be a plain function, neither async nor with yield.")


def text_or_none(answer: object, *, hook: str) -> str | None:
    """Return what a hook has returned; raise `TypeError` unless it is a string or None."""
    if answer is None or isinstance(answer, str):
        return answer
    if inspect.iscoroutine(answer):
        answer.close()  # else Python warns that it was never awaited
    raise TypeError(f"{hook}() must return a str or None, not {answer!r}.")


def _name(hooks: Hooks, name: str) -> str:
    return f"{type(hooks).__qualname__}.{name}"
