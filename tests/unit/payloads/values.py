"""Hypothesis strategies for values that JSON supports, and values that it must refuse."""

from __future__ import annotations

import fractions
import math
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from markupsafe import Markup

ZONES = st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "UTC", "Africa/Casablanca"]).map(
    ZoneInfo
)
OFFSETS = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59))
FIXED = st.one_of(st.just(UTC), OFFSETS.map(timezone), st.builds(timezone, OFFSETS, st.sampled_from(["", "CET", "Ü"])))
TZINFOS = st.one_of(st.none(), FIXED, ZONES)

#: Strategies for values that JSON returns unchanged. Text has no surrogates by default.
ATOMS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 4000).map(lambda digits: 10**digits),
    st.floats(allow_nan=False),
    st.text(),
    st.sampled_from(["$", "$dict", "$tuple", "\0", "\U0001f600", "</script>"]),
    st.binary(),
    st.decimals(allow_nan=False),
    st.dates(),
    st.times(),
    st.builds(time.replace, st.times(), tzinfo=TZINFOS, fold=st.integers(0, 1)),
    st.builds(datetime.replace, st.datetimes(), tzinfo=TZINFOS, fold=st.integers(0, 1)),
    st.timedeltas(),
    st.uuids(),
    FIXED,
    ZONES,
)

KEYS: st.SearchStrategy[Hashable] = st.recursive(
    ATOMS, lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=3)), max_leaves=4
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(), inner, max_size=4),
        st.dictionaries(st.sampled_from(["$dict", "$set", "$", "a"]), inner, max_size=2),
        st.dictionaries(KEYS, inner, max_size=4),
        st.sets(KEYS, max_size=4),
        st.frozensets(KEYS, max_size=4),
    )


#: Values that JSON supports.
SUPPORTED = st.recursive(ATOMS, _containers, max_leaves=25)


class Colour(Enum):
    RED = "red"


class Number(IntEnum):
    ONE = 1


class Word(StrEnum):
    YES = "yes"


class Point(NamedTuple):
    x: int
    y: int


@dataclass(frozen=True)
class Row:
    number: int = 1


class Moment(datetime):
    """A subclass like those of databases and test clocks."""


class Alone(tzinfo):
    """A class like the time zones of pytz and dateutil."""

    def utcoffset(self, _: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def dst(self, _: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, _: datetime | None) -> str:
        return "CET"


class Anything:
    """Claims to be equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1


class Text(str):
    """A plain subclass."""

    __slots__ = ()


class Whole(int):
    """A plain subclass."""


class Real(float):
    """A plain subclass."""


class Raw(bytes):
    """A plain subclass."""


#: Objects that must be refused at any place.
FOREIGN_ATOMS: list[Hashable] = [
    math.nan,
    -math.nan,
    Decimal("NaN"),
    "\ud800",
    "\udfff",
    "\ud83d\ude00",
    "a\udc80b",
    Colour.RED,
    Number.ONE,
    Word.YES,
    Markup("<b>"),
    Text("x"),
    Whole(1),
    Real(1),
    Raw(b"x"),
    Point(1, 2),
    Row(),
    Moment(2026, 1, 1),
    datetime(2026, 1, 1, tzinfo=Alone()),
    time(12, tzinfo=Alone()),
    Alone(),
    ZoneInfo.no_cache("Europe/Berlin"),
    datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo.no_cache("Europe/Berlin")),
    complex(1, 2),
    fractions.Fraction(1, 3),
    PurePosixPath("/tmp"),
    range(3),
    Ellipsis,
    int,
    len,
    Anything(),
    object(),
]

FOREIGN_UNHASHABLE: list[Any] = [
    Decimal("sNaN"),
    bytearray(b"x"),
    memoryview(b"x"),
    OrderedDict(a=1),
    defaultdict(list, a=[1]),
    Counter("aab"),
    deque([1]),
    {}.keys(),
    {"a": 1}.items(),
    iter([1]),
    (number for number in range(3)),
]

#: Integers that are too long for Python's decimal conversion.
TOO_LONG = st.builds(lambda digits, sign: sign * 10**digits, st.integers(4300, 5000), st.sampled_from([1, -1]))

FOREIGN: st.SearchStrategy[Any] = st.one_of(st.sampled_from([*FOREIGN_ATOMS, *FOREIGN_UNHASHABLE]), TOO_LONG)

#: Arbitrary values at any place. JSON supports some of them.
WIDE = st.recursive(
    st.one_of(ATOMS, FOREIGN),
    lambda inner: st.one_of(
        _containers(inner),
        st.dictionaries(st.one_of(KEYS, st.sampled_from(FOREIGN_ATOMS)), inner, max_size=3),
        st.sets(st.one_of(KEYS, st.sampled_from(FOREIGN_ATOMS)), max_size=3),
        st.lists(inner, max_size=3).map(deque),
        st.dictionaries(st.text(), inner, max_size=3).map(lambda items: defaultdict(int, items)),
        st.tuples(inner, inner).map(lambda pair: Point(*pair)),
    ),
    max_leaves=15,
)


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal, including classes, order, sign of zero, zone and fold."""
    if type(one) is not type(other) or one != other:
        return False
    match one:
        case list() | tuple():
            return all(map(same, one, other))
        case dict():
            return all(map(same, one, other)) and all(map(same, one.values(), other.values()))
        case set() | frozenset():
            theirs = {member: member for member in other}
            return all(same(member, theirs[member]) for member in one)
        case float():
            return math.copysign(1, one) == math.copysign(1, other)
        case Decimal():
            return bool(one.as_tuple() == other.as_tuple())
        case datetime() | time():
            return bool(one.fold == other.fold) and same(one.tzinfo, other.tzinfo)
        case timezone():
            return bool(one.tzname(None) == other.tzname(None))
        case _:
            return True
