"""A page of another site, or a browser's guess, starts nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from gaetk_longtask import LongRunningTaskHandler, LongTask

Stored = Callable[[], list[LongTask]]
FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Referer": "https://evil.example/page"},
]


class Report(LongRunningTaskHandler):
    def execute_task(self, parameters: dict[str, Any]) -> str:
        return "result"


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app(Report)


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_foreign_page_gets_a_page_with_a_button(
    client: FlaskClient, stored: Stored, method: str, headers: dict[str, str]
) -> None:
    answer = getattr(client, method)("/report", headers=headers)
    assert answer.status_code == 200
    assert "<button" in answer.text
    assert not stored()


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_foreign_program_gets_a_problem_document(
    client: FlaskClient, stored: Stored, method: str, headers: dict[str, str]
) -> None:
    answer = getattr(client, method)("/report", headers=headers | {"Accept": "application/json"})
    assert answer.status_code == 403
    assert answer.mimetype == "application/problem+json"
    assert not stored()


@pytest.mark.parametrize("headers", [{"X-Purpose": "preview"}, {"X-Moz": "prefetch"}, {"Purpose": "Prefetch"}])
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_guess_starts_nothing(client: FlaskClient, stored: Stored, method: str, headers: dict[str, str]) -> None:
    assert getattr(client, method)("/report", headers=headers).status_code == 503
    assert not stored()


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://localhost"}, {"Referer": "http://localhost/form"}])
@pytest.mark.parametrize("method", ["get", "post"])
def test_our_own_pages_and_programs_start_at_once(client: FlaskClient, method: str, headers: dict[str, str]) -> None:
    assert getattr(client, method)("/report", headers=headers).status_code == 307


def test_a_foreign_form_with_very_many_fields_is_refused(client: FlaskClient, stored: Stored) -> None:
    form = {"data": "a&" * 100_000, "content_type": "application/x-www-form-urlencoded"}
    assert client.post("/report", headers=FOREIGN[0], **form).status_code == 403
    assert not stored()
