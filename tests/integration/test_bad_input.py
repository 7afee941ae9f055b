"""Attacks, mistakes of authors, and broken services: the answers are clear, and no task is lost or exposed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from http.client import HTTPConnection
from io import BytesIO
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, urlsplit

import grpc
import pytest
from flask import Flask, got_request_exception
from flask.testing import FlaskClient
from google.cloud import ndb
from werkzeug.datastructures import FileStorage
from werkzeug.serving import make_server
from werkzeug.test import TestResponse, encode_multipart

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager, PermanentTaskFailure, Status, config
from gaetk_longtask.dev.pieces import Piece
from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.models import LongTaskChunk
from gaetk_longtask.testing import Faults, InMemoryProgressStore, InMemoryQueue, ManualClock, put_between

JSON = {"Accept": "application/json"}
UNKNOWN = "A" * 22
#: The headers that make a request look like a delivery.
FORGED = {"X-AppEngine-QueueName": "default", "X-Longtask-Execute-Key": "A" * 22}
MIB = 1024 * 1024


class Point:
    """A class that JSON does not support."""


@dataclass
class Row:
    """Another class that JSON does not support. The message suggests a conversion."""

    total: int = 1


class Other(ndb.Model):
    """An entity kind of the application."""


class Report(LongRunningTaskHandler):
    runs: ClassVar[int] = 0

    def execute_task(self, parameters: dict[str, Any]) -> Any:
        Report.runs += 1
        return "result"


class Second(LongRunningTaskHandler):
    def execute_task(self, parameters: dict[str, Any]) -> Any:
        return "another result"


class Returning(LongRunningTaskHandler):
    """A task whose result the test chooses."""

    runs: ClassVar[int] = 0
    make: ClassVar[Callable[[LongRunningTaskHandler], Any]]

    def execute_task(self, parameters: dict[str, Any]) -> Any:
        Returning.runs += 1
        return Returning.make(self)


class Asking(LongRunningTaskHandler):
    """A task whose parameters the test chooses."""

    make: ClassVar[Callable[[], Any]]

    def prepare_task(self, **kwargs: Any) -> Any:
        return Asking.make()

    def execute_task(self, parameters: Any) -> Any:
        return "result"


class Named(LongRunningTaskHandler):
    """A task with an argument in its URL. The result contains the parameters."""

    bookmark_parameters = ("note",)

    def execute_task(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return parameters


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Report.runs = Returning.runs = 0


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    app = make_app(Report, Second, Returning, Asking)
    app.add_url_rule("/named/<name>", view_func=Named.as_view("named"))
    return app


@pytest.fixture
def faults(ndb_client: ndb.Client, datastore_piece: Piece) -> Faults:
    return put_between(ndb_client)


def silence(faults: Faults) -> None:
    """Make all calls to Datastore fail, with a code after which ndb does not retry, so that tests don't wait."""
    for method in ("Lookup", "BeginTransaction", "Commit", "Rollback", "RunQuery"):
        faults.lose_request(method, grpc.StatusCode.DEADLINE_EXCEEDED, times=100)


def job(url: str, name: str) -> str:
    return url.replace("_longtaskjob=query", f"_longtaskjob={name}")


def started(client: FlaskClient, url: str = "/report", **kwargs: Any) -> str:
    """Start a task, and return the URL of its status page."""
    answer = client.get(url, **kwargs)
    assert answer.status_code == 307
    return answer.headers["Location"]


def id_of(url: str) -> str:
    return parse_qs(urlsplit(url).query)["_longtaskid"][0]


def exceptions_of(app: Flask, call: Callable[[], TestResponse]) -> tuple[TestResponse, list[Exception]]:
    """Return the response of a call, and the exceptions that were reported to the application."""
    told: list[Exception] = []

    def tell(sender: Flask, exception: Exception, **kwargs: Any) -> None:
        told.append(exception)

    with got_request_exception.connected_to(tell, app):
        return call(), told


def after_all(client: FlaskClient, queue: InMemoryQueue, url: str) -> Any:
    """Let the queue deliver everything, and return the task's status document."""
    queue.deliver_all(client)
    return client.get(url, headers=JSON).json


# Ids.

MALFORMED = ["", "x", "A" * 21, "A" * 65, "A" * 21 + "!", "A" * 22 + "%0A", "%00" * 22, "%FF" * 22, "Ä" * 22, "../" * 8]


@pytest.mark.parametrize("task_id", [UNKNOWN, *MALFORMED])
@pytest.mark.parametrize("name", ["query", "showresult"])
def test_an_unknown_id_is_404_and_the_page_offers_to_start_again(client: FlaskClient, name: str, task_id: str) -> None:
    answer = client.get(f"/report?_longtaskjob={name}&_longtaskid={task_id}&month=3")
    assert answer.status_code == 404
    assert answer.mimetype == "text/html"
    assert 'href="/report?month=3">Start again</a>' in answer.text


