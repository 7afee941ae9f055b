"""The serializers: equal values after reading, refused values, and untrusted pickles."""

from __future__ import annotations

import contextlib
import json
import pickle
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NoReturn

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gaetk_longtask import JSONSerializer, PickleSerializer
from gaetk_longtask.exceptions import (
    ConfigurationError,
    DamagedDataError,
    PermanentTaskFailure,
    SerializationError,
)
from gaetk_longtask.payloads.serializers import Serializer, Signer
from tests.unit.payloads.values import FOREIGN, SUPPORTED, WIDE, Row, same

SIGNER = Signer(["secret"], task_id="task", field="result")
JSON = JSONSerializer()
PICKLE = PickleSerializer()


def signer(*keys: str | bytes, task_id: str = "task", field: str = "result") -> Signer:
    return Signer(keys, task_id=task_id, field=field)


def there_and_back(value: Any, serializer: Serializer = JSON) -> Any:
    return serializer.loads(serializer.dumps(value, SIGNER), SIGNER)


# JSON


@given(SUPPORTED)
def test_json_returns_equal_values(value: Any) -> None:
    assert same(value, there_and_back(value))


@given(WIDE)
def test_json_refuses_values_that_it_would_change(value: Any) -> None:
    try:
        data = JSON.dumps(value, SIGNER)
    except SerializationError:
        return
    assert same(value, JSON.loads(data, SIGNER))


@given(FOREIGN, st.lists(st.sampled_from(["list", "tuple", "dict"]), max_size=5))
def test_json_refuses_unsupported_values_at_any_place(foreign: Any, around: list[str]) -> None:
    value = foreign
    for container in around:
        value = {"list": [value], "tuple": (0, value), "dict": {"a": 0, "b": value}}[container]
    with pytest.raises(SerializationError):
        JSON.dumps(value, SIGNER)


@given(SUPPORTED)
def test_json_is_plain_json_in_utf_8(value: Any) -> None:
    def refuse(constant: str) -> NoReturn:
        pytest.fail(f"{constant} is no JSON")

    json.loads(JSON.dumps(value, SIGNER).decode("utf-8"), parse_constant=refuse)


@given(st.binary())
def test_arbitrary_bytes_are_damage_or_a_value(data: bytes) -> None:
    try:
        JSON.loads(data, SIGNER)
    except DamagedDataError:
        return


TAGS = st.sampled_from(
    [f"${tag}" for tag in ("dict", "tuple", "set", "frozenset", "bytes", "float", "decimal", "", "unknown")]
    + [f"${tag}" for tag in ("date", "time", "datetime", "timedelta", "timezone", "zone", "uuid")]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=4),
    st.sampled_from(["inf", "nan", "NaN", "sNaN", "1e99999999999999999999", "2026-01-01", "12:00", "0001-01-01T00:00"]),
    st.sampled_from(["Europe/Berlin", "Europe", "../../etc/passwd", "/etc/passwd", "zone.tab", "", "\0", "a" * 300]),
)
#: Any JSON, with a high share of tags.
ARBITRARY_JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.builds(lambda tag, content: {tag: content}, TAGS, inner),
        st.builds(lambda tag, contents: {tag: contents}, TAGS, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=12,
)


