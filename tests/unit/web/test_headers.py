"""The headers that protect our pages, behind everything that an application does to its answers; names of downloads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from flask import Flask, Response
from werkzeug.datastructures import Headers
from werkzeug.middleware.proxy_fix import ProxyFix

from gaetk_longtask.web.headers import encode_file_name, keep_out_of_frames, keep_sandbox, sandboxed

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


# The names of downloads.

#: What gunicorn sends. It refuses everything else, and PEP 3333 does too.
SENDABLE = re.compile(r"[ \t\x21-\x7e\x80-\xff]*")

NAMES = [
    "Łódź.csv",
    "März 2026.csv",
    "日本.csv",
    "🎉.csv",
    'Müllers "gute" Liste.csv',
    "Müller/Söhne.csv",
    "Müller\\Söhne.csv",
    "Größe; Farbe.csv",
    "100 % Wolle, größer.csv",
    "naïve 'quoted'.csv",
    "Ł" * 200 + ".csv",
]


def name_of(header: str) -> str:
    """Return the file name in a header as browsers read it (RFC 6266): `filename*` before `filename`."""
    found = re.search(r"filename\*=UTF-8''([^;]*)", header)
    assert found is not None
    return unquote(found[1])


def encoded(header: str) -> str:
    headers = Headers([("Content-Disposition", header)])
    encode_file_name(headers)
    [sent] = headers.getlist("Content-Disposition")
    assert SENDABLE.fullmatch(sent)
    return sent


@pytest.mark.parametrize("name", NAMES)
def test_a_name_may_have_any_characters(name: str) -> None:
    headers = Headers()
    headers.set("Content-Disposition", "attachment", filename=name)
    sent = encoded(headers["Content-Disposition"])
    assert sent.startswith("attachment; filename=")
    assert name_of(sent) == name


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("attachment; filename=Łódź.csv", "Łódź.csv"),
        ("attachment; filename=März 2026.csv", "März 2026.csv"),
        ('attachment; filename="Łódź.csv"', "Łódź.csv"),
        ('inline;filename="Łódź.csv"', "Łódź.csv"),
        ("Attachment; FileName=Łódź.csv", "Łódź.csv"),
        ("attachment; filename=Łódź.csv; filename*=UTF-8''%C5%81.csv", "Łódź.csv"),
    ],
)
def test_a_header_may_be_written_by_hand(header: str, name: str) -> None:
    assert name_of(encoded(header)) == name


@pytest.mark.parametrize("name", ["a\x00ń.csv", "a\x1fń.csv", "a\x7fń.csv", "a\tń.csv"])
def test_a_control_character_becomes_a_space(name: str) -> None:
    headers = Headers()
    headers.set("Content-Disposition", "attachment", filename=name)
    assert name_of(encoded(headers["Content-Disposition"])) == "a ń.csv"


def test_what_is_no_text_is_replaced() -> None:
    assert name_of(encoded("attachment; filename=\udcff.csv")) == "?.csv"


def test_an_old_browser_gets_the_letters_without_accents() -> None:
    assert encoded('attachment; filename="Łódź März.csv"') == (
        "attachment; filename=\"odz Marz.csv\"; filename*=UTF-8''%C5%81%C3%B3d%C5%BA%20M%C3%A4rz.csv"
    )


@pytest.mark.parametrize(
    "header",
    [
        "attachment",
        "attachment; filename=squares.csv",
        'attachment; filename="a \\"b\\".csv"',
        "attachment; filename=odz.csv; filename*=UTF-8''%C5%81%C3%B3d%C5%BA.csv",
        "inline",
    ],
)
def test_other_headers_stay_as_they_are(header: str) -> None:
    assert encoded(header) == header


def test_a_response_without_a_name_gets_none() -> None:
    headers = Headers()
    encode_file_name(headers)
    assert not headers
