"""The HTTP request that the Cloud Tasks emulator sends for a task, and its line in the log."""

from __future__ import annotations

import base64
import json

import pytest

from gaetk_longtask.dev.tasks_emulator.messages import HttpMethod, Message
from gaetk_longtask.dev.tasks_emulator.requests import Outgoing, Routes, outgoing
from gaetk_longtask.dev.tasks_emulator.tasks import Previous
from gaetk_longtask.dev.tokens import Signer
from tests.dev.unit.tasks_emulator.messages import NOW, app_engine_task, attempt, http_task, queue

APP = "http://127.0.0.1:8080"
ROUTES = Routes(app_url=APP, named={"worker": "http://127.0.0.1:1", "v2.worker": "http://127.0.0.1:2"})
SIGNER = Signer()
AGENT = "AppEngine-Google; (+http://code.google.com/appengine)"


def sent(given: Message, **changes) -> Outgoing:
    return outgoing(attempt(given, **changes), ROUTES, SIGNER)


def test_an_app_engine_task_becomes_a_request_to_the_app():
    request = sent(app_engine_task(uri="/work?a=b", http_method=HttpMethod.GET, headers={"X-Mine": "kept"}))

    assert (request.method, request.url, request.body) == ("GET", f"{APP}/work?a=b", b"")
    assert request.headers == {
        "User-Agent": AGENT,
        "X-Mine": "kept",
        "X-AppEngine-QueueName": "default",
        "X-AppEngine-TaskName": "t",
        "X-AppEngine-TaskRetryCount": "0",
        "X-AppEngine-TaskExecutionCount": "0",
        "X-AppEngine-TaskETA": "1767270615.123456",
        "Connection": "close",
    }


def test_a_retry_says_how_the_last_attempt_ended():
    headers = sent(app_engine_task(), previous=Previous(response=500, reason="App Error")).headers

    assert headers["X-AppEngine-TaskPreviousResponse"] == "500"
    assert headers["X-AppEngine-TaskRetryReason"] == "App Error"
    assert headers["X-AppEngine-TaskRetryCount"] == "3"


def test_an_http_task_becomes_a_request_to_its_url():
    previous = Previous(response=404, reason="")

    request = sent(http_task(url="http://h:1/x", headers={"X-CloudTasks-TaskName": "forged"}), previous=previous)

    assert (request.method, request.url) == ("POST", "http://h:1/x")
    assert request.headers == {
        "User-Agent": "Google-Cloud-Tasks",
        "X-CloudTasks-QueueName": "default",
        "X-CloudTasks-TaskName": "t",
        "X-CloudTasks-TaskRetryCount": "3",
        "X-CloudTasks-TaskExecutionCount": "3",
        "X-CloudTasks-TaskETA": "1767270615.123456",
        "X-CloudTasks-TaskPreviousResponse": "404",
        "X-CloudTasks-TaskRetryReason": "",
        "Content-Length": "0",
        "Connection": "close",
    }


def test_a_body_goes_with_its_length():
    request = sent(app_engine_task(body=b"hello", headers={"Content-Type": "text/plain"}))

    assert (request.method, request.body) == ("POST", b"hello")
    assert (request.headers["Content-Length"], request.headers["Content-Type"]) == ("5", "text/plain")


@pytest.mark.parametrize("name", ["Transfer-Encoding", "connection", "Upgrade", "Expect", "TE", "Proxy-Connection"])
def test_headers_of_the_connection_are_not_the_tasks_to_set(name):
    headers = sent(app_engine_task(headers={name: "chunked"})).headers

    assert "chunked" not in headers.values()


@pytest.mark.parametrize(
    ("routing", "base"),
    [
        ({}, APP),
        ({"service": "default"}, APP),
        ({"version": "v1"}, APP),
        ({"service": "worker"}, "http://127.0.0.1:1"),
        ({"service": "worker", "version": "v1"}, "http://127.0.0.1:1"),
        ({"service": "worker", "version": "v2"}, "http://127.0.0.1:2"),
        ({"service": "unknown"}, APP),
    ],
)
def test_service_and_version_lead_to_their_local_port(routing, base):
    assert sent(app_engine_task(app_engine_routing=routing)).url == f"{base}/work"


def test_a_version_of_the_default_service_can_have_a_port():
    routes = Routes(app_url=APP, named={"v2.default": "http://127.0.0.1:3/"})

    request = outgoing(attempt(app_engine_task(app_engine_routing={"version": "v2"})), routes, SIGNER)

    assert request.url == "http://127.0.0.1:3/work"


def test_the_queues_routing_wins_over_the_tasks():
    settings = queue("default", app_engine_routing_override={"service": "worker"})

    request = sent(app_engine_task(app_engine_routing={"service": "worker", "version": "v2"}), settings=settings)

    assert request.url == "http://127.0.0.1:1/work"


def test_characters_that_a_url_may_not_have_are_encoded_and_escapes_left_alone():
    assert sent(app_engine_task(uri="/ä?q=%20'\"")).url == f"{APP}/%C3%A4?q=%20'%22"


def decoded(part: str) -> dict:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_an_oidc_token_is_sent_instead_of_the_tasks_own():
    given = http_task(
        oidc_token={"service_account_email": "a@p.iam.gserviceaccount.com"}, headers={"authorization": "own"}
    )

    headers = sent(given).headers

    assert [name for name in headers if name.lower() == "authorization"] == ["Authorization"]
    scheme, _, token = headers["Authorization"].partition(" ")
    claims = token.split(".")[1]
    assert scheme == "Bearer"
    assert decoded(claims) == {
        "iss": "https://accounts.google.com",
        "aud": "http://127.0.0.1:8080/work",
        "azp": "a@p.iam.gserviceaccount.com",
        "sub": "a@p.iam.gserviceaccount.com",
        "email": "a@p.iam.gserviceaccount.com",
        "email_verified": True,
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 3600,
    }


def test_an_oidc_token_has_the_audience_that_the_task_names():
    token = sent(http_task(oidc_token={"service_account_email": "a@b", "audience": "me"})).headers["Authorization"]

    assert decoded(token.split(".")[1])["aud"] == "me"


def test_an_oauth_token_says_that_it_is_none():
    token = sent(http_task(oauth_token={"service_account_email": "a@b"})).headers["Authorization"]

    assert token.startswith("Bearer unsigned.")


def test_a_request_does_not_show_its_body():
    assert "b0dy" not in repr(sent(app_engine_task(body=b"b0dy")))
