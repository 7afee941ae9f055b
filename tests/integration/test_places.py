"""A task starts only where the queue can deliver it, and only with the values that its URL has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from google.cloud import ndb
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskError, LongTaskManager
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue, ManualClock
from tests.in_parts import Letters
from tests.support import services_of

JSON = {"Accept": "application/json"}
Stored = Callable[[], list[LongTask]]


class Report(LongRunningTaskHandler):
    def execute_task(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return parameters


class Delete(LongRunningTaskHandler):
    def execute_task(self, parameters: dict[str, Any]) -> None:
        raise AssertionError("the wrong handler")


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    app = make_app()
    report = Report.as_view("report")
    app.add_url_rule("/report/<name>", view_func=report)
    app.add_url_rule("/report/<name>/delete", view_func=Delete.as_view("delete"))
    app.add_url_rule("/count/<int(max=600):seconds>", view_func=Report.as_view("count"))
    app.add_url_rule("/share/<float:part>", view_func=Report.as_view("share"))
    paged = Report.as_view("paged")
    app.add_url_rule("/paged/", defaults={"page": 1}, view_func=paged)
    app.add_url_rule("/paged/<int:page>", view_func=paged)
    app.add_url_rule("/files/<path:name>", view_func=Report.as_view("files"))
    app.add_url_rule("/", view_func=Report.as_view("root"))
    app.add_url_rule("/plain", view_func=Report.as_view("plain"))
    return app


def parameters_of(app: Flask, task: LongTask) -> Any:
    runtime = services_of(app)
    with runtime.ndb_context():
        return runtime.load(task, "parameters", Report.serializer)


# From code.


@pytest.mark.parametrize(
    ("endpoint", "values", "named"),
    [
        ("report", {"name": "x/delete"}, "/report/<name>"),
        ("report", {"name": "x/y"}, "x/y"),
        ("report", {"name": ""}, "/report/<name>"),
        ("report", {"name": "/x"}, "/report/<name>"),
        ("report", {"name": 5}, "name='5'"),
        ("count", {"seconds": 601}, "/count/601"),
        ("count", {"seconds": 601}, "max=600"),
        ("count", {"seconds": -1}, "max=600"),
        ("count", {"seconds": 5.7}, "5.7"),
        ("share", {"part": 1e30}, "part"),
        ("files", {"name": "/b"}, "/b"),
        ("files", {"name": "a\nb"}, "files"),
        ("files", {"name": "../tasks/wipe"}, "dot segments"),
        ("files", {"name": "a/./b"}, "dot segments"),
        ("files", {"name": ".."}, "dot segments"),
        ("report", {"name": ".."}, "dot segments"),
        ("report", {"name": "ж" * 350}, "too long"),
        ("report", {"name": "x" * 2100}, "too long"),
        ("report", {"name": "\ud800"}, "can't be built"),
        ("report", {}, "can't be built"),
    ],
)
def test_a_start_is_refused_whose_url_leads_elsewhere_or_to_other_values(
    app: Flask, stored: Stored, queue: InMemoryQueue, endpoint: str, values: dict[str, Any], named: str
) -> None:
    with app.app_context(), pytest.raises(LongTaskError) as caught:
        LongTaskManager.start(endpoint, {}, url_values=values)
    with app.test_request_context(), pytest.raises(LongTaskError):
        LongTaskManager.start(endpoint, {}, url_values=values)
    assert named in str(caught.value)
    assert not stored()
    assert not queue.tasks


@pytest.mark.parametrize(
    ("endpoint", "values", "parameters"),
    [
        ("report", {"name": "ö & ?#%"}, {"name": "ö & ?#%"}),
        ("report", {"name": "..."}, {"name": "..."}),
        ("count", {"seconds": 600}, {"seconds": 600}),
        ("count", {"seconds": "60"}, {"seconds": 60}),
        ("paged", {}, {"page": 1}),
        ("paged", {"page": 1}, {"page": 1}),
        ("paged", {"page": 7}, {"page": 7}),
        ("files", {"name": "a/b.txt"}, {"name": "a/b.txt"}),
        ("files", {"name": "a//b"}, {"name": "a//b"}),
        ("plain", {"more": 5}, {"more": 5}),
    ],
)
@pytest.mark.parametrize("in_request", [False, True])
def test_the_arguments_join_the_parameters_as_in_a_request(
    app: Flask,
    queue: InMemoryQueue,
    endpoint: str,
    values: dict[str, Any],
    parameters: dict[str, Any],
    in_request: bool,
) -> None:
    with app.test_request_context() if in_request else app.app_context():
        task = LongTaskManager.start(endpoint, {"a": 1}, url_values=values)
    assert parameters_of(app, task) == {"a": 1} | parameters
    queue.deliver_all(app.test_client())
    assert app.test_client().get(f"{task.path}?_longtaskid={task.id}", headers=JSON).get_json()["status"] == "done"


# From a visitor's request.


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/report/" + "%D0%B6" * 350, 414),
        ("/report/" + "x" * 2040, 414),
        ("/files/../tasks/wipe", 400),
        ("/files/a/./b", 400),
        ("/files/%2e%2e/tasks", 400),
        ("/files/a%2F..%2Fb", 400),
        ("/files/..", 400),
        ("/plain?customer=M%FCller", 400),
        ("/plain?%FF=1", 400),
    ],
)
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_url_that_the_queue_can_not_request_starts_nothing(
    app: Flask, stored: Stored, path: str, code: int, method: str
) -> None:
    answer = getattr(app.test_client(), method)(path, headers=JSON)
    assert answer.status_code == code
    assert answer.mimetype == "application/problem+json"
    assert not stored()


def test_a_path_that_is_not_utf8_starts_nothing(app: Flask, stored: Stored) -> None:
    answer = app.test_client().get("/report/x", environ_overrides={"PATH_INFO": "/report/M\xfcller"})
    assert answer.status_code == 400
    assert not stored()


def test_the_longest_path_starts_a_task_that_the_queue_takes(app: Flask, queue: InMemoryQueue) -> None:
    room = 2083 - len("/report/?_longtaskjob=execute&_longtaskid=") - 22
    assert app.test_client().get("/report/" + "x" * room).status_code == 307
    assert app.test_client().get("/report/" + "x" * (room + 1)).status_code == 414
    assert [len(task.request.uri) for task in queue.tasks] == [2083]


def test_the_longest_path_of_a_task_in_parts_leaves_room_for_the_address_of_each_part(
    app: Flask, queue: InMemoryQueue
) -> None:
    app.add_url_rule("/letters/<name>", view_func=Letters.as_view("letters"))
    room = 2083 - len("/letters/?_longtaskjob=execute&_longtaskid=&_longtaskpart=999999999.999") - 22
    client = app.test_client()
    assert client.get("/letters/" + "x" * room).status_code == 307
    assert client.get("/letters/" + "x" * (room + 1)).status_code == 414
    with app.app_context(), pytest.raises(LongTaskError, match="too long"):
        LongTaskManager.start("letters", {}, url_values={"name": "x" * (room + 1)})
    queue.deliver_all(client)
    assert [len(each.request.uri) for each in queue.delivered[1:-1]] == [2083 - len("99999999") - len("99")] * 8


def test_a_rule_by_method_that_leads_the_queue_to_another_endpoint_is_refused(
    make_app: Callable[..., Flask], stored: Stored, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()
    app.add_url_rule("/x", view_func=Delete.as_view("delete"))
    app.add_url_rule("/<name>", view_func=Report.as_view("report"), methods=["GET", "POST"])
    app.add_url_rule("/y", view_func=lambda: "another", endpoint="other", methods=["GET"])
    app.add_url_rule("/y", view_func=Report.as_view("posted"), methods=["POST"])
    assert app.test_client().post("/y").status_code == 500
    assert not stored()


# Behind a proxy.

PREFIX = {"X-Forwarded-Prefix": "/app"}


def test_behind_a_prefix_the_visitor_gets_it_and_the_queue_does_not(app: Flask, queue: InMemoryQueue) -> None:
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]  # Flask's documented way
    visitor = app.test_client()
    url = visitor.get("/report/x", headers=PREFIX).location
    assert url.startswith("/app/report/x?")
    assert [task.request.uri.partition("?")[0] for task in queue.tasks] == ["/report/x"]
    queue.deliver_all(app.test_client())
    document = visitor.get(url.removeprefix("/app"), headers=PREFIX | JSON).get_json()
    assert document["status"] == "done"
    assert document["links"]["result"].startswith("/app/report/x?")


def test_a_start_from_code_within_such_a_request_is_delivered_as_well(app: Flask, queue: InMemoryQueue) -> None:
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]  # Flask's documented way
    app.add_url_rule("/go", view_func=lambda: LongTaskManager.start("report", {}, url_values={"name": "x"}).path)
    assert app.test_client().get("/go", headers=PREFIX).text == "/app/report/x"
    assert queue.deliver(app.test_client()).status_code == 200


def test_without_a_request_the_root_is_the_proxys_where_proxy_fix_reads_it(app: Flask, queue: InMemoryQueue) -> None:
    app.config["APPLICATION_ROOT"] = "/app"
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]  # Flask's documented way
    with app.app_context():
        assert LongTaskManager.start("report", {}, url_values={"name": "x"}).path == "/app/report/x"
    assert [task.request.uri.partition("?")[0] for task in queue.tasks] == ["/report/x"]


@pytest.mark.parametrize("headers", [{}, {"X-Forwarded-Prefix": "/other"}])
def test_a_mount_point_of_the_application_itself_is_in_the_queues_path(
    app: Flask, queue: InMemoryQueue, headers: dict[str, str]
) -> None:
    browser = Client(DispatcherMiddleware(NotFound(), {"/shop": app}))
    assert browser.get("/shop/report/x", headers=headers).status_code == 307
    [task] = queue.tasks
    assert browser.get(task.request.uri, headers=task.headers).status_code == 200


def test_a_mount_point_behind_a_prefix_stays_in_the_queues_path(app: Flask, queue: InMemoryQueue) -> None:
    browser = Client(ProxyFix(DispatcherMiddleware(NotFound(), {"/shop": app}), x_prefix=1))
    # The dispatcher appends its mount point to the prefix.
    assert browser.get("/shop/report/x", headers=PREFIX).location.startswith("/app/shop/report/x?")
    [task] = queue.tasks
    assert task.request.uri.startswith("/shop/report/x?")
    assert browser.get(task.request.uri, headers=task.headers).status_code == 200


# Hosts.


@pytest.fixture
def make_hosted(
    ndb_client: ndb.Client, queue: InMemoryQueue, progress: InMemoryProgressStore, clock: ManualClock
) -> Callable[..., Flask]:
    def make(*, rule: dict[str, Any], config: dict[str, Any] | None = None, **options: Any) -> Flask:
        app = Flask("tests", static_folder=None, **options)
        app.config.update(config or {})
        LongTaskManager(app, ndb_client=ndb_client, queue=queue, progress=progress, clock=clock)
        app.add_url_rule("/report", view_func=Report.as_view("report"), **rule)
        return app

    return make


@pytest.mark.parametrize(
    ("options", "rule", "config", "setting"),
    [
        ({"host_matching": True}, {"host": "www.example.com"}, {}, "host_matching"),
        ({"host_matching": True}, {"host": "<tenant>.example.com"}, {}, "host_matching"),
        ({"subdomain_matching": True}, {"subdomain": "www"}, {"SERVER_NAME": "example.com"}, "subdomain_matching"),
    ],
)
def test_a_rule_for_a_host_that_the_queue_does_not_call_starts_nothing(
    make_hosted: Callable[..., Flask],
    stored: Stored,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    rule: dict[str, Any],
    config: dict[str, Any],
    setting: str,
) -> None:
    app = make_hosted(rule=rule, config=config, **options)
    answer = app.test_client().get("/report", base_url="http://www.example.com")
    assert answer.status_code == 500
    assert setting in caplog.text
    assert "appspot.com" in caplog.text
    assert not stored()


def test_a_rule_for_any_host_is_reached_and_keeps_the_visitors(
    make_hosted: Callable[..., Flask], queue: InMemoryQueue
) -> None:
    app = make_hosted(rule={"host": "<tenant>"}, host_matching=True)
    url = app.test_client().get("/report", base_url="http://www.example.com").location
    queue.deliver_all(app.test_client())
    shown = app.test_client().get(url.replace("=query", "=showresult"), base_url="http://www.example.com")
    assert shown.get_json() == {"tenant": "www.example.com"}
    with app.app_context():
        task = LongTaskManager.start("report", {}, url_values={"tenant": "b.example.com"})
    assert parameters_of(app, task) == {"tenant": "b.example.com"}
    assert task.base_url == "http://b.example.com"


def test_a_delivery_passes_the_list_of_trusted_hosts(make_hosted: Callable[..., Flask], queue: InMemoryQueue) -> None:
    app = make_hosted(rule={}, config={"TRUSTED_HOSTS": [".example.com"]})
    visitor = app.test_client()
    url = visitor.get("/report", base_url="http://www.example.com").location
    [task] = queue.tasks
    bare = visitor.get(task.request.uri, base_url="http://test.appspot.com")
    assert bare.status_code == 400
    forged = {**task.headers, "X-Longtask-Execute-Key": "A" * 22}
    assert visitor.get(task.request.uri, base_url="http://test.appspot.com", headers=forged).status_code == 403
    assert visitor.get("/report", base_url="http://test.appspot.com", headers=task.headers).status_code == 400
    assert visitor.get(task.request.uri, base_url="http://test.appspot.com", headers=task.headers).status_code == 200
    document = visitor.get(url, base_url="http://www.example.com", headers=JSON).get_json()
    assert document["status"] == "done"


@pytest.mark.parametrize(
    "host", ["evil example", "evil\x01", "a/b", "a?b", "a@b", "<script>", "a:99999", "a:b", "ö", ""]
)
def test_an_impossible_host_is_a_bad_request(app: Flask, stored: Stored, host: str) -> None:
    environ = {"HTTP_HOST": host.encode().decode("latin-1"), "SERVER_NAME": host.encode().decode("latin-1")}
    assert app.test_client().get("/plain", environ_overrides=environ).status_code == 400
    assert not stored()


# The absolute URL.


class Parent(LongRunningTaskHandler):
    def execute_task(self, parameters: dict[str, Any]) -> str:
        return LongTaskManager.start("plain", {}).url


def test_a_task_that_another_one_starts_has_the_host_of_its_visitor(
    app: Flask, queue: InMemoryQueue, stored: Stored
) -> None:
    app.add_url_rule("/parent", view_func=Parent.as_view("parent"))
    app.test_client().get("/parent", base_url="https://www.example.com")
    [task] = queue.tasks
    app.test_client().get(task.request.uri, base_url="http://test.appspot.com", headers=task.headers)
    assert {task.endpoint: task.base_url for task in stored()} == {
        "parent": "https://www.example.com",
        "plain": "https://www.example.com",
    }


def test_a_start_without_a_host_says_so(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    with app.app_context():
        LongTaskManager.start("plain", {})
    assert "LONGTASK_BASE_URL" in caplog.text
    caplog.clear()
    with app.test_request_context(base_url="https://www.example.com"):
        assert LongTaskManager.start("plain", {}).url.startswith("https://www.example.com/plain?")
    assert "LONGTASK_BASE_URL" not in caplog.text


@pytest.mark.parametrize(
    "given", [{"url_values": {"_scheme": "ftp"}}, {"url_values": {"_external": True}}, {"created_by": ""}]
)
def test_a_start_from_code_takes_no_options_of_flask_and_no_empty_user(app: Flask, given: dict[str, Any]) -> None:
    with app.test_request_context(), pytest.raises(LongTaskError, match="must"):
        LongTaskManager.start("work", {}, **given)