@given(ARBITRARY_JSON)
def test_arbitrary_json_is_damage_or_a_value_that_can_be_stored_again(packed: Any) -> None:
    try:
        value = JSON.loads(json.dumps(packed).encode(), SIGNER)
    except DamagedDataError:
        return
    try:
        again = JSON.dumps(value, SIGNER)
    except SerializationError as exc:
        # JSON can contain surrogates, and numbers that are too large for a float.
        assume("surrogates" not in str(exc))
        raise
    assert same(value, JSON.loads(again, SIGNER))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\xef\xbb\xbf1",
        b"NaN",
        b"-Infinity",
        b"1 2",
        b'{"a": 1',
        '"ä"'.encode("latin-1"),
        "1".encode("utf-16"),
        b"1" * 5000,
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"$tuple":' * 50_000 + b"[]" + b"}" * 50_000,
        b'{"$float": "nan"}',
        b'{"$decimal": "sNaN"}',
        b'{"$decimal": "1e99999999999999999999"}',
        b'{"$bytes": "not base64"}',
        b'{"$dict": [[[], 1]]}',
        b'{"$dict": "ab"}',
        b'{"$set": [{}]}',
        b'{"$date": "2026-02-30"}',
        b'{"$datetime": ["2026-01-01T00:00:00", 2, null]}',
        b'{"$datetime": ["2026-01-01T00:00:00", 0, "UTC"]}',
        b'{"$timedelta": [1e300, 0, 0]}',
        b'{"$timezone": [{"$timedelta": [2, 0, 0]}]}',
        b'{"$zone": "Europe"}',
        b'{"$zone": "Nowhere/Land"}',
        b'{"$zone": "../../../../etc/passwd"}',
        b'{"$unknown": 1}',
    ],
)
def test_damaged_json_is_said_to_be_damaged(data: bytes) -> None:
    with pytest.raises(DamagedDataError, match="stored result"):
        JSON.loads(data, SIGNER)


def test_json_reads_any_buffer() -> None:
    data = JSON.dumps({"a": (1, 2)}, SIGNER)
    assert JSON.loads(memoryview(bytearray(data)), SIGNER) == {"a": (1, 2)}  # type: ignore[arg-type]  # wider than said


def test_json_needs_no_secret_key() -> None:
    assert JSON.loads(JSON.dumps([1], signer()), signer()) == [1]


def stand_deep(levels: int, call: Callable[[], Any]) -> Any:
    return stand_deep(levels - 1, call) if levels else call()


def stack_depth() -> int:
    frame, depth = sys._getframe(), 0
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


@pytest.mark.parametrize("room", range(80, 400, 20))
@pytest.mark.parametrize("serializer", [JSON, PICKLE])
def test_no_recursion_error_is_raised_even_if_the_stack_is_deep_already(serializer: Serializer, room: int) -> None:
    value: Any = []
    for _ in range(90):
        value = {"$dict": (value,)}
    levels = sys.getrecursionlimit() - stack_depth() - room
    data = None
    with contextlib.suppress(SerializationError):
        data = stand_deep(levels, lambda: serializer.dumps(value, SIGNER))
    with contextlib.suppress(DamagedDataError):
        assert stand_deep(levels, lambda: serializer.loads(data or b"[" * 90 + b"]" * 90, SIGNER))


# Pickle


def test_pickle_gives_back_objects_of_the_authors_own() -> None:
    value = {"rows": [Row(number=1)], "at": datetime(2026, 1, 1, tzinfo=UTC)}
    assert there_and_back(value, PICKLE) == value


@pytest.mark.parametrize("value", [lambda: 1, (number for number in range(3)), sys, memoryview(b"")])
def test_pickle_refuses_what_cannot_be_pickled(value: Any) -> None:
    with pytest.raises(SerializationError, match=r"result, of class .* can't be pickled") as caught:
        PICKLE.dumps(value, SIGNER)
    assert caught.value.path == "result"


