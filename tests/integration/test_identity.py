"""Identity-Aware Proxy: accepted and refused assertions, and requests for Google's keys."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from flask import Flask
from google.auth import jwt
from google.auth.crypt import ES256Signer, RSASigner

from gaetk_longtask import LongRunningTaskHandler, LongTaskManager
from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.identity import HEADER, IapUser, IdentityAwareProxy, IdentityError, KeysUnavailableError
from gaetk_longtask.testing.runner import TaskRunner
from tests.support import JSON

AUDIENCE = "/projects/123456789/apps/shop"


class KeyServer:
    """The server of Google's public keys."""

    def __init__(self) -> None:
        self.keys: Any = {}
        #: The answer instead of the keys.
        self.trouble: bytes | None = None
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(outer.keys).encode() if outer.trouble is None else outer.trouble)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Proxy:
    """A simulation of Identity-Aware Proxy. It creates keys and signs assertions."""

    def __init__(self, server: KeyServer) -> None:
        self._server = server
        self.key = self.new_key("first")

    def new_key(self, key_id: str) -> Any:
        self.key, self.key_id = ec.generate_private_key(ec.SECP256R1()), key_id
        self._server.keys = {**self._server.keys, key_id: public(self.key)}
        return self.key

    def assertion(self, *, signer: Any = None, header: dict[str, Any] | None = None, **claims: Any) -> str:
        now = int(time.time())
        payload = {
            "aud": AUDIENCE,
            "iss": "https://cloud.google.com/iap",
            "sub": "accounts.google.com:42",
            "email": "anna@example.com",
            "iat": now,
            "exp": now + 600,
            **claims,
        }
        payload = {name: value for name, value in payload.items() if value is not None}
        signer = signer or ES256Signer(self.key, self.key_id)
        return jwt.encode(signer, payload, header=header).decode()  # type: ignore[no-any-return, no-untyped-call]  # untyped


def public(key: Any) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(encoding, form).decode()  # type: ignore[no-any-return]  # of two kinds


@pytest.fixture
def server() -> Iterator[KeyServer]:
    server = KeyServer()
    yield server
    server.stop()


@pytest.fixture
def proxy(server: KeyServer) -> Proxy:
    return Proxy(server)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def iap(server: KeyServer, clock: Clock) -> IdentityAwareProxy:
    return IdentityAwareProxy(AUDIENCE, keys_url=server.url, monotonic=clock)


# Creating the identity.


@pytest.mark.parametrize(
    "audience",
    ["", None, "shop", "/projects/shop/apps/shop", "/projects/123/apps/", "/projects/123/apps/shop/x", "1.apps.google"],
)
def test_an_invalid_audience_is_refused_and_the_message_shows_the_right_form(audience: str | None) -> None:
    with pytest.raises(ConfigurationError, match="/projects/NUMBER/apps/PROJECT"):
        IdentityAwareProxy(audience)


@pytest.mark.parametrize(
    "audience", [AUDIENCE, "/projects/1/apps/example.com:shop", "/projects/1/global/backendServices/2"]
)
def test_an_audience_of_app_engine_or_a_load_balancer_is_taken(audience: str) -> None:
    IdentityAwareProxy(audience)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ConfigurationError, match=r"pip install cryptography$"):
        IdentityAwareProxy(AUDIENCE)


# Accepted and refused assertions.


def test_a_valid_assertion_identifies_the_visitor(iap: IdentityAwareProxy, proxy: Proxy) -> None:
    assert iap.verify(proxy.assertion()) == IapUser(id="accounts.google.com:42", email="anna@example.com")


def test_a_visitor_without_an_address_has_an_id(iap: IdentityAwareProxy, proxy: Proxy) -> None:
    assert iap.verify(proxy.assertion(email=None)) == IapUser(id="accounts.google.com:42", email="")


