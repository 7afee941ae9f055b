"""Which values are stored raw, which are serialized, and which serializer may read them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from gaetk_longtask import JSONSerializer, PickleSerializer
from gaetk_longtask.exceptions import DamagedDataError, SerializationError
from gaetk_longtask.payloads.encoding import decode, encode, encode_pieces, yielded_layout
from gaetk_longtask.payloads.serializers import Serializer, Signer
from tests.unit.payloads.values import SUPPORTED, Raw, Row, Word, same

SIGNER = Signer(["secret"], task_id="task", field="parameters")
JSON = JSONSerializer()
PICKLE = PickleSerializer()


class Sorted:
    """A serializer by the author. It does not support bytes, and does not keep the order."""

    name = "sorted"

    def dumps(self, value: Any, signer: Signer) -> bytes:
        return json.dumps(value, sort_keys=True).encode()

    def loads(self, data: bytes, signer: Signer) -> Any:
        return json.loads(data)


SERIALIZERS = pytest.mark.parametrize("serializer", [JSON, PICKLE, Sorted()], ids=lambda one: one.name)


def stored(value: Any, serializer: Serializer = JSON) -> tuple[dict[str, Any], BytesIO]:
    """Return a value as it is stored in Datastore: the layout as JSON, and the joined bytes."""
    encoded = encode(value, serializer, SIGNER)
    data = b"".join(encoded.parts)
    assert len(data) == encoded.size
    return json.loads(json.dumps(encoded.layout)), BytesIO(data)


def there_and_back(value: Any, serializer: Serializer = JSON) -> Any:
    return decode(*stored(value, serializer), serializer, SIGNER)


# Text and bytes


@SERIALIZERS
@given(text=st.text())
def test_text_is_stored_as_utf_8(serializer: Serializer, text: str) -> None:
    layout, data = stored(text, serializer)
    assert layout == {"kind": "text"}
    assert data.read() == text.encode("utf-8")
    assert same(text, there_and_back(text, serializer))


@SERIALIZERS
def test_bytes_are_stored_as_they_are_and_not_copied(serializer: Serializer) -> None:
    data = b"\x00\xff"
    encoded = encode(data, serializer, SIGNER)
    assert encoded.layout == {"kind": "bytes"}
    assert next(iter(encoded.parts)) is data
    assert same(data, there_and_back(data, serializer))


@pytest.mark.parametrize(("value", "plain"), [(Markup("<b>ä</b>"), "<b>ä</b>"), (Word.YES, "yes"), (Raw(b"x"), b"x")])
def test_a_subclass_of_text_or_bytes_comes_back_as_what_it_is_equal_to(value: Any, plain: str | bytes) -> None:
    assert value == plain
    assert same(plain, there_and_back(value))


@pytest.mark.parametrize("length", [249_999, 250_000, 250_001, 600_000])
def test_a_long_text_comes_back_from_its_slices(length: int) -> None:
    assert there_and_back("ä" * length) == "ä" * length


def test_a_surrogate_far_behind_is_refused_before_anything_is_stored() -> None:
    with pytest.raises(SerializationError, match="the character at index 300000 is a surrogate"):
        encode("x" * 300_000 + "\ud800", JSON, SIGNER)


@pytest.mark.parametrize("text", ["\ud800", "abc\udcff", "\ud83d\ude00", Markup("\ud800")])
def test_text_with_surrogates_is_refused(text: str) -> None:
    with pytest.raises(SerializationError, match=r"^parameters, of class .*surrogate.* os.fsencode") as caught:
        encode(text, JSON, SIGNER)
    assert caught.value.path == "parameters"


def test_text_that_is_no_utf_8_any_more_is_damaged() -> None:
    with pytest.raises(DamagedDataError, match="not UTF-8"):
        decode({"kind": "text"}, BytesIO(b"\xff"), JSON, SIGNER)


# Objects and uploads

UPLOADS = st.one_of(st.binary(), st.lists(st.binary(), min_size=1, max_size=3))


@given(SUPPORTED)
def test_any_object_comes_back(value: Any) -> None:
    assert same(value, there_and_back(value))


@given(st.dictionaries(st.text(), st.one_of(UPLOADS, SUPPORTED), max_size=5))
def test_parameters_with_uploads_come_back_in_order(parameters: dict[str, Any]) -> None:
    assert same(parameters, there_and_back(parameters))


@SERIALIZERS
@given(parameters=st.dictionaries(st.text(), st.one_of(UPLOADS, st.text(), st.lists(st.text()))))
def test_uploads_come_back_whatever_serializes_the_rest(serializer: Serializer, parameters: dict[str, Any]) -> None:
    assert there_and_back(parameters, serializer) == parameters


@given(st.dictionaries(st.one_of(st.text(), st.integers(), st.binary()), st.one_of(UPLOADS, st.integers())))
def test_a_mapping_with_other_keys_comes_back(value: dict[Any, Any]) -> None:
    assert same(value, there_and_back(value))


@SERIALIZERS
def test_uploads_are_not_copied(serializer: Serializer) -> None:
    one, two, three = b"one", b"two", b"three"
    encoded = encode({"file": one, "month": "2026-01", "more": [two, three]}, serializer, SIGNER)
    *_, first, second, third = encoded.parts
    assert first is one
    assert second is two
    assert third is three


def test_uploads_pass_by_the_serializer() -> None:
    layout, data = stored({"file": b"content", "month": "2026-01"})
    assert data.read() == b'{"file":7}' + b'{"file":null,"month":"2026-01"}' + b"content"
    assert layout == {"kind": "mapping", "serializer": "json", "table": 10, "rest": 31}


def test_ten_thousand_uploads_do_not_swell_the_layout() -> None:
    value = {str(number): b"x" for number in range(10_000)}
    assert len(json.dumps(encode(value, JSON, SIGNER).layout)) < 100
    assert there_and_back(value) == value


@pytest.mark.parametrize(
    "value",
    [{}, {"a": []}, {"a": [b"x", "y"]}, {"a": (b"x",)}, {"a": {"b": b"x"}}, {1: b"x"}, [b"x"]],
    ids=repr,
)
def test_everything_else_is_one_object(value: Any) -> None:
    assert encode(value, JSON, SIGNER).layout == {"kind": "object", "serializer": "json"}
    assert same(value, there_and_back(value))


@pytest.mark.parametrize("value", [{"\ud800": b"x"}, {"a": b"x", "b": object()}, {"a": b"x", "b": [Raw(b"x")]}])
def test_an_upload_saves_nothing_from_being_refused(value: Any) -> None:
    with pytest.raises(SerializationError, match=r"^(list\()?parameters"):
        encode(value, JSON, SIGNER)


def test_surrogates_in_a_name_stay_apart_in_a_pickle() -> None:
    value = {"\ud83d\ude00": b"one", "\U0001f600": b"other"}
    assert there_and_back(value, PICKLE) == value


# Damage

LAYOUT, READER = stored({"file": b"content", "more": [b"a", b"b"], "month": "2026-01"})
DATA = READER.getvalue()


@given(st.integers(0, len(DATA) - 1))
def test_a_mapping_that_was_cut_off_is_damaged(length: int) -> None:
    with pytest.raises(DamagedDataError):
        decode(LAYOUT, BytesIO(DATA[:length]), JSON, SIGNER)


def test_a_mapping_with_something_behind_it_is_damaged() -> None:
    with pytest.raises(DamagedDataError):
        decode(LAYOUT, BytesIO(DATA + b"x"), JSON, SIGNER)


@pytest.mark.parametrize(
    ("table", "rest"),
    [
        (b"", b"{}"),
        (b"[]", b"{}"),
        (b"[" * 100_000, b"{}"),
        (b'{"other":1}', b'{"file":null}'),
        (b'{"file":2}', b'{"file":null}'),
        (b'{"file":0}', b'{"file":null}'),
        (b'{"file":-1}', b'{"file":null}'),
        (b'{"file":true}', b'{"file":null}'),
        (b'{"file":1.0}', b'{"file":null}'),
        (b'{"file":"1"}', b'{"file":null}'),
        (b'{"file":{"a":1}}', b'{"file":null}'),
        (b'{"file":[[1]]}', b'{"file":null}'),
        (b'{"file":1}', b"[1]"),
        (b'{"file":1}', b'"file"'),
        (b'{"file":1}', b"nonsense"),
    ],
)
def test_a_table_that_does_not_fit_is_damaged(table: bytes, rest: bytes) -> None:
    layout = {"kind": "mapping", "serializer": "json", "table": len(table), "rest": len(rest)}
    with pytest.raises(DamagedDataError):
        decode(layout, BytesIO(table + rest + b"x"), JSON, SIGNER)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "kind": st.sampled_from(["text", "bytes", "object", "mapping", "other", 1, None]),
            "serializer": st.sampled_from(["json", "pickle", "other", None]),
            "table": st.one_of(st.integers(-9, 99), st.none(), st.booleans()),
            "rest": st.one_of(st.integers(-9, 99), st.none(), st.text(max_size=1)),
        },
    ),
    st.one_of(st.binary(), st.just(DATA)),
)
def test_any_layout_and_any_bytes_are_a_value_or_damage(layout: dict[str, Any], data: bytes) -> None:
    for serializer in (JSON, PICKLE):
        try:
            decode(layout, BytesIO(data), serializer, SIGNER)
        except DamagedDataError:
            continue


# Which serializer reads


class Exploding:
    """Executes something when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("It was unpickled.",)


