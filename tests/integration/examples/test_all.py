"""Every function in the documentation is called by a test of this folder."""

from __future__ import annotations

import importlib
from collections import defaultdict
from pathlib import Path

import pytest

from tests.pages import PAGES, functions


@pytest.fixture(scope="module")
def called() -> dict[str, set[str]]:
    """The functions that the tests of this folder call, by page: what their marks name."""
    names: dict[str, set[str]] = defaultdict(set)
    for path in Path(__file__).parent.glob("test_*.py"):
        module = importlib.import_module(f"{__package__}.{path.stem}")
        for test in vars(module).values():
            for mark in getattr(test, "pytestmark", []):
                if mark.name == "calls":
                    names[mark.args[0]].update(mark.args[1:])
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_functions_of_a_page_are_called(page: Path, called: dict[str, set[str]]) -> None:
    assert called[page.name] == set(functions(page).values())
