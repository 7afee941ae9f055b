"""The default display of results. Nothing in a result can run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask, Response, jsonify

from gaetk_longtask import SerializationError
from gaetk_longtask.web.results import jsonable, response_with


def shown_text(text: str) -> Response:
    return Response(f"our page with {text!r}")


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "\n\t <!doctype html>", "\ufeff<p>", "\xa0<b>x</b>", "<"]
)
def test_text_that_begins_with_markup_is_a_document_in_which_nothing_can_run(text: str) -> None:
    response = response_with(text, text_page=shown_text)
    assert response.mimetype == "text/html"
    assert response.headers["Content-Security-Policy"] == "sandbox"
    assert response.get_data(as_text=True) == text


@pytest.mark.parametrize("text", ["", "  ", "a < b", "1 <b>2</b>", "&lt;b>", "line\n  line", "\ufeff"])
def test_other_text_is_shown_in_a_page(text: str) -> None:
    assert response_with(text, text_page=shown_text).get_data(as_text=True) == f"our page with {text!r}"


def test_bytes_are_a_download() -> None:
    response = response_with(b"\x00\xff", text_page=shown_text)
    assert response.mimetype == "application/octet-stream"
    assert response.headers["Content-Disposition"] == "attachment"


# Results as JSON.


def shown(value: Any) -> Any:
    """Return the JSON that a program reads, parsed strictly."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    with Flask("tests").test_request_context():
        return json.loads(jsonify(jsonable(value)).get_data(), parse_constant=refuse)


def test_sets_and_tuples_become_lists() -> None:
    assert shown({"a": {1}, "b": (1, (2,)), "c": frozenset({"x"})}) == {"a": [1], "b": [1, [2]], "c": ["x"]}


def test_keys_become_strings() -> None:
    assert shown({1: "a", (1, 2): "b", "x": "c"}) == {"1": "a", "(1, 2)": "b", "x": "c"}


@pytest.mark.parametrize(
    "value",
    [
        {1: "a", "1": "b"},
        {None: 1, "None": 2},
        {True: 1, "True": 2},
        [{"a": ({1.5: 1, "1.5": 2},)}],
        {date(2026, 1, 1): 1, "2026-01-01": 2},
        {b"a": 1, "YQ==": 2},
        {(1, 2): 1, "(1, 2)": 2},
    ],
)
def test_keys_that_would_become_the_same_are_refused(value: Any) -> None:
    with pytest.raises(SerializationError, match=r"^result.* has the keys .* and .*, which are the same in JSON"):
        jsonable(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime.fromisoformat("2026-01-01T12:30:00"), "2026-01-01T12:30:00"),
        (datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=UTC), "2026-01-01T12:30:15.123456+00:00"),
        (datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")), "2026-07-01T12:00:00+02:00"),
        (date(2026, 1, 1), "2026-01-01"),
        (time(12, 30), "12:30:00"),
    ],
)
def test_dates_and_times_are_iso_8601_as_values_and_as_keys_and_in_objects(value: Any, text: str) -> None:
    @dataclass
    class Row:
        at: Any

    assert shown({value: [value], "row": Row(value)}) == {text: [text], "row": {"at": text}}


def test_bytes_become_base64_at_any_depth() -> None:
    assert shown([{"a": b"\x00\xff"}]) == [{"a": "AP8="}]


def test_json_types_are_not_changed() -> None:
    value = {"a": [1, 2.5, "x", None, True], "b": {}}
    assert shown(value) == value


@pytest.mark.parametrize(
    "value",
    [
        {1: "a", "b": 2},
        {None: 1, True: 2, 1.5: 3, "x": 4},
        Decimal("1.10"),
        date(2026, 1, 1),
        datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=UTC),
        time(12, 30),
        timedelta(minutes=5),
        float("inf"),
    ],
    ids=["mixed keys", "odd keys", "Decimal", "date", "datetime", "time", "timedelta", "infinity"],
)
def test_every_result_that_the_json_serializer_keeps_can_be_shown(value: object) -> None:
    shown({"result": value})
