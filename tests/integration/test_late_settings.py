"""Settings that are changed after the manager has read them are refused where they are first needed."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from gaetk_longtask import LongRunningTaskHandler, LongTaskManager
from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.operators.doctor import examine
from gaetk_longtask.web.current import current_runtime


class Report(LongRunningTaskHandler):
    def execute_task(self, parameters: Any) -> str:
        return "result"


def make(**settings: Any) -> Flask:
    app = Flask("tests")
    app.config.update(LONGTASK_PROJECT="demo", LONGTASK_LOCATION="local", **settings)
    app.testing = True
    LongTaskManager(app)
    app.add_url_rule("/report", view_func=Report.as_view("report"))
    return app


LATE = [
    {"LONGTASK_QUEUE": "reports"},
    {"LONGTASK_PROGRESS_URL": "memcached://127.0.0.1:11211"},
    {"LONGTASK_ADMIN": lambda: True},
    {"LONGTASK_BASE_URL": "https://www.example.com"},
    {"LONGTASK_LOCATION": None},
    {"LONGTASK_PROJECT": ""},
    {"LONGTASK_SERVICE": "worker", "SECRET_KEY": "x"},
    {"LONGTASK_QUEU": "reports"},
    {"LONGTASK_VERSION": 7},
]


@pytest.mark.parametrize("late", LATE, ids=min)
def test_a_late_setting_is_named_with_what_to_do(late: dict[str, Any]) -> None:
    app = make()
    app.config.update(late)
    with app.app_context(), pytest.raises(ConfigurationError, match=f"{min(late)} was changed after") as caught:
        current_runtime()
    assert caught.value.key == min(late)
    assert "init_app(app)" in str(caught.value)


def test_a_removed_setting_is_named_too() -> None:
    app = make(LONGTASK_QUEUE="reports")
    del app.config["LONGTASK_QUEUE"]
    with app.app_context(), pytest.raises(ConfigurationError, match="LONGTASK_QUEUE was changed after"):
        current_runtime()


def test_a_setting_that_is_changed_between_two_requests_is_named() -> None:
    app = make()
    with app.app_context():
        current_runtime()
    app.config["LONGTASK_QUEUE"] = "reports"
    with app.app_context(), pytest.raises(ConfigurationError, match="LONGTASK_QUEUE was changed after"):
        current_runtime()


def test_the_same_value_again_is_fine() -> None:
    app = make(LONGTASK_QUEUE="reports")
    app.config.from_mapping(LONGTASK_QUEUE="reports", SECRET_KEY="later")
    with app.app_context():
        assert current_runtime().config.queue == "reports"


def test_init_app_reads_what_was_set_before_it() -> None:
    app, manager = Flask("tests"), LongTaskManager()
    app.config["LONGTASK_QUEUE"] = "reports"
    manager.init_app(app)
    with app.app_context():
        assert current_runtime().config.queue == "reports"


def test_everything_that_needs_the_settings_refuses_them() -> None:
    app = make()
    app.config["LONGTASK_QUEUE"] = "reports"
    with app.app_context(), pytest.raises(ConfigurationError, match="LONGTASK_QUEUE"):
        LongTaskManager.start("report", {})
    with pytest.raises(ConfigurationError, match="LONGTASK_QUEUE"):
        app.test_client().get("/report")
    with pytest.raises(ConfigurationError, match="LONGTASK_QUEUE"):
        list(examine(app))
    told = app.test_cli_runner().invoke(args=["longtask", "list"])
    assert told.exit_code == 1
    assert told.output.startswith("Error: LONGTASK_QUEUE was changed after")
