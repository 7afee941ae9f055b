"""A result that was yielded, as ``display_result`` gets it: piece by piece, never held as a whole."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Any, Self

from gaetk_longtask.contexts import NdbContexts
from gaetk_longtask.payloads import chunks
from gaetk_longtask.payloads.encoding import Kind
from gaetk_longtask.payloads.manifests import Stored


class YieldedResult(Iterator[Any]):
    """An iterator over what ``execute_task`` has yielded, in pieces that are cut elsewhere.

    A view may return it as it may return a `str`, and ``flask.Response(result, mimetype=…)`` takes it. It can be read
    after the request's NDB context has closed, as happens while a response is sent. ``iter(result)`` starts again from
    the beginning. A damaged piece raises `DamagedDataError` before any of it is returned.
    """

    #: Whether the pieces are `str`; otherwise they are `bytes`.
    is_text: bool
    #: In bytes; of a text, in UTF-8.
    size: int

    def __init__(self, stored: Stored, *, task_id: str, contexts: NdbContexts) -> None:
        """Check that all of it is there.

        Raises:
            DamagedDataError: a chunk is missing.

        """
        chunks.check_presence(stored, task_id=task_id)
        self.is_text = stored.manifest.layout["kind"] == Kind.TEXT.value
        self.size = stored.manifest.size
        self._stored = stored
        self._task_id = task_id
        self._contexts = contexts
        self._iterator: Iterator[Any] | None = None

    def __iter__(self) -> Self:
        self._iterator = None
        return self

    def __next__(self) -> Any:
        if self._iterator is None:
            pieces = self._pieces()
            self._iterator = filter(None, codecs.iterdecode(pieces, "utf-8")) if self.is_text else pieces
        return next(self._iterator)

    def read(self) -> Any:
        """Return all of it as one `str` or one `bytes`."""
        return ("" if self.is_text else b"").join(self)

    def _pieces(self) -> Iterator[bytes]:
        blocks = chunks.raw_blocks(self._stored, task_id=self._task_id)
        while True:
            with self._contexts():
                block = next(blocks, None)
            if block is None:
                return
            yield bytes(block)
