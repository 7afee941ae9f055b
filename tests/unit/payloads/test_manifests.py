"""The manifests of stored values in a task's entity."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, get_args

import pytest

from gaetk_longtask import LongTask
from gaetk_longtask.payloads.manifests import Block, Field, Manifest, Stored, set_stored

BLOCK = Block(fence=1, number=0, size=1_000_000, stored=7, digest="0a", compressed=True)
MANIFEST = Manifest(
    layout={"kind": "text", "yielded": 3},
    fence=2,
    chunks=1,
    blocks=(BLOCK, Block(fence=2, number=4, size=5, stored=5, digest="0b", compressed=False)),
)
STORED = Stored(manifest=MANIFEST, inline=b"bytes")
FIELDS = get_args(Field)


def test_the_stored_form_stays_as_it_is() -> None:
    assert MANIFEST.to_json() == {
        "layout": {"kind": "text", "yielded": 3},
        "fence": 2,
        "chunks": 1,
        "pieces": [[1, 0, 1_000_000, 7, "0a", True], [2, 4, 5, 5, "0b", False]],
    }


def test_a_manifest_comes_back_from_json() -> None:
    assert Manifest.from_json(json.loads(json.dumps(MANIFEST.to_json()))) == MANIFEST


def test_the_size_is_that_of_the_raw_bytes() -> None:
    assert MANIFEST.size == 1_000_005


def test_an_equal_value_that_another_attempt_wrote_is_the_same() -> None:
    other = replace(MANIFEST, fence=3, chunks=0, blocks=tuple(replace(one, fence=3) for one in MANIFEST.blocks))
    assert MANIFEST.is_same(other)


@pytest.mark.parametrize(
    "change",
    [{"layout": {"kind": "bytes"}}, {"blocks": (BLOCK,)}, {"blocks": (BLOCK, replace(BLOCK, digest="0c"))}],
    ids=["layout", "fewer", "digest"],
)
def test_another_layout_or_content_is_not_the_same(change: dict[str, Any]) -> None:
    assert not MANIFEST.is_same(replace(MANIFEST, **change))


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_that_was_set_is_read_back_and_the_others_stay_empty(field: Field) -> None:
    task = LongTask()
    set_stored(task, field, STORED)
    assert {name: Stored.of(task, name) for name in FIELDS} == dict.fromkeys(FIELDS) | {field: STORED}


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_that_was_cleared_is_empty(field: Field) -> None:
    task = LongTask()
    set_stored(task, field, STORED)
    set_stored(task, field, None)
    assert Stored.of(task, field) is None
    assert task == LongTask()
