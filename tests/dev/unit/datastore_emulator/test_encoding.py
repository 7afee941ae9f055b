"""The bytes of values and paths: their order, and that they can be read again."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaetk_longtask.dev.datastore_emulator.encoding import after, below, decode, decode_path, encode, encode_path
from gaetk_longtask.dev.datastore_emulator.messages import Key
from tests.dev.datastore_client import Point, key, value

#: Values of all types in Datastore's order.
IN_ORDER = [
    None,
    *(-(2**63), -1, 0, 1, 2**63 - 1),
    *(False, True),
    *("", "\0", "a", "a\0", "a\0b", "aa", "z", "é", "\uffff", "\U0001f600"),
    *(-math.inf, -1e300, -1.5, -0.0, 0.0, 5e-324, 1.5, math.inf, math.nan),
    *(Point(-1.0, 5.0), Point(1.0, -2.0), Point(1.0, 2.0)),
    *(key("Z", -5), key("Z", 1), key("Z", 1, "A", 1), key("Z", 2), key("Z", ""), key("Z", "a"), key("Za", 1)),
    key("A", 1, namespace="n"),
    key("A", 1, project="p"),
]

elements = st.tuples(st.text(min_size=1), st.integers(-(2**63), 2**63 - 1) | st.text())
paths = st.lists(elements, min_size=1, max_size=4)
plain_values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text()
    | st.floats(allow_nan=False)
    | st.builds(Point, st.floats(-90, 90), st.floats(-180, 180))
    | paths.map(lambda path: key(*(part for element in path for part in element)))
)


def path_of(elements: list[tuple[str, int | str]]) -> Any:
    return key(*(part for element in elements for part in element)).path


@pytest.mark.parametrize(("smaller", "larger"), list(pairwise(IN_ORDER)), ids=str)
def test_the_order_is_datastores(smaller: Any, larger: Any) -> None:
    assert encode(value(smaller)) < encode(value(larger))


@given(plain_values)
def test_a_value_is_read_again(plain: Any) -> None:
    message = value(plain)
    message.meaning = 18  # the mark of a value from an index
    assert decode(encode(message)) == message


def test_a_blob_that_is_no_text_is_read_again() -> None:
    assert decode(encode(value(b"\xff"))).blob_value == b"\xff"


@given(paths)
def test_a_path_is_read_again(elements: list[tuple[str, int | str]]) -> None:
    read = Key()
    decode_path(encode_path(path_of(elements)), read)
    assert list(read.path) == list(path_of(elements))


@given(paths, paths)
def test_paths_sort_by_their_elements(one: list[tuple[str, int | str]], other: list[tuple[str, int | str]]) -> None:
    def comparable(elements: list[tuple[str, int | str]]) -> list[Any]:
        return [
            (kind.encode(), isinstance(identity, str), identity.encode() if isinstance(identity, str) else identity)
            for kind, identity in elements
        ]

    smaller = encode_path(path_of(one)) < encode_path(path_of(other))
    assert smaller == (comparable(one) < comparable(other))


@given(paths, paths)
def test_a_range_of_descendants_has_them_and_no_others(
    ancestor: list[tuple[str, int | str]], other: list[tuple[str, int | str]]
) -> None:
    low = encode_path(path_of(ancestor))
    assert low <= encode_path(path_of([*ancestor, *other])) < below(low)
    is_below = other[: len(ancestor)] == ancestor
    assert (low <= encode_path(path_of(other)) < below(low)) == is_below


@given(st.binary(), st.binary())
def test_nothing_is_between_bytes_and_the_next_ones(one: bytes, other: bytes) -> None:
    assert not one < other < after(one)