@pytest.mark.parametrize("own", [JSON, Sorted()], ids=lambda one: one.name)
@pytest.mark.parametrize("value", [Exploding(), {"file": b"x", "bomb": Exploding()}], ids=["object", "mapping"])
def test_a_pickle_is_not_read_for_a_handler_that_does_not_pickle(own: Serializer, value: Any) -> None:
    layout, data = stored(value, PICKLE)
    with pytest.raises(DamagedDataError, match=r"'pickle'.* start the task again"):
        decode(layout, data, own, SIGNER)


def test_a_handler_that_pickles_reads_no_pickle_that_it_has_not_signed() -> None:
    with pytest.raises(DamagedDataError, match="signature"):
        decode({"kind": "object", "serializer": "pickle"}, BytesIO(pickle.dumps(Exploding())), PICKLE, SIGNER)


@pytest.mark.parametrize("own", [PICKLE, Sorted()], ids=lambda one: one.name)
def test_what_was_stored_as_json_is_read_by_every_handler(own: Serializer) -> None:
    layout, data = stored({"a": {1, 2}, "file": b"x"}, JSON)
    assert decode(layout, data, own, SIGNER) == {"a": {1, 2}, "file": b"x"}


class Renamed(PickleSerializer):
    """A variant of pickle with its own name."""

    name = "renamed"


