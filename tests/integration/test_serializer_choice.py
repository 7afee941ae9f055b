"""Only handlers that choose pickle use it, with signatures. No other handler unpickles anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from flask import Flask
from flask.testing import FlaskClient
from google.cloud import ndb
from werkzeug.test import TestResponse

from gaetk_longtask import (
    JSONSerializer,
    LongRunningTaskHandler,
    LongTask,
    LongTaskManager,
    PickleSerializer,
    Status,
)
from gaetk_longtask.exceptions import ConfigurationError, SerializationError
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue
from tests.support import id_of, job, polled, started


@dataclass
class Invoice:
    """A class that JSON does not support."""

    number: int
    fields: dict[str, Any]


class Bomb:
    """A class that records when it is unpickled."""

    exploded: ClassVar[int] = 0

    def __reduce__(self) -> Any:
        return explode, ()


def explode() -> str:
    Bomb.exploded += 1
    return "exploded"


class Pickling(LongRunningTaskHandler):
    serializer = PickleSerializer()
    seen: ClassVar[list[Any]] = []
    result: ClassVar[Any] = None

    def prepare_task(self, **kwargs: Any) -> Any:
        return {"invoice": Invoice(number=1, fields={"a": {1, 2}})}

    def execute_task(self, parameters: Any) -> Any:
        Pickling.seen.append(parameters)
        return Pickling.result

    def display_result(self, parameters: Any, result: Any) -> str:
        return f"{parameters!r} -> {result!r}"


class Plain(LongRunningTaskHandler):
    result: ClassVar[Any] = None

    def execute_task(self, parameters: Any) -> Any:
        return Plain.result

    def display_result(self, parameters: Any, result: Any) -> str:
        return repr(result)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Pickling.seen.clear()
    Pickling.result = Plain.result = None
    Bomb.exploded = 0


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app(Pickling, Plain)


def done(client: FlaskClient, queue: InMemoryQueue, result: Any, url: str = "/pickling") -> str:
    """Run a task with this result, and return the URL of its status page."""
    Pickling.result = Plain.result = result
    status = started(client, url)
    assert queue.deliver(client).status_code == 200
    assert polled(client, status)["status"] == "done"
    return status


def show(client: FlaskClient, url: str) -> TestResponse:
    return client.get(job(url, "showresult"))


def load(url: str) -> LongTask:
    """Return the task's entity. A context must be active."""
    return LongTask.key_of(id_of(url)).get()


# Opting in.


def test_a_handler_that_asks_for_pickle_gets_its_own_classes_back(client: FlaskClient, queue: InMemoryQueue) -> None:
    invoice = Invoice(number=2, fields={"b": (1, [2])})
    url = done(client, queue, [invoice])
    assert Pickling.seen == [{"invoice": Invoice(number=1, fields={"a": {1, 2}})}]
    assert show(client, url).text == f"{Pickling.seen[0]!r} -> {[invoice]!r}"


def test_a_serializer_may_be_given_as_a_class(make_app: Callable[..., Flask], queue: InMemoryQueue) -> None:
    class Given(Pickling):
        serializer = PickleSerializer  # type: ignore[assignment]  # a slip that is forgiven

    client = make_app(Given).test_client()
    url = done(client, queue, Invoice(number=3, fields={}), "/given")
    assert "Invoice(number=3" in show(client, url).text


@pytest.mark.parametrize("result", ["text", b"bytes", "ä" * 400_000], ids=["text", "bytes", "long text"])
def test_text_and_bytes_are_never_pickled(
    client: FlaskClient, queue: InMemoryQueue, ndb_client: ndb.Client, result: Any
) -> None:
    url = done(client, queue, result)
    assert repr(result) in show(client, url).text
    with ndb_client.context():
        assert load(url).result_manifest["layout"] == {"kind": "text" if isinstance(result, str) else "bytes"}


def test_what_can_not_be_pickled_fails_the_task_at_once(client: FlaskClient, queue: InMemoryQueue) -> None:
    Pickling.result = lambda: None
    url = started(client, "/pickling")
    assert queue.deliver(client).status_code == 200
    document = polled(client, url)
    assert document["status"] == "failed"
    assert "function" in document["error"]


def test_parameters_that_can_not_be_pickled_are_refused(app: Flask) -> None:
    with app.app_context(), pytest.raises(SerializationError, match="function"):
        LongTaskManager.start("pickling", lambda: None)


# Nothing else is unpickled.


def test_a_handler_that_has_not_asked_for_pickle_refuses_what_is_stored_as_one(
    make_app: Callable[..., Flask], queue: InMemoryQueue
) -> None:
    class Changing(Pickling):
        pass

    client = make_app(Changing).test_client()
    url = done(client, queue, Bomb(), "/changing")
    Changing.serializer = JSONSerializer()
    assert show(client, url).status_code == 500
    assert Bomb.exploded == 0


def test_a_handler_that_moves_from_json_to_pickle_still_shows_its_old_results(
    make_app: Callable[..., Flask], queue: InMemoryQueue
) -> None:
    class Growing(Plain):
        pass

    client = make_app(Growing).test_client()
    url = done(client, queue, [1, 2], "/growing")
    Growing.serializer = PickleSerializer()
    assert show(client, url).text == "[1, 2]"


