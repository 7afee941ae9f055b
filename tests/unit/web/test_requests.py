"""Telling requests apart: programs, browsers, other sites, and the queue."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
from flask import Flask, Request, Response, request
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder

from gaetk_longtask.units import new_token
from gaetk_longtask.web.requests import (
    JobName,
    delivery_of,
    has_possible_host,
    is_cross_site,
    is_prefetch,
    is_same_origin,
    is_task_id,
    path_of,
    protect,
    quoted_path,
    wants_json,
)
from tests.unit.conftest import ID


def request_with(headers: dict[str, str] | None = None, path: str = "/report", method: str = "GET") -> Request:
    builder = EnvironBuilder(path, base_url="https://www.example.com", headers=headers, method=method)
    return Request(builder.get_environ())


# Ids.


def test_every_new_token_can_be_a_tasks_id() -> None:
    assert all(is_task_id(new_token()) for _ in range(100))


@pytest.mark.parametrize(
    "text",
    [
        *("", "5", "a" * 21, "a" * 65, "a" * 22 + "\n", " " + "a" * 22, "a" * 21 + "é", "a" * 21 + "/", "٣" * 22),
        "agxzfm11c3RlcmtyYWRyEAsSCExvbmdUYXNrGAEM==",
    ],
)
def test_anything_else_is_no_id(text: str) -> None:
    assert not is_task_id(text)


def test_the_jobs_are_the_originals_and_two_more() -> None:
    assert set(JobName) == {"query", "showresult", "execute", "cancel", "retry"}


# Programs and browsers.


@pytest.mark.parametrize(
    ("accept", "is_program"),
    [
        ("application/json", True),
        ("application/json, text/plain, */*", True),
        ("application/json, text/html;q=0.9", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("text/html, application/json", False),
        ("text/html, application/json;q=0.9", False),
        ("application/json;q=0", False),
        ("*/*", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_a_client_that_prefers_json_to_html_is_a_program(accept: str, is_program: bool) -> None:
    assert wants_json(request_with({"Accept": accept})) is is_program


def test_a_client_without_a_preference_gets_the_page() -> None:
    assert not wants_json(request_with())


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Purpose": "prefetch"},
        {"Sec-Purpose": "prefetch;prerender"},
        {"Sec-Purpose": "prerender"},
        {"Purpose": "prefetch"},
        {"Purpose": "preview"},
        {"X-Purpose": "preview"},
        {"X-Purpose": "Prefetch"},
        {"X-Purpose": "instant"},
        {"X-Moz": "prefetch"},
        {"X-Moz": "Prefetch"},
    ],
)
def test_a_prefetch_is_recognized(headers: dict[str, str]) -> None:
    assert is_prefetch(request_with(headers))


def test_a_click_is_no_prefetch() -> None:
    assert not is_prefetch(request_with({"Sec-Fetch-Site": "same-origin"}))


# Other sites.


@pytest.mark.parametrize(
    ("site", "foreign"), [("cross-site", True), ("same-site", False), ("same-origin", False), ("none", False)]
)
def test_the_browser_says_whether_a_request_comes_from_another_site(site: str, foreign: bool) -> None:
    assert is_cross_site(request_with({"Sec-Fetch-Site": site})) is foreign


def test_a_request_without_any_header_does_not_count_as_another_site() -> None:
    assert not is_cross_site(request_with())


@pytest.mark.parametrize(
    ("headers", "foreign"),
    [
        ({"Origin": "https://evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": ""}, True),
        ({"Origin": "https://www.example.com.evil.example"}, True),
        ({"Origin": "https://www.example.com@evil.example"}, True),
        ({"Origin": "https://["}, True),
        ({"Origin": "https://www.example.com"}, False),
        ({"Origin": "https://WWW.example.com:443"}, False),
        ({"Origin": "https://www.example.com", "Referer": "https://evil.example/"}, False),
        ({"Referer": "https://evil.example/page"}, True),
        ({"Referer": "https://evil.example/www.example.com"}, True),
        ({"Referer": "https://["}, True),
        ({"Referer": "https://www.example.com/page?a=1"}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://www.example.com"}, True),
        ({"Sec-Fetch-Site": "nonsense"}, True),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_that_header_origin_or_else_referer_decides(
    headers: dict[str, str], foreign: bool, method: str
) -> None:
    assert is_cross_site(request_with(headers, method=method)) is foreign


@pytest.mark.parametrize(
    ("host", "possible"),
    [
        *[(host, True) for host in ("example.com", "127.0.0.1:80", "[::1]:8080", "x")],
        *[(host, False) for host in ("a b", "a\x01", "a/b", "a@b", "a:b", "a:99999", "[::1", "<a>", "a,b", "ö", "")],
    ],
)
def test_a_host_is_a_name_or_an_address_and_perhaps_a_port(host: str, possible: bool) -> None:
    made = request_with()
    made.environ["HTTP_HOST"] = made.environ["SERVER_NAME"] = host
    assert has_possible_host(made) is possible


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://www.example.com"}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://proxied.example.com"}, True),
        ({"Sec-Fetch-Site": ""}, False),
        ({"Origin": "https://www.example.com"}, True),
        ({"Origin": "https://evil.example.net"}, False),
        ({"Origin": "https://www.example.com.evil.example.net"}, False),
        ({"Origin": "https://www.example.com:8443"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Origin": "https://["}, False),
    ],
)
def test_cancel_and_retry_come_from_the_same_site_or_from_no_page(headers: dict[str, str], ours: bool) -> None:
    assert is_same_origin(request_with(headers)) is ours


# The queue.

DELIVERY = {
    "X-Longtask-Execute-Key": "key",
    "X-AppEngine-QueueName": "default",
    "X-AppEngine-TaskName": "123",
    "X-AppEngine-TaskRetryCount": "4",
}


def test_a_delivery_says_for_which_task_and_how_often() -> None:
    delivery = delivery_of(request_with(DELIVERY, f"/report?_longtaskjob=execute&_longtaskid={ID}"))
    assert delivery is not None
    assert (delivery.task_id, delivery.execute_key, delivery.task_name, delivery.retry_count) == (ID, "key", "123", 4)


@pytest.mark.parametrize("missing", ["X-Longtask-Execute-Key", "X-AppEngine-QueueName"])
def test_without_its_headers_it_is_no_delivery(missing: str) -> None:
    headers = {name: value for name, value in DELIVERY.items() if name != missing}
    assert delivery_of(request_with(headers)) is None


def test_an_empty_key_counts_as_no_key() -> None:
    assert delivery_of(request_with(DELIVERY | {"X-Longtask-Execute-Key": ""})) is None


@pytest.mark.parametrize("count", ["", "-1", "1.5", "many", "²", "9" * 5000])
def test_an_invalid_retry_count_counts_as_the_first_delivery(count: str) -> None:
    headers = {name: value for name, value in DELIVERY.items() if name != "X-AppEngine-TaskRetryCount"}
    delivery = delivery_of(request_with(headers | ({"X-AppEngine-TaskRetryCount": count} if count else {})))
    assert delivery is not None
    assert delivery.retry_count == 0


def test_a_delivery_without_a_task_is_for_no_task() -> None:
    delivery = delivery_of(request_with(DELIVERY))
    assert delivery is not None
    assert not is_task_id(delivery.task_id)


# Paths.


@given(st.text("/\\.:@?#%25Ff aé\t\n\r\0", max_size=30) | st.text(max_size=30))
def test_a_path_is_never_the_start_of_another_hosts_url(path: str) -> None:
    normal = quoted_path(path)
    parts = urlsplit("https://www.example.com" + normal)
    assert normal.startswith("/")
    assert not normal.startswith("//")
    assert "\\" not in normal
    assert normal.isascii()
    assert normal.isprintable()
    assert (parts.netloc, parts.query, parts.fragment) == ("www.example.com", "", "")


def test_a_path_is_quoted_in_one_way() -> None:
    assert quoted_path("/report/münchen ~a%") == "/report/m%C3%BCnchen%20~a%25"


@pytest.mark.parametrize("path", ["/report", "/shop/report/a b", "/report/~x", "/100%", "/100%41", "/50%25", "/a?b"])
def test_the_path_leads_back_to_the_visitors_url(path: str) -> None:
    with Flask("tests").test_request_context(environ_overrides={"PATH_INFO": path}):
        assert unquote(path_of(request)) == path


def test_the_path_begins_with_the_script_root() -> None:
    with Flask("tests").test_request_context("/report", base_url="https://www.example.com/shop"):
        assert path_of(request) == "/shop/report"


# Responses.


def test_every_answer_is_kept_from_caches_search_engines_and_other_sites() -> None:
    headers = protect(Response("x", headers={"Vary": "Cookie"})).headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Robots-Tag"] == "noindex"
    assert {name.strip() for name in headers["Vary"].split(",")} == {"Cookie", "Accept"}
