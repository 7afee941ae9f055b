"""Which fields of a request become parameters, and which of these are repeated in the URL of the status page."""

from __future__ import annotations

import time
from io import BytesIO
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask, request
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from gaetk_longtask.web.parameters import bookmark, csrf_field, gather, given_in_url, is_parameter, parameters_of
from gaetk_longtask.web.problems import ProblemError
from tests.unit.conftest import ID

# Parameters.


def read(url: str, **sent: Any) -> dict[str, Any]:
    with Flask("tests").test_request_context(url, **sent):
        return parameters_of(request)


def test_fields_and_files_hide_the_same_name_in_the_query() -> None:
    form = {"a": "1", "file": (BytesIO(b"\x00\xff"), "file.bin")}
    assert read("/report?a=2&b=3&file=x", method="POST", data=form) == {"a": "1", "b": "3", "file": b"\x00\xff"}


def test_a_field_and_a_file_of_one_name_become_a_list() -> None:
    form = MultiDict([("a", "1"), ("a", (BytesIO(b"x"), "file.bin"))])
    assert read("/report", method="POST", data=form) == {"a": ["1", b"x"]}


def test_a_json_body_is_refused_with_what_to_override() -> None:
    with pytest.raises(ProblemError, match="override prepare_task") as caught:
        read("/report", method="POST", json={"a": 1})
    assert caught.value.status == 415


def test_a_urls_own_parameters_are_those_that_are_not_ours() -> None:
    with Flask("tests").test_request_context(f"/report?_longtaskid={ID}&a=1&a=2&csrf_token=t"):
        assert given_in_url(request) == [("a", "1"), ("a", "2")]


def test_a_later_source_hides_a_name_of_an_earlier_one() -> None:
    assert gather([{"a": ["1", "2"], "b": ["3"]}, {"a": ["4"]}], "csrf_token") == {"a": "4", "b": "3"}


def test_repetition_becomes_a_list() -> None:
    assert gather([{"a": ["1", "2"]}], "csrf_token") == {"a": ["1", "2"]}


def test_our_own_fields_and_the_csrf_token_are_no_parameters() -> None:
    assert gather([{"_longtaskjob": ["execute"], "csrf_token": ["t"], "a": ["1"]}], "csrf_token") == {"a": "1"}


# The status page's URL.

Items = list[tuple[str, str]]


def bookmarked(query: Items, form: Items | None = None, names: tuple[str, ...] = ()) -> Items:
    return bookmark(MultiDict(query), MultiDict(form or []), names, "csrf_token")


def test_the_query_of_the_start_goes_into_the_bookmark() -> None:
    assert bookmarked([("month", "2010-12"), ("country", "DE"), ("country", "FR")]) == [
        ("month", "2010-12"),
        ("country", "DE"),
        ("country", "FR"),
    ]


def test_a_form_field_is_not_in_the_bookmark_by_default() -> None:
    assert bookmarked([], [("password", "secret"), ("month", "2010-12")]) == []


def test_a_form_field_that_the_class_lists_is_in_the_bookmark() -> None:
    form = [("password", "secret"), ("month", "2010-12"), ("month", "2011-01")]
    assert bookmarked([], form, ("month",)) == [("month", "2010-12"), ("month", "2011-01")]


def test_a_name_in_the_form_hides_the_same_name_in_the_query() -> None:
    assert bookmarked([("month", "2010-12")], [("month", "secret")]) == []


def test_our_own_fields_and_csrf_tokens_are_never_in_the_bookmark() -> None:
    items = [("_longtaskid", ID), ("_x", "y"), ("csrf_token", "t")]
    assert bookmarked(items, [], ("csrf_token",)) == []
    assert bookmarked([], items, ("csrf_token", "_x", "_longtaskid")) == []


def test_a_value_has_less_than_512_characters() -> None:
    assert bookmarked([("a", "x" * 511)]) == [("a", "x" * 511)]
    assert bookmarked([("a", "x" * 512), ("b", "y")]) == [("b", "y")]


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=600)), max_size=20))
def test_all_together_have_at_most_1500_characters(items: Items) -> None:
    assert len(urlencode(bookmarked(items))) <= 1500


def test_a_field_that_is_too_long_leaves_room_for_others() -> None:
    long = [(name, "x" * 500) for name in "abc"]
    assert bookmarked([*long, ("d", "y")]) == [*long[:2], ("d", "y")]


@pytest.mark.parametrize(
    "items",
    [
        [("a", "")] * 2_000,
        [("a", "")] * 300_000,
        [(f"a{number}", "x") for number in range(100_000)],
        [("a", "x" * 511)] * 10_000,
        [("a", "ж" * 511)] * 10_000,
        [("a" * 500_000, "")] * 20,
        [("a", "x" * 5_000_000)],
    ],
)
def test_the_time_for_a_bookmark_is_linear(items: Items) -> None:
    began = time.process_time()
    kept = bookmarked([], items, tuple({name for name, _ in items}))
    assert time.process_time() - began < 15  # a quadratic algorithm takes minutes
    assert len(urlencode(kept)) <= 1500


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "", None])
def test_another_body_than_a_form_is_refused(content_type: str | None) -> None:
    with pytest.raises(ProblemError) as caught:
        read("/report", method="POST", data=b"a=1", content_type=content_type)
    assert caught.value.status == 415


@pytest.mark.parametrize(
    ("name", "is_one"), [("month", True), ("", True), ("_longtaskid", False), ("_", False), ("csrf_token", False)]
)
def test_the_visitors_parameters_are_separated_from_ours(name: str, is_one: bool) -> None:
    assert is_parameter(name, "csrf_token") is is_one


def test_the_csrf_field_is_the_one_that_the_application_uses() -> None:
    app = Flask("tests")
    with app.app_context():
        assert csrf_field() == "csrf_token"
        app.config["WTF_CSRF_FIELD_NAME"] = "token"
        assert csrf_field() == "token"
