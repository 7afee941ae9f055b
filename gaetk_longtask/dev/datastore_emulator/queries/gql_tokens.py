"""Cuts GQL into words, numbers, texts and signs."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from gaetk_longtask.dev.datastore_emulator.errors import CallError, invalid

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<double>[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+(?:\.[0-9]*)?[eE][+-]?[0-9]+|[0-9]+\.)
    |(?P<integer>[0-9]+)
    |(?P<text>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")
    |(?P<quoted>`(?:[^`\\]|\\.|``)*`)
    |(?P<word>[A-Za-z_$][A-Za-z0-9_$]*(?:\.[A-Za-z_$][A-Za-z0-9_$]*)*)
    |(?P<binding>@[A-Za-z0-9_$]+)
    |(?P<sign><=|>=|!=|[-+*(),=<>])
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0"}


class Token(NamedTuple):
    """A piece of GQL."""

    #: ``double``, ``integer``, ``text``, ``quoted``, ``word``, ``binding``, ``sign`` or ``end``.
    kind: str
    text: str

    @property
    def name(self) -> str:
        """Return what a text or a quoted name contains; of anything else, the token itself."""
        if self.kind not in ("text", "quoted"):
            return self.text
        mark = self.text[0]
        pieces = re.split(r"(\\.)", self.text[1:-1].replace(mark * 2, f"\\{mark}"), flags=re.DOTALL)
        return "".join(
            _ESCAPED.get(piece[1], piece[1]) if piece.startswith("\\") and len(piece) > 1 else piece for piece in pieces
        )


class Tokens:
    """A query in GQL that is read from left to right."""

    def __init__(self, text: str) -> None:
        self._tokens: list[Token] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            found = _TOKEN.match(text, position)
            if found is None or found.lastgroup is None:
                raise invalid(f"GQL: can't read {text[position:].strip()[:40]!r}")
            self._tokens.append(Token(found.lastgroup, found[found.lastgroup]))
            position = found.end()
        self._tokens.append(Token("end", "the end of the query"))

    def peek(self, ahead: int = 0) -> Token:
        """Return a token without reading it."""
        return self._tokens[min(ahead, len(self._tokens) - 1)]

    def next(self) -> Token:
        """Read a token."""
        return self._tokens.pop(0) if len(self._tokens) > 1 else self._tokens[0]

    def has(self, *words: str) -> bool:
        """Return whether the next tokens are these words or signs, in any case."""
        found = [self.peek(number) for number in range(len(words))]
        return all(
            token.kind in ("word", "sign") and token.text.upper() == word
            for token, word in zip(found, words, strict=True)
        )

    def skip(self, *words: str) -> bool:
        """Read these words if they are next, and return whether they were."""
        if not self.has(*words):
            return False
        for _ in words:
            self.next()
        return True

    def expect(self, *words: str) -> None:
        """Read these words, or refuse the query."""
        if not self.skip(*words):
            raise self.unexpected(" ".join(words))

    def unexpected(self, wanted: Any) -> CallError:
        """Return the error for a query that goes on with something else."""
        return invalid(f"GQL: expected {wanted}, not {self.peek().text}")
