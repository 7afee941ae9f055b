"""Titles: each page, list and document says what its task is, to those who may see the task."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from flask_wtf import CSRFProtect
from google.cloud import ndb

from gaetk_longtask import EnqueueRefusedError, LongRunningTaskHandler, LongTask, LongTaskManager, PermanentTaskFailure
from gaetk_longtask.queues import QueueRequest
from gaetk_longtask.testing import Faults, InMemoryProgressStore, InMemoryQueue, ManualClock
from tests.support import JSON, UNKNOWN, id_of, job, links, load, polled, press, started

MAY = "Invoices of May"


class Report(LongRunningTaskHandler):
    """A report about a month, whose title names it. The header X-User names its owner."""

    title = "Making the report"
    form_url = "/form"
    fails: ClassVar[type[Exception] | None] = None
    asked: ClassVar[list[Any]] = []

    def get_user_id(self) -> str | None:
        return request.headers.get("X-User")

    def title_of(self, parameters: Any) -> str | None:
        self.asked.append(parameters)
        return f"Invoices of {parameters['month']}" if "month" in parameters else None

    def execute_task(self, parameters: Any) -> str:
        if self.fails:
            raise self.fails("There are none.")
        return "the text"


class Untitled(LongRunningTaskHandler):
    def execute_task(self, parameters: Any) -> str:
        if parameters.get("fails"):
            raise PermanentTaskFailure("There are none.")
        return "the text"


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> type[Report]:
    return type("Report", (Report,), {"asked": []})


@pytest.fixture
def app(make_app: Callable[..., Flask], report: type[Report]) -> Flask:
    return make_app(report, Untitled, LONGTASK_ADMIN=lambda: True)


def tab(answer: Any) -> str:
    """Return the title of the document."""
    [found] = re.findall(r"<title>(.*)</title>", answer.text)
    return found


def subjects(answer: Any) -> list[str]:
    """Return what the page says above its heading."""
    return re.findall(r'<p class="lt-subject" dir="auto">(.*)</p>', answer.text)


# The start.


@pytest.mark.parametrize(
    "start",
    [
        {"path": "/report?month=May"},
        {"path": "/report", "method": "POST", "data": {"month": "May"}},
        {"path": "/report", "method": "POST", "data": {"month": "May", "file": (b"x", "x.csv")}},
    ],
    ids=["query", "form", "upload"],
)
def test_the_title_is_stored_whatever_way_the_parameters_come(
    app: Flask, client: FlaskClient, report: type[Report], start: dict[str, Any]
) -> None:
    if "file" in start.get("data", {}):
        start = start | {"data": start["data"] | {"file": (io.BytesIO(b"x"), "x.csv")}}
    url = client.open(**start).headers["Location"]
    task = load(app, id_of(url))
    assert (task.title, task.info.title) == (MAY, MAY)
    assert polled(client, url)["title"] == MAY
    assert [parameters["month"] for parameters in report.asked] == ["May"]


def test_code_needs_no_request_for_a_title(app: Flask, queue: InMemoryQueue, client: FlaskClient) -> None:
    with app.app_context():
        task = LongTaskManager.start("report", {"month": "May"})
    assert task.title == MAY
    queue.deliver_all(client)
    assert load(app, task).title == MAY


def test_cron_may_start_a_task_with_a_title(app: Flask, client: FlaskClient) -> None:
    @app.get("/cron")
    def cron() -> str:
        return str(LongTaskManager.start("report", {"month": "May"}).title)

    assert client.get("/cron", headers={"X-Appengine-Cron": "true"}).text == MAY


def test_the_title_stays_through_failures_and_retries(
    app: Flask, client: FlaskClient, queue: InMemoryQueue, report: type[Report]
) -> None:
    report.fails = ValueError
    url = started(client, "/report?month=May")
    queue.deliver_all(client)
    assert polled(client, url)["status"] == "failed"
    report.fails = None
    press(client, url, "retry")
    queue.deliver_all(client)
    assert (load(app, id_of(url)).title, len(report.asked)) == (MAY, 1)


@pytest.mark.parametrize("error", [KeyError("month"), TypeError("no text"), ValueError("no month")])
def test_what_title_of_raises_is_the_authors_mistake_and_starts_nothing(
    make_app: Callable[..., Flask], stored: Callable[[], list[LongTask]], queue: InMemoryQueue, error: Exception
) -> None:
    def title_of(self: Any, parameters: Any) -> str:
        raise error

    app = make_app(type("Broken", (Report,), {"title_of": title_of}), TESTING=True)
    with pytest.raises(type(error)):
        app.test_client().get("/broken")
    with app.app_context(), pytest.raises(type(error)):
        LongTaskManager.start("broken", {})
    assert stored() == queue.tasks == []


@pytest.mark.parametrize(
    ("answer", "title"),
    [(" Invoices\nof\x00May ", MAY), ("x" * 500, "x" * 119 + "…"), ("", None), (" \n", None), (None, None)],
)
def test_the_title_is_one_short_line(
    make_app: Callable[..., Flask], answer: str | None, title: str | None, clock: ManualClock
) -> None:
    app = make_app(type("Odd", (Report,), {"title_of": lambda self, parameters: answer}))
    client = app.test_client()
    url = started(client, "/odd")
    assert load(app, id_of(url)).title == title
    assert polled(client, url)["title"] == (title or "Making the report")


def test_a_joined_task_keeps_its_title(make_app: Callable[..., Flask]) -> None:
    one = type("One", (Report,), {"unique_key": lambda self, parameters: "key"})
    client = make_app(one).test_client()
    first, second = (client.get(f"/one?month={month}", headers=JSON).json for month in ("May", "June"))
    assert (second["id"], second["title"]) == (first["id"], MAY)


# Pages.


def test_every_page_of_a_task_has_its_title(
    client: FlaskClient, queue: InMemoryQueue, clock: ManualClock, report: type[Report]
) -> None:
    report.fails = ValueError
    seen = {}

    def look(name: str, path: str | None = None) -> None:
        answer = client.get(path or url + "&_longtaskrefresh=on")
        seen[name] = (tab(answer), subjects(answer))

    url = started(client, "/report?month=May")
    look("waiting")
    queue.deliver(client)
    look("trying again")
    press(client, url, "cancel")
    look("cancelled")
    press(client, url, "retry")
    queue.deliver_all(client)
    look("failed")
    report.fails = None
    press(client, url, "retry")
    queue.deliver_all(client)
    look("done")
    look("result", job(url, "showresult"))
    look("finished")
    look("unpressed", job(url, "cancel"))
    clock.advance(timedelta(days=31))
    look("expired")
    assert seen == {
        "waiting": (MAY, []),  # it is the heading
        "trying again": (f"Trying again – {MAY}", [MAY]),
        "cancelled": (f"The task was cancelled – {MAY}", [MAY]),
        "failed": (f"The task failed – {MAY}", [MAY]),
        "done": (f"The result is ready – {MAY}", [MAY]),
        "result": (MAY, []),
        "finished": (f"The result is ready – {MAY}", [MAY]),
        "unpressed": (f"Nothing has changed yet – {MAY}", [MAY]),
        "expired": (f"Result expired – {MAY}", [MAY]),
    }


def test_a_task_at_work_has_its_title(
    client: FlaskClient, queue: InMemoryQueue, progress: InMemoryProgressStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def execute_task(self: Report, parameters: Any) -> None:
        self.log_progress("Reading", 1, 4)
        seen.extend([tab(client.get(url)), self.task and self.task.title])

    monkeypatch.setattr(client.application.view_functions["report"].view_class, "execute_task", execute_task)
    url = started(client, "/report?month=May")
    queue.deliver(client)
    assert seen == [MAY, MAY]


def test_a_page_that_belongs_to_no_task_has_the_title_of_the_class(client: FlaskClient) -> None:
    answers = [
        client.get(f"/report?_longtaskjob=query&_longtaskid={UNKNOWN}&month=May"),
        client.get("/report?month=May", headers={"Sec-Fetch-Site": "cross-site"}),
        client.get("/report?_longtaskjob=nonsense&_longtaskid=x"),
        client.post("/report", data="{}", content_type="application/json"),
    ]
    assert [(tab(answer), subjects(answer)) for answer in answers] == [
        (f"{heading} – Making the report", ["Making the report"])
        for heading in ("Task not found", "Start this task?", "Invalid request", "Invalid request")
    ]


def test_a_handler_without_a_title_shows_the_state_alone(
    client: FlaskClient, queue: InMemoryQueue, clock: ManualClock
) -> None:
    seen = []
    url = started(client, "/untitled")
    seen.append(client.get(url))
    queue.deliver_all(client)
    seen.append(client.get(url + "&_longtaskrefresh=on"))
    seen.append(client.get(job(url, "showresult")))
    failed = started(client, "/untitled?fails=1")
    queue.deliver_all(client)
    seen.append(client.get(failed))
    clock.advance(timedelta(days=31))
    seen += [client.get(url), client.get(f"/untitled?_longtaskjob=query&_longtaskid={UNKNOWN}")]
    seen.append(client.get("/untitled", headers={"Sec-Fetch-Site": "cross-site"}))
    assert [tab(answer) for answer in seen] == [
        "Waiting to start",
        "The result is ready",
        "Result",
        "The task failed",
        "Result expired",
        "Task not found",
        "Start this task?",
    ]
    assert ["Please wait" in answer.text for answer in seen] == [True] + 6 * [False]
    assert all(subjects(answer) == [] for answer in seen)


class Refusing(InMemoryQueue):
    def enqueue(self, request: QueueRequest) -> None:
        raise EnqueueRefusedError("no")


def test_a_refused_start_says_what_was_not_started(
    ndb_client: ndb.Client, progress: InMemoryProgressStore, clock: ManualClock, report: type[Report]
) -> None:
    app = Flask("tests")
    LongTaskManager(app, ndb_client=ndb_client, queue=Refusing(), progress=progress, clock=clock)
    app.add_url_rule("/report", view_func=report.as_view("report"))
    answer = app.test_client().get("/report?month=May")
    assert (answer.status_code, tab(answer)) == (503, f"Temporarily unavailable – {MAY}")


def test_a_fresh_button_has_the_title_of_the_class(
    make_app: Callable[..., Flask], report: type[Report], clock: ManualClock
) -> None:
    app = make_app(report)
    CSRFProtect(app)
    client = app.test_client()
    url = started(client, "/report?month=May")
    answer = client.post(job(url, "cancel"))
    assert (answer.status_code, tab(answer)) == (400, "Nothing has changed yet – Making the report")
    report.title = property(lambda self: 1 / 0)  # type: ignore[assignment]  # an author's mistake
    assert client.post(job(url, "cancel")).text.count("The CSRF token is missing.") == 1


# Who may see it.


@pytest.mark.parametrize("expired", [False, True])
@pytest.mark.parametrize("user", ["ben", None])
def test_the_title_of_a_task_is_only_for_those_who_may_see_the_task(
    client: FlaskClient, queue: InMemoryQueue, clock: ManualClock, user: str | None, *, expired: bool
) -> None:
    url = started(client, "/report?month=May", headers={"X-User": "anna"})
    queue.deliver_all(client)
    if expired:
        clock.advance(timedelta(days=31))
    answer = client.get(url.replace("&month=May", ""), headers={"X-User": user} if user else {})
    assert (answer.status_code, tab(answer)) == (403, "Access denied – Making the report")
    assert MAY not in answer.text
    assert client.get(url, headers={"X-User": "anna"}, follow_redirects=True).status_code == (410 if expired else 200)


def test_a_title_is_text_on_every_page(
    make_app: Callable[..., Flask], queue: InMemoryQueue, clock: ManualClock
) -> None:
    hostile = "<script>alert(1)</script>\"'"
    app = make_app(type("Odd", (Report,), {"title_of": lambda self, parameters: hostile}), LONGTASK_ADMIN=lambda: True)
    client = app.test_client()
    url = started(client, "/odd")
    pages = [client.get(url), client.get("/_longtask/tasks"), client.get(f"/_longtask/tasks/{id_of(url)}")]
    queue.deliver_all(client)
    pages += [client.get(url + "&_longtaskrefresh=on"), client.get(job(url, "showresult"))]
    clock.advance(timedelta(days=31))
    pages.append(client.get(url))
    assert all("&lt;script&gt;alert(1)" in page.text and "<script>alert" not in page.text for page in pages)


# Documents.


def test_a_document_is_utf_8_and_at_most_650_bytes(client: FlaskClient, queue: InMemoryQueue) -> None:
    url = started(client, "/report?month=März – 五月")
    answer = client.get(url, headers=JSON)
    assert '"title":"Invoices of März – 五月"'.encode() in answer.data
    assert len(answer.data) <= 650
    assert client.get(started(client, "/untitled"), headers=JSON).json["title"] is None


def test_a_problem_document_is_utf_8_too(client: FlaskClient) -> None:
    url = f"/report?_longtaskjob=query&_longtaskid={UNKNOWN}"
    answer = client.get(url, headers=JSON | {"Accept-Language": "de"})
    assert answer.mimetype == "application/problem+json"
    assert "Prüfen Sie die Adresse" in answer.data.decode()
    assert b"\\u" not in answer.data
    assert json.loads(answer.data)["status"] == 404


# Operators.


def test_operators_see_the_title(client: FlaskClient, queue: InMemoryQueue) -> None:
    url = started(client, "/report?month=May")
    started(client, "/untitled")
    for _ in range(2):
        page = client.get("/_longtask/tasks")
        assert re.findall(r"<bdi>(.*)</bdi>", page.text) == [MAY]
        page = client.get(f"/_longtask/tasks/{id_of(url)}")
        assert (tab(page), subjects(page)) == (f"report – {MAY}", [MAY])
        queue.deliver_all(client)
        client.get(job(url, "showresult"))


def test_the_command_line_shows_the_title(app: Flask, client: FlaskClient, queue: InMemoryQueue) -> None:
    task_id = id_of(started(client, "/report?month=May"))
    started(client, "/untitled")
    queue.deliver_all(client)

    def flask(*arguments: str) -> str:
        return app.test_cli_runner().invoke(args=["longtask", *arguments], catch_exceptions=False).stdout

    head, *rows = flask("list").splitlines()
    assert head.split()[-1] == "TITLE"
    assert sorted(row[head.index("TITLE") :] for row in rows) == ["", MAY]
    assert f"title: {MAY}\n" in flask("show", task_id)
    assert json.loads(flask("show", task_id, "--json"))["title"] == MAY
    assert sorted(str(task["title"]) for task in json.loads(flask("list", "--json"))["tasks"]) == [MAY, "None"]


# Where the visitor begins again.


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"path": f"/report?_longtaskjob=query&_longtaskid={UNKNOWN}"}, 404),
        ({"path": "/report?_longtaskjob=query"}, 400),
        ({"path": "/report?_longtaskjob=nonsense&_longtaskid=x"}, 400),
        ({"path": "/report", "method": "POST", "data": "{}", "content_type": "application/json"}, 415),
        ({"path": "/report", "method": "POST", "data": {"month": b"\xff"}}, 400),
        ({"path": "/report?month=%ff"}, 400),
    ],
)
def test_a_page_that_has_no_better_way_leads_to_the_form(
    client: FlaskClient, request_: dict[str, Any], status: int
) -> None:
    answer = client.open(**request_)
    assert answer.status_code == status
    assert links(answer.text) == {"Back to the form": "/form"}


def test_a_task_that_is_only_started_by_post_leads_to_the_form(client: FlaskClient, report: type[Report]) -> None:
    report.start_methods = ("POST",)
    answer = client.get("/report")
    assert (answer.status_code, links(answer.text)) == (405, {"Back to the form": "/form"})


def test_another_users_task_leads_to_the_form(client: FlaskClient) -> None:
    url = started(client, "/report", headers={"X-User": "anna"})
    assert links(client.get(url).text) == {"Back to the form": "/form"}


def test_the_form_is_not_offered_where_the_page_can_be_loaded_again(
    client: FlaskClient, progress: InMemoryProgressStore, faults: Faults
) -> None:
    url = started(client, "/report?month=May")
    progress.is_down = True
    faults.lose_request("Lookup", times=20)
    answer = client.get(url)
    assert (answer.status_code, links(answer.text)) == (503, {"Refresh the page": ""})
    faults.lose_request("Commit", times=20)
    answer = client.post("/report", data={"month": "May"})
    assert (answer.status_code, links(answer.text)) == (503, {"Back to the form": "/form"})


def test_a_url_that_lacks_a_parameter_is_never_repeated(make_app: Callable[..., Flask], queue: InMemoryQueue) -> None:
    def prepare_task(self: Any, **kwargs: Any) -> dict[str, str]:
        return {"month": "May"}

    app = make_app(type("Own", (Report,), {"prepare_task": prepare_task, "form_url": None}))
    client = app.test_client()
    url = client.post("/own", data={"secret": "x"}).headers["Location"]
    assert "_longtaskpartial=1" in url
    client.post(job(url, "cancel"))
    for page in (url, url.replace(id_of(url), UNKNOWN)):
        assert links(client.get(page).text) == {}


# Files from another site.


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["Łódź <1>.csv"], "Łódź &lt;1&gt;.csv"),
        (["a.csv", "b.csv"], "a.csv, b.csv"),
        ([f"{number}.csv" for number in range(12)], ", ".join(f"{number}.csv" for number in range(10)) + " …"),
    ],
)
def test_files_from_another_site_are_refused_by_name(
    client: FlaskClient, stored: Callable[[], list[LongTask]], names: list[str], shown: str
) -> None:
    data = {"file": [(io.BytesIO(b"x"), name) for name in names], "password": "secret"}
    answer = client.post("/report", data=data, headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, tab(answer)) == (403, "Access denied – Making the report")
    assert f"another site has sent this upload: {shown}. Open our own form" in answer.text
    assert links(answer.text) == {"Back to the form": "/form"}
    assert "secret" not in answer.text
    assert stored() == []


def test_a_form_from_another_site_without_a_chosen_file_is_refused_too(client: FlaskClient) -> None:
    data = {"file": (io.BytesIO(b""), "")}
    answer = client.post("/report", data=data, headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, links(answer.text)) == (403, {"Back to the form": "/form"})
    assert "This file was sent from another site." in answer.text


def test_a_hook_is_not_asked_about_parameters_of_another_site(client: FlaskClient, report: type[Report]) -> None:
    page = client.get("/report?month=May", headers={"Sec-Fetch-Site": "cross-site"})
    assert report.asked == []
    assert MAY not in page.text
