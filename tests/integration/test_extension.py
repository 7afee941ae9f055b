"""A manager and its applications."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest
from flask import Flask
from google.cloud import ndb

from gaetk_longtask import LongTask, LongTaskManager, config
from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue, ManualClock
from tests.support import Work, exceptions_of, start, started, tasks_in


def test_init_app_does_what_the_constructor_does(
    ndb_client: ndb.Client, queue: InMemoryQueue, progress: InMemoryProgressStore, clock: ManualClock, work: type[Work]
) -> None:
    manager = LongTaskManager(ndb_client=ndb_client, queue=queue, progress=progress, clock=clock)
    app = Flask("tests")
    manager.init_app(app)
    app.add_url_rule("/work", view_func=work.as_view("work"))
    visit = app.test_client()
    url = started(visit)
    queue.deliver_all(visit)
    assert visit.get(url).status_code == 303


def test_one_manager_serves_several_independent_applications(
    ndb_client: ndb.Client, queue: InMemoryQueue, progress: InMemoryProgressStore, clock: ManualClock, work: type[Work]
) -> None:
    manager = LongTaskManager(ndb_client=ndb_client, queue=queue, progress=progress, clock=clock)
    apps = [Flask(f"tests{number}") for number in range(2)]
    for number, app in enumerate(apps):
        app.config["LONGTASK_QUEUE"] = f"queue-{number}"
        manager.init_app(app)
        app.add_url_rule(f"/work{number}", view_func=work.as_view("work"))
    tasks = [start(app) for app in apps]
    assert [task.request.queue for task in queue.tasks] == ["queue-0", "queue-1"]
    assert [task.path for task in tasks] == ["/work0", "/work1"]


def test_the_same_handler_works_in_applications_with_databases_of_their_own(
    ndb_client: ndb.Client, clock: ManualClock, work: type[Work]
) -> None:
    other_client = ndb.Client(project=f"test-{secrets.token_hex(6)}")
    apps = []
    for client in (ndb_client, other_client):
        app = Flask("tests")
        LongTaskManager(app, ndb_client=client, queue=InMemoryQueue(), progress=InMemoryProgressStore(), clock=clock)
        app.add_url_rule("/work", view_func=work.as_view("work"))
        apps.append(app)
    url = started(apps[0].test_client())
    assert apps[0].test_client().get(url).status_code == 200
    assert apps[1].test_client().get(url).status_code == 404
    assert (len(tasks_in(ndb_client)), len(tasks_in(other_client))) == (1, 0)


def test_the_page_finds_its_style_sheet(app: Flask) -> None:
    client = app.test_client()
    page = client.get(started(client))
    assert 'href="/_longtask/static/longtask.css"' in page.text
    answer = client.get("/_longtask/static/longtask.css")
    assert answer.status_code == 200
    assert answer.mimetype == "text/css"
    answer.close()


# Missing settings.


@pytest.fixture
def no_metadata_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The metadata server of Google's platform is missing."""
    monkeypatch.delenv("CLOUD_TASKS_EMULATOR_HOST", raising=False)
    monkeypatch.setattr(config, "METADATA_URL", "http://127.0.0.1:1/")


@pytest.mark.usefixtures("no_metadata_server")
def test_without_a_location_a_start_says_what_to_set_before_anything_is_stored(
    ndb_client: ndb.Client, stored: Callable[[], list[LongTask]], work: type[Work]
) -> None:
    app = Flask("tests")
    app.config["LONGTASK_PROJECT"] = "somewhere"
    LongTaskManager(app, ndb_client=ndb_client, progress=InMemoryProgressStore())
    app.add_url_rule("/work", view_func=work.as_view("work"))
    answer, reported = exceptions_of(app, lambda: app.test_client().get("/work"))
    assert answer.status_code == 500
    [error] = reported
    assert isinstance(error, ConfigurationError)
    assert error.key == "LONGTASK_LOCATION"
    assert "LONGTASK_LOCATION" in str(error)
    assert not stored()


def test_without_a_project_a_start_says_what_to_set_before_anything_is_stored(
    ndb_client: ndb.Client, stored: Callable[[], list[LongTask]], monkeypatch: pytest.MonkeyPatch, work: type[Work]
) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    app = Flask("tests")
    app.config["LONGTASK_LOCATION"] = "europe-west1"
    LongTaskManager(app, ndb_client=ndb_client, progress=InMemoryProgressStore())
    app.add_url_rule("/work", view_func=work.as_view("work"))
    with app.app_context(), pytest.raises(ConfigurationError, match="LONGTASK_PROJECT"):
        LongTaskManager.start("work", {})
    assert not stored()


def test_an_unknown_setting_is_an_error_that_names_the_one_that_is_meant() -> None:
    app = Flask("tests")
    app.config["LONGTASK_QUEU"] = "reports"
    with pytest.raises(ConfigurationError, match="LONGTASK_QUEUE"):
        LongTaskManager(app)


def test_a_handler_without_a_manager_says_what_is_missing(work: type[Work]) -> None:
    app = Flask("tests")
    app.add_url_rule("/work", view_func=work.as_view("work"))
    answer, reported = exceptions_of(app, lambda: app.test_client().get("/work"))
    assert answer.status_code == 500
    assert "LongTaskManager(app)" in str(reported[0])