# Signatures.


def test_a_result_whose_signature_is_broken_is_not_unpickled(
    client: FlaskClient, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    good, bad = done(client, queue, Bomb()), done(client, queue, Bomb())
    with ndb_client.context():
        source, target = load(good), load(bad)
        target.result_manifest, target.result_blob = source.result_manifest, source.result_blob
        target.put()
    answer = show(client, bad)
    assert answer.status_code == 500
    assert "damaged" in answer.text
    assert Bomb.exploded == 0
    assert show(client, good).status_code == 200
    assert Bomb.exploded == 1


def test_parameters_are_not_accepted_as_a_result(
    client: FlaskClient, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    url = done(client, queue, [1])
    with ndb_client.context():
        task = load(url)
        task.result_manifest, task.result_blob = task.parameters_manifest, task.parameters_blob
        task.put()
    assert show(client, url).status_code == 500


def test_another_tasks_parameters_are_not_executed(
    client: FlaskClient, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    first, second = started(client, "/pickling"), started(client, "/pickling")
    with ndb_client.context():
        source, target = load(first), load(second)
        target.parameters_manifest, target.parameters_blob = source.parameters_manifest, source.parameters_blob
        target.put()
    assert [queue.deliver(client).status_code for _ in range(2)] == [200, 200]
    assert len(Pickling.seen) == 1
    assert polled(client, first)["status"] == "done"
    assert polled(client, second)["status"] == "failed"


def test_another_applications_secret_key_is_not_accepted(app: Flask, client: FlaskClient, queue: InMemoryQueue) -> None:
    url = done(client, queue, Bomb())
    app.config["SECRET_KEY"] = "another"
    assert show(client, url).status_code == 500
    assert Bomb.exploded == 0


def test_a_rotated_key_still_verifies_while_it_is_among_the_fallbacks(
    app: Flask, client: FlaskClient, queue: InMemoryQueue
) -> None:
    old = app.config["SECRET_KEY"]
    url = done(client, queue, [1])
    app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["older", old])
    assert show(client, url).text.endswith("-> [1]")
    app.config["SECRET_KEY_FALLBACKS"] = []
    assert show(client, url).status_code == 500


def test_a_task_that_waits_while_the_key_is_rotated_is_executed(
    app: Flask, client: FlaskClient, queue: InMemoryQueue
) -> None:
    old = app.config["SECRET_KEY"]
    url = started(client, "/pickling")
    app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=[old])
    assert queue.deliver(client).status_code == 200
    assert polled(client, url)["status"] == "done"


def test_after_a_rotation_the_new_key_signs(app: Flask, client: FlaskClient, queue: InMemoryQueue) -> None:
    app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"])
    url = done(client, queue, [1])
    app.config["SECRET_KEY_FALLBACKS"] = []
    assert show(client, url).status_code == 200


# Without a key.


def test_without_a_secret_key_a_start_says_what_to_set_and_nothing_is_stored(
    app: Flask, queue: InMemoryQueue, ndb_client: ndb.Client
) -> None:
    app.config["SECRET_KEY"] = None
    with app.app_context(), pytest.raises(ConfigurationError, match="SECRET_KEY") as caught:
        LongTaskManager.start("pickling", {"a": 1})
    assert caught.value.key == "SECRET_KEY"
    assert not queue.tasks
    with ndb_client.context():
        assert not LongTask.query().fetch()


@pytest.mark.parametrize("parameters", ["text", {"a": 1}], ids=["to sign", "to verify"])
def test_a_secret_key_that_is_missing_where_the_work_runs_is_logged_and_the_task_is_tried_again(
    app: Flask, client: FlaskClient, queue: InMemoryQueue, caplog: pytest.LogCaptureFixture, parameters: Any
) -> None:
    with app.test_request_context():
        task = LongTaskManager.start("pickling", parameters)
    key, app.config["SECRET_KEY"] = app.config["SECRET_KEY"], None
    assert queue.deliver(client).status_code == 500
    assert "SECRET_KEY" in caplog.text
    app.config["SECRET_KEY"] = key
    assert queue.deliver(client).status_code == 200
    assert polled(client, task.url)["status"] == "done"


def test_json_needs_no_secret_key(
    ndb_client: ndb.Client, queue: InMemoryQueue, progress: InMemoryProgressStore
) -> None:
    app = Flask("tests")
    LongTaskManager(app, ndb_client=ndb_client, queue=queue, progress=progress)
    app.add_url_rule("/plain", view_func=Plain.as_view("plain"))
    client = app.test_client()
    url = done(client, queue, [1, 2], "/plain")
    assert show(client, url).text == "[1, 2]"


def test_progress_is_never_pickled(client: FlaskClient, queue: InMemoryQueue, progress: InMemoryProgressStore) -> None:
    done(client, queue, Bomb())
    [stored] = progress.stored.values()
    assert json.loads(stored)["info"]["status"] == Status.DONE.value
