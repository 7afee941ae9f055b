"""docs/local-stack.md: its fixture starts a Datastore, and its client reaches Cloud Tasks."""

from __future__ import annotations

import pytest

from gaetk_longtask.dev.tasks_emulator import serve
from tests.pages import blocks, file_name, page_named, run

LOCAL_STACK = "local-stack.md"
APP_URL = "http://127.0.0.1:9"
QUEUE = "projects/demo/locations/europe-west1/queues/default"


def test_its_fixture_provides_a_datastore(pytester: pytest.Pytester) -> None:
    [fixture] = [block for block in blocks(page_named(LOCAL_STACK), "python") if file_name(block) == "conftest.py"]
    pytester.makeconftest(fixture)
    pytester.makepyfile(
        """
        import os
        from google.cloud import ndb

        class City(ndb.Model):
            name = ndb.StringProperty()

        def test_it_stores_what_it_gets(datastore):
            assert os.environ["DATASTORE_EMULATOR_HOST"] == datastore.host
            with ndb.Client().context():
                key = City(name="Łódź").put()
            with ndb.Client().context():
                assert key.get().name == "Łódź"

        def test_it_is_the_same_for_all_tests(datastore):
            with ndb.Client().context():
                assert City.query().count() == 1
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error").assert_outcomes(passed=2)


def test_its_tests_with_nothing_else_of_the_library_pass_twice(pytester: pytest.Pytester) -> None:
    [tests] = [block for block in blocks(page_named(LOCAL_STACK), "python") if file_name(block) == "test_alone.py"]
    pytester.makeconftest('pytest_plugins = ["gaetk_longtask.pytest_plugin"]')
    # Twice, because a name of a task can be used again in an emptied emulator.
    pytester.makepyfile(test_alone=tests, test_again=tests)
    pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error").assert_outcomes(passed=6)


@pytest.mark.calls(LOCAL_STACK, "tasks_client")
def test_its_client_reaches_the_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(app_url=APP_URL) as emulator:
        monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", emulator.host)
        client = run(page_named(LOCAL_STACK))["tasks_client"]()
        client.pause_queue(name=QUEUE)
        target = {"relative_uri": "/report?city=%C5%81%C3%B3d%C5%BA"}
        task = client.create_task(parent=QUEUE, task={"app_engine_http_request": target})
        assert [each.name for each in client.list_tasks(parent=QUEUE)] == [task.name]
        client.transport.close()


def test_without_an_emulator_its_client_is_the_one_for_production(monkeypatch: pytest.MonkeyPatch) -> None:
    from google.cloud import tasks_v2

    monkeypatch.delenv("CLOUD_TASKS_EMULATOR_HOST", raising=False)
    monkeypatch.setattr(tasks_v2, "CloudTasksClient", lambda: "the client for production")
    assert run(page_named(LOCAL_STACK))["tasks_client"]() == "the client for production"
