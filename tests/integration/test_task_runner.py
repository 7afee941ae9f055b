"""The messages of the task runner if a task does not do what a test expects."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from gaetk_longtask import LongRunningTaskHandler, LongTaskManager, Status
from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.testing.runner import TaskRunner
from tests.support import services_of


class Fragile(LongRunningTaskHandler):
    max_attempts = 2

    def execute_task(self, parameters: dict[str, Any]) -> str:
        if "how" in parameters:
            raise ValueError(parameters["how"])
        return "whole"


class Shy(Fragile):
    def may_access(self, task: Any) -> bool:
        return False


class Unprepared(Fragile):
    def prepare_task(self, **kwargs: Any) -> Any:
        raise KeyError("month")


@pytest.fixture
def app() -> Flask:
    """An application without a project, like one that was imported before the test."""
    app = Flask("tests")
    LongTaskManager(app)
    for handler in (Fragile, Shy, Unprepared):
        name = handler.__name__.lower()
        app.add_url_rule(f"/{name}", view_func=handler.as_view(name))
    return app


def test_work_that_raises_fails_the_test_with_what_it_raised(longtask: TaskRunner) -> None:
    with pytest.raises(AssertionError, match="it is failed") as caught:
        longtask.run("/fragile?how=badly")
    assert isinstance(caught.value.__cause__, ValueError)
    assert [str(exc) for exc in longtask.exceptions] == ["badly", "badly"]


def test_a_request_that_starts_nothing_fails_the_test_with_the_answer(longtask: TaskRunner) -> None:
    with pytest.raises(AssertionError, match="POST /nowhere started no task: 404 NOT FOUND"):
        longtask.start("/nowhere", method="POST")


def test_a_hook_that_raises_fails_the_test_with_what_it_raised(longtask: TaskRunner) -> None:
    with pytest.raises(AssertionError, match="500 INTERNAL SERVER ERROR") as caught:
        longtask.start("/unprepared")
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_result_that_is_not_there_yet_fails_the_test(longtask: TaskRunner) -> None:
    with pytest.raises(AssertionError, match="it is ready"):
        longtask.start("/fragile").result()


def test_a_visitor_who_may_not_see_the_task_gets_no_status(longtask: TaskRunner) -> None:
    task = longtask.start("/shy")
    with pytest.raises(AssertionError, match="403 FORBIDDEN"):
        _ = task.status


def test_a_task_that_failed_is_repeated_by_its_button(longtask: TaskRunner) -> None:
    task = longtask.start("/fragile?how=badly")
    longtask.deliver_all()
    task.retry()
    assert task.status is Status.READY


def test_a_button_that_is_not_there_can_not_be_pressed(longtask: TaskRunner) -> None:
    with pytest.raises(AssertionError, match="offers no retry: the task is ready"):
        longtask.start("/fragile").retry()


def test_a_delivery_is_repeated_under_another_name(longtask: TaskRunner) -> None:
    task = longtask.start("/fragile")
    longtask.deliver()
    assert longtask.deliver_again(renamed=True).status_code == 200
    first, second = longtask.queue.delivered
    assert first.name != second.name
    assert "whole" in task.result().text


def test_a_task_that_code_has_started_is_followed_too(longtask: TaskRunner, app: Flask) -> None:
    with app.app_context():
        task = longtask.started(LongTaskManager.start("fragile", {}))
    longtask.deliver_all()
    assert "whole" in task.result().text


def test_the_applications_own_services_are_back_afterwards(app: Flask) -> None:
    before = services_of(app)
    with TaskRunner(app).opened() as runner:
        assert services_of(app).queue is runner.queue
    assert services_of(app) is before


def test_an_application_without_a_manager_is_told_what_is_missing() -> None:
    with pytest.raises(ConfigurationError, match=r"LongTaskManager\(app\)"), TaskRunner(Flask("tests")).opened():
        pass
