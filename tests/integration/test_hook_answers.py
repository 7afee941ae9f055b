"""What hooks return and raise: only True lets a visitor in, and nothing that they raise ends the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, got_request_exception
from flask.testing import FlaskClient

from gaetk_longtask import LongRunningTaskHandler, LongTask
from gaetk_longtask.testing import InMemoryQueue

JSON = {"Accept": "application/json"}


class Report(LongRunningTaskHandler):
    def execute_task(self, parameters: Any) -> Any:
        return {"for": "anna"}


def handler(**attributes: Any) -> type[LongRunningTaskHandler]:
    return type("Report", (Report,), attributes)


def finished(make_app: Callable[..., Flask], queue: InMemoryQueue, **attributes: Any) -> tuple[FlaskClient, str]:
    """Return a client and the URL of a finished task's page; the class gets the attributes after the task has run."""
    cls = handler()
    app = make_app(cls)
    client = app.test_client()
    url = client.get("/report").headers["Location"]
    queue.deliver_all(client)
    for name, value in attributes.items():
        setattr(cls, name, value)
    return client, url


async def coroutine() -> bool:
    return False


class NumpyBool:
    """As numpy.bool_: equal to True, but not True."""

    def __eq__(self, other: object) -> bool:
        return other is True

    def __hash__(self) -> int:
        return 1


@pytest.mark.parametrize("answer", [coroutine, lambda: 1, lambda: "yes", NumpyBool, lambda: [True], object])
@pytest.mark.parametrize("job", ["query", "showresult", "cancel", "retry"])
def test_what_only_counts_as_true_lets_nobody_in(
    make_app: Callable[..., Flask], queue: InMemoryQueue, caplog: pytest.LogCaptureFixture, answer: Any, job: str
) -> None:
    client, url = finished(make_app, queue, may_access=lambda self, task: answer())
    url = url.replace("=query", f"={job}")
    caplog.clear()
    response = client.post(url) if job in ("cancel", "retry") else client.get(url)
    assert response.status_code == 403
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "Report.may_access must return True or False, not " in record.message


@pytest.mark.parametrize(("answer", "status"), [(True, 200), (False, 403), (None, 403)])
def test_true_lets_in_and_false_and_none_do_not(
    make_app: Callable[..., Flask],
    queue: InMemoryQueue,
    caplog: pytest.LogCaptureFixture,
    answer: bool | None,
    status: int,
) -> None:
    client, url = finished(make_app, queue, may_access=lambda self, task: answer)
    assert client.get(url, headers=JSON).status_code == status
    assert "must return" not in caplog.text


def test_a_joined_task_needs_a_true_answer_as_well(make_app: Callable[..., Flask], queue: InMemoryQueue) -> None:
    cls = handler(
        unique_key=lambda self, parameters: "key", unique_key_shared=True, may_access=lambda self, task: "yes"
    )
    client = make_app(cls).test_client()
    first, second = (client.get("/report", headers=JSON).json["id"] for _ in range(2))
    assert first != second


@pytest.mark.parametrize("hook", ["get_user_id", "unique_key", "title_of"])
@pytest.mark.parametrize("value", [5, b"anna", ["anna"], True])
def test_a_user_a_key_and_a_title_are_text(
    make_app: Callable[..., Flask], queue: InMemoryQueue, hook: str, value: Any
) -> None:
    app = make_app(handler(**{hook: lambda self, *arguments: value}), TESTING=True)
    with pytest.raises(TypeError, match=rf"Report\.{hook}\(\) must return a str or None, not "):
        app.test_client().get("/report")
    assert queue.tasks == []


class Panic(BaseException):
    pass


def raising(exception: type[BaseException]) -> Any:
    def hook(*args: Any, **kwargs: Any) -> Any:
        raise exception("of the author's own")

    return hook


BREAKS = [Panic, SystemExit, GeneratorExit, asyncio.CancelledError]


@pytest.mark.parametrize("exception", BREAKS)
@pytest.mark.parametrize(
    ("hook", "job"),
    [
        ("prepare_task", None),
        ("get_user_id", None),
        ("unique_key", None),
        ("title_of", None),
        ("may_access", "query"),
        ("render_status", "query&_longtaskrefresh=on"),
        ("display_result", "showresult"),
    ],
)
def test_an_exception_that_is_no_exception_ends_the_request_and_not_the_process(
    make_app: Callable[..., Flask],
    queue: InMemoryQueue,
    exception: type[BaseException],
    hook: str,
    job: str | None,
) -> None:
    client, url = finished(make_app, queue, **{hook: raising(exception)})
    told: list[BaseException] = []

    def tell(sender: Flask, exception: BaseException, **extra: Any) -> None:
        told.append(exception)

    with got_request_exception.connected_to(tell, client.application):
        answer = client.get(url.replace("query", job) if job else "/report")
    assert answer.status_code == 500
    assert "We could not answer this request." in answer.text
    assert "of the author" not in answer.text
    assert [type(one) for one in told] == [exception]


def test_the_title_may_raise_too(make_app: Callable[..., Flask], queue: InMemoryQueue) -> None:
    client, url = finished(make_app, queue, title=property(raising(Panic)))
    for address in (url + "&_longtaskrefresh=on", "/report?_longtaskjob=query&_longtaskid=unknown"):
        answer = client.get(address)
        assert answer.status_code == 500
        assert "We could not answer this request." in answer.text


def test_form_url_may_raise_too(make_app: Callable[..., Flask]) -> None:
    client = make_app(handler(form_url=raising(Panic))).test_client()
    url = client.get("/report").headers["Location"]
    client.post(url.replace("=query", "=cancel"))
    assert client.get(url).status_code == 500


def test_ctrl_c_passes(make_app: Callable[..., Flask], queue: InMemoryQueue) -> None:
    client, url = finished(make_app, queue, may_access=raising(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        client.get(url)


def test_an_empty_user_id_is_that_of_an_anonymous_visitor(
    make_app: Callable[..., Flask], queue: InMemoryQueue, stored: Callable[[], list[LongTask]]
) -> None:
    user: list[str | None] = [""]
    cls = handler(get_user_id=lambda self: user[0], unique_key=lambda self, parameters: "the same")
    client = make_app(cls).test_client()
    url = client.get("/report").headers["Location"]
    user[0] = None
    assert client.get("/report").headers["Location"] == url  # joined: both are anonymous
    assert [task.created_by for task in stored()] == [None]
    user[0] = "anna"
    assert client.get(url).status_code == 200
