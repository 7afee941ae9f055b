"""Mistakes in a handler are refused when its class or its view is created."""

from __future__ import annotations

import functools
import inspect
from datetime import timedelta
from typing import Any

import pytest

from gaetk_longtask import JSONSerializer, LongRunningTaskHandler
from gaetk_longtask.web.checks import HOOKS
from tests.unit.web.conftest import make


class Lazy:
    """A text that is translated when it is shown, as Flask-Babel's lazy texts."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


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
        *(("total_steps", value) for value in ("5", None, True, -1, float("nan"), float("inf"), [1])),
        *(("unique_key_shared", value) for value in ("no", "yes", 1, 0, None, property(lambda self: False))),
        *(("queue", value) for value in ("my queue", "", "my_queue", "x" * 101, "größe", "a/b", "a\n", 5, b"a")),
        *(("service", value) for value in ("my service", "", "a.b", "-a", "x" * 64, "größe", "a\n", 5, ["a"])),
        *(("status_template", value) for value in (3, None, "", " ", b"a.html", ["a.html"])),
        *(("bookmark_parameters", value) for value in ([1], ("month", None), 5, None, iter(["month"]), [b"month"])),
        *(("start_methods", value) for value in (5, None, [1], ("GET", None), iter(["GET"]))),
        *(("methods", value) for value in ("POST", 5, [5])),
        *(("serializer", value) for value in (None, object(), type("NoName", (JSONSerializer,), {"name": None})())),
        *(("title", value) for value in (5, 1.5, b"x", ["x"], {}, set(), True, "", " ")),
        *(("form_url", value) for value in ("", " ", 5, ["/form"])),
        ("phases", "Reading"),
        ("phases", {"Reading", "Storing"}),
        ("phases", ("Reading", "Reading")),
        ("phases", ("Reading", " ")),
        ("phases", ("Reading", None)),
        ("phases", ("Reading", b"Storing")),
        ("phases", (1, 2)),
        ("phases", ["x" * 61]),
        ("phases", [str(number) for number in range(21)]),
        ("facts", ("imported", "skipped")),
        ("facts", {"not an identifier": "Imported"}),
        ("facts", {1: "Imported"}),
        ("facts", {"x" * 31: "Imported"}),
        ("facts", {"imported": ""}),
        ("facts", {"imported": 3}),
        ("facts", {f"fact_{number}": "A fact" for number in range(11)}),
    ],
)
def test_a_mistake_is_refused_when_the_class_is_made_with_its_name_and_the_value(attribute: str, value: Any) -> None:
    named = {"methods": "start_methods"}.get(attribute, attribute)
    with pytest.raises(TypeError, match=rf"Report\.{named} must"):
        make(**{attribute: value})


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        *(("total_steps", value) for value in (0, 5, 2.5, property(lambda self: 7))),
        *(("queue", value) for value in (None, "reports", "Reports-2", "-", "x" * 100)),
        *(("service", value) for value in (None, "worker", "worker-2", "2", "x" * 63)),
        *(("status_template", value) for value in ("own.html", property(lambda self: "own.html"))),
        *(("bookmark_parameters", value) for value in ((), ["month"], {"month"}, {"month": 1}.keys())),
        *(("start_methods", value) for value in (["GET"], {"POST"}, {"GET": 1})),
        ("unique_key_shared", True),
        ("title", Lazy("Report")),
    ],
)
def test_what_is_possible_is_accepted(attribute: str, value: Any) -> None:
    cls = make(**{attribute: value})
    assert cls.as_view("report")
    assert inspect.getattr_static(cls, attribute) is value


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("queue", "my queue"), ("total_steps", "5"), ("unique_key_shared", "no"), ("methods", ["PUT"])],
)
def test_a_mistake_that_is_made_later_is_refused_when_the_view_is_made(attribute: str, value: Any) -> None:
    cls = make()
    setattr(cls, attribute, value)
    with pytest.raises(TypeError, match=r"^Report\.\w+ must"):
        cls.as_view("report")


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


def test_execute_task_has_to_be_implemented() -> None:
    with pytest.raises(NotImplementedError):
        LongRunningTaskHandler().execute_task({})


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"time_limit": timedelta(minutes=11)}, "more than 10 minutes, .* on automatic scaling"),
        ({"time_limit": timedelta(hours=25), "service": "worker"}, "more than 24 hours, App Engine's limit"),
    ],
)
def test_more_time_than_app_engine_gives_is_refused_when_the_class_is_made(
    attributes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(TypeError, match=rf"Report\.time_limit is {reason}"):
        make(**attributes)


def test_an_unlimited_keep_result_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match=r"Report\.keep_result is more than 100 years"):
        make(keep_result=timedelta.max)


def test_an_invalid_serializer_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(
        TypeError, match=r"Report\.serializer must be a serializer, such as JSONSerializer\(\), not 'json'"
    ):
        make(serializer="json")


def test_a_title_of_more_than_120_characters_is_refused_when_the_class_is_made() -> None:
    make(title="x" * 120)
    with pytest.raises(TypeError, match=r"^Report\.title must have at most 120 characters, not 121\.$"):
        make(title="x" * 121)


async def coroutine_function(*args: Any) -> Any:
    return False


async def async_generator(*args: Any) -> Any:
    yield False


@functools.wraps(coroutine_function)
def wrapper(*args: Any) -> Any:
    return coroutine_function(*args)


class AsyncCallable:
    async def __call__(self, *args: Any) -> Any:
        return False


class BehindAnObject:
    """Runs an async function, as asgiref's AsyncToSync does."""

    def __init__(self, function: Any) -> None:
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any) -> Any:
        return False


