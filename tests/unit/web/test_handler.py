"""The attributes of a handler class, and the author's methods outside of an attempt."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from gaetk_longtask import JSONSerializer, LongRunningTaskHandler, LongTaskError, PickleSerializer
from gaetk_longtask.config import Config
from tests.unit.conftest import ID, info_of
from tests.unit.web.conftest import make

# display_result.


def shown_by(cls: type[LongRunningTaskHandler]) -> Any:
    return cls()._show("parameters", "result", "task")


def test_the_originals_display_result_gets_the_task() -> None:
    class Report(LongRunningTaskHandler):
        def display_result(self, parameters: Any, result: Any, task: Any) -> str:
            return f"{parameters} {result} {task}"

    assert shown_by(Report) == "parameters result task"


def test_a_display_result_without_the_task_does_not_get_it() -> None:
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

ALL = {"GET", "POST", "DELETE"}


def test_a_task_is_started_by_get_and_post() -> None:
    assert set(make().start_methods) == {"GET", "POST"}


def test_flasks_methods_attribute_sets_what_starts_a_task() -> None:
    assert set(make(methods=["post"]).start_methods) == {"POST"}


def test_flasks_default_methods_are_get() -> None:
    assert set(make(methods=None).start_methods) == {"GET"}


def test_start_methods_win_over_flasks_own() -> None:
    assert set(make(methods=["GET", "POST"], start_methods=("POST",)).start_methods) == {"POST"}


def test_get_always_shows_a_page_and_post_and_delete_always_cancel() -> None:
    assert set(make(methods=["POST"]).as_view("report").methods) == ALL
    assert set(make(start_methods=("GET",)).as_view("report").methods) == ALL


def test_methods_may_come_from_a_class_that_is_no_handler() -> None:
    class PostOnly:
        methods = ("POST",)

    report = make(PostOnly, LongRunningTaskHandler)
    assert set(report.start_methods) == {"POST"}
    assert set(report.as_view("report").methods) == ALL


@pytest.mark.parametrize("start_methods", [("GET", "POST"), ("GET",)])
def test_methods_that_are_set_after_the_class_was_made_count(start_methods: tuple[str, ...]) -> None:
    report = make(start_methods=start_methods)
    report.methods = ["post"]
    view: Any = report.as_view("report")
    assert (set(report.start_methods), set(view.methods)) == ({"POST"}, ALL)


def test_methods_that_are_set_for_a_base_class_later_count_for_its_subclasses() -> None:
    base = make()
    report = type("Derived", (base,), {})
    base.methods = ["POST"]
    assert set(report.as_view("report").methods) == ALL


def test_what_starts_a_task_is_inherited() -> None:
    assert set(make(make(methods=["POST"])).start_methods) == {"POST"}


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


# The author's methods outside of an attempt.


def test_outside_of_an_attempt_progress_is_ignored() -> None:
    make()().log_progress("Reading", 1, 2)


def test_outside_of_an_attempt_tracking_yields_the_items() -> None:
    assert list(make()().track([1, 2, 3], "Reading")) == [1, 2, 3]


def test_outside_of_an_attempt_tracking_skips_finished_items() -> None:
    assert list(make()().track([1, 2, 3], "Reading", start=2)) == [3]


# Who may see a task.


def user(name: str | None) -> LongRunningTaskHandler:
    return make(get_user_id=lambda self: name)()


def test_an_anonymous_task_is_open_to_everyone_with_its_url() -> None:
    assert user(None).may_access(info_of(created_by=None))
    assert user("anna").may_access(info_of(created_by=None))


def test_a_task_with_an_owner_is_open_only_to_its_owner() -> None:
    assert user("anna").may_access(info_of(created_by="anna"))
    assert not user("otto").may_access(info_of(created_by="anna"))
    assert not user(None).may_access(info_of(created_by="anna"))


def test_visitors_are_anonymous_by_default(app: Flask) -> None:
    with app.app_context():
        assert make()().get_user_id() is None


# The view function.


def test_decorators_apply_to_visitors_but_not_to_the_queue(app: Flask) -> None:
    def login_required(view: Callable[..., Any]) -> Callable[..., Any]:
        return lambda **url_values: ("Log in first.", 401)

    app.add_url_rule("/report", view_func=make(decorators=[login_required]).as_view("report"))
    client = app.test_client()
    assert client.get("/report").status_code == 401
    assert client.get(f"/report?_longtaskjob=query&_longtaskid={ID}").status_code == 401
    assert client.get(f"/report?_longtaskjob=execute&_longtaskid={ID}").status_code == 403


# Phases and facts outside of an attempt.

IMPORT = make(phases=("Reading", "Storing"), facts={"imported": "Imported", "skipped": "Skipped"})


def test_phases_and_facts_that_the_class_has_do_nothing() -> None:
    handler = IMPORT()
    handler.phase("Storing")
    handler.log_facts(imported=3, skipped=None)


def test_a_phase_that_the_class_lacks_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(LongTaskError, match=r"no phase 'Sorting'\. The phases of the class are 'Reading', 'Storing'\."):
        IMPORT().phase("Sorting")


def test_a_fact_that_the_class_lacks_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(LongTaskError, match=r"no fact 'lost'\. The facts of the class are 'imported', 'skipped'\."):
        IMPORT().log_facts(imported=3, lost=4)


@pytest.mark.parametrize("call", [lambda handler: handler.phase("Reading"), lambda handler: handler.log_facts(lost=1)])
def test_a_class_without_names_is_told_where_they_belong(call: Callable[[Any], None]) -> None:
    with pytest.raises(LongTaskError, match=r"Add it to the class attribute (phases|facts)"):
        call(make()())
