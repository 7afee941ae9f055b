"""Code as authors write it. mypy checks it, and it never runs. It fixes the public types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, assert_type

from flask import Flask, Response
from flask.typing import ResponseReturnValue
from google.cloud import ndb

from gaetk_longtask import (
    DamagedDataError,
    JSONSerializer,
    LongRunningTaskHandler,
    LongTask,
    LongTaskManager,
    PermanentTaskFailure,
    PickleSerializer,
    SerializationError,
    Serializer,
    Signer,
    Status,
    StatusPage,
    TaskCancelled,
    TaskInfo,
    YieldedResult,
    is_queue_request,
)


class InParts(LongRunningTaskHandler):
    """Works in parts."""

    parallel = 4

    def split_task(self, parameters: dict[str, Any]) -> list[str]:
        return ["2026-01", "2026-02"]

    def execute_part(self, parameters: dict[str, Any], part: str) -> dict[str, int]:
        assert_type(self.part.number, int)
        assert_type(self.part.total, int)
        return {part: 1}

    def join_parts(self, parameters: dict[str, Any], results: Sequence[dict[str, int]]) -> Iterator[str]:
        for result in results:
            yield str(result)


class Report(LongRunningTaskHandler):
    """Overrides everything that can be overridden, with the narrowest types that an author would use."""

    title = "Report"
    total_steps = 12
    max_attempts = 3
    time_limit = timedelta(hours=2)
    keep_result = timedelta(days=1)
    start_methods = ("POST",)
    bookmark_parameters = ("month",)
    queue = "reports"
    service = "worker"
    serializer = PickleSerializer()
    status_template = "own.html"

    def prepare_task(self, year: int, **kwargs: Any) -> dict[str, Any]:
        return {"year": year, **kwargs}

    def execute_task(self, parameters: dict[str, Any]) -> str:
        assert isinstance(self.task, LongTask)
        assert_type(self.task.id, str)
        assert_type(self.task.url, str)
        assert_type(self.task.progress.message, str)
        for item in self.track([1, 2], "Reading", start=1):
            assert_type(item, int)
        self.log_progress("Writing", 1, 2)
        self.checkpoint({"step": 1})
        self.assert_current()
        assert_type(self.resumed_from, Any)
        return "done"

    def display_result(self, parameters: dict[str, Any], result: str) -> Response:
        return Response(result, mimetype="text/csv")

    def render_status(self, display: StatusPage, task: TaskInfo) -> ResponseReturnValue:
        assert_type(display.percent, int | None)
        assert_type(task.status, Status)
        assert_type(task.created_at, datetime)
        assert_type(task.created_by, str | None)
        assert_type(task.title, str | None)
        assert_type(task.attempt, int)
        assert_type(task.progress.percent, int | None)
        return "wait"

    def may_access(self, task: TaskInfo) -> bool:
        return True

    def get_user_id(self) -> str | None:
        return "anna"

    def unique_key(self, parameters: dict[str, Any]) -> str | None:
        return str(parameters["year"])

    def title_of(self, parameters: dict[str, Any]) -> str | None:
        return f"Invoices of {parameters['year']}"

    def task_ended(self, task: LongTask) -> None:
        print(task.id, task.fence, task.url)


class WithTask(LongRunningTaskHandler):
    """Overrides ``display_result`` with the signature of the original library."""

    serializer = JSONSerializer()

    def execute_task(self, parameters: Any) -> Iterator[bytes]:
        try:
            yield b"piece"
        except TaskCancelled as exc:
            assert_type(exc.superseded, bool)
            raise
        raise PermanentTaskFailure("never")

    def display_result(self, parameters: Any, result: YieldedResult, task: LongTask) -> YieldedResult:
        assert_type(result.size, int)
        assert_type(result.is_text, bool)
        return result


class Lines:
    """A serializer by the author."""

    name = "lines"

    def dumps(self, value: Any, signer: Signer) -> bytes:
        if not isinstance(value, list):
            assert_type(signer.field, str)
            raise SerializationError("Pass a list.", path=signer.field, type_name=type(value).__name__)
        return signer.sign("\n".join(value).encode())

    def loads(self, data: bytes, signer: Signer) -> list[str]:
        try:
            return signer.unsign(data).decode().split("\n")
        except UnicodeDecodeError as exc:
            raise DamagedDataError("These are no lines.") from exc


OWN: Serializer = Lines()


class OwnSerializer(LongRunningTaskHandler):
    """Stores lines."""

    serializer = Lines()


def make() -> None:
    """Set up an application."""
    app = Flask("typing")
    manager = LongTaskManager(app, ndb_client=ndb.Client())
    LongTaskManager().init_app(app)
    app.add_url_rule("/report/<int:year>", view_func=Report.as_view("report"))
    assert_type(manager.start("report", {}, url_values={"year": 2026}, created_by=None), LongTask)
    assert_type(is_queue_request(), bool)