@pytest.mark.parametrize("task_id", [UNKNOWN, *MALFORMED])
def test_a_program_gets_a_problem_document_for_an_unknown_id(client: FlaskClient, task_id: str) -> None:
    answer = client.get(f"/report?_longtaskjob=query&_longtaskid={task_id}", headers=JSON)
    assert answer.status_code == 404
    assert answer.mimetype == "application/problem+json"
    assert {"type", "title", "status", "detail"} <= answer.json.keys()
    assert answer.json["status"] == 404


@pytest.mark.parametrize("name", ["cancel", "retry"])
def test_an_unknown_id_can_neither_be_cancelled_nor_repeated(client: FlaskClient, name: str) -> None:
    assert client.post(f"/report?_longtaskjob={name}&_longtaskid={UNKNOWN}").status_code == 404


def test_a_malformed_id_is_not_looked_up(client: FlaskClient, faults: Faults) -> None:
    for task_id in MALFORMED:
        client.get(f"/report?_longtaskjob=query&_longtaskid={task_id}")
    assert not faults.calls


def test_a_handler_that_is_started_by_post_alone_offers_no_link_that_would_not_work(
    make_app: Callable[..., Flask],
) -> None:
    class Posted(LongRunningTaskHandler):
        methods = ("POST",)

        def execute_task(self, parameters: dict[str, Any]) -> None: ...

    answer = make_app(Posted).test_client().get(f"/posted?_longtaskjob=query&_longtaskid={UNKNOWN}")
    assert answer.status_code == 404
    assert "Start again" not in answer.text


def test_an_id_of_another_kinds_entity_is_unknown(client: FlaskClient, ndb_client: ndb.Client) -> None:
    with ndb_client.context():
        Other(id=UNKNOWN).put()
    assert client.get(f"/report?_longtaskjob=query&_longtaskid={UNKNOWN}").status_code == 404


@pytest.mark.parametrize("job_name", ["query", "showresult"])
def test_a_datastore_key_is_no_id(client: FlaskClient, ndb_client: ndb.Client, job_name: str) -> None:
    url = started(client)
    with ndb_client.context():
        keys = [Other(id=1).put(), ndb.Key(LongTask, id_of(url), namespace="")]
        for key in keys:
            task_id = key.urlsafe().decode()
            assert client.get(f"/report?_longtaskjob={job_name}&_longtaskid={task_id}").status_code == 404


def test_the_id_of_a_chunk_is_no_id(client: FlaskClient) -> None:
    url = started(client)
    assert client.get(f"{url.replace(id_of(url), id_of(url) + '.0.0')}").status_code == 404


def test_a_tasks_id_is_unknown_under_another_handlers_url(client: FlaskClient, queue: InMemoryQueue) -> None:
    url = started(client)
    queue.deliver_all(client)
    for name in ("query", "showresult"):
        assert client.get(job(url.replace("/report", "/second"), name)).status_code == 404


def test_a_tasks_id_is_unknown_under_another_path_of_the_same_handler(
    client: FlaskClient, queue: InMemoryQueue
) -> None:
    url = started(client, "/named/mine")
    queue.deliver_all(client)
    for name in ("query", "showresult"):
        assert client.get(job(url.replace("/named/mine", "/named/yours"), name)).status_code == 404


@pytest.mark.parametrize("name", ["cancel", "retry"])
def test_a_task_can_not_be_cancelled_under_another_handlers_url(client: FlaskClient, name: str) -> None:
    url = started(client)
    if name == "retry":
        client.post(job(url, "cancel"))
    before = client.get(url, headers=JSON).json["status"]
    assert client.post(job(url.replace("/report", "/second"), name)).status_code == 404
    assert client.get(url, headers=JSON).json["status"] == before


# Jobs.


@pytest.mark.parametrize("method", ["get", "post", "head"])
@pytest.mark.parametrize("name", ["dance", "QUERY", "_find", "%3Cscript%3E"])
def test_an_unknown_job_is_a_bad_request(
    client: FlaskClient, stored: Callable[[], list[LongTask]], name: str, method: str
) -> None:
    url = started(client)
    answer = getattr(client, method)(job(url, name))
    assert answer.status_code == 400
    assert "<script" not in answer.text
    assert len(stored()) == 1


@pytest.mark.parametrize("name", ["query", "showresult", "cancel", "retry", "dance"])
def test_a_job_without_an_id_is_a_bad_request_and_starts_nothing(
    client: FlaskClient, stored: Callable[[], list[LongTask]], name: str
) -> None:
    answer = client.post(f"/report?_longtaskjob={name}")
    assert answer.status_code == 400
    assert not stored()


