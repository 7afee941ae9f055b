"""A handler's class is understood, and what can't work is refused, when it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from gaetk_longtask import (
    JSONSerializer,
    LongRunningTaskHandler,
    LongTaskManager,
    PickleSerializer,
    is_queue_request,
)
from gaetk_longtask.config import Config
from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.queues import KEY_HEADER
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue
from gaetk_longtask.web.current import services_of_current_app
from gaetk_longtask.web.handler import handler_class
from gaetk_longtask.web.requests import QUEUE_HEADER
from tests.unit.conftest import ID, info_of


def make(*bases: type, **attributes: Any) -> type[LongRunningTaskHandler]:
    """Write a handler named Report."""
    own = {"execute_task": lambda self, parameters: None}
    return type("Report", bases or (LongRunningTaskHandler,), own | attributes)


@pytest.fixture
def app() -> Flask:
    app = Flask("tests")
    LongTaskManager(app, queue=InMemoryQueue(), progress=InMemoryProgressStore())
    return app


# display_result.


def shown_by(cls: type[LongRunningTaskHandler]) -> Any:
    return cls()._show("parameters", "result", "task")


def test_the_originals_display_result_gets_the_task() -> None:
    class Report(LongRunningTaskHandler):
        def display_result(self, parameters: Any, result: Any, task: Any) -> str:
            return f"{parameters} {result} {task}"

    assert shown_by(Report) == "parameters result task"


def test_the_articles_display_result_does_not() -> None:
    class Report(LongRunningTaskHandler):
        def display_result(self, parameters: Any, result: Any) -> str:
            return f"{parameters} {result}"

    assert shown_by(Report) == "parameters result"


def test_a_display_result_that_may_take_the_task_gets_it() -> None:
    class Report(LongRunningTaskHandler):
        def display_result(self, parameters: Any, result: Any, task: Any = None) -> str:
            return str(task)

    assert shown_by(Report) == "task"


def test_a_display_result_that_takes_anything_gets_the_task() -> None:
    class Report(LongRunningTaskHandler):
        def display_result(self, *args: Any) -> str:
            return str(args[-1])

    assert shown_by(Report) == "task"


def test_a_signature_is_inherited_with_its_display_result() -> None:
    class Base(LongRunningTaskHandler):
        def display_result(self, parameters: Any, result: Any) -> str:
            return "base"

    class Report(Base):
        pass

    assert shown_by(Report) == "base"


def test_a_subclass_may_go_back_to_the_other_signature() -> None:
    class Base(LongRunningTaskHandler):
        def display_result(self, parameters: Any, result: Any) -> str:
            return "base"

    class Report(Base):
        def display_result(self, parameters: Any, result: Any, task: Any) -> str:
            return str(task)

    assert shown_by(Report) == "task"


def test_a_display_result_may_come_from_a_class_that_is_no_handler() -> None:
    class AsText:
        def display_result(self, parameters: Any, result: Any) -> str:
            return f"{result} as text"

    assert shown_by(make(AsText, LongRunningTaskHandler)) == "result as text"


# methods and start_methods.


def test_a_task_is_started_by_get_and_post() -> None:
    assert set(make().start_methods) == {"GET", "POST"}


def test_flasks_own_methods_say_what_starts_a_task() -> None:
    assert set(make(methods=["post"]).start_methods) == {"POST"}


def test_flasks_default_methods_are_get() -> None:
    assert set(make(methods=None).start_methods) == {"GET"}


def test_start_methods_win_over_flasks_own() -> None:
    assert set(make(methods=["GET", "POST"], start_methods=("POST",)).start_methods) == {"POST"}


def test_a_page_is_always_looked_at_by_get_and_steered_by_post() -> None:
    assert set(make(methods=["POST"]).as_view("report").methods) == {"GET", "POST"}
    assert set(make(start_methods=("GET",)).as_view("report").methods) == {"GET", "POST"}


def test_methods_may_come_from_a_class_that_is_no_handler() -> None:
    class PostOnly:
        methods = ("POST",)

    report = make(PostOnly, LongRunningTaskHandler)
    assert set(report.start_methods) == {"POST"}
    assert set(report.as_view("report").methods) == {"GET", "POST"}


def test_what_starts_a_task_is_inherited() -> None:
    assert set(make(make(methods=["POST"])).start_methods) == {"POST"}


# Mistakes.


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("time_limit", 600),
        ("time_limit", None),
        ("time_limit", timedelta(0)),
        ("time_limit", timedelta(seconds=-1)),
        ("keep_result", 30),
        ("keep_result", timedelta(0)),
        ("max_attempts", 0),
        ("max_attempts", -1),
        ("max_attempts", 2.5),
        ("max_attempts", "5"),
        ("max_attempts", None),
        ("start_methods", "POST"),
        ("start_methods", ()),
        ("start_methods", ("GET", "PUT")),
        ("methods", ["PUT"]),
        ("bookmark_parameters", "month"),
        ("init_every_request", False),
    ],
)
def test_a_mistake_is_refused_when_the_class_is_made_with_its_name_and_the_value(attribute: str, value: Any) -> None:
    named = {"methods": "start_methods"}.get(attribute, attribute)
    with pytest.raises(TypeError, match=rf"Report\.{named} (must|may)"):
        make(**{attribute: value})


def test_one_name_instead_of_a_collection_is_corrected_in_the_message() -> None:
    with pytest.raises(TypeError, match=r"write \('month',\)"):
        make(bookmark_parameters="month")


def test_what_is_wrong_with_the_methods_is_named() -> None:
    with pytest.raises(TypeError, match=r"not \['DELETE', 'PUT'\]"):
        make(start_methods=("GET", "PUT", "DELETE"))


def test_a_handler_without_execute_task_is_refused_when_the_view_is_made() -> None:
    class Report(LongRunningTaskHandler):
        pass

    with pytest.raises(TypeError, match=r"Report has no execute_task\(self, parameters\)"):
        Report.as_view("report")


def test_a_base_class_without_execute_task_is_fine() -> None:
    class Base(LongRunningTaskHandler):
        title = "Reports"

    assert make(Base).as_view("report")


def test_where_nobody_writes_execute_task_it_does_not_pretend_to_work() -> None:
    with pytest.raises(NotImplementedError):
        LongRunningTaskHandler().execute_task({})


# Serializers and options.


def test_a_serializer_may_be_given_as_its_class() -> None:
    assert isinstance(make(serializer=PickleSerializer).serializer, PickleSerializer)


def test_a_serializer_is_json_unless_said_otherwise() -> None:
    assert isinstance(make().serializer, JSONSerializer)


def test_queue_service_and_version_are_those_of_the_settings() -> None:
    options = make().options(Config(queue="slow", service="web", version="v7"))
    assert (options.queue, options.service, options.version) == ("slow", "web", "v7")


def test_a_handlers_own_queue_and_service_win() -> None:
    options = make(queue="bulk", service="worker").options(Config(queue="slow", service="web", version="v7"))
    assert (options.queue, options.service) == ("bulk", "worker")


def test_the_settings_version_does_not_belong_to_a_handlers_own_service() -> None:
    assert make(service="worker").options(Config(service="web", version="v7")).version is None
    assert make(service="web").options(Config(service="web", version="v7")).version == "v7"


def test_a_handler_says_how_its_tasks_are_treated() -> None:
    cls = make(max_attempts=2, time_limit=timedelta(hours=1), keep_result=timedelta(days=1), service="worker")
    options = cls.options(Config())
    assert (options.max_attempts, options.time_limit, options.keep_result) == (2, timedelta(hours=1), timedelta(days=1))


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"time_limit": timedelta(minutes=11)}, "more than the 10 minutes .* on automatic scaling"),
        ({"time_limit": timedelta(hours=25), "service": "worker"}, "more than the 24 hours .* any request"),
    ],
)
def test_more_time_than_app_engine_gives_is_refused_when_the_class_is_made(
    attributes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(TypeError, match=rf"Report\.time_limit is {reason}"):
        make(**attributes)


def test_what_is_to_be_kept_for_ever_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match=r"Report\.keep_result is more than a hundred years"):
        make(keep_result=timedelta.max)


def test_a_serializer_that_is_none_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(
        TypeError, match=r"Report\.serializer must be a serializer, such as JSONSerializer\(\), not 'json'"
    ):
        make(serializer="json")


def test_work_that_would_have_to_be_awaited_is_refused_when_the_view_is_made() -> None:
    class Report(LongRunningTaskHandler):
        async def execute_task(self, parameters: Any) -> Any:
            return "result"

    with pytest.raises(TypeError, match=r"Report\.execute_task must not be async"):
        Report.as_view("report")


# What an author calls outside of an attempt.


def test_progress_that_nobody_waits_for_goes_nowhere() -> None:
    make()().log_progress("Reading", 1, 2)


def test_tracking_that_nobody_waits_for_gives_the_items() -> None:
    assert list(make()().track([1, 2, 3], "Reading")) == [1, 2, 3]


def test_tracking_that_nobody_waits_for_passes_over_what_is_done() -> None:
    assert list(make()().track([1, 2, 3], "Reading", start=2)) == [3]


# Who may see a task.


def user(name: str | None) -> LongRunningTaskHandler:
    return make(get_user_id=lambda self: name)()


def test_a_task_of_nobody_is_for_whoever_has_its_url() -> None:
    assert user(None).may_access(info_of(created_by=None))
    assert user("anna").may_access(info_of(created_by=None))


def test_a_task_of_somebody_is_for_them_alone() -> None:
    assert user("anna").may_access(info_of(created_by="anna"))
    assert not user("otto").may_access(info_of(created_by="anna"))
    assert not user(None).may_access(info_of(created_by="anna"))


def test_nobody_is_asking_unless_the_application_knows_better() -> None:
    assert make()().get_user_id() is None


# The view function.


def test_a_view_function_tells_its_handler() -> None:
    cls = make()
    assert handler_class(cls.as_view("report")) is cls


@pytest.mark.parametrize("view", [None, len, Flask("tests")])
def test_anything_else_has_no_handler(view: Any) -> None:
    assert handler_class(view) is None


def test_decorators_guard_visitors_and_the_queue_passes_them_to_the_check_of_its_key(app: Flask) -> None:
    def login_required(view: Callable[..., Any]) -> Callable[..., Any]:
        return lambda **url_values: ("Log in first.", 401)

    app.add_url_rule("/report", view_func=make(decorators=[login_required]).as_view("report"))
    client = app.test_client()
    assert client.get("/report").status_code == 401
    assert client.get(f"/report?_longtaskjob=query&_longtaskid={ID}").status_code == 401
    assert client.get(f"/report?_longtaskjob=execute&_longtaskid={ID}").status_code == 403


# Deliveries that get nowhere, and without a read.

KEY = {KEY_HEADER: "key", QUEUE_HEADER: "default"}


@pytest.fixture
def answer(app: Flask) -> Callable[..., int]:
    """Ask the handler to execute a task, and give the status; there is no Datastore to ask."""
    app.add_url_rule("/report", view_func=make().as_view("report"))

    def answer(headers: dict[str, str], task_id: str = ID, method: str = "GET") -> int:
        url = f"/report?_longtaskjob=execute&_longtaskid={task_id}"
        return app.test_client().open(url, method=method, headers=headers).status_code

    return answer


@pytest.mark.parametrize("missing", [KEY_HEADER, QUEUE_HEADER])
def test_without_one_of_its_headers_a_delivery_is_forbidden(answer: Callable[..., int], missing: str) -> None:
    assert answer({name: value for name, value in KEY.items() if name != missing}) == 403


@pytest.mark.parametrize("method", ["POST", "HEAD"])
def test_a_delivery_is_a_get(answer: Callable[..., int], method: str) -> None:
    assert answer(KEY, method=method) == 403


@pytest.mark.parametrize("task_id", ["", "5", "..%2F..", "agxzfm11c3RlcmtyYWRyEAsSCExvbmdUYXNrGAEM%3D%3D"])
def test_what_can_not_be_an_id_is_no_task_and_the_queue_forgets_it(answer: Callable[..., int], task_id: str) -> None:
    assert answer(KEY, task_id) == 200


# is_queue_request.


@pytest.fixture
def judged(app: Flask) -> Iterator[Callable[..., bool]]:
    """Send a request, and give what is_queue_request() says of it before anything else does."""
    app.add_url_rule("/report", view_func=make().as_view("report"))
    app.add_url_rule("/other", "other", lambda: "other")
    said: list[bool] = []

    @app.before_request
    def judge() -> str:
        said.append(is_queue_request())
        return "judged"

    def judged(path: str, headers: dict[str, str], method: str = "GET") -> bool:
        app.test_client().open(f"{path}?_longtaskjob=execute&_longtaskid={ID}", method=method, headers=headers)
        return said.pop()

    return judged


def test_a_delivery_is_a_queue_request(judged: Callable[..., bool]) -> None:
    assert judged("/report", KEY)


@pytest.mark.parametrize("missing", [KEY_HEADER, QUEUE_HEADER])
def test_without_its_headers_nothing_is_a_queue_request(judged: Callable[..., bool], missing: str) -> None:
    assert not judged("/report", {name: value for name, value in KEY.items() if name != missing})


@pytest.mark.parametrize("path", ["/other", "/nowhere", "/_longtask/static/longtask.css"])
def test_at_another_view_nothing_is_a_queue_request(judged: Callable[..., bool], path: str) -> None:
    assert not judged(path, KEY)


def test_a_post_is_no_queue_request(judged: Callable[..., bool]) -> None:
    assert not judged("/report", KEY, method="POST")


@pytest.mark.parametrize("query", ["", f"?_longtaskjob=query&_longtaskid={ID}"])
def test_another_job_is_no_queue_request(app: Flask, query: str) -> None:
    app.add_url_rule("/report", view_func=make().as_view("report"))
    with app.test_request_context(f"/report{query}", headers=KEY):
        assert not is_queue_request()


# The manager.


def test_an_application_without_a_manager_is_told_to_get_one() -> None:
    with Flask("tests").app_context(), pytest.raises(ConfigurationError, match=r"LongTaskManager\(app\)"):
        services_of_current_app()
