"""Equal requests lead to the same task until it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, request
from google.cloud import ndb

from gaetk_longtask import LongTask, LongTaskManager, TaskInfo
from gaetk_longtask.models import LongTaskUnique
from gaetk_longtask.testing import InMemoryQueue
from tests.support import Work, id_of, job, load, press, services_of, started


class Report(Work):
    def unique_key(self, parameters: dict[str, Any]) -> str | None:
        return parameters.get("month")

    def get_user_id(self) -> str | None:
        return request.headers.get("X-User")


class Shared(Report):
    unique_key_shared = True

    def may_access(self, task: TaskInfo) -> bool:
        return request.headers.get("X-Team") == "ours"


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app(Report, Shared)


def visit(app: Flask, url: str, **headers: str) -> str:
    sent = {f"X-{name.title()}": value for name, value in headers.items()}
    return id_of(started(app.test_client(), url, headers=sent))


def test_an_equal_request_joins_the_running_task(
    app: Flask, queue: InMemoryQueue, stored: Callable[[], list[LongTask]]
) -> None:
    assert visit(app, "/report?month=1", user="a") == visit(app, "/report?month=1", user="a")
    assert len(queue.tasks) == len(stored()) == 1


def test_a_key_that_is_no_text_is_an_error(
    make_app: Callable[..., Flask], stored: Callable[[], list[LongTask]]
) -> None:
    class Numbered(Report):
        def unique_key(self, parameters: dict[str, Any]) -> Any:
            return 5

    app = make_app(Numbered, TESTING=True)
    with pytest.raises(TypeError, match=r"unique_key\(\) must return a str or None, not 5"):
        app.test_client().get("/numbered")
    assert stored() == []


def test_another_key_starts_another_task(app: Flask) -> None:
    assert visit(app, "/report?month=1") != visit(app, "/report?month=2")


def test_another_user_starts_another_task(app: Flask) -> None:
    assert visit(app, "/report?month=1", user="a") != visit(app, "/report?month=1", user="b")


def test_without_a_key_every_request_starts_a_task_and_pays_nothing(app: Flask) -> None:
    assert visit(app, "/report") != visit(app, "/report")
    with services_of(app).ndb_context():
        assert LongTaskUnique.query().fetch() == []


@pytest.mark.parametrize("ending", ["done", "cancelled"])
def test_the_key_is_free_again_when_its_task_ends(ending: str, app: Flask, queue: InMemoryQueue) -> None:
    first = visit(app, "/report?month=1")
    if ending == "done":
        queue.deliver_all(app.test_client())
    else:
        app.test_client().post(f"/report?_longtaskjob=cancel&_longtaskid={first}")
    assert visit(app, "/report?month=1") != first


def test_a_shared_key_joins_users_with_access(app: Flask) -> None:
    first = visit(app, "/shared?month=1", user="a", team="ours")
    assert visit(app, "/shared?month=1", user="b", team="ours") == first


def test_a_shared_key_does_not_lead_a_stranger_to_a_task(app: Flask) -> None:
    first = visit(app, "/shared?month=1", user="a", team="ours")
    stranger = visit(app, "/shared?month=1", user="b")
    assert stranger != first
    assert visit(app, "/shared?month=1", user="b") == stranger


def test_code_joins_what_a_visitor_has_started(app: Flask) -> None:
    first = visit(app, "/report?month=1", user="a")
    with app.test_request_context("/cron"):
        assert LongTaskManager.start("report", {"month": "1"}, created_by="a").id == first


def test_tenants_that_only_the_host_tells_apart_do_not_join(app: Flask) -> None:
    visitors = [{"X-User": "a", "Host": host} for host in ("one.example.com", "two.example.com")]
    found = {app.test_client().get("/report?month=1", headers=each).headers["Location"] for each in visitors}
    assert len(found) == 2


def test_a_task_of_another_namespace_is_not_joined(app: Flask, ndb_client: ndb.Client) -> None:
    first = visit(app, "/report?month=1")
    with app.app_context(), ndb_client.context(namespace="other"):
        assert LongTaskManager.start("report", {"month": "1"}).id != first


def test_inside_the_authors_transaction_joining_is_part_of_it(
    app: Flask, ndb_client: ndb.Client, queue: InMemoryQueue
) -> None:
    def twice() -> tuple[str, str]:
        one = LongTaskManager.start("report", {"month": "1"})
        assert queue.tasks == []
        return one.id, one.id

    with app.test_request_context("/cron"), ndb_client.context():
        first, _ = ndb.transaction(twice)
    assert len(queue.tasks) == 1
    assert visit(app, "/report?month=1") == first


def test_twenty_simultaneous_equal_starts_make_one_task(
    app: Flask, queue: InMemoryQueue, stored: Callable[[], list[LongTask]]
) -> None:
    ready = threading.Barrier(20)
    found: list[str] = []

    def click() -> None:
        ready.wait()
        found.append(visit(app, "/report?month=1"))

    threads = [threading.Thread(target=click) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    assert len(set(found)) == 1
    assert len(queue.tasks) == len(stored()) == 1


@pytest.mark.parametrize("asks", [{}, {"Accept": "application/json"}])
def test_a_retry_leads_to_no_task_that_its_visitor_may_not_see(
    app: Flask, asks: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, theirs = app.test_client(), {"X-Team": "ours"}
    url = started(client, "/shared?month=3", headers=theirs)
    client.post(job(url, "cancel"), headers=theirs)
    other = started(client, "/shared?month=3", headers=theirs)
    monkeypatch.setattr(Shared, "may_access", lambda self, task: task.id == id_of(url))
    answer = client.post(job(url, "retry"), headers=asks)
    assert id_of(other) not in answer.text + answer.headers.get("Location", "")
    assert load(app, id_of(url)).status.value == "ready"


def test_a_retry_leads_to_the_visitors_own_task_that_has_the_key(app: Flask) -> None:
    client = app.test_client()
    url = started(client, "/report?month=3")
    press(client, url, "cancel")
    other = started(client, "/report?month=3")
    assert id_of(client.post(job(url, "retry")).headers["Location"]) == id_of(other)
