"""The access rights to every address, for all kinds of clients. `docs/security.md` explains them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask, request
from werkzeug.test import TestResponse

from gaetk_longtask import LongTask, Status
from gaetk_longtask.testing import InMemoryQueue
from tests.support import Work, services_of, start

#: The headers of each client. The task belongs to Anna.
ACTORS: dict[str, dict[str, str]] = {
    "anonymous visitor": {},
    "another user": {"X-User": "ben", "Sec-Fetch-Site": "same-origin"},
    "owner": {"X-User": "anna", "Sec-Fetch-Site": "same-origin"},
    "owner on a foreign page": {"X-User": "anna", "Sec-Fetch-Site": "cross-site"},
    "owner with an old browser": {"X-User": "anna", "Origin": "http://localhost"},
    "owner with an old browser on a foreign page": {"X-User": "anna", "Origin": "https://elsewhere.example"},
    "operator": {"X-User": "olga", "X-Operator": "yes", "Sec-Fetch-Site": "same-origin"},
    "operator on a foreign page": {"X-User": "olga", "X-Operator": "yes", "Sec-Fetch-Site": "cross-site"},
    "operator with an old browser on a foreign page": {
        "X-User": "olga",
        "X-Operator": "yes",
        "Origin": "https://elsewhere.example",
    },
    "the queue": {},  # with the headers of the task's delivery
    "forged delivery": {"X-AppEngine-QueueName": "default", "X-Longtask-Execute-Key": "A" * 22},
    "cron": {"X-Appengine-Cron": "true"},
}
STATIC = "/_longtask/static/longtask.css"

#: The address and perhaps a form, the status of the task before the request, and the code for each of the clients, in
#: order.
TABLE: list[tuple[str, Status | None, list[int]]] = [
    # The application's decorators guard starts. A start from another site needs a click on a button.
    ("GET /report", None, [307, 307, 307, 200, 307, 200, 307, 200, 200, 307, 307, 307]),
    ("POST /report", None, [307, 307, 307, 200, 307, 200, 307, 200, 200, 307, 307, 307]),
    # A link on another site may lead to the visitor's own task.
    ("GET /report?_longtaskjob=query&{id}", Status.READY, [403, 403, 200, 200, 200, 200, 403, 403, 403, 403, 403, 403]),
    (
        "GET /report?_longtaskjob=showresult&{id}",
        Status.DONE,
        [403, 403, 200, 200, 200, 200, 403, 403, 403, 403, 403, 403],
    ),
    (
        "POST /report?_longtaskjob=cancel&{id}",
        Status.READY,
        [403, 403, 303, 403, 303, 403, 403, 403, 403, 403, 403, 403],
    ),
    (
        "DELETE /report?_longtaskjob=query&{id}",
        Status.READY,
        [403, 403, 303, 403, 303, 403, 403, 403, 403, 403, 403, 403],
    ),
    (
        "DELETE /report?_longtaskjob=showresult&{id}",
        Status.DONE,
        [405] * 12,
    ),
    (
        "DELETE /report?_longtaskjob=execute&{id}",
        Status.READY,
        [403] * 12,
    ),
    ("DELETE /report", None, [405] * 12),
    (
        "GET /report?_longtaskjob=cancel&{id}",
        Status.READY,
        [403, 403, 405, 405, 405, 405, 403, 403, 403, 403, 403, 403],
    ),
    (
        "POST /report?_longtaskjob=retry&{id}",
        Status.CANCELLED,
        [403, 403, 303, 403, 303, 403, 403, 403, 403, 403, 403, 403],
    ),
    (
        "GET /report?_longtaskjob=execute&{id}",
        Status.READY,
        [403, 403, 403, 403, 403, 403, 403, 403, 403, 200, 403, 403],
    ),
    (
        "POST /report?_longtaskjob=execute&{id}",
        Status.READY,
        [403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403],
    ),
    # Each user gets their own list.
    ("GET /_longtask/mine", Status.READY, [404, 200, 200, 200, 200, 200, 200, 200, 200, 404, 404, 404]),
    ("GET /_longtask/status.schema.json", None, [200] * 12),
    ("GET /_longtask/sweep", None, [403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 200]),
    ("GET /_longtask/purge", None, [403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 200]),
    # All others get the same answer as without an overview.
    ("GET /_longtask/tasks", None, [404, 404, 404, 404, 404, 404, 200, 200, 200, 404, 404, 404]),
    ("GET /_longtask/tasks/{task}", Status.READY, [404, 404, 404, 404, 404, 404, 200, 200, 200, 404, 404, 404]),
    ("GET /_longtask/statistics", None, [404, 404, 404, 404, 404, 404, 200, 200, 200, 404, 404, 404]),
    ("POST /_longtask/tasks/{task}/cancel", Status.READY, [404, 404, 404, 404, 404, 404, 303, 403, 403, 404, 404, 404]),
    (
        "POST /_longtask/tasks/{task}/retry",
        Status.CANCELLED,
        [404, 404, 404, 404, 404, 404, 303, 403, 403, 404, 404, 404],
    ),
    (
        "GET /_longtask/many?action=cancel&id={task}",
        Status.READY,
        [404, 404, 404, 404, 404, 404, 200, 200, 200, 404, 404, 404],
    ),
    (
        "POST /_longtask/many action=cancel&id={task}",
        Status.READY,
        [404, 404, 404, 404, 404, 404, 200, 403, 403, 404, 404, 404],
    ),
    (
        "POST /_longtask/many action=delete&all=1",
        Status.READY,
        [404, 404, 404, 404, 404, 404, 200, 403, 403, 404, 404, 404],
    ),
    (f"GET {STATIC}", None, [200] * 12),
]
CELLS = [
    pytest.param(address, status, actor, code, id=f"{address} – {actor}")
    for address, status, codes in TABLE
    for actor, code in zip(ACTORS, codes, strict=True)
]


class Report(Work):
    def get_user_id(self) -> str | None:
        return request.headers.get("X-User")


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app(
        Report,
        LONGTASK_ADMIN=lambda: request.headers.get("X-Operator") == "yes",
        LONGTASK_USER=lambda: request.headers.get("X-User"),
    )


def task_in(app: Flask, queue: InMemoryQueue, status: Status | None) -> LongTask:
    task = start(app, "report", created_by="anna")
    if status is Status.DONE:
        queue.deliver_all(app.test_client())
    if status is Status.CANCELLED:
        with services_of(app).ndb_context():
            services_of(app).store.cancel(task.id)
    return task


def ask(app: Flask, queue: InMemoryQueue, address: str, actor: str, task: LongTask) -> TestResponse:
    """Return the answer to one cell's request."""
    headers = queue.tasks[0].headers if actor == "the queue" and queue.tasks else ACTORS[actor]
    method, url, *form = address.format(id=f"_longtaskid={task.id}", task=task.id).split(" ")
    data = dict(pair.split("=") for pair in form[0].split("&")) if form else None
    return app.test_client().open(url, method=method, headers=headers, data=data)