def test_a_program_gets_a_problem_document_for_a_bad_request(client: FlaskClient) -> None:
    answer = client.get(f"/report?_longtaskjob=dance&_longtaskid={UNKNOWN}", headers=JSON)
    assert answer.status_code == 400
    assert answer.mimetype == "application/problem+json"


# Forged deliveries.


@pytest.mark.parametrize("method", ["get", "post", "head"])
def test_execute_by_a_visitor_is_forbidden(client: FlaskClient, method: str) -> None:
    url = started(client)
    assert getattr(client, method)(job(url, "execute")).status_code == 403
    assert Report.runs == 0


@pytest.mark.parametrize(
    "forgery",
    [
        {},
        {"X-AppEngine-QueueName": "default"},
        {"X-AppEngine-QueueName": "default", "X-AppEngine-TaskName": "1", "X-AppEngine-TaskRetryCount": "0"},
        {"X-Longtask-Execute-Key": "A" * 22},
        {"X-AppEngine-QueueName": "default", "X-Longtask-Execute-Key": ""},
        {"X-Appengine-Cron": "true", "User-Agent": "AppEngine-Google; (+http://code.google.com/appengine)"},
    ],
)
def test_execute_without_queue_and_key_headers_is_forbidden_without_a_datastore_operation(
    client: FlaskClient, faults: Faults, forgery: dict[str, str]
) -> None:
    url = started(client)
    faults.calls.clear()
    assert client.get(job(url, "execute"), headers=forgery).status_code == 403
    assert not faults.calls
    assert Report.runs == 0


def test_the_right_key_without_the_queues_header_is_forbidden_without_a_datastore_operation(
    client: FlaskClient, queue: InMemoryQueue, faults: Faults
) -> None:
    started(client)
    faults.calls.clear()
    [task] = queue.tasks
    assert client.get(task.request.uri, headers=task.request.headers).status_code == 403
    assert not faults.calls


@pytest.mark.parametrize("key", ["A" * 22, "x", "Ä" * 22, "A" * 5000])
def test_a_wrong_execute_key_is_forbidden_and_changes_nothing(
    client: FlaskClient, queue: InMemoryQueue, key: str
) -> None:
    url = started(client)
    [task] = queue.tasks
    answer = client.get(task.request.uri, headers=task.headers | {"X-Longtask-Execute-Key": key})
    assert answer.status_code == 403
    assert Report.runs == 0
    assert client.get(url, headers=JSON).json["status"] == "ready"


def test_another_tasks_execute_key_is_forbidden(client: FlaskClient, queue: InMemoryQueue) -> None:
    started(client)
    started(client)
    first, second = queue.tasks
    assert client.get(first.request.uri, headers=second.headers).status_code == 403
    assert Report.runs == 0


@pytest.mark.parametrize("count", ["-1", "x", "", "1e9", "٣", "9" * 30, "9" * 5000])
def test_a_forged_retry_count_is_forbidden_like_any_forgery(
    client: FlaskClient, queue: InMemoryQueue, count: str
) -> None:
    url = started(client)
    headers = FORGED | {"X-AppEngine-TaskRetryCount": count.encode().decode("latin-1")}
    assert client.get(job(url, "execute"), headers=headers).status_code == 403


@pytest.mark.parametrize("method", ["post", "head"])
def test_execute_allows_only_get_even_with_the_right_key(
    client: FlaskClient, queue: InMemoryQueue, method: str
) -> None:
    started(client)
    [task] = queue.tasks
    assert getattr(client, method)(task.request.uri, headers=task.headers).status_code == 403
    assert Report.runs == 0


@pytest.mark.parametrize("task_id", [UNKNOWN, *MALFORMED])
def test_a_delivery_of_a_task_that_does_not_exist_is_not_repeated(client: FlaskClient, task_id: str) -> None:
    answer = client.get(f"/report?_longtaskjob=execute&_longtaskid={task_id}", headers=FORGED)
    assert answer.status_code == 200


