"""The default display of results. Nothing in a result can run."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask, jsonify

from gaetk_longtask.web.results import jsonable, response_with


def test_text_is_html_in_which_nothing_can_run() -> None:
    response = response_with("<script>alert(1)</script>")
    assert response.mimetype == "text/html"
    assert response.headers["Content-Security-Policy"] == "sandbox"


def test_bytes_are_a_download() -> None:
    response = response_with(b"\x00\xff")
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