@pytest.mark.parametrize(("address", "status", "actor", "code"), CELLS)
def test_every_client_gets_only_what_it_may_have(
    address: str, status: Status | None, actor: str, code: int, app: Flask, queue: InMemoryQueue
) -> None:
    task = task_in(app, queue, status)
    with ask(app, queue, address, actor, task) as answer:
        assert answer.status_code == code
        if code in (403, 404) or (address == "GET /_longtask/mine" and not actor.startswith("owner")):
            assert task.id not in answer.text
            assert "anna" not in answer.text


@pytest.mark.parametrize(("address", "status", "actor", "code"), CELLS)
def test_another_site_frames_no_page_of_ours(
    address: str, status: Status | None, actor: str, code: int, app: Flask, queue: InMemoryQueue
) -> None:
    task = task_in(app, queue, status)
    with ask(app, queue, address, actor, task) as answer:
        # Of what is HTML, only redirects and the application's own 404 are not pages of ours.
        ours = (
            answer.mimetype == "text/html" and code not in (303, 307) and (code != 404 or "/_longtask/" not in address)
        )
        assert not ours or answer.headers["X-Frame-Options"] in ("SAMEORIGIN", "DENY")


@pytest.mark.parametrize("actor", ACTORS)
@pytest.mark.parametrize("action", ["cancel", "delete"])
def test_only_an_operator_on_our_own_page_changes_many_tasks(
    action: str, actor: str, app: Flask, queue: InMemoryQueue, stored: Callable[[], list[LongTask]]
) -> None:
    task = task_in(app, queue, Status.READY)
    ask(app, queue, f"POST /_longtask/many action={action}&all=1", actor, task)
    unchanged = [each.status for each in stored()] == [Status.READY]
    assert unchanged is (actor != "operator")


def test_the_table_has_every_address_of_the_library(app: Flask) -> None:
    ours = {rule.rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("longtask.")}
    adapter = app.url_map.bind("localhost")
    asked = {
        adapter.match(url.format(id="", task="abc"), method=method, return_rule=True)[0].rule
        for method, url in (address.partition("?")[0].split(" ")[:2] for address, _, _ in TABLE)
    }
    assert ours <= asked
