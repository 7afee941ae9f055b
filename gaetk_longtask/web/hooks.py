"""What the library needs of a handler. All modules below `handler` use only this protocol."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any, ClassVar, Protocol

from flask.typing import ResponseReturnValue

from gaetk_longtask.config import Config
from gaetk_longtask.info import TaskInfo
from gaetk_longtask.models import LongTask
from gaetk_longtask.payloads.serializers import Serializer
from gaetk_longtask.runtime import TaskOptions
from gaetk_longtask.web.pages import StatusPage


class Hooks(Protocol):
    """The handler of one request; `LongRunningTaskHandler` documents its members."""

    title: ClassVar[str]
    status_template: ClassVar[str]
    max_attempts: ClassVar[int]
    keep_result: ClassVar[timedelta]
    start_methods: ClassVar[Collection[str]]
    bookmark_parameters: ClassVar[Collection[str]]
    unique_key_shared: ClassVar[bool]
    serializer: ClassVar[Serializer]

    task: TaskInfo | LongTask | None  #: set before any hook that may use it is called

    @classmethod
    def options(cls, config: Config) -> TaskOptions:
        """Return the options of its tasks."""

    def get_user_id(self) -> str | None:
        """Return the visitor's user id; None if the visitor is anonymous."""

    def prepare_task(self, **kwargs: Any) -> Any:
        """Return the parameters of the current request."""

    def unique_key(self, parameters: Any) -> str | None:
        """Return a key that equal requests have in common, or None."""

    def may_access(self, task: TaskInfo) -> bool:
        """Return whether the visitor may see, cancel and retry the task."""

    def render_status(self, display: StatusPage, task: TaskInfo) -> ResponseReturnValue:
        """Return the waiting page."""