def test_the_execute_key_is_on_no_page_and_in_no_log(
    client: FlaskClient, queue: InMemoryQueue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    answer = client.get("/report")
    url = answer.headers["Location"]
    key = queue.tasks[0].headers["X-Longtask-Execute-Key"]
    answers = [answer, client.get(url), client.get(url, headers=JSON), queue.deliver(client)]
    answers += [client.get(job(url, "showresult")), client.get(url)]
    for answer in answers:
        assert key not in answer.text
        assert key not in str(answer.headers)
    assert key not in caplog.text


# HTML and header injection.

HOSTILE = "<img src=x onerror=alert(1)>'\"&"


def assert_harmless(page: TestResponse) -> None:
    assert "<img" not in page.text
    assert "&lt;img" in page.text


def test_a_progress_message_is_text_on_the_page(client: FlaskClient, queue: InMemoryQueue) -> None:
    def work(handler: LongRunningTaskHandler) -> Any:
        handler.log_progress(HOSTILE)
        raise ValueError

    Returning.make = work
    url = started(client, "/returning")
    queue.deliver(client)
    assert_harmless(client.get(url))
    assert client.get(url, headers=JSON).json["progress"]["message"] == HOSTILE


def test_a_progress_message_is_text_in_what_the_originals_hook_gets(
    make_app: Callable[..., Flask], queue: InMemoryQueue
) -> None:
    class Old(LongRunningTaskHandler):
        def execute_task(self, parameters: dict[str, Any]) -> None:
            self.log_progress(HOSTILE)
            raise ValueError

        def render_status(self, display: Any, task: Any) -> Any:
            return display["info"]

    client = make_app(Old).test_client()
    url = started(client, "/old")
    queue.deliver(client)
    assert_harmless(client.get(url))


def test_a_title_is_text_on_the_page(make_app: Callable[..., Flask]) -> None:
    class Titled(LongRunningTaskHandler):
        title = HOSTILE

        def execute_task(self, parameters: dict[str, Any]) -> None: ...

    client = make_app(Titled).test_client()
    assert_harmless(client.get(started(client, "/titled")))


def test_the_message_of_a_permanent_failure_is_text_on_the_page(client: FlaskClient, queue: InMemoryQueue) -> None:
    def work(handler: LongRunningTaskHandler) -> Any:
        raise PermanentTaskFailure(HOSTILE)

    Returning.make = work
    url = started(client, "/returning")
    queue.deliver_all(client)
    assert_harmless(client.get(url))


@pytest.mark.parametrize("method", ["get", "post"])
def test_parameters_are_text_on_the_start_button_page(client: FlaskClient, method: str) -> None:
    fields = {HOSTILE: HOSTILE}
    kwargs: dict[str, Any] = {"query_string": fields} if method == "get" else {"data": fields}
    assert_harmless(getattr(client, method)("/report", headers={"Sec-Fetch-Site": "cross-site"}, **kwargs))


def test_a_query_that_is_no_utf8_is_a_bad_request(client: FlaskClient) -> None:
    environ = {"QUERY_STRING": "a=\xff", "HTTP_SEC_FETCH_SITE": "cross-site"}
    assert client.post("/report", environ_overrides=environ).status_code == 400


def test_parameters_are_text_on_the_page_of_an_unknown_task(client: FlaskClient) -> None:
    query = {"_longtaskjob": "query", "_longtaskid": UNKNOWN, HOSTILE: HOSTILE}
    page = client.get("/report", query_string=query).text
    assert "<img" not in page
    assert "alert(1)>" not in page


def test_a_path_is_text_on_every_page(client: FlaskClient) -> None:
    url = started(client, f"/named/{quote(HOSTILE)}")
    for page in (client.get(url), client.get(url.replace(id_of(url), UNKNOWN))):
        assert "<img" not in page.text
        assert "onerror=alert(1)>" not in page.text


@pytest.mark.parametrize("where", ["/report?a={}", "/report?{}=a", "/named/{}"])
def test_line_breaks_in_a_request_add_no_header_to_the_answer(client: FlaskClient, where: str) -> None:
    answer = client.get(where.format("%0d%0aSet-Cookie:%20evil=1"))
    assert answer.status_code == 307
    assert "\r" not in answer.headers["Location"]
    assert "\n" not in answer.headers["Location"]
    assert "Set-Cookie" not in answer.headers


def test_line_breaks_in_a_form_field_add_no_header_to_the_answer(client: FlaskClient) -> None:
    answer = client.post("/named/x", data={"note": "a\r\nSet-Cookie: evil=1"})
    assert answer.status_code == 307
    assert "Set-Cookie" not in answer.headers
    assert parse_qs(urlsplit(answer.headers["Location"]).query)["note"] == ["a\r\nSet-Cookie: evil=1"]


# Redirects.


@pytest.fixture
def port(app: Flask) -> Iterator[int]:
    """The application behind a real HTTP server, with a handler that matches every path."""
    app.url_map.merge_slashes = False
    app.add_url_rule("/<path:name>", view_func=Named.as_view("anything"))
    server = make_server("127.0.0.1", 0, app)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example/x",
        "///evil.example",
        "/%2Fevil.example",
        "/%2F%2Fevil.example",
        "/\\evil.example",
        "/%5Cevil.example",
        "/%09/evil.example",
        "http://evil.example/x",
    ],
)
def test_no_path_leads_to_another_host(port: int, target: str) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("GET", target)
    connection.endheaders()
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status == 307
    location = answer.headers["Location"]
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\", "/\t"))
    assert not urlsplit(location).netloc


