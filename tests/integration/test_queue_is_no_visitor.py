"""Deliveries bypass the application's login and CSRF protection, and forged deliveries do not."""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask, abort, got_request_exception, redirect, request, session
from flask.testing import FlaskClient
from flask.typing import ResponseReturnValue
from flask_wtf import CSRFProtect
from google.cloud import ndb
from werkzeug.test import TestResponse

from gaetk_longtask import (
    JSONSerializer,
    LongRunningTaskHandler,
    LongTask,
    LongTaskManager,
    PermanentTaskFailure,
    is_queue_request,
)
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue, ManualClock
from tests.support import FORGED, JSON, Work, id_of, job, polled, raising, started


def login_required(view: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs) if session.get("user") else redirect("/login")

    return guarded


class Report(LongRunningTaskHandler):
    """A handler behind a login."""

    decorators: ClassVar[list[Callable[..., Any]]] = [login_required]
    max_attempts = 2
    do: ClassVar[Callable[[LongRunningTaskHandler], Any]]

    def get_user_id(self) -> str | None:
        return session.get("user")

    def execute_task(self, parameters: dict[str, Any]) -> Any:
        return Report.do(self)


class Posted(LongRunningTaskHandler):
    """A handler that only POST starts."""

    methods = ("POST",)

    def execute_task(self, parameters: dict[str, Any]) -> str:
        return "posted"


class Stubborn(JSONSerializer):
    """An author's serializer, which breaks the contract of serializers."""

    def dumps(self, value: Any, signer: Any) -> bytes:
        if value == ["a result"]:
            raise ZeroDivisionError
        return super().dumps(value, signer)


class Broken(LongRunningTaskHandler):
    """Fails outside of `execute_task`."""

    serializer = Stubborn()
    max_attempts = 2

    def execute_task(self, parameters: dict[str, Any]) -> list[str]:
        return ["a result"]


@pytest.fixture
def app(ndb_client: ndb.Client, queue: InMemoryQueue, progress: InMemoryProgressStore, clock: ManualClock) -> Flask:
    """An application with everything that can stop a delivery."""
    app = Flask("tests")
    app.config["SECRET_KEY"] = "for tests alone"
    CSRFProtect(app)

    @app.before_request
    def everybody_logs_in() -> ResponseReturnValue | None:
        if request.path == "/login" or session.get("user") or is_queue_request():
            return None
        return redirect("/login")

    @app.errorhandler(Exception)
    def all_is_well(exc: Exception) -> ResponseReturnValue:
        return "We are sorry.", 200

    @app.get("/login")
    def login() -> str:
        session["user"] = request.args.get("user")
        return "welcome"

    @app.get("/secret")
    def secret() -> str:
        return "secret"

    @app.get("/token")
    def token() -> str:
        return app.jinja_env.globals["csrf_token"]()  # type: ignore[no-any-return,operator]  # Flask-WTF's

    LongTaskManager(app, ndb_client=ndb_client, queue=queue, progress=progress, clock=clock)
    for handler in (Report, Posted, Broken):
        name = handler.__name__.lower()
        app.add_url_rule(f"/{name}", view_func=handler.as_view(name))
    Report.do = lambda handler: "the report"
    return app


@pytest.fixture
def anna(app: Flask) -> FlaskClient:
    """A visitor who has logged in."""
    client = app.test_client()
    client.get("/login?user=anna")
    return client


@pytest.fixture
def google(app: Flask) -> FlaskClient:
    """The sender of the deliveries, without a session and without cookies."""
    return app.test_client(use_cookies=False)


@pytest.fixture
def load(ndb_client: ndb.Client) -> Callable[[str], LongTask]:
    def get(url: str) -> LongTask:
        with ndb_client.context():
            return LongTask.key_of(id_of(url)).get()

    return get


def action_of(page: TestResponse) -> tuple[str, dict[str, str]]:
    """Return the action of a page's first form, and its hidden fields."""
    [action] = re.findall(r'<form method="post" action="([^"]*)"', page.text)
    fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', page.text)
    return html.unescape(action), {html.unescape(name): html.unescape(value) for name, value in fields}


# Deliveries.


def test_a_delivery_passes_login_csrf_protection_and_redirects(
    anna: FlaskClient, google: FlaskClient, queue: InMemoryQueue
) -> None:
    url = started(anna, "/report")
    assert queue.deliver(google).status_code == 200
    assert "the report" in anna.get(job(url, "showresult")).text


def test_the_work_knows_no_user_but_who_has_started_it(
    anna: FlaskClient, google: FlaskClient, queue: InMemoryQueue
) -> None:
    def look(handler: LongRunningTaskHandler) -> list[Any]:
        assert handler.task is not None
        return [dict(session), handler.task.created_by]

    Report.do = look
    url = started(anna, "/report")
    queue.deliver(google)
    assert anna.get(job(url, "showresult")).json == [{}, "anna"]


