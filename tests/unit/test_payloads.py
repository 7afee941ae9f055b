"""What is stored raw, what goes through a serializer, and how it is put together again."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from gaetk_longtask.exceptions import DamagedDataError, SerializationError
from gaetk_longtask.payloads import decode, encode, encode_pieces
from gaetk_longtask.serializers import JSONSerializer, PickleSerializer, Serializer, Signer
from tests.unit.values import SUPPORTED

SIGNER = Signer(["secret"], task_id="t", field="result")
JSON, PICKLE = JSONSerializer(), PickleSerializer()


def through(value: Any, serializer: Serializer = JSON) -> Any:
    encoded = encode(value, serializer, SIGNER)
    data = b"".join(encoded.parts)
    assert len(data) == encoded.size
    return decode(encoded.layout, BytesIO(data), serializer, SIGNER)


UPLOADS = st.binary() | st.lists(st.binary(), min_size=1, max_size=3)


@given(SUPPORTED)
def test_every_value_comes_back_equal(value: Any) -> None:
    assert through(value) == value


@given(st.dictionaries(st.text(), SUPPORTED | UPLOADS, max_size=5))
def test_uploads_come_back_in_their_places(value: dict[str, Any]) -> None:
    found = through(value)
    assert found == value
    assert list(found) == list(value)


@pytest.mark.parametrize("serializer", [JSON, PICKLE], ids=["json", "pickle"])
def test_an_upload_is_stored_as_the_very_bytes_that_came(serializer: Serializer) -> None:
    upload = bytes(1000)
    encoded = encode({"file": upload, "name": "x"}, serializer, SIGNER)
    assert any(part is upload for part in encoded.parts)


@pytest.mark.parametrize("length", [0, 1, 249_999, 250_000, 250_001, 600_000])
def test_a_text_of_any_length_comes_back(length: int) -> None:
    text = "ä" * length
    assert through(text) == text


def test_markup_is_stored_as_its_text() -> None:
    assert type(through(Markup("<b>"))) is str


def test_a_surrogate_is_refused_before_anything_is_stored() -> None:
    with pytest.raises(SerializationError, match="the character at index 300000 is a surrogate"):
        encode("x" * 300_000 + "\ud800", JSON, SIGNER)


@pytest.mark.parametrize(
    ("layout", "data"),
    [
        ({"kind": "text"}, b"\xff"),
        ({"kind": "unheard of"}, b""),
        ({}, b""),
        ({"kind": "mapping", "serializer": "json", "table": 5, "rest": 2}, b"{}"),
        ({"kind": "mapping", "serializer": "json", "table": 2, "rest": 2}, b"[]{}"),
        ({"kind": "mapping", "serializer": "json", "table": 2, "rest": 2}, b"xx{}"),
        ({"kind": "mapping", "serializer": "json", "table": 7, "rest": 2}, b'{"a":1}{}'),
        ({"kind": "mapping", "serializer": "json", "table": 8, "rest": 10}, b'{"a":-1}{"a":null}'),
        ({"kind": "mapping", "serializer": "json", "table": 7, "rest": 10}, b'{"a":2}{"a":null}x'),
        ({"kind": "mapping", "serializer": "json", "table": 7, "rest": 10}, b'{"a":1}{"a":null}xx'),
    ],
)
def test_what_encode_has_not_made_is_damage(layout: dict[str, Any], data: bytes) -> None:
    with pytest.raises(DamagedDataError):
        decode(layout, BytesIO(data), JSON, SIGNER)


def test_a_handler_that_moves_to_json_does_not_read_pickles_any_more() -> None:
    encoded = encode([1], PICKLE, SIGNER)
    with pytest.raises(DamagedDataError, match="'pickle'"):
        decode(encoded.layout, BytesIO(b"".join(encoded.parts)), JSON, SIGNER)


def test_a_handler_that_moves_to_pickles_still_reads_json() -> None:
    encoded = encode([1], JSON, SIGNER)
    assert decode(encoded.layout, BytesIO(b"".join(encoded.parts)), PICKLE, SIGNER) == [1]


@given(st.lists(st.text()) | st.lists(st.binary()))
def test_pieces_become_the_whole(pieces: list[Any]) -> None:
    layout, parts = encode_pieces(iter(pieces), SIGNER)
    data = b"".join(parts)
    whole = pieces[0][:0].join(pieces) if pieces else ""
    assert decode(layout, BytesIO(data), JSON, SIGNER) == whole


@pytest.mark.parametrize("pieces", [["a", b"b"], [b"a", "b"], [1], [b"a", None]])
def test_pieces_of_two_kinds_are_refused(pieces: list[Any]) -> None:
    _, parts = encode_pieces(iter(pieces), SIGNER)
    with pytest.raises(SerializationError, match="yield only str, or only bytes"):
        list(parts)
