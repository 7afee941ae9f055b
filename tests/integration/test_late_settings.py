"""Settings that are changed after the manager has read them are refused where they are first needed."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from gaetk_longtask import LongRunningTaskHandler, LongTaskManager
from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.operators.doctor import examine
from gaetk_longtask.testing import TaskRunner
from gaetk_longtask.web.current import current_runtime


class Report(LongRunningTaskHandler):
    def execute_task(self, parameters: Any) -> str:
        return "result"


def make(**settings: Any) -> Flask:
    app = Flask("tests")
    app.config.update({"LONGTASK_PROJECT": "demo", "LONGTASK_LOCATION": "local"} | settings)
    app.testing = True
    LongTaskManager(app)
    app.add_url_rule("/report", view_func=Report.as_view("report"))
    return app


LATE = [
    {"LONGTASK_QUEUE": "reports"},
    {"LONGTASK_PROGRESS_URL": "memcached://127.0.0.1:11211"},
    {"LONGTASK_ADMIN": lambda: True},
    {"LONGTASK_USER": lambda: "anna"},
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


VARIABLES = {
    "GOOGLE_CLOUD_PROJECT": "LONGTASK_PROJECT",
    "GAE_SERVICE": "LONGTASK_SERVICE",
    "GAE_VERSION": "LONGTASK_VERSION",
    "MEMCACHED_HOSTS": "LONGTASK_PROGRESS_URL",
}


@pytest.mark.parametrize("early", [None, "early:1"])
@pytest.mark.parametrize("late", [None, "", "late:2", "early:1"])
@pytest.mark.parametrize("name", VARIABLES)
def test_a_late_variable_of_the_environment_is_named_too(
    monkeypatch: pytest.MonkeyPatch, name: str, early: str | None, late: str | None
) -> None:
    def set_to(value: str | None) -> None:
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)

    set_to(early)
    app = make(LONGTASK_PROJECT=None)
    set_to(late)
    with app.app_context():
        if (early or None) == (late or None):
            assert current_runtime()
            return
        with pytest.raises(ConfigurationError, match=rf"^{name} was changed after .* Change the environment first"):
            current_runtime()


def test_the_environment_is_compared_until_the_first_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEMCACHED_HOSTS", raising=False)
    app = make()
    with app.app_context():
        assert current_runtime()
        monkeypatch.setenv("MEMCACHED_HOSTS", "late:2")
        assert current_runtime()


@pytest.mark.parametrize("name", VARIABLES)
def test_a_late_variable_that_a_setting_stands_for_is_fine(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    app = make(**{VARIABLES[name]: "datastore:" if name == "MEMCACHED_HOSTS" else "mine"})
    monkeypatch.setenv(name, "late")
    with app.app_context():
        assert current_runtime()


def test_the_environment_does_not_matter_to_a_test_with_twins(monkeypatch: pytest.MonkeyPatch) -> None:
    app = make()
    monkeypatch.setenv("MEMCACHED_HOSTS", "late:2")
    with TaskRunner(app).opened() as runner, app.app_context():
        monkeypatch.setenv("MEMCACHED_HOSTS", "later:3")
        assert current_runtime().queue is runner.queue
    with app.app_context(), pytest.raises(ConfigurationError, match="MEMCACHED_HOSTS"):
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
