"""The project's texts are in plain English: some words and openings are not used."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "gaetk_longtask"

WORDS = re.compile(r"\b(anew|whoever|whom|lest|nobody)\b", re.IGNORECASE)
OPENINGS = ("Give", "Tell", "Say")
#: The user of the operating system.
ALLOWED = '"-u", "nobody"'


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def texts() -> list[Path]:
    found = [*LIBRARY.rglob("*.py"), *LIBRARY.rglob("*.html"), *(ROOT / "docs").glob("*.md")]
    found += [ROOT / each for each in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return sorted(found)


def docstrings(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


@pytest.mark.parametrize("path", texts(), ids=name)
def test_a_text_is_in_plain_english(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace(ALLOWED, "")
    found = WORDS.findall(text)
    if path.suffix == ".py":
        found += [line for line in docstrings(text) if line.startswith(OPENINGS)]
    assert found == []
