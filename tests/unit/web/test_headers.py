"""The headers that protect our pages, behind everything that an application does to its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response
from werkzeug.middleware.proxy_fix import ProxyFix

from gaetk_longtask.web.headers import keep_out_of_frames, keep_sandbox, sandboxed

CSP = "Content-Security-Policy"
OURS = "frame-ancestors 'self'"


def replace_policy(response: Response) -> Response:
    response.headers[CSP] = "default-src 'self' 'unsafe-inline'"
    return response


def replace_response(response: Response) -> Response:
    return Response(response.get_data(), mimetype=response.mimetype)


def remove_policy(response: Response) -> Response:
    response.headers.remove(CSP)
    return response


def loosen(response: Response) -> Response:
    response.headers[CSP] = "sandbox allow-scripts allow-same-origin"
    return response


@pytest.fixture
def shown(app: Flask) -> Callable[[str], Any]:
    """A function that shows a document, or a page of ours, behind the hooks of the application."""

    @app.route("/document")
    def document() -> Response:
        response = sandboxed(Response("<script>alert(1)</script>"))
        keep_sandbox(response)
        return response

    @app.route("/stream")
    def stream() -> Response:
        def pieces() -> Iterator[str]:
            yield "<p>"
            yield "text"

        response = sandboxed(Response(pieces()))
        keep_sandbox(response)
        return response

    @app.route("/page")
    def page() -> str:
        keep_out_of_frames()
        return "Cancel"

    @app.route("/own")
    def own() -> str:
        return "the application's"

    return lambda path: app.test_client().get(path).headers


@pytest.mark.parametrize("hook", [replace_policy, replace_response, remove_policy, loosen])
@pytest.mark.parametrize("path", ["/document", "/stream"])
def test_a_document_keeps_its_sandbox_whatever_a_hook_does(
    app: Flask, shown: Callable[[str], Any], hook: Callable[[Response], Response], path: str
) -> None:
    app.after_request(hook)
    policies = shown(path).getlist(CSP)
    assert policies.count("sandbox") == 1
    assert hook in (replace_response, remove_policy) or len(policies) == 2


def test_a_sandbox_that_is_there_is_not_repeated(shown: Callable[[str], Any]) -> None:
    assert shown("/document").getlist(CSP) == ["sandbox"]


def test_a_sandbox_is_kept_behind_middleware_and_a_response_class_of_the_application(
    app: Flask, shown: Callable[[str], Any]
) -> None:
    class OwnResponse(Response):
        pass

    app.response_class = OwnResponse
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]  # Flask's documented way
    app.after_request(replace_policy)
    assert "sandbox" in shown("/document").getlist(CSP)


def test_a_page_of_ours_may_be_framed_by_ourselves_only(shown: Callable[[str], Any]) -> None:
    headers = shown("/page")
    assert headers.getlist(CSP) == [OURS]
    assert headers["X-Frame-Options"] == "SAMEORIGIN"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (CSP, "frame-ancestors https://partner.example"),
        (CSP, "default-src 'none'; Frame-Ancestors 'none'"),
        (CSP, "default-src 'self', frame-ancestors 'none'"),
        ("X-Frame-Options", "DENY"),
        ("x-frame-options", "SAMEORIGIN"),
    ],
)
def test_what_the_application_says_about_framing_holds(
    app: Flask, shown: Callable[[str], Any], name: str, value: str
) -> None:
    @app.after_request
    def say(response: Response) -> Response:
        response.headers[name] = value
        return response

    headers = shown("/page")
    assert [value for key, value in headers if key.lower() in (CSP.lower(), "x-frame-options")] == [value]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (CSP, "default-src 'none'; script-src https://frame-ancestors.example"),
        (CSP, "frame-src 'none'"),
        ("Content-Security-Policy-Report-Only", "frame-ancestors 'none'"),
        ("X-Frame-Options", ""),
    ],
)
def test_what_says_nothing_about_framing_does_not_count(
    app: Flask, shown: Callable[[str], Any], name: str, value: str
) -> None:
    @app.after_request
    def say(response: Response) -> Response:
        response.headers[name] = value
        return response

    headers = shown("/page")
    assert OURS in headers.getlist(CSP)
    assert "SAMEORIGIN" in headers.getlist("X-Frame-Options")


def test_the_applications_own_pages_are_left_alone(shown: Callable[[str], Any]) -> None:
    headers = shown("/own")
    assert CSP not in headers
    assert "X-Frame-Options" not in headers


def test_a_request_does_not_change_the_next_one(shown: Callable[[str], Any]) -> None:
    shown("/document")
    shown("/page")
    assert CSP not in shown("/own")