@pytest.mark.parametrize("name", ["next", "url", "redirect", "starting_point", "_longtaskstart", "return_to"])
def test_no_parameter_changes_the_target_of_a_redirect(client: FlaskClient, queue: InMemoryQueue, name: str) -> None:
    url = started(client, f"/report?{name}=http://evil.example/")
    queue.deliver_all(client)
    assert urlsplit(client.get(url).headers["Location"]).path == "/report"


@pytest.mark.parametrize("path", ["50%2525", "a%252Fb", "%25", "a%20b", "ä", "a+b;c=d,e", "a%3Fb%23c", "%E4"])
def test_any_path_leads_back_to_itself(client: FlaskClient, queue: InMemoryQueue, path: str) -> None:
    answer = client.get(f"/named/{path}")
    assert answer.status_code == 307
    url = answer.headers["Location"]
    with client.application.test_request_context(f"/named/{path}") as started_by:
        given = started_by.request.view_args
    with client.application.test_request_context(url) as redirected_to:
        assert redirected_to.request.view_args == given
    queue.deliver_all(client)
    assert client.get(job(url, "showresult")).json == given


def test_a_path_that_only_unquotes_to_the_tasks_own_is_another_path(client: FlaskClient) -> None:
    url = started(client, "/named/50%25")
    other = url.replace("/named/50%25", "/named/50%2525")
    assert client.get(url).status_code == 200
    assert client.get(other).status_code == 404


# Secrets.


@pytest.mark.parametrize("headers", [{}, JSON])
def test_passwords_and_csrf_tokens_are_in_no_location(
    client: FlaskClient, queue: InMemoryQueue, headers: dict[str, str]
) -> None:
    secrets = {"password": "secret1", "csrf_token": "secret2", "_token": "secret3"}
    first = client.post("/report?month=3&csrf_token=secret4", data=secrets, headers=headers)
    url = first.headers["Location"]
    answers = [
        first,
        client.post(url, data=secrets),
        client.get(job(url, "showresult")),
        client.post(job(url, "cancel"), data=secrets),
        client.post(job(url, "retry"), data=secrets),
    ]
    queue.deliver_all(client)
    answers.append(client.get(url))
    for answer in answers:
        assert "month=3" in answer.headers["Location"]
        assert "secret" not in answer.headers["Location"]


def test_a_csrf_field_is_in_no_location_even_if_the_class_lists_it(make_app: Callable[..., Flask]) -> None:
    class Careless(LongRunningTaskHandler):
        bookmark_parameters = ("csrf_token", "_token", "a")

        def execute_task(self, parameters: dict[str, Any]) -> None: ...

    data = {"csrf_token": "secret", "_token": "secret", "a": "1"}
    answer = make_app(Careless).test_client().post("/careless", data=data)
    assert "secret" not in answer.headers["Location"]
    assert "a=1" in answer.headers["Location"]


# Parameters and results that can't be stored.

UNSTORABLE = [
    (Point(), "Point", "PickleSerializer"),
    (Row(), "Row", "dataclasses.asdict"),
    (bytearray(b"x"), "bytearray", "bytes("),
    (float("nan"), "float", "None"),
    ("\ud800", "str", "fsencode"),
    ({"a": [1, {"b": Point()}]}, "Point", "['a'][1]['b']"),
    (range(3), "range", "list("),
]


@pytest.mark.parametrize(("value", "type_name", "remedy"), UNSTORABLE, ids=lambda value: str(value)[:30])
def test_parameters_that_do_not_serialize_are_an_error_that_names_class_and_remedy(
    app: Flask, stored: Callable[[], list[LongTask]], queue: InMemoryQueue, value: Any, type_name: str, remedy: str
) -> None:
    Asking.make = lambda: {"given": value}
    answer, told = exceptions_of(app, lambda: app.test_client().post("/asking", headers=JSON))
    assert answer.status_code == 500
    assert answer.mimetype == "application/problem+json"
    assert type_name in answer.json["detail"]
    assert remedy in answer.json["detail"]
    assert [str(exc) for exc in told] == [answer.json["detail"]]
    assert not stored()
    assert not queue.tasks


def test_a_browser_gets_a_page_about_parameters_that_do_not_serialize(client: FlaskClient) -> None:
    Asking.make = Point
    answer = client.post("/asking")
    assert answer.status_code == 500
    assert answer.mimetype == "text/html"
    assert "Point" in answer.text


@pytest.mark.parametrize(("value", "type_name", "remedy"), UNSTORABLE, ids=lambda value: str(value)[:30])
def test_a_result_that_does_not_serialize_fails_the_task_at_once(
    client: FlaskClient, queue: InMemoryQueue, value: Any, type_name: str, remedy: str
) -> None:
    Returning.make = lambda handler: {"given": value}
    url = started(client, "/returning")
    assert queue.deliver(client).status_code == 200
    assert not queue.tasks
    assert Returning.runs == 1
    document = client.get(url, headers=JSON).json
    assert document["status"] == "failed"
    assert type_name in document["error"]
    assert remedy in document["error"]


