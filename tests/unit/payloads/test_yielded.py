"""Yielded results as `display_result` receives them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from gaetk_longtask import YieldedResult
from gaetk_longtask.exceptions import DamagedDataError
from gaetk_longtask.payloads.chunks import ChunkNames, Writer
from gaetk_longtask.payloads.cutting import BLOCK_BYTES
from gaetk_longtask.payloads.manifests import Stored

#: A two-byte character lies across the border of two blocks.
TEXT = "a" + "ä" * BLOCK_BYTES


class Contexts:
    """Counts how often a context is entered, and records whether one is active."""

    def __init__(self) -> None:
        self.entered = 0
        self.active = False

    @contextmanager
    def __call__(self) -> Any:
        self.entered += 1
        self.active = True
        yield
        self.active = False


def store(data: bytes, kind: str) -> Stored:
    names = ChunkNames(task_id="t", fence=1, expires_at=datetime(2026, 1, 1, tzinfo=UTC))
    writer = Writer({"kind": kind, "yielded": 1}, names, what="result")
    writer.write(data)
    return writer.seal()


def result(stored: Stored, contexts: Contexts | None = None) -> YieldedResult:
    return YieldedResult(stored, task_id="t", contexts=contexts or Contexts())


def test_text_arrives_as_text_wherever_it_was_split() -> None:
    made = result(store(TEXT.encode(), "text"))
    assert (made.is_text, made.size) == (True, len(TEXT.encode()))
    pieces = list(made)
    assert len(pieces) > 1
    assert "".join(pieces) == TEXT


def test_bytes_arrive_as_bytes() -> None:
    made = result(store(bytes(BLOCK_BYTES + 1), "bytes"))
    assert (made.is_text, made.size) == (False, BLOCK_BYTES + 1)
    assert [len(piece) for piece in made] == [BLOCK_BYTES, 1]


@pytest.mark.parametrize(("kind", "nothing"), [("text", ""), ("bytes", b"")])
def test_a_result_of_which_nothing_was_yielded_is_empty(kind: str, nothing: str | bytes) -> None:
    assert list(result(store(b"", kind))) == []
    assert result(store(b"", kind)).read() == nothing


def test_it_can_be_iterated_over_again() -> None:
    made = result(store(TEXT.encode(), "text"))
    assert next(made) == next(iter(made))
    assert made.read() == TEXT


def test_each_piece_but_the_first_is_read_in_its_own_context() -> None:
    contexts = Contexts()
    for number, _ in enumerate(result(store(TEXT.encode(), "text"), contexts)):
        assert contexts.entered == number
        assert not contexts.active


def test_a_damaged_result_is_refused_at_once() -> None:
    stored = store(b"bytes", "bytes")
    with pytest.raises(DamagedDataError):
        result(replace(stored, inline=b"other"))
