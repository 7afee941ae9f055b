"""What the library asks of a handler; everything below `handler` knows it by this protocol alone."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any, ClassVar, Protocol

from flask.typing import ResponseReturnValue

from gaetk_longtask.config import Config
from gaetk_longtask.info import TaskInfo
from gaetk_longtask.models import LongTask
from gaetk_longtask.payloads.serializers import Serializer
from gaetk_longtask.services import TaskOptions
from gaetk_longtask.web.pages import StatusPage


class Hooks(Protocol):
    """One request's handler, as `LongRunningTaskHandler` documents it."""

    title: ClassVar[str]
    status_template: ClassVar[str]
    max_attempts: ClassVar[int]
    keep_result: ClassVar[timedelta]
    start_methods: ClassVar[Collection[str]]
    bookmark_parameters: ClassVar[Collection[str]]
    unique_key_shared: ClassVar[bool]
    serializer: ClassVar[Serializer]

    task: TaskInfo | LongTask | None  #: set before a hook that may ask for it is called

    @classmethod
    def options(cls, config: Config) -> TaskOptions:
        """Return how its tasks are to be treated."""

    def get_user_id(self) -> str | None:
        """Return who is asking."""

    def prepare_task(self, **kwargs: Any) -> Any:
        """Return the parameters that the current request gives."""

    def unique_key(self, parameters: Any) -> str | None:
        """Return what makes two requests equal."""

    def may_access(self, task: TaskInfo) -> bool:
        """Return whether the visitor may see and steer the task."""

    def render_status(self, display: StatusPage, task: TaskInfo) -> ResponseReturnValue:
        """Return the waiting page."""