def test_pieces_of_two_kinds_fail_the_task_at_once(client: FlaskClient, queue: InMemoryQueue) -> None:
    def pieces(handler: LongRunningTaskHandler) -> Any:
        yield "text"
        yield b"bytes"

    Returning.make = pieces
    url = started(client, "/returning")
    assert queue.deliver(client).status_code == 200
    document = client.get(url, headers=JSON).json
    assert document["status"] == "failed"
    assert "bytes" in document["error"]


def test_a_result_of_32_mib_is_stored_and_shown(client: FlaskClient, queue: InMemoryQueue) -> None:
    Returning.make = lambda handler: b"x" * (32 * MIB)
    url = started(client, "/returning")
    assert after_all(client, queue, url)["status"] == "done"
    assert client.get(job(url, "showresult")).data == b"x" * (32 * MIB)


@pytest.mark.parametrize("kind", ["bytes", "str", "pieces"])
def test_a_result_over_32_mib_fails_the_task_and_says_so(client: FlaskClient, queue: InMemoryQueue, kind: str) -> None:
    size = 32 * MIB + 1
    results: dict[str, Any] = {"bytes": b"x" * size, "str": "x" * size}
    Returning.make = lambda handler: results.get(kind) or (b"x" * MIB for _ in range(33))
    url = started(client, "/returning")
    assert queue.deliver(client).status_code == 200
    assert Returning.runs == 1
    document = client.get(url, headers=JSON).json
    assert document["status"] == "failed"
    assert "33,554,432 bytes" in document["error"]


def test_an_upload_over_32_mib_is_refused_and_nothing_is_stored(
    client: FlaskClient, stored: Callable[[], list[LongTask]], ndb_client: ndb.Client
) -> None:
    upload = FileStorage(BytesIO(os.urandom(32 * MIB + 1)), "big.zip")
    boundary, body = encode_multipart({"file": upload})  # otherwise, the client leaves a file open
    answer = client.post("/report", data=body, content_type=f"multipart/form-data; boundary={boundary}", headers=JSON)
    assert answer.status_code == 413
    assert answer.mimetype == "application/problem+json"
    assert "33,554,432 bytes" in answer.json["detail"]
    assert not stored()
    with ndb_client.context():
        assert LongTaskChunk.query().count(1, keys_only=True) == 0


# Odd reports of authors.


@pytest.mark.parametrize(
    ("step", "total_steps"),
    [
        (float("nan"), 10),
        (1, float("nan")),
        (float("inf"), 10),
        (1, float("inf")),
        (float("-inf"), float("inf")),
        (-5, 10),
        (20, 10),
        (1e308, 1e-308),
        (Decimal(3), Decimal(10)),
    ],
    ids=repr,
)
def test_odd_steps_stop_neither_the_page_nor_the_work(
    client: FlaskClient, queue: InMemoryQueue, step: Any, total_steps: Any
) -> None:
    seen: list[TestResponse] = []

    def work(handler: LongRunningTaskHandler) -> Any:
        handler.log_progress("odd", step, total_steps)
        assert handler._reporter is not None
        handler._reporter.beat()  # as its thread does twice a second
        seen.append(client.get(url))
        seen.append(client.get(url, headers=JSON))
        return "result"

    Returning.make = work
    url = started(client, "/returning")
    assert queue.deliver(client).status_code == 200
    assert [answer.status_code for answer in seen] == [200, 200]
    assert seen[1].json["progress"]["percent"] in (None, *range(101))
    assert client.get(url, headers=JSON).json["status"] == "done"


@pytest.mark.parametrize("message", [42, ValueError("odd")], ids=repr)
def test_a_message_that_is_no_text_does_not_stop_the_work(
    client: FlaskClient, queue: InMemoryQueue, message: Any
) -> None:
    def work(handler: LongRunningTaskHandler) -> Any:
        handler.log_progress(message)
        return "result"

    Returning.make = work
    url = started(client, "/returning")
    assert queue.deliver(client).status_code == 200
    assert client.get(url, headers=JSON).json["status"] == "done"


def test_a_file_name_that_is_no_text_can_be_reported(client: FlaskClient, queue: InMemoryQueue) -> None:
    name = os.fsdecode(b"caf\xe9.csv")

    def work(handler: LongRunningTaskHandler) -> Any:
        handler.log_progress(f"Reading {name}")
        raise ValueError

    Returning.make = work
    url = started(client, "/returning")
    assert queue.deliver(client).status_code == 500
    assert client.get(url).status_code == 200
    assert client.get(url, headers=JSON).json["progress"]["message"].startswith("Reading caf")


