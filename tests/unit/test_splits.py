"""How a task is cut into lanes, for every number of parts and lanes."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaetk_longtask.splits import Address, Split, Stage, lane_in, lane_of, number_in, part_name, run_in

SPLITS = st.builds(
    Split,
    run=st.integers(1, 999_999_999),
    count=st.integers(0, 1000),
    lanes=st.integers(1, 100),
    stage=st.sampled_from(Stage),
    open_at_last_tend=st.integers(0, 1000),
)


def lanes_of(split: Split) -> dict[int, list[int]]:
    """Return the numbers of the parts of each lane, in order."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    for number in range(split.count):
        found[lane_of(number, split.lanes)].append(number)
    return found


@given(SPLITS)
def test_each_part_is_in_one_lane_and_a_lane_knows_how_many_come_before(split: Split) -> None:
    lanes = lanes_of(split)
    assert sorted(lanes) == list(split.used_lanes())
    for lane in range(split.lanes):
        assert split.size(lane) == len(lanes[lane])
        assert [split.before(number) for number in lanes[lane]] == list(range(len(lanes[lane])))


@given(SPLITS)
def test_the_lanes_have_about_the_same_number_of_parts(split: Split) -> None:
    sizes = [split.size(lane) for lane in range(split.lanes)]
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) == split.count


@pytest.mark.parametrize(("lanes", "period"), [(8, 8), (8, 4), (5, 5), (6, 3), (10, 10)])
def test_parts_that_are_long_at_regular_intervals_are_in_different_lanes(lanes: int, period: int) -> None:
    long = [lane_of(number, lanes) for number in range(0, lanes * lanes, period)]
    counts = [long.count(lane) for lane in range(lanes)]
    assert max(counts) - min(counts) <= 1


@given(st.integers(1, 999_999_999), st.integers(1, 100), st.integers(0, 999))
def test_a_name_says_run_lane_and_number(run: int, lanes: int, number: int) -> None:
    name = part_name("A" * 22, run, lanes, number)
    assert (run_in(name), lane_in(name), number_in(name)) == (run, lane_of(number, lanes), number)


@given(SPLITS)
def test_names_sort_by_lane_and_number_and_lie_in_the_range_of_their_lane(split: Split) -> None:
    names = [split.name("task", number) for numbers in lanes_of(split).values() for number in numbers]
    assert sorted(names) == sorted(names, key=lambda name: (lane_in(name), number_in(name)))
    for name in names:
        first, last = split.range_of_lane("task", lane_in(name))
        whole_first, whole_last = split.range_of_all("task")
        assert whole_first < first < name < last < whole_last
        other_first, other_last = split.range_of_lane("task", (lane_in(name) + 1) % 999)
        assert not other_first < name < other_last


@given(st.integers(1, 999_999_999), st.integers(0, 9999))
def test_the_address_of_a_part_is_read_as_it_is_written(run: int, number: int) -> None:
    assert Address.parse(str(Address(run=run, number=number))) == Address(run=run, number=number)


@pytest.mark.parametrize(
    "text", ["", ".", "1", "1.", ".1", "1.1.1", "-1.1", "1.-1", " 1.1", "1.1 ", "x.y", "1.12345", "\u0661.\u0661"]
)
def test_any_other_text_is_no_address(text: str) -> None:
    assert Address.parse(text) == Address(run=0, number=0)


class Task:
    """An entity's field."""

    parts: object = None


@given(SPLITS)
def test_an_entity_keeps_a_split(split: Split) -> None:
    task = Task()
    assert Split.of(task) is None  # type: ignore[arg-type]  # it has the field
    task.parts = split.stored()
    assert Split.of(task) == split  # type: ignore[arg-type]  # the same
