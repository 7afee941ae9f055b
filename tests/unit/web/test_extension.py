"""The manager connects the library with an application, and keeps no state of it."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, url_for

from gaetk_longtask import LongRunningTaskHandler, LongTaskError, LongTaskManager
from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.progress.datastore import DatastoreProgressStore
from gaetk_longtask.progress.memcache import MemcacheProgressStore
from gaetk_longtask.queues import CloudTasksQueue, QueueRequest
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue, ManualClock
from gaetk_longtask.web.current import EXTENSION
from gaetk_longtask.web.extension import utcnow
from tests.support import services_of


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove all environment variables that affect the settings."""
    for name in ("GOOGLE_CLOUD_PROJECT", "GAE_SERVICE", "GAE_VERSION", "MEMCACHED_HOSTS", "CLOUD_TASKS_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)


def app_with(**settings: Any) -> Flask:
    app = Flask("tests")
    app.config.update(settings)
    return app


def test_a_manager_can_be_given_its_application_at_once_or_later() -> None:
    now, later = app_with(), app_with()
    LongTaskManager(now)
    LongTaskManager().init_app(later)
    assert services_of(now).config == services_of(later).config


def test_no_setting_is_needed_and_no_connection_made() -> None:
    services = services_of_default()
    assert isinstance(services.queue, CloudTasksQueue)
    assert isinstance(services.progress, DatastoreProgressStore)


def services_of_default() -> Runtime:
    app = app_with()
    LongTaskManager(app)
    return services_of(app)


def test_what_is_passed_in_is_used() -> None:
    app, queue, progress, clock = app_with(), InMemoryQueue(), InMemoryProgressStore(), ManualClock()
    LongTaskManager(app, queue=queue, progress=progress, clock=clock)
    services = services_of(app)
    assert (services.queue, services.progress, services.clock) == (queue, progress, clock)


def test_a_queue_that_is_falsy_is_used_too() -> None:
    class Listed(list[QueueRequest]):
        def check(self) -> None: ...

        def enqueue(self, request: QueueRequest) -> None: ...

    app, queue = app_with(), Listed()
    LongTaskManager(app, queue=queue)
    assert services_of(app).queue is queue


def test_the_manager_keeps_nothing_but_what_was_passed_in() -> None:
    manager = LongTaskManager()
    before = dict(vars(manager))
    manager.init_app(app_with(LONGTASK_QUEUE="slow"))
    assert vars(manager) == before


def test_one_manager_serves_two_applications_that_know_nothing_of_one_another() -> None:
    manager = LongTaskManager()
    slow, fast = app_with(LONGTASK_QUEUE="slow"), app_with(LONGTASK_QUEUE="fast")
    manager.init_app(slow)
    manager.init_app(fast)
    assert (services_of(slow).config.queue, services_of(fast).config.queue) == ("slow", "fast")
    assert services_of(slow).queue is not services_of(fast).queue


def test_a_second_manager_for_one_application_is_refused() -> None:
    app = app_with()
    LongTaskManager(app)
    with pytest.raises(ConfigurationError, match="already has a LongTaskManager"):
        LongTaskManager(app)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean LONGTASK_QUEUE"):
        LongTaskManager(app_with(LONGTASK_QUEU="slow"))


def test_a_refused_application_is_not_changed() -> None:
    app = app_with(LONGTASK_QUEU="slow")
    with pytest.raises(ConfigurationError):
        LongTaskManager(app)
    assert EXTENSION not in app.extensions
    assert app.blueprints == {}


def test_progress_goes_to_ndbs_memcache_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMCACHED_HOSTS", "10.0.0.1:11211 10.0.0.2:11211")
    assert isinstance(services_of_default().progress, MemcacheProgressStore)


def test_progress_goes_where_the_url_says() -> None:
    app = app_with(LONGTASK_PROGRESS_URL="memcached://10.0.0.1:11211")
    LongTaskManager(app)
    assert isinstance(services_of(app).progress, MemcacheProgressStore)


def test_an_impossible_progress_url_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="LONGTASK_PROGRESS_URL is"):
        LongTaskManager(app_with(LONGTASK_PROGRESS_URL="file:/tmp/progress"))


def test_a_progress_store_that_is_passed_in_needs_no_url() -> None:
    app, progress = app_with(LONGTASK_PROGRESS_URL="elsewhere:"), InMemoryProgressStore()
    LongTaskManager(app, progress=progress)
    assert services_of(app).progress is progress


def test_the_first_key_signs_and_the_former_ones_are_known_too() -> None:
    app = app_with(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old", ""])
    LongTaskManager(app)
    assert services_of(app).secret_keys() == ["new", "old"]


def test_a_key_that_is_set_late_is_found() -> None:
    app = app_with()
    LongTaskManager(app)
    assert services_of(app).secret_keys() == []
    app.config["SECRET_KEY"] = "late"
    assert services_of(app).secret_keys() == ["late"]


def test_the_style_sheet_is_served() -> None:
    app = app_with()
    LongTaskManager(app)
    with app.test_request_context():
        url = url_for("longtask.static", filename="longtask.css")
    assert url.startswith("/_longtask/")
    answer = app.test_client().get(url)
    assert (answer.status_code, answer.mimetype) == (200, "text/css")
    answer.close()


def test_the_default_clock_is_aware_and_in_utc() -> None:
    assert utcnow().utcoffset().total_seconds() == 0


# Starting from code, before anything is stored.


class Report(LongRunningTaskHandler):
    def execute_task(self, parameters: Any) -> None: ...


def test_the_message_about_an_endpoint_without_a_handler_says_what_to_pass() -> None:
    app = app_with()
    LongTaskManager(app, queue=InMemoryQueue(), progress=InMemoryProgressStore())
    with app.app_context(), pytest.raises(LongTaskError, match="the name that you passed to as_view"):
        LongTaskManager.start("static", {})


def test_a_start_without_a_manager_says_so() -> None:
    with app_with().app_context(), pytest.raises(ConfigurationError, match=r"LongTaskManager\(app\)"):
        LongTaskManager.start("report", {})


def test_a_start_without_a_project_says_so_before_anything_is_stored() -> None:
    app = app_with(LONGTASK_LOCATION="europe-west3")
    LongTaskManager(app)
    app.add_url_rule("/report", view_func=Report.as_view("report"))
    with app.app_context(), pytest.raises(ConfigurationError, match="LONGTASK_PROJECT"):
        LongTaskManager.start("report", {})
