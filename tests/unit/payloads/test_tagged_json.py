"""The form of the tags, and the errors for values that JSON does not support."""

from __future__ import annotations

import copy
import io
import math
from collections import Counter, OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, localcontext
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from gaetk_longtask.exceptions import SerializationError
from gaetk_longtask.payloads.tagged_json import MAX_DEPTH, dumps, loads
from tests.unit.payloads.values import Alone, Colour, Moment, Number, Point, Row, Word, same

BERLIN = ZoneInfo("Europe/Berlin")
PLAIN = "Use plain data such as strings, numbers, lists and dicts, or set serializer = PickleSerializer()"


def refusal(value: Any) -> SerializationError:
    with pytest.raises(SerializationError) as caught:
        dumps(value, "result")
    return caught.value


# The stored form. It has to stay readable for as long as results are kept.


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "null"),
        ([True, 1, -2.5, "ä"], '[true,1,-2.5,"ä"]'),
        ({"b": 1, "a": {}}, '{"b":1,"a":{}}'),
        ({}, "{}"),
        ((1, 2), '{"$tuple":[1,2]}'),
        ({1}, '{"$set":[1]}'),
        (frozenset({1}), '{"$frozenset":[1]}'),
        (b"\x00\xff", '{"$bytes":"AP8="}'),
        (Decimal("1.10"), '{"$decimal":"1.10"}'),
        (Decimal("-Infinity"), '{"$decimal":"-Infinity"}'),
        (-math.inf, '{"$float":"-inf"}'),
        (date(2026, 2, 1), '{"$date":"2026-02-01"}'),
        (time(12, 0, 0, 1), '{"$time":["12:00:00.000001",0,null]}'),
        (timedelta(days=-1, microseconds=1), '{"$timedelta":[-1,0,1]}'),
        (datetime(2026, 2, 1), '{"$datetime":["2026-02-01T00:00:00",0,null]}'),  # noqa: DTZ001 - naive ones are kept naive
        (
            datetime(2026, 2, 1, tzinfo=UTC),
            '{"$datetime":["2026-02-01T00:00:00",0,{"$timezone":[{"$timedelta":[0,0,0]}]}]}',
        ),
        (
            datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN),
            '{"$datetime":["2026-10-25T02:30:00",1,{"$zone":"Europe/Berlin"}]}',
        ),
        (timezone(timedelta(hours=1), "CET"), '{"$timezone":[{"$timedelta":[0,3600,0]},"CET"]}'),
        ({1: "a", "1": "b"}, '{"$dict":[[1,"a"],["1","b"]]}'),
        ({"$set": [1]}, '{"$dict":[["$set",[1]]]}'),
        ({"$set": [1], "a": 2}, '{"$set":[1],"a":2}'),
    ],
)
def test_the_stored_form_does_not_change(value: Any, written: str) -> None:
    assert dumps(value, "result").decode() == written
    assert same(value, loads(written.encode(), "result"))


@pytest.mark.parametrize("kind", [set, frozenset])
def test_equal_sets_have_the_same_bytes(kind: type) -> None:
    one, other = kind([0, 8]), kind([8, 0])
    assert list(one) != list(other)  # as in two processes, whose hash seeds differ
    assert dumps(one, "state") == dumps(other, "state")


# Values that a careless encoder gets wrong


@pytest.mark.parametrize(
    "value",
    [
        {1: "int", "1": "str", 1.5: "float", None: "none", (1, "a"): "tuple"},
        {True: "bool"},
        {date(2026, 1, 1): [], frozenset({b"x"}): {}},
        {"$decimal": "1"},
        {"$dict": [[1, 2]]},
        {"$": {"$": 1}},
        [0.0, -0.0, 5e-324, 1.7976931348623157e308, 0.1],
        [Decimal("1.0"), Decimal("1.00"), Decimal("-0"), Decimal("1E+400"), Decimal("1e-9999")],
        [2**64, -(2**64), 10**4299],
        ["\0", "\u2028", "\U0001f600", "\ufeff", "</script>"],
        [datetime.min, datetime.max],  # noqa: DTZ901 - naive ones are kept naive
        [datetime.max.replace(tzinfo=BERLIN), datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))],
        [datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN), datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN)],
        [time(12, tzinfo=BERLIN), time(12, tzinfo=timezone(timedelta(seconds=-1, microseconds=5)))],
        [timedelta.min, timedelta.max, timedelta.resolution],
    ],
    ids=repr,
)
def test_a_difficult_value_comes_back_equal(value: Any) -> None:
    assert same(value, loads(dumps(value, "result"), "result"))