@pytest.mark.parametrize("error", [ValueError("what went wrong"), KeyError("what went wrong")])
def test_what_execute_task_raises_is_answered_500_whatever_the_application_makes_of_errors(
    anna: FlaskClient, google: FlaskClient, queue: InMemoryQueue, error: Exception
) -> None:
    Report.do = raising(error)
    url = started(anna, "/report")
    assert queue.deliver(google).status_code == 500
    assert polled(anna, url)["status"] == "error"


def test_an_http_error_that_execute_task_raises_is_answered_500(
    anna: FlaskClient, google: FlaskClient, queue: InMemoryQueue
) -> None:
    Report.do = lambda handler: abort(404)
    url = started(anna, "/report")
    assert queue.deliver(google).status_code == 500
    assert polled(anna, url)["status"] == "error"


def test_what_execute_task_raises_is_logged_with_its_traceback(
    anna: FlaskClient, google: FlaskClient, queue: InMemoryQueue, caplog: pytest.LogCaptureFixture
) -> None:
    Report.do = raising(ValueError("what went wrong"))
    started(anna, "/report")
    queue.deliver(google)
    assert "what went wrong" in caplog.text
    assert "Traceback" in caplog.text
    assert "in execute_task" in caplog.text


@pytest.mark.parametrize(("error", "reported"), [(ValueError(), True), (PermanentTaskFailure(), False)])
def test_what_execute_task_raises_reaches_error_reporting_unless_the_visitor_has_to_act(
    app: Flask, anna: FlaskClient, google: FlaskClient, queue: InMemoryQueue, error: Exception, reported: bool
) -> None:
    told: list[Exception] = []

    def tell(sender: Flask, exception: Exception, **kwargs: Any) -> None:
        assert sender is app
        told.append(exception)

    Report.do = raising(error)
    started(anna, "/report")
    with got_request_exception.connected_to(tell, app):
        queue.deliver(google)
    assert told == ([error] if reported else [])


def test_the_answer_to_a_delivery_does_not_contain_the_exception(
    anna: FlaskClient, google: FlaskClient, queue: InMemoryQueue
) -> None:
    Report.do = raising(ValueError("secret"))
    started(anna, "/report")
    assert "secret" not in queue.deliver(google).text


def test_a_failed_attempt_is_repeated_until_it_succeeds(
    anna: FlaskClient, google: FlaskClient, queue: InMemoryQueue
) -> None:
    Report.do = raising(ValueError())
    url = started(anna, "/report")
    queue.deliver(google)
    Report.do = lambda handler: "at last"
    assert queue.deliver(google).status_code == 200
    assert "at last" in anna.get(job(url, "showresult")).text


def test_the_last_attempt_and_a_permanent_failure_are_answered_200(
    anna: FlaskClient, google: FlaskClient, queue: InMemoryQueue
) -> None:
    Report.do = raising(ValueError())
    url = started(anna, "/report")
    assert [queue.deliver(google).status_code for _ in range(2)] == [500, 200]
    assert polled(anna, url)["status"] == "failed"
    Report.do = raising(PermanentTaskFailure("No such month."))
    url = started(anna, "/report")
    assert queue.deliver(google).status_code == 200
    assert polled(anna, url)["error"] == "No such month."


def test_error_reporting_that_fails_itself_does_not_turn_a_failed_attempt_into_a_success(
    app: Flask, anna: FlaskClient, google: FlaskClient, queue: InMemoryQueue
) -> None:
    def break_down(sender: Flask, exception: Exception, **kwargs: Any) -> None:
        raise RuntimeError

    Report.do = raising(ValueError())
    url = started(anna, "/report")
    with got_request_exception.connected_to(break_down, app):
        assert queue.deliver(google).status_code == 500
        assert polled(anna, url)["status"] == "error"


def test_a_serializer_that_breaks_its_law_does_not_make_a_delivery_a_success(
    app: Flask, google: FlaskClient, queue: InMemoryQueue, load: Callable[[str], LongTask]
) -> None:
    with app.test_request_context():
        task = LongTaskManager.start("broken", {})
    assert queue.deliver(google).status_code == 500
    assert not load(task.url).status.has_result