ASYNC = [
    coroutine_function,
    async_generator,
    wrapper,
    functools.partial(coroutine_function, 1),
    functools.partial(functools.partial(async_generator)),
    functools.partialmethod(coroutine_function, 1),
    functools.partial(wrapper),
    staticmethod(coroutine_function),
    classmethod(async_generator),
    staticmethod(functools.partial(coroutine_function)),
    AsyncCallable(),
]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("function", ASYNC, ids=lambda function: type(function).__name__)
def test_an_async_hook_is_refused_when_the_class_is_made(hook: str, function: Any) -> None:
    with pytest.raises(TypeError, match=rf"^Report\.{hook} must not be async.*asyncio\.run\(\)"):
        make(**{hook: function})


@pytest.mark.parametrize("hook", HOOKS)
def test_an_async_hook_of_a_mixin_is_refused(hook: str) -> None:
    mixin = type("Mixin", (), {hook: coroutine_function})
    own = {} if hook == "execute_task" else {"execute_task": lambda self, parameters: None}
    with pytest.raises(TypeError, match=rf"Report\.{hook} must not be async"):
        type("Report", (mixin, LongRunningTaskHandler), own)


@pytest.mark.parametrize("hook", HOOKS)
def test_an_async_hook_that_is_set_later_is_refused_when_the_view_is_made(hook: str) -> None:
    cls = make()
    setattr(cls, hook, coroutine_function)
    with pytest.raises(TypeError, match=rf"Report\.{hook} must not be async"):
        cls.as_view("report")


def test_an_object_that_calls_an_async_function_for_us_is_no_async_hook() -> None:
    assert make(may_access=BehindAnObject(coroutine_function)).as_view("report")


@pytest.mark.parametrize(("attribute", "value"), [("title", None), ("title", lambda self: "x"), ("form_url", 5)])
def test_a_title_that_is_no_text_and_a_form_url_that_leads_nowhere_are_refused(attribute: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^Report\.{attribute} must be"):
        make(**{attribute: value})


class Lazy:
    """A text that is translated when it is shown, as Flask-Babel's are."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


def test_twenty_phases_and_ten_facts_may_have_lazy_names() -> None:
    phases = [Lazy("Reading"), "x" * 60, *map(str, range(18))]
    cls = make(phases=phases, facts={f"fact_{number}": Lazy("A fact") for number in range(10)})
    assert cls.phases == phases
