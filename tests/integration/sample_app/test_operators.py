"""Who may see the overview: everyone on the local stack, or the listed addresses behind Identity-Aware Proxy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gaetk_longtask.identity import HEADER, IdentityAwareProxy
from gaetk_longtask.testing import TaskRunner
from sample_app import operators
from tests.integration.test_identity import AUDIENCE, KeyServer, Proxy

OVERVIEW = "/_longtask/tasks"


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Identity-Aware Proxy in front of App Engine, with two operators."""
    server = KeyServer()
    monkeypatch.setenv("GAE_ENV", "standard")
    monkeypatch.setenv("IAP_AUDIENCE", AUDIENCE)
    monkeypatch.setenv("OPERATORS", "anna@example.com ben@example.com")
    monkeypatch.setattr(operators, "_proxy", lambda audience: IdentityAwareProxy(audience, keys_url=server.url))
    yield Proxy(server)
    server.stop()


def seen(longtask: TaskRunner, assertion: str = "") -> bool:
    """Return whether the visitor sees the overview. The link to it is shown to the same visitors."""
    headers = {HEADER: assertion} if assertion else {}
    home, overview = (longtask.client.get(path, headers=headers) for path in ("/", OVERVIEW))
    assert home.status_code == 200
    assert overview.status_code in (200, 404)
    assert (OVERVIEW in home.text) is (overview.status_code == 200)
    return overview.status_code == 200


def test_on_the_local_stack_everyone_is_an_operator(longtask: TaskRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAE_ENV", "localdev")
    assert seen(longtask)


@pytest.mark.parametrize("environment", ["standard", None])
def test_without_a_proxy_no_one_is_an_operator(
    longtask: TaskRunner, monkeypatch: pytest.MonkeyPatch, environment: str | None
) -> None:
    monkeypatch.delenv("GAE_ENV", raising=False)
    if environment:
        monkeypatch.setenv("GAE_ENV", environment)
    monkeypatch.setenv("OPERATORS", "anna@example.com")
    assert not seen(longtask)


@pytest.mark.parametrize(("email", "expected"), [("ben@example.com", True), ("eve@example.com", False), ("", False)])
def test_behind_the_proxy_only_the_listed_addresses_are(
    longtask: TaskRunner, proxy: Proxy, email: str, expected: bool
) -> None:
    assert seen(longtask, proxy.assertion(email=email)) is expected


def test_a_visitor_who_got_around_the_proxy_is_not(longtask: TaskRunner, proxy: Proxy) -> None:
    assert not seen(longtask)
    assert not seen(longtask, proxy.assertion(aud="/projects/1/apps/another"))