@pytest.mark.parametrize("seconds", [-25, 25])
def test_clocks_may_differ_a_little(iap: IdentityAwareProxy, proxy: Proxy, seconds: int) -> None:
    now = int(time.time())
    claims = {"iat": now + seconds} if seconds > 0 else {"iat": now - 600, "exp": now + seconds}
    assert iap.verify(proxy.assertion(**claims)).id


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"aud": "/projects/123456789/apps/other"}, "wrong audience"),
        ({"aud": None}, "wrong audience"),
        ({"aud": [AUDIENCE]}, "wrong audience"),
        ({"iss": "https://accounts.google.com"}, "issued by 'https://accounts.google.com'"),
        ({"iss": None}, "issued by None"),
        ({"exp": timedelta(seconds=-60)}, "expired"),
        ({"iat": timedelta(seconds=300)}, "too early"),
        ({"exp": None}, "exp"),
        ({"exp": "tomorrow"}, "TypeError"),
        ({"sub": None}, "names no user"),
        ({"sub": ""}, "names no user"),
        ({"sub": 42}, "names no user"),
    ],
    ids=str,
)
def test_an_assertion_with_wrong_claims_is_refused(
    iap: IdentityAwareProxy, proxy: Proxy, claims: dict[str, Any], why: str
) -> None:
    now = int(time.time())
    from_now = {name: now + int(by.total_seconds()) for name, by in claims.items() if isinstance(by, timedelta)}
    with pytest.raises(IdentityError, match=why):
        iap.verify(proxy.assertion(**claims | from_now))


def test_a_signature_with_another_key_is_refused(iap: IdentityAwareProxy, proxy: Proxy) -> None:
    other = ES256Signer(ec.generate_private_key(ec.SECP256R1()), "first")
    with pytest.raises(IdentityError, match="signature"):
        iap.verify(proxy.assertion(signer=other))


def test_an_assertion_that_was_changed_is_refused(iap: IdentityAwareProxy, proxy: Proxy) -> None:
    head, _, signature = proxy.assertion().split(".")
    _, payload, _ = proxy.assertion(sub="accounts.google.com:1").split(".")
    with pytest.raises(IdentityError, match="signature"):
        iap.verify(f"{head}.{payload}.{signature}")


def test_an_unsigned_assertion_is_refused(iap: IdentityAwareProxy, proxy: Proxy) -> None:
    head, payload, _ = proxy.assertion(header={"alg": "none"}).split(".")
    with pytest.raises(IdentityError, match="not signed with ES256"):
        iap.verify(f"{head}.{payload}.")


def test_another_algorithm_is_refused_whatever_key_it_names(iap: IdentityAwareProxy, proxy: Proxy) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(IdentityError, match="not signed with ES256"):
        iap.verify(proxy.assertion(signer=RSASigner(key, "first")))


def test_an_assertion_that_names_no_key_is_refused(iap: IdentityAwareProxy, proxy: Proxy) -> None:
    with pytest.raises(IdentityError, match="has no key id"):
        iap.verify(proxy.assertion(signer=ES256Signer(proxy.key)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "a.b.c",
        "....",
        "ä.ö.ü",
        "e30.e30.e30",
        "W10.W10.x",
        "\x00.\x00.\x00",
        "x" * 8000,
        "W" * 4000 + ".e30.x",
    ],
    ids=range(10),
)
def test_malformed_assertions_are_refused(iap: IdentityAwareProxy, text: str) -> None:
    with pytest.raises(IdentityError):
        iap.verify(text)


def test_json_that_is_nested_too_deeply_is_refused(iap: IdentityAwareProxy, proxy: Proxy) -> None:
    import base64

    deep = base64.urlsafe_b64encode(b"[" * 5000).decode().rstrip("=")
    with pytest.raises(IdentityError):
        iap.verify(f"{deep}.e30.x")


# Keys.


def test_keys_are_asked_for_once_an_hour(
    iap: IdentityAwareProxy, proxy: Proxy, server: KeyServer, clock: Clock
) -> None:
    for clock.now in (0, 1, 3599):
        iap.verify(proxy.assertion())
    assert server.asked == 1
    clock.now = 3601
    iap.verify(proxy.assertion())
    assert server.asked == 2


def test_a_new_key_is_asked_for(iap: IdentityAwareProxy, proxy: Proxy, server: KeyServer, clock: Clock) -> None:
    iap.verify(proxy.assertion())
    proxy.new_key("second")
    clock.now = 60
    assert iap.verify(proxy.assertion()).id
    assert server.asked == 2


def test_unknown_key_ids_do_not_cause_a_request_each(
    iap: IdentityAwareProxy, proxy: Proxy, server: KeyServer, clock: Clock
) -> None:
    for clock.now in range(60):
        with pytest.raises(IdentityError, match="there is no key 'made up'"):
            iap.verify(proxy.assertion(signer=ES256Signer(proxy.key, "made up")))
    assert server.asked == 6


def test_a_key_that_is_withdrawn_counts_no_longer(
    iap: IdentityAwareProxy, proxy: Proxy, server: KeyServer, clock: Clock
) -> None:
    iap.verify(proxy.assertion())
    server.keys = {"second": public(ec.generate_private_key(ec.SECP256R1()))}
    clock.now = 3601
    with pytest.raises(IdentityError, match="there is no key"):
        iap.verify(proxy.assertion())


