"""What the task runner says if a test asks it for something impossible."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager
from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.testing import InMemoryQueue
from gaetk_longtask.testing.runner import TaskRunner
from tests.support import result_text


class Report(LongRunningTaskHandler):
    def execute_task(self, parameters: Any) -> str:
        return "result"


@pytest.fixture
def app(longtask_datastore: str) -> Flask:
    app = Flask("tests")
    LongTaskManager(app)
    app.add_url_rule("/report", view_func=Report.as_view("report"))
    return app


def test_an_empty_queue_delivers_nothing(longtask: TaskRunner) -> None:
    with pytest.raises(AssertionError, match="The queue is empty: no task was started"):
        longtask.deliver()


def test_a_queue_that_has_delivered_everything_is_empty(longtask: TaskRunner) -> None:
    longtask.run("/report")
    with pytest.raises(AssertionError, match="all of them were delivered"):
        longtask.deliver()
    longtask.deliver_again()


def test_nothing_is_delivered_again_before_the_first_delivery(longtask: TaskRunner) -> None:
    longtask.start("/report")
    with pytest.raises(AssertionError, match="Call deliver first"):
        longtask.deliver_again()


def test_a_queue_alone_says_the_same(app: Flask) -> None:
    with pytest.raises(AssertionError, match="The queue is empty"):
        InMemoryQueue().deliver(app.test_client())


@pytest.mark.parametrize("more", [{}, {"project": "other"}, {"namespace": "tenant"}])
def test_a_client_that_names_a_database_works_or_is_refused_with_what_to_do(
    longtask_datastore: str, more: dict[str, str]
) -> None:
    app = Flask("tests")
    LongTaskManager(app, ndb_client=ndb.Client(database="second", **more))
    app.add_url_rule("/report", view_func=Report.as_view("report"))
    try:
        with TaskRunner(app).opened() as longtask:
            assert result_text(longtask.run("/report")) == "result"
            with longtask.datastore():
                [task] = LongTask.query(namespace="").fetch()
                assert task.key.get(use_cache=False) == task
    except ConfigurationError as exc:
        message = str(exc)
        assert "does not know the database 'second'" in message
        assert "longtask_datastore_host" in message
