"""Fixtures: an application whose work is done in parts."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
from flask import Flask

from gaetk_longtask import LongTask
from tests.in_parts import Letters
from tests.support import start


@pytest.fixture(autouse=True)
def _collect() -> Iterator[None]:
    """Throw away what a crash has left behind half-way, before the next test begins."""
    yield
    gc.collect()


@pytest.fixture
def letters() -> type[Letters]:
    """The handler of this test at ``/letters``."""
    return type("Letters", (Letters,), {"log": []})


@pytest.fixture
def app(make_app: Callable[..., Flask], letters: type[Letters]) -> Flask:
    return make_app(letters)


@pytest.fixture
def task(app: Flask) -> LongTask:
    """A task that was just started."""
    return start(app, "letters")