class Moody:
    """Raises unusual exceptions when it is pickled or unpickled."""

    def __init__(self, *, at_pickling: bool) -> None:
        self.at_pickling = at_pickling

    def __getstate__(self) -> dict[str, Any]:
        if self.at_pickling:
            raise ZeroDivisionError("while pickling")
        return {"at_pickling": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise ZeroDivisionError("while unpickling")


def test_an_object_that_raises_while_it_is_pickled_is_refused() -> None:
    with pytest.raises(SerializationError, match="while pickling"):
        PICKLE.dumps(Moody(at_pickling=True), SIGNER)


def test_an_object_that_raises_while_it_is_unpickled_is_damage() -> None:
    data = PICKLE.dumps(Moody(at_pickling=False), SIGNER)
    with pytest.raises(DamagedDataError, match="while unpickling"):
        PICKLE.loads(data, SIGNER)


def test_pickle_refuses_what_is_nested_too_deeply() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(SerializationError):
        PICKLE.dumps(value, SIGNER)


def test_a_class_that_is_gone_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    data = PICKLE.dumps(Row(), SIGNER)
    monkeypatch.delattr("tests.unit.payloads.values.Row")
    with pytest.raises(DamagedDataError, match=r"needs a class .*Row.* start the task again"):
        PICKLE.loads(data, SIGNER)


def test_a_module_that_is_gone_is_named_with_the_remedy() -> None:
    data = SIGNER.sign(b"cgone_module\nRow\n.")
    with pytest.raises(DamagedDataError, match=r"gone_module.* Restore the class under its old name"):
        PICKLE.loads(data, SIGNER)


class Exploding:
    """Executes something when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("It was unpickled.",)


@pytest.mark.parametrize(
    "other",
    [
        signer("secret", task_id="other task"),
        signer("secret", field="parameters"),
        signer("other secret"),
        signer("secret", task_id='task", "result'),
    ],
    ids=["task", "field", "key", "quoted"],
)
def test_what_was_signed_for_something_else_is_not_unpickled(other: Signer) -> None:
    data = PICKLE.dumps(Exploding(), other)
    with pytest.raises(DamagedDataError, match="signature"):
        PICKLE.loads(data, SIGNER)


def test_an_unsigned_pickle_is_not_unpickled() -> None:
    with pytest.raises(DamagedDataError, match="signature"):
        PICKLE.loads(pickle.dumps(Exploding()), SIGNER)


@given(st.data())
def test_a_pickle_that_was_altered_is_not_unpickled(data: st.DataObject) -> None:
    signed = PICKLE.dumps(Exploding(), SIGNER)
    # base64 ignores some bits of the signature's last character.
    index = data.draw(st.integers(0, len(signed) - 2))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != signed[index]))
    with pytest.raises(DamagedDataError):
        PICKLE.loads(signed[:index] + bytes([byte]) + signed[index + 1 :], SIGNER)


@given(st.binary())
def test_arbitrary_bytes_are_no_pickle(data: bytes) -> None:
    with pytest.raises(DamagedDataError):
        PICKLE.loads(data, SIGNER)


# Keys


@pytest.mark.parametrize("keys", [("new", "old"), (b"new", b"old"), ("new", "", "old")])
def test_the_keys_that_came_before_still_verify(keys: tuple[str | bytes, ...]) -> None:
    data = PICKLE.dumps({1, 2}, signer("old"))
    assert PICKLE.loads(data, signer(*keys)) == {1, 2}


def test_the_first_key_signs() -> None:
    data = PICKLE.dumps({1, 2}, signer("new", "old"))
    assert PICKLE.loads(data, signer("new")) == {1, 2}
    with pytest.raises(DamagedDataError):
        PICKLE.loads(data, signer("old"))


@pytest.mark.parametrize("keys", [(), ("",), (b"",)])
@pytest.mark.parametrize("use", [lambda some: PICKLE.dumps(1, some), lambda some: PICKLE.loads(b"1.1", some)])
def test_a_pickle_without_a_secret_key_is_refused(keys: tuple[str | bytes, ...], use: Callable[[Signer], Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"SECRET_KEY") as caught:
        use(signer(*keys))
    assert caught.value.key == "SECRET_KEY"


# Both


@pytest.mark.parametrize("serializer", [JSON, PICKLE])
@given(value=st.recursive(st.one_of(st.integers(), st.text()), st.lists, max_leaves=5))
def test_plain_data_comes_back(serializer: Serializer, value: Any) -> None:
    assert there_and_back(value, serializer) == value


def test_what_cannot_be_stored_fails_the_task_for_good() -> None:
    with pytest.raises(PermanentTaskFailure):
        JSON.dumps(object(), SIGNER)