def test_a_failure_that_names_such_a_file_is_shown(client: FlaskClient, queue: InMemoryQueue) -> None:
    name = os.fsdecode(b"caf\xe9.csv")

    def work(handler: LongRunningTaskHandler) -> Any:
        raise PermanentTaskFailure(f"Can't read {name}")

    Returning.make = work
    url = started(client, "/returning")
    assert queue.deliver(client).status_code == 200
    assert client.get(url).status_code == 200
    assert client.get(url, headers=JSON).json["status"] == "failed"


def test_a_message_of_megabytes_does_not_stop_the_work(client: FlaskClient, queue: InMemoryQueue) -> None:
    def work(handler: LongRunningTaskHandler) -> Any:
        handler.log_progress("x" * 2 * MIB)
        return "result"

    Returning.make = work
    url = started(client, "/returning")
    assert queue.deliver(client).status_code == 200
    assert client.get(url, headers=JSON).json["status"] == "done"


@pytest.mark.parametrize("departure", [SystemExit("bad arguments"), asyncio.CancelledError()], ids=repr)
@pytest.mark.parametrize("yields", [False, True], ids=["at once", "while it yields"])
def test_work_that_calls_sys_exit_fails_like_any_other(
    app: Flask, client: FlaskClient, queue: InMemoryQueue, departure: BaseException, yields: bool
) -> None:
    def leave(handler: LongRunningTaskHandler) -> Any:
        raise departure

    def yield_and_leave(handler: LongRunningTaskHandler) -> Any:
        yield "a piece"
        raise departure

    Returning.make = yield_and_leave if yields else leave
    url = started(client, "/returning")
    answer, told = exceptions_of(app, lambda: queue.deliver(client))
    assert answer.status_code == 500
    assert told == [departure]
    document = client.get(url, headers=JSON).json
    assert (document["status"], document["attempt"]) == ("error", 2)


def test_a_failure_with_a_message_of_megabytes_is_permanent(client: FlaskClient, queue: InMemoryQueue) -> None:
    def work(handler: LongRunningTaskHandler) -> Any:
        raise PermanentTaskFailure("x" * 2 * MIB)

    Returning.make = work
    url = started(client, "/returning")
    assert queue.deliver(client).status_code == 200
    assert client.get(url, headers=JSON).json["status"] == "failed"


# Missing settings.


@pytest.fixture
def no_metadata_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The metadata server of Google's platform is missing."""
    monkeypatch.delenv("CLOUD_TASKS_EMULATOR_HOST", raising=False)
    monkeypatch.setattr(config, "METADATA_URL", "http://127.0.0.1:1/")


@pytest.mark.usefixtures("no_metadata_server")
def test_without_a_location_a_start_says_what_to_set_before_anything_is_stored(
    ndb_client: ndb.Client, stored: Callable[[], list[LongTask]]
) -> None:
    app = Flask("tests")
    app.config["LONGTASK_PROJECT"] = "somewhere"
    LongTaskManager(app, ndb_client=ndb_client, progress=InMemoryProgressStore())
    app.add_url_rule("/report", view_func=Report.as_view("report"))
    answer, told = exceptions_of(app, lambda: app.test_client().get("/report"))
    assert answer.status_code == 500
    [error] = told
    assert isinstance(error, ConfigurationError)
    assert error.key == "LONGTASK_LOCATION"
    assert "LONGTASK_LOCATION" in str(error)
    assert not stored()


