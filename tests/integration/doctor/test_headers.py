"""The doctor notices what takes the protection of our pages away."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from flask import Flask, Response, redirect

from gaetk_longtask.operators.doctor.admin_api import AdminApi
from gaetk_longtask.operators.doctor.examination import check_headers
from gaetk_longtask.operators.doctor.findings import Outcome
from gaetk_longtask.operators.doctor.subject import Subject
from tests.support import services_of


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app()


def outcome(app: Flask, tmp_path: Any) -> Outcome:
    subject = Subject(app, services_of(app), directory=tmp_path, admin=AdminApi(), patience=None)
    [finding] = check_headers(subject)
    return finding.outcome


def test_an_application_without_headers_of_its_own_is_fine(app: Flask, tmp_path: Any) -> None:
    assert outcome(app, tmp_path) is Outcome.OK


def test_hooks_that_replace_headers_and_ask_for_a_login_are_fine(app: Flask, tmp_path: Any) -> None:
    @app.before_request
    def login() -> Any:
        return redirect("/login")

    @app.after_request
    def talisman(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = "default-src 'self'"
        response.headers["X-Frame-Options"] = "SAMEORIGIN"
        return response

    assert outcome(app, tmp_path) is Outcome.OK


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Content-Security-Policy", Outcome.PROBLEM),
        ("X-Frame-Options", Outcome.OK),  # frame-ancestors says the same
    ],
)
def test_middleware_that_removes_the_policies_is_a_problem(
    app: Flask, tmp_path: Any, name: str, found: Outcome
) -> None:
    wrapped = app.wsgi_app

    def without(environ: Any, start_response: Any) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            return start_response(status, [item for item in headers if item[0] != name], *rest)

        return wrapped(environ, start)

    app.wsgi_app = without  # type: ignore[method-assign]  # Flask's documented way
    assert outcome(app, tmp_path) is found