def test_a_handler_with_a_pickle_of_its_own_reads_ordinary_ones_too() -> None:
    layout, data = stored([Row()], PICKLE)
    assert decode(layout, data, Renamed(), SIGNER) == [Row()]


def test_the_handlers_own_serializer_comes_first() -> None:
    class Own(Sorted):
        name = "json"

    data = BytesIO(b'{"$set": [1]}')
    assert decode({"kind": "object", "serializer": "json"}, data, Own(), SIGNER) == {"$set": [1]}


def test_a_serializer_that_is_gone_is_named_with_the_remedy() -> None:
    layout, data = stored([1], Sorted())
    with pytest.raises(DamagedDataError, match=r"'sorted', but the handler's is 'json'\. Give the handler"):
        decode(layout, data, JSON, SIGNER)


# Yielded results


def yielded(*pieces: Any) -> tuple[dict[str, Any], BytesIO]:
    layout = yielded_layout()
    data = BytesIO(b"".join(encode_pieces(iter(pieces), layout, SIGNER)))
    return layout, data


@given(st.one_of(st.lists(st.text()), st.lists(st.binary())))
def test_yielded_pieces_come_back_as_one(pieces: list[Any]) -> None:
    whole: Any = pieces[0][:0].join(pieces) if pieces else ""
    assert same(whole, decode(*yielded(*pieces), JSON, SIGNER))


def test_pieces_are_taken_one_at_a_time() -> None:
    taken = []

    def pieces() -> Iterator[str]:
        for piece in "abc":
            taken.append(piece)
            yield piece

    parts = encode_pieces(pieces(), yielded_layout(), SIGNER)
    assert taken == []
    assert next(parts) == b"a"
    assert taken == ["a"]


@pytest.mark.parametrize("pieces", [("a", b"b"), (b"a", "b"), (1,), ("a", None), (bytearray(b"a"),)], ids=repr)
def test_pieces_of_another_kind_are_refused(pieces: tuple[Any, ...]) -> None:
    with pytest.raises(SerializationError, match="yield only str, or only bytes"):
        yielded(*pieces)


def test_a_later_attempt_must_keep_the_type_of_the_first_piece() -> None:
    layout = yielded_layout()
    assert list(encode_pieces(iter(["a"]), layout, SIGNER)) == [b"a"]
    assert list(encode_pieces(iter(["b"]), layout, SIGNER)) == [b"b"]
    with pytest.raises(SerializationError, match=r"piece 2, is of class bytes: yield only str"):
        list(encode_pieces(iter([b"c"]), layout, SIGNER))


def test_a_piece_with_surrogates_is_refused() -> None:
    with pytest.raises(SerializationError, match="surrogate"):
        yielded("a", "\ud800")
