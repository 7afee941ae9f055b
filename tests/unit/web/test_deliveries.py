"""Invalid deliveries are refused without reading from Datastore."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from flask import Flask, got_request_exception

from gaetk_longtask import is_queue_request
from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.queues import KEY_HEADER
from gaetk_longtask.web.requests import QUEUE_HEADER
from tests.unit.conftest import ID
from tests.unit.web.conftest import make

KEY = {KEY_HEADER: "key", QUEUE_HEADER: "default"}


@pytest.fixture
def answer(app: Flask) -> Callable[..., int]:
    """Send a delivery to the handler, and return the status. There is no Datastore."""
    app.add_url_rule("/report", view_func=make().as_view("report"))

    def answer(headers: dict[str, str], task_id: str = ID, method: str = "GET") -> int:
        url = f"/report?_longtaskjob=execute&_longtaskid={task_id}"
        return app.test_client().open(url, method=method, headers=headers).status_code

    return answer


@pytest.mark.parametrize("missing", [KEY_HEADER, QUEUE_HEADER])
def test_without_one_of_its_headers_a_delivery_is_forbidden(answer: Callable[..., int], missing: str) -> None:
    assert answer({name: value for name, value in KEY.items() if name != missing}) == 403


@pytest.mark.parametrize("method", ["POST", "HEAD"])
def test_a_delivery_is_a_get(answer: Callable[..., int], method: str) -> None:
    assert answer(KEY, method=method) == 403


@pytest.mark.parametrize("task_id", ["", "5", "..%2F..", "agxzfm11c3RlcmtyYWRyEAsSCExvbmdUYXNrGAEM%3D%3D"])
def test_a_delivery_with_an_invalid_id_is_not_retried(answer: Callable[..., int], task_id: str) -> None:
    assert answer(KEY, task_id) == 200


def test_an_error_before_the_work_is_reported_and_never_answered_with_200() -> None:
    app = Flask("tests")  # without a manager
    app.add_url_rule("/report", view_func=make().as_view("report"))
    reported: list[Exception] = []

    def report(sender: Flask, exception: Exception) -> None:
        reported.append(exception)

    with got_request_exception.connected_to(report, app):
        answer = app.test_client().get(f"/report?_longtaskjob=execute&_longtaskid={ID}", headers=KEY)
    assert answer.status_code == 500
    assert [type(one) for one in reported] == [ConfigurationError]


# is_queue_request.


@pytest.fixture
def judged(app: Flask) -> Iterator[Callable[..., bool]]:
    """A function that sends a request, and returns is_queue_request() as seen in before_request."""
    app.add_url_rule("/report", view_func=make().as_view("report"))
    app.add_url_rule("/other", "other", lambda: "other")
    said: list[bool] = []

    @app.before_request
    def judge() -> str:
        said.append(is_queue_request())
        return "judged"

    def judged(path: str, headers: dict[str, str], method: str = "GET") -> bool:
        app.test_client().open(f"{path}?_longtaskjob=execute&_longtaskid={ID}", method=method, headers=headers)
        return said.pop()

    return judged


def test_a_delivery_is_a_queue_request(judged: Callable[..., bool]) -> None:
    assert judged("/report", KEY)


@pytest.mark.parametrize("missing", [KEY_HEADER, QUEUE_HEADER])
def test_without_its_headers_nothing_is_a_queue_request(judged: Callable[..., bool], missing: str) -> None:
    assert not judged("/report", {name: value for name, value in KEY.items() if name != missing})


@pytest.mark.parametrize("path", ["/other", "/nowhere", "/_longtask/static/longtask.css"])
def test_at_another_view_nothing_is_a_queue_request(judged: Callable[..., bool], path: str) -> None:
    assert not judged(path, KEY)


def test_a_post_is_no_queue_request(judged: Callable[..., bool]) -> None:
    assert not judged("/report", KEY, method="POST")


@pytest.mark.parametrize("query", ["", f"?_longtaskjob=query&_longtaskid={ID}"])
def test_another_job_is_no_queue_request(app: Flask, query: str) -> None:
    app.add_url_rule("/report", view_func=make().as_view("report"))
    with app.test_request_context(f"/report{query}", headers=KEY):
        assert not is_queue_request()
