"""Uses the ``#:`` comment above or behind an attribute as its docstring."""

from __future__ import annotations

import ast
import re
from typing import Any

import griffe

_COMMENT = re.compile(r"\s*#: ?(.*)")


class AttributeComments(griffe.Extension):
    """An extension for Griffe, with which mkdocstrings reads the package."""

    def on_attribute_instance(
        self, *, node: ast.AST | griffe.ObjectNode, attr: griffe.Attribute, agent: Any, **kwargs: Any
    ) -> None:
        """Use the comment of an attribute that has no docstring."""
        if attr.docstring is not None or attr.lineno is None or attr.endlineno is None:
            return
        lines = attr.lines_collection[attr.filepath]
        comment = _above(lines[: attr.lineno - 1]) or _behind(lines[attr.endlineno - 1])
        if comment:
            attr.docstring = griffe.Docstring(comment, lineno=attr.lineno, parent=attr)


def _above(lines: list[str]) -> str:
    found: list[str] = []
    for line in reversed(lines):
        comment = _COMMENT.fullmatch(line)
        if comment is None:
            break
        found.insert(0, comment[1])
    return " ".join(found)


def _behind(line: str) -> str:
    _, mark, comment = line.partition("  #: ")
    return comment[:1].upper() + comment[1:] if mark else ""