def test_the_authors_decimal_context_does_not_round() -> None:
    exact = Decimal("1.234567890123456789")
    with localcontext(prec=3):
        assert same(exact, loads(dumps(exact, "result"), "result"))


def test_a_date_in_a_zone_is_in_that_zone_when_it_comes_back() -> None:
    summer = loads(dumps(datetime(2026, 10, 24, 12, tzinfo=BERLIN), "result"), "result")
    assert (summer + timedelta(days=1)).utcoffset() == timedelta(hours=1)


def test_a_shared_value_comes_back_equal() -> None:
    row = [1]
    assert loads(dumps([row, row, {"a": row}], "result"), "result") == [[1], [1], {"a": [1]}]


# Depth and cycles


def nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = ()
    for _ in range(depth - 1):
        value = wrap(value)
    return value


WRAPS = pytest.mark.parametrize(
    "wrap",
    [
        lambda v: [v],
        lambda v: (v,),
        lambda v: {"a": v},
        lambda v: {1: v},
        lambda v: {v: 1} if type(v) is tuple else (v,),
    ],
    ids=["list", "tuple", "dict", "dict with other keys", "key"],
)


@WRAPS
def test_the_deepest_nesting_that_is_allowed_comes_back(wrap: Callable[[Any], Any]) -> None:
    value = nested(MAX_DEPTH, wrap) if wrap(()) != {(): 1} else nested(2, wrap)
    assert same(value, loads(dumps(value, "result"), "result"))


@given(st.integers(MAX_DEPTH + 1, 3000), st.sampled_from([lambda v: [v], lambda v: (v,), lambda v: {"a": v}]))
def test_deeper_nesting_is_refused(depth: int, wrap: Callable[[Any], Any]) -> None:
    assert f"it is nested more than {MAX_DEPTH} deep. Flatten it." in str(refusal(nested(depth, wrap)))


def test_a_value_that_contains_itself_is_refused() -> None:
    through_a_list: list[Any] = [1]
    through_a_list.append({"a": (through_a_list,)})
    through_a_dict: dict[str, Any] = {}
    through_a_dict["self"] = through_a_dict
    assert str(refusal(through_a_list)) == (
        "result[1]['a'][0], of class list, can't be stored: it contains itself. Remove the inner one."
    )
    assert refusal(through_a_dict).path == "result['self']"


# Error messages for the author


def rows() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("value", "type_name", "remedy"),
    [
        (Number.ONE, "tests.unit.payloads.values.Number", "Store its .value"),
        (Colour.RED, "tests.unit.payloads.values.Colour", "Store its .value"),
        (Word.YES, "tests.unit.payloads.values.Word", "Store its .value"),
        (Markup("<b>"), "markupsafe.Markup", "Convert it with str(…)"),
        (Point(1, 2), "tests.unit.payloads.values.Point", "Convert it with tuple(…)"),
        (OrderedDict(a=1), "collections.OrderedDict", "Convert it with dict(…)"),
        (defaultdict(int), "collections.defaultdict", "Convert it with dict(…)"),
        (Counter("a"), "collections.Counter", "Convert it with dict(…)"),
        (UserDict(a=1), "collections.UserDict", "Convert it with dict(…)"),
        (deque([1]), "collections.deque", "Convert it with list(…)"),
        (range(3), "range", "Convert it with list(…)"),
        ({"a": 1}.values(), "dict_values", "Convert it with list(…)"),
        ({"a": 1}.keys(), "dict_keys", "Convert it with list(…)"),
        (rows(), "generator", "Convert it with list(…)"),
        (bytearray(b"x"), "bytearray", "Convert it with bytes(…)"),
        (memoryview(b"x"), "memoryview", "Convert it with bytes(…)"),
        (Row(), "tests.unit.payloads.values.Row", "Convert it with dataclasses.asdict(…)"),
        (Moment(2026, 1, 1), "tests.unit.payloads.values.Moment", "Convert it to a plain datetime.datetime"),
        (Alone(), "tests.unit.payloads.values.Alone", "for instance with astimezone(datetime.UTC)"),
        (math.nan, "float", "Use None for unknown values"),
        (Decimal("NaN"), "decimal.Decimal", "Use None for unknown values"),
        ("\ud800", "str", "Convert it with os.fsencode(…)"),
        (10**4300, "int", "Convert it with hex(…)"),
        (ZoneInfo.no_cache("UTC"), "zoneinfo.ZoneInfo", "Create it with zoneinfo.ZoneInfo(…)"),
        (object(), "object", PLAIN),
        (1j, "complex", PLAIN),
    ],
    ids=lambda value: value if type(value) is str and value.isascii() else "",
)
def test_the_class_and_the_remedy_are_named(value: Any, type_name: str, remedy: str) -> None:
    exc = refusal({"rows": [value]})
    assert exc.type_name == type_name
    assert str(exc).startswith(f"result['rows'][0], of class {type_name}, can't be stored: ")
    assert str(exc).endswith(f"{remedy}.")