def test_without_a_project_a_start_says_what_to_set_before_anything_is_stored(
    ndb_client: ndb.Client, stored: Callable[[], list[LongTask]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    app = Flask("tests")
    app.config["LONGTASK_LOCATION"] = "europe-west1"
    LongTaskManager(app, ndb_client=ndb_client, progress=InMemoryProgressStore())
    app.add_url_rule("/report", view_func=Report.as_view("report"))
    with app.app_context(), pytest.raises(ConfigurationError, match="LONGTASK_PROJECT"):
        LongTaskManager.start("report", {})
    assert not stored()


def test_an_unknown_setting_is_an_error_that_names_the_one_that_is_meant() -> None:
    app = Flask("tests")
    app.config["LONGTASK_QUEU"] = "reports"
    with pytest.raises(ConfigurationError, match="LONGTASK_QUEUE"):
        LongTaskManager(app)


def test_a_handler_without_a_manager_says_what_is_missing() -> None:
    app = Flask("tests")
    app.add_url_rule("/report", view_func=Report.as_view("report"))
    answer, told = exceptions_of(app, lambda: app.test_client().get("/report"))
    assert answer.status_code == 500
    assert "LongTaskManager(app)" in str(told[0])


# Expired tasks, and services that do not answer.


@pytest.mark.parametrize("name", ["query", "showresult", "retry"])
def test_an_expired_task_is_410_and_the_page_offers_to_start_again(
    client: FlaskClient, queue: InMemoryQueue, clock: ManualClock, name: str
) -> None:
    url = started(client, "/report?month=3")
    queue.deliver_all(client)
    clock.advance(timedelta(days=30, seconds=1))
    answer = client.post(job(url, name))
    assert answer.status_code == 410
    assert 'href="/report?month=3">Start again</a>' in answer.text
    assert client.post(job(url, name), headers=JSON).mimetype == "application/problem+json"


def test_a_task_is_kept_until_it_expires(client: FlaskClient, queue: InMemoryQueue, clock: ManualClock) -> None:
    url = started(client)
    queue.deliver_all(client)
    clock.advance(timedelta(days=30, seconds=-1))
    assert "result" in client.get(job(url, "showresult")).text


def test_a_task_that_has_not_ended_does_not_expire(client: FlaskClient, clock: ManualClock) -> None:
    url = started(client)
    clock.advance(timedelta(days=100))
    assert client.get(url).status_code == 200


def test_a_damaged_result_is_an_error_and_not_half_a_result(
    client: FlaskClient, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    Returning.make = lambda handler: os.urandom(3 * MIB)
    url = started(client, "/returning")
    queue.deliver_all(client)
    with ndb_client.context():
        LongTaskChunk.query().get(keys_only=True).delete()
    answer = client.get(job(url, "showresult"))
    assert answer.status_code == 500
    assert "damaged" in answer.text


@pytest.mark.parametrize("headers", [{}, JSON])
def test_a_start_while_datastore_is_silent_is_answered_503_with_retry_after(
    client: FlaskClient, queue: InMemoryQueue, faults: Faults, headers: dict[str, str]
) -> None:
    silence(faults)
    answer = client.get("/report", headers=headers)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert not queue.tasks


@pytest.mark.parametrize("name", ["query", "showresult", "cancel", "retry"])
def test_a_visit_while_datastore_and_memcache_are_silent_is_answered_503(
    client: FlaskClient, queue: InMemoryQueue, faults: Faults, progress: InMemoryProgressStore, name: str
) -> None:
    url = started(client)
    silence(faults)
    progress.is_down = True
    answer = client.post(job(url, name))
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.mimetype == "text/html"


@pytest.mark.parametrize("name", ["cancel", "retry"])
def test_cancel_and_retry_while_datastore_is_silent_are_answered_503(
    client: FlaskClient, faults: Faults, name: str
) -> None:
    url = started(client)
    silence(faults)
    answer = client.post(job(url, name), headers=JSON)
    assert answer.status_code == 503
    assert answer.mimetype == "application/problem+json"


def test_the_page_is_shown_from_memcache_while_datastore_is_silent(client: FlaskClient, faults: Faults) -> None:
    url = started(client)
    silence(faults)
    assert client.get(url).status_code == 200


def test_a_delivery_while_datastore_is_silent_is_retried_and_not_counted(
    client: FlaskClient, queue: InMemoryQueue, faults: Faults
) -> None:
    url = started(client)
    faults.lose_request("BeginTransaction", grpc.StatusCode.DEADLINE_EXCEEDED)
    assert queue.deliver(client).status_code == 500
    assert queue.deliver(client).status_code == 200
    document = client.get(url, headers=JSON).json
    assert (document["status"], document["attempt"]) == ("done", 1)


def test_without_a_database_the_answer_is_503(
    queue: InMemoryQueue, progress: InMemoryProgressStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setattr(ndb._retry, "_DEFAULT_INITIAL_DELAY", 0.01)
    app = Flask("tests")
    unreachable = ndb.Client(project="nowhere")
    LongTaskManager(app, ndb_client=unreachable, queue=queue, progress=progress, clock=clock)
    app.add_url_rule("/report", view_func=Report.as_view("report"))
    client = app.test_client()
    assert client.get("/report").status_code == 503
    assert client.get(f"/report?_longtaskjob=query&_longtaskid={UNKNOWN}").status_code == 503
    assert client.get(f"/report?_longtaskjob=execute&_longtaskid={UNKNOWN}", headers=FORGED).status_code == 500
    assert client.get(f"/report?_longtaskjob=execute&_longtaskid={UNKNOWN}").status_code == 403


def test_no_request_of_strangers_changes_the_state_of_a_task(
    client: FlaskClient, stored: Callable[[], list[LongTask]]
) -> None:
    url = started(client)
    for name in ("query", "showresult", "cancel", "retry", "execute", "dance"):
        client.get(job(url, name))
        client.head(job(url, name))
        client.post(job(url, name), headers={"Origin": "https://evil.example"})
        client.get(job(url, name), headers=FORGED)
    assert [task.status for task in stored()] == [Status.READY]
