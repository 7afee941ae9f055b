"""The doctor finds what stops deliveries, in this process and in the deployed application."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, redirect, request
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from gaetk_longtask import LongTaskManager, is_queue_request
from gaetk_longtask.dev.tasks_emulator import Emulator
from gaetk_longtask.operators.doctor import examine
from tests.integration.doctor.conftest import Server
from tests.integration.doctor.planting import (
    DELIVERY,
    LOCATION,
    WAY,
    Doctor,
    Planted,
    Report,
    before,
    broken,
    login,
    make,
    problems,
)


def login_page() -> Any:
    return "<form>Who are you?</form>"


def csrf_protection() -> Any:
    return Response("The CSRF token is missing.", status=400)


def members_only() -> Any:
    return Response(status=403)


def secure_only() -> Any:
    return None if request.is_secure else redirect(request.url.replace("http://", "https://", 1), 301)


def one_host_only() -> Any:
    return None if request.host == "www.example.com" else redirect("https://www.example.com" + request.path, 301)


def only_by_post(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    app = make()
    app.add_url_rule("/post", view_func=Report.as_view("post"), methods=["POST"])
    return app


def no_handler(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    app = Flask("tests")
    app.config.update(LONGTASK_LOCATION=LOCATION)
    LongTaskManager(app)
    return app


PLANTED: dict[str, Planted] = {
    "a login": (before(login), {DELIVERY, WAY}, "is_queue_request()"),
    "a login page": (before(login_page), {DELIVERY, WAY}, "is_queue_request()"),
    "CSRF protection": (before(csrf_protection), {DELIVERY, WAY}, "is_queue_request()"),
    "members only": (before(members_only), {DELIVERY, WAY}, "is_queue_request()"),
    "a redirect to https": (before(secure_only), {DELIVERY, WAY}, "is_queue_request()"),
    "a redirect to the proper host": (before(one_host_only), {DELIVERY, WAY}, "is_queue_request()"),
    "a hook that raises": (before(broken), {DELIVERY, WAY}, "log"),
    "a rule without GET": (only_by_post, {"delivery to post"}, "start_methods"),
    "no handler": (no_handler, {"handlers"}, "as_view"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_misconfiguration_is_found_and_nothing_else(assert_found: Callable[..., None], name: str) -> None:
    assert_found(*PLANTED[name])


def answering(status: int, text: str = "", **headers: str) -> Flask:
    app = Flask("deployed")
    app.before_request(lambda: Response(text, status=status, headers=headers))
    return app


@pytest.mark.parametrize(
    ("deployed", "text"),
    [
        (answering(302, Location="/login"), "redirected"),
        (answering(200, "please log in"), "answers /report with 200"),
        (answering(403), "403"),
        (answering(404), "does not know /report"),
        (answering(500), "500"),
        (answering(503), "503"),
    ],
    ids=["login", "login page", "forbidden", "another version", "no Datastore", "starting"],
)
def test_the_deployed_application_may_have_another_problem(doctor: Doctor, deployed: Flask, text: str) -> None:
    found = problems(doctor(make(), deployed=deployed))
    assert set(found) == {WAY}
    assert text in found[WAY].text


def test_an_application_that_does_not_answer_the_queue_is_found(
    environment: None, directory: Path, start_queue: Callable[[], Emulator], server: Server
) -> None:
    app = make()
    start_queue()
    server.stop()
    found = problems(list(examine(app, directory=directory, patience=timedelta(seconds=0.3))))
    assert set(found) == {WAY}
    assert "No answer" in found[WAY].text


def test_an_application_that_exempts_the_queue_is_well(doctor: Doctor) -> None:
    app = make()
    app.before_request(lambda: None if is_queue_request() else login())
    assert not problems(doctor(app))


def test_an_application_below_a_root_is_reached(doctor: Doctor) -> None:
    app = make(APPLICATION_ROOT="/shop")
    found = problems(doctor(app, deployed=DispatcherMiddleware(NotFound(), {"/shop": app})))
    assert set(found) == {"cron"}  # which calls URLs without it


def test_a_root_that_a_proxy_removes_is_not_in_the_queues_requests(doctor: Doctor) -> None:
    app = make(APPLICATION_ROOT="/app")
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]  # Flask's documented way
    assert not problems(doctor(app))


def test_a_hook_that_raises_in_debug_mode_is_found_too(doctor: Doctor) -> None:
    app = make()
    app.debug = True
    app.before_request(broken)
    found = problems(doctor(app, deployed=make()))
    assert set(found) == {DELIVERY}
    assert "KeyError" in found[DELIVERY].text