class Table:
    """A class like the tables and arrays of numeric libraries."""

    def __init__(self, method: str) -> None:
        self.method = method

    def __init_subclass__(cls, *, method: str) -> None:
        setattr(cls, method, lambda self: [])


@pytest.mark.parametrize("method", ["to_dict", "tolist"])
def test_the_message_suggests_a_classs_own_conversion(method: str) -> None:
    class Own(Table, method=method):
        pass

    assert str(refusal(Own(method))).endswith(f"Convert it with its {method}().")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), "result"),
        ([0, [object()]], "result[1][0]"),
        ((object(),), "result[0]"),
        ({"total": [1, 2, 3, object()]}, "result['total'][3]"),
        ({1: {(2, "a"): object()}}, "result[1][(2, 'a')]"),
        ({"a": 1, Number.ONE: 2}, "list(result)[1]"),
        ({"a": {(1, Number.ONE): 2}}, "list(result['a'])[0][1]"),
        ({Number.ONE}, "list(result)[0]"),
        ({"tags": frozenset({(object(),)})}, "list(result['tags'])[0][0]"),
        ({"at": datetime(2026, 1, 1, tzinfo=Alone())}, "result['at'].tzinfo"),
        ({"it's": object()}, """result["it's"]"""),
    ],
)
def test_the_path_leads_to_the_culprit(value: Any, path: str) -> None:
    exc = refusal(value)
    assert exc.path == path
    culprit = eval(path, {"result": value})
    assert exc.type_name.rpartition(".")[2] == type(culprit).__name__


def test_the_path_begins_with_the_field() -> None:
    with pytest.raises(SerializationError, match=r"^parameters\['a'\], of class object, "):
        dumps({"a": object()}, "parameters")


def test_a_long_path_is_shortened_only_in_the_message() -> None:
    value: Any = object()
    for _ in range(50):
        value = {"longish key": value}
    exc = refusal(value)
    assert exc.path == "result" + "['longish key']" * 50
    assert len(str(exc)) < 350
    assert "…" in str(exc)


def test_a_long_key_is_shortened() -> None:
    assert len(str(refusal({"x" * 10_000: object()}))) < 350


def test_a_zone_that_was_read_from_a_file_is_refused_whatever_its_name() -> None:
    # A minimal file: version 1, no transitions, one type.
    header = b"TZif\0" + bytes(15) + b"".join(count.to_bytes(4, "big") for count in (0, 0, 0, 0, 1, 4))
    content = header + bytes(6) + b"UTC\0"
    for key in (None, "", "Nowhere/Land", "/etc/passwd", "Europe/Berlin"):
        zone = ZoneInfo.from_file(io.BytesIO(content), key=key)
        assert "not the zone that its key names" in str(refusal(zone))


def test_a_copied_zone_is_the_zone() -> None:
    value = copy.deepcopy(datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN))
    assert same(value, loads(dumps(value, "result"), "result"))