def test_an_application_that_propagates_exceptions_answers_the_queue_all_the_same(
    app: Flask, anna: FlaskClient, google: FlaskClient, queue: InMemoryQueue
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = True
    app.testing = True
    Report.do = raising(ValueError())
    started(anna, "/report")
    assert queue.deliver(google).status_code == 500


# Visitors.


@pytest.mark.parametrize("name", ["query", "showresult", "execute"])
def test_a_visitor_without_login_is_redirected(
    app: Flask, anna: FlaskClient, google: FlaskClient, queue: InMemoryQueue, name: str
) -> None:
    url = started(anna, "/report")
    queue.deliver(google)
    answer = app.test_client().get(job(url, name))
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/login"


def test_a_visitor_without_login_starts_nothing(app: Flask, queue: InMemoryQueue) -> None:
    assert app.test_client().get("/report").headers["Location"] == "/login"
    assert not queue.tasks


def test_decorators_alone_keep_visitors_out_too(make_app: Callable[..., Flask], queue: InMemoryQueue) -> None:
    app = make_app(Report)
    Report.do = lambda handler: "the report"
    with app.test_request_context():
        task = LongTaskManager.start("report", {})
    client = app.test_client()
    assert queue.deliver(client).status_code == 200
    for name in ("query", "showresult"):
        assert client.get(job(task.url, name)).headers["Location"] == "/login"
    assert client.get("/report").headers["Location"] == "/login"


# Forged deliveries.


def test_a_forged_delivery_is_forbidden(app: Flask, anna: FlaskClient) -> None:
    url = started(anna, "/report")
    assert app.test_client().get(job(url, "execute"), headers=FORGED).status_code == 403
    assert polled(anna, url)["status"] == "ready"


def test_a_delivery_without_the_queues_header_is_a_visitor_and_has_to_log_in(
    app: Flask, anna: FlaskClient, queue: InMemoryQueue
) -> None:
    started(anna, "/report")
    [task] = queue.tasks
    answer = app.test_client().get(task.request.uri, headers=task.request.headers)
    assert answer.headers["Location"] == "/login"


@pytest.mark.parametrize(
    "target",
    [
        "/secret",
        "/secret?_longtaskjob=execute",
        "/secret?_longtaskjob=execute&_longtaskid={task_id}",
        "/report?_longtaskjob=query&_longtaskid={task_id}",
        "/report?_longtaskjob=showresult&_longtaskid={task_id}",
        "/report?_longtaskjob=query&_longtaskjob=execute&_longtaskid={task_id}",
        "/report?_longtaskid={task_id}",
        "/report",
        "/_longtask/static/longtask.css?_longtaskjob=execute",
        "/nowhere?_longtaskjob=execute&_longtaskid={task_id}",
    ],
)
def test_a_forged_delivery_does_not_bypass_the_login_for_other_views(
    app: Flask, anna: FlaskClient, queue: InMemoryQueue, target: str
) -> None:
    url = started(anna, "/report")
    headers = queue.tasks[0].headers  # even the right ones
    [task_id] = parse_qs(urlsplit(url).query)["_longtaskid"]
    answer = app.test_client().get(target.format(task_id=task_id), headers=headers)
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/login"


def test_a_forged_delivery_that_hides_another_job_behind_execute_gets_nothing(
    app: Flask, anna: FlaskClient, google: FlaskClient, queue: InMemoryQueue
) -> None:
    url = started(anna, "/report")
    queue.deliver(google)
    target = job(url, "execute") + "&_longtaskjob=showresult"
    answer = app.test_client().get(target, headers=FORGED)
    assert answer.status_code == 403
    assert "the report" not in answer.text


def test_a_forged_delivery_by_post_is_stopped_by_csrf_protection_or_login(
    app: Flask, anna: FlaskClient, queue: InMemoryQueue
) -> None:
    url = started(anna, "/report")
    answer = app.test_client().post(job(url, "execute"), headers=queue.tasks[0].headers)
    assert answer.text == "We are sorry." or answer.headers["Location"] == "/login"
    assert polled(anna, url)["status"] == "ready"


def test_is_queue_request_is_false_where_no_view_is_found(app: Flask) -> None:
    with app.test_request_context("/nowhere?_longtaskjob=execute", headers=FORGED):
        assert is_queue_request() is False


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS"])
def test_is_queue_request_is_true_of_get_alone(app: Flask, method: str) -> None:
    with app.test_request_context("/report?_longtaskjob=execute", method=method, headers=FORGED):
        assert is_queue_request() is False
    with app.test_request_context("/report?_longtaskjob=execute", headers=FORGED):
        assert is_queue_request() is True


# CSRF protection.


def test_the_cancel_button_works_with_csrf_protection_on(anna: FlaskClient) -> None:
    url = started(anna, "/report")
    action, fields = action_of(anna.get(url))
    assert action == job(url, "cancel")
    answer = anna.post(action, data=fields)
    assert answer.status_code == 303
    assert polled(anna, url)["status"] == "cancelled"


def test_the_retry_button_works_with_csrf_protection_on(
    anna: FlaskClient, google: FlaskClient, queue: InMemoryQueue
) -> None:
    Report.do = raising(PermanentTaskFailure())
    url = started(anna, "/report")
    queue.deliver(google)
    action, fields = action_of(anna.get(url))
    assert action == job(url, "retry")
    assert anna.post(action, data=fields).status_code == 303
    assert polled(anna, url)["status"] == "ready"


def test_the_buttons_work_with_csrf_protection_over_https(app: Flask) -> None:
    """Over HTTPS, Flask-WTF requires a Referer, which our Referrer-Policy allows for the same origin."""
    client = app.test_client()
    secure = {"base_url": "https://shop.example"}
    client.get("/login?user=anna", **secure)
    url = client.get("/report", **secure).headers["Location"]
    page = client.get(url, **secure)
    assert page.headers["Referrer-Policy"] == "same-origin"
    action, fields = action_of(page)
    client.post(action, data=fields, headers={"Referer": f"https://shop.example{url}"}, **secure)
    assert client.get(url, headers=JSON, **secure).json["status"] == "cancelled"


def test_without_the_token_csrf_protection_does_its_work(anna: FlaskClient) -> None:
    url = started(anna, "/report")
    assert anna.post(job(url, "cancel")).text == "We are sorry."
    assert polled(anna, url)["status"] == "ready"


def test_a_form_that_is_sent_again_by_the_redirect_passes_csrf_protection(anna: FlaskClient) -> None:
    data = {"csrf_token": anna.get("/token").text, "month": "3"}
    first = anna.post("/report", data=data)
    assert first.status_code == 307
    second = anna.post(first.headers["Location"], data=data)
    assert second.status_code == 303
    assert second.headers["Location"] == first.headers["Location"]


def test_the_csrf_token_does_not_become_a_parameter(
    anna: FlaskClient, google: FlaskClient, queue: InMemoryQueue
) -> None:
    seen: list[Any] = []

    class Seeing(LongRunningTaskHandler):
        def execute_task(self, parameters: dict[str, Any]) -> None:
            seen.append(parameters)

    google.application.view_functions["report"] = Seeing.as_view("report")
    anna.post("/report", data={"csrf_token": anna.get("/token").text, "month": "3"})
    queue.deliver(google)
    assert seen == [{"month": "3"}]


# Methods.


def test_methods_restrict_starting(anna: FlaskClient, queue: InMemoryQueue) -> None:
    answer = anna.get("/posted")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "POST"
    assert anna.get("/posted", headers=JSON).mimetype == "application/problem+json"
    assert not queue.tasks


def test_methods_do_not_restrict_the_other_jobs(anna: FlaskClient, google: FlaskClient, queue: InMemoryQueue) -> None:
    url = anna.post("/posted", data={"csrf_token": anna.get("/token").text}).headers["Location"]
    assert anna.get(url).status_code == 200
    assert queue.deliver(google).status_code == 200
    assert "posted" in anna.get(job(url, "showresult")).text


def test_methods_that_leave_out_post_do_not_restrict_cancel(make_app: Callable[..., Flask]) -> None:
    class Got(Work):
        methods = ("GET",)

    client = make_app(Got).test_client()
    assert client.post("/got").status_code == 405
    url = started(client, "/got")
    assert client.post(url).status_code == 303
    assert client.post(job(url, "cancel")).status_code == 303
    assert polled(client, url)["status"] == "cancelled"


def test_methods_that_a_mixin_brings_restrict_starting_alone_too(
    make_app: Callable[..., Flask], queue: InMemoryQueue
) -> None:
    class PostOnly:
        methods = ("POST",)

    class Mixed(PostOnly, LongRunningTaskHandler):  # type: ignore[misc]  # an author's own, untyped, mixin
        def execute_task(self, parameters: dict[str, Any]) -> str:
            return "mixed"

    client = make_app(Mixed).test_client()
    assert client.get("/mixed").status_code == 405
    url = client.post("/mixed").headers["Location"]
    assert client.get(url).status_code == 200
    assert queue.deliver(client).status_code == 200


def test_methods_are_inherited(make_app: Callable[..., Flask]) -> None:
    class Heir(Posted):
        def execute_task(self, parameters: dict[str, Any]) -> str:
            return "inherited"

    client = make_app(Heir).test_client()
    assert client.get("/heir").status_code == 405
    assert client.get(client.post("/heir").headers["Location"]).status_code == 200


def test_start_methods_mean_the_same(make_app: Callable[..., Flask]) -> None:
    class Starting(Work):
        start_methods = ("POST",)

    client = make_app(Starting).test_client()
    assert client.get("/starting").status_code == 405
    assert client.get(client.post("/starting").headers["Location"]).status_code == 200
