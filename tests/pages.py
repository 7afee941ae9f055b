"""Finds and runs the blocks of code in README.md and docs/, and notes which of their functions are called."""

from __future__ import annotations

import ast
import re
import sys
import textwrap
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

#: All pages.
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]

_BLOCK = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# ([\w.]+)\n")


def page_named(name: str) -> Path:
    """Return the path of a page."""
    [found] = [page for page in PAGES if page.name == name]
    return found


def fences(page: Path) -> list[tuple[str, str]]:
    """Return the info string and the text of every block of a page, in order."""
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [(info, textwrap.dedent(text)) for _, info, text in found]


def blocks(page: Path, language: str) -> list[str]:
    """Return the blocks of a page in the given language."""
    return [text for info, text in fences(page) if info == language]


def file_name(block: str) -> str | None:
    """Return the file name in the first line of a block, or None if it has none."""
    found = _FILE.match(block)
    return found[1] if found else None


def run(page: Path, prepared: str = "", *, only: Collection[int] = ()) -> dict[str, Any]:
    """Run the Python blocks of a page one after the other, except files. Return the names that they have defined.

    `prepared` runs first. It contains code that the page takes for granted. `only` selects blocks by number, files too.
    """
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(prepared, "what the test has prepared", "exec"), names)
    for number, block in enumerate(blocks(page, "python"), start=1):
        code = compile(block, _code_name(page, number), "exec", dont_inherit=True)
        if number in only if only else file_name(block) is None:
            exec(code, names)
    return names


def functions(page: Path) -> dict[tuple[str, str], str]:
    """Return the functions of a page's Python blocks, except pytest's files: their names by file name and full name.

    If two functions have the same full name, the name of the second one ends with ``(2)``.
    """
    found: dict[tuple[str, str], str] = {}
    for number, block in enumerate(blocks(page, "python"), start=1):
        if re.match(r"conftest|test_", file_name(block) or ""):
            continue
        for name in _functions_in(ast.parse(block)):
            same = sum(full_name == name for _, full_name in found)
            found[_code_name(page, number), name] = f"{name} ({same + 1})" if same else name
    return found


def _code_name(page: Path, number: int) -> str:
    return f"{page.name}, block {number}"


def _functions_in(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield prefix + name
                yield from _functions_in(node, f"{prefix}{name}.<locals>.")
            case ast.ClassDef(name=name):
                yield from _functions_in(node, f"{prefix}{name}.")
            case ast.Lambda():
                yield f"{prefix}<lambda>"
            case _:
                yield from _functions_in(node, prefix)


@contextmanager
def watched() -> Iterator[set[tuple[str, str]]]:
    """Collect the functions of all pages that are called, in all threads: file names and full names of their code."""
    called: set[tuple[str, str]] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and ".md, block " in frame.f_code.co_filename:
            called.add((frame.f_code.co_filename, frame.f_code.co_qualname))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield called
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