@pytest.mark.parametrize("trouble", [b"", b"{}", b"[]", b'{"first": 1}', b"<html>", b"\xff"], ids=repr)
def test_old_keys_serve_for_a_day_while_there_are_no_new_ones(
    iap: IdentityAwareProxy, proxy: Proxy, server: KeyServer, clock: Clock, trouble: bytes
) -> None:
    iap.verify(proxy.assertion())
    server.trouble = trouble
    clock.now = 23 * 3600
    assert iap.verify(proxy.assertion()).id
    clock.now = 25 * 3600
    with pytest.raises(KeysUnavailableError):
        iap.verify(proxy.assertion())
    server.trouble = None
    clock.now += 10
    assert iap.verify(proxy.assertion()).id


def test_without_any_keys_every_assertion_is_refused(proxy: Proxy) -> None:
    iap = IdentityAwareProxy(AUDIENCE, keys_url="http://127.0.0.1:1/")
    with pytest.raises(KeysUnavailableError):
        iap.verify(proxy.assertion())


def test_concurrent_visitors_cause_one_request_for_keys(
    iap: IdentityAwareProxy, proxy: Proxy, server: KeyServer
) -> None:
    assertion = proxy.assertion()
    threads = [threading.Thread(target=iap.verify, args=[assertion]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.asked == 1


# In an application.


@pytest.fixture
def app(iap: IdentityAwareProxy) -> Flask:
    class Report(LongRunningTaskHandler):
        def get_user_id(self) -> str:
            return iap.user().id

        def execute_task(self, parameters: dict[str, Any]) -> str:
            return "the report"

    app = Flask("tests")
    LongTaskManager(app)
    app.add_url_rule("/report", view_func=Report.as_view("report"))
    app.add_url_rule("/me", view_func=lambda: iap.user().email)
    return app


@pytest.fixture
def visitor(proxy: Proxy) -> Callable[[int], dict[str, str]]:
    return lambda number: {HEADER: proxy.assertion(sub=f"accounts.google.com:{number}")}


Visitor = Callable[[int], dict[str, str]]


def test_a_task_belongs_to_the_visitor_in_the_assertion(app: Flask, longtask: TaskRunner, visitor: Visitor) -> None:
    task = longtask.start("/report", headers=visitor(1))
    longtask.deliver_all()  # without an assertion
    client = app.test_client()
    own = client.get(task.url, headers=visitor(1))
    assert "the report" in client.get(own.headers["Location"], headers=visitor(1)).text
    assert client.get(task.url, headers=visitor(2)).status_code == 403


def test_a_request_that_bypasses_the_proxy_starts_nothing(app: Flask, longtask: TaskRunner) -> None:
    answer = longtask.client.get("/report", headers=JSON)
    assert answer.status_code == 403
    assert answer.mimetype == "application/problem+json"
    assert not longtask.queue.tasks


def test_a_request_that_bypasses_the_proxy_can_not_see_an_anonymous_task(
    app: Flask, longtask: TaskRunner, visitor: Visitor
) -> None:
    with app.app_context():
        task = longtask.started(LongTaskManager.start("report", {}))
    client = app.test_client()
    assert client.get(task.url).status_code == 403
    assert client.get(task.url, headers=visitor(1)).status_code == 200


def test_without_googles_keys_the_answer_is_503_with_retry_after(
    app: Flask, longtask: TaskRunner, visitor: Visitor, server: KeyServer
) -> None:
    server.trouble = b""
    answer = longtask.client.get("/report", headers=visitor(1))
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert "We can&#39;t check your sign-in" in answer.text


def test_other_views_of_the_application_may_ask_too(app: Flask, visitor: Visitor) -> None:
    client = app.test_client()
    assert client.get("/me", headers=visitor(1)).text == "anna@example.com"
    assert client.get("/me").status_code == 403


def test_the_log_says_why_a_visitor_was_refused(app: Flask, proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    app.test_client().get("/me", headers={HEADER: proxy.assertion(aud="/projects/1/apps/other")})
    assert "/projects/1/apps/other" in caplog.text


@pytest.mark.parametrize("change", ["{}", "{}.x", "x.{}"])
def test_the_log_does_not_contain_the_assertion(
    app: Flask, proxy: Proxy, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    assertion = change.format(proxy.assertion(aud="/projects/1/apps/other"))
    app.test_client().get("/me", headers={HEADER: assertion})
    assert "visitor not identified" in caplog.text
    assert assertion.split(".")[1][:80] not in caplog.text
