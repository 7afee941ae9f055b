"""The default display of results. Nothing in a result can run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID
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


def test_an_equal_set_is_always_shown_the_same() -> None:
    assert shown([{10, 9, 1}, {"b", "a"}, {2, "a", None, (1, 2)}]) == [[1, 9, 10], ["a", "b"], ["a", 2, [1, 2], None]]


class Colour(Enum):
    RED = 1


class Shade(StrEnum):
    DARK = "dark"


class Size(IntEnum):
    LARGE = 3


@dataclass(frozen=True)
class Point:
    x: int
    at: date


@pytest.mark.parametrize(
    ("key", "text"),
    [
        *((1, "1"), (1.5, "1.5"), (1e16, "1e+16"), (True, "true"), (False, "false"), (None, "null")),
        *((float("nan"), "NaN"), (float("inf"), "Infinity"), (10**30, "1" + 30 * "0")),
        *((Shade.DARK, "dark"), (Size.LARGE, "3"), (Colour.RED, "Colour.RED")),
        *((Decimal("1.10"), "1.10"), (UUID(int=1), "00000000-0000-0000-0000-000000000001"), (Path("a/b"), "a/b")),
        *((timedelta(minutes=1.5), "90.0"), (ZoneInfo("Europe/Berlin"), "Europe/Berlin")),
        *((b"\x00\xff", "AP8="), (memoryview(b"\x00\xff"), "AP8=")),
        *(((1, 2), "[1, 2]"), ((), "[]"), ((None, True, "ü"), '[null, true, "ü"]')),
        ((b"a", (date(2026, 1, 1), Decimal("1.0"))), '["YQ==", ["2026-01-01", "1.0"]]'),
        (frozenset({"b", "a", "c"}), '["a", "b", "c"]'),
        (Point(1, date(2026, 1, 1)), '{"x": 1, "at": "2026-01-01"}'),
    ],
)
def test_a_key_is_the_text_of_its_json(key: Any, text: str) -> None:
    assert shown({key: "value", "x": [{key: 1}]}) == {text: "value", "x": [{text: 1}]}


@pytest.mark.parametrize("key", [object(), (1, object()), range(3), int])
def test_a_key_without_a_text_is_refused_with_what_to_do(key: Any) -> None:
    with pytest.raises(SerializationError, match=r"^result\['a'\] has the key .* no text of its own\. Write display_"):
        jsonable({"a": {key: 1}})


@pytest.mark.parametrize(
    "value",
    [
        {1: "a", "1": "b"},
        {None: 1, "null": 2},
        {True: 1, "true": 2},
        [{"a": ({1.5: 1, "1.5": 2},)}],
        {date(2026, 1, 1): 1, "2026-01-01": 2},
        {b"a": 1, "YQ==": 2},
        {(1, 2): 1, "[1, 2]": 2},
        {(1, b"a"): 1, (1, "YQ=="): 2},
        {frozenset({1, 2}): 1, (1, 2): 2},
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
