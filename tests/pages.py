"""Finds and runs the blocks of code in README.md and docs/."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

_BLOCK = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# ([\w.]+)\n")


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


def run(page: Path, prepared: str = "") -> dict[str, Any]:
    """Run the Python blocks of a page one after the other, except files. Return the names that they have defined.

    `prepared` runs first. It contains code that the page takes for granted.
    """
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(prepared, "what the test has prepared", "exec"), names)
    for number, block in enumerate(blocks(page, "python"), start=1):
        code = compile(block, f"{page.name}, block {number}", "exec", dont_inherit=True)
        if file_name(block) is None:
            exec(code, names)
    return names
