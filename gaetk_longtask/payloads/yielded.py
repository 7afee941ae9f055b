"""A yielded result as ``display_result`` gets it: read piece by piece, never held in memory as a whole."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from typing import Any, Self

from gaetk_longtask.contexts import STORE_ERRORS, NdbContexts
from gaetk_longtask.exceptions import DamagedDataError
from gaetk_longtask.payloads import chunks
from gaetk_longtask.payloads.cutting import Buffer
from gaetk_longtask.payloads.encoding import Kind
from gaetk_longtask.payloads.manifests import Stored


class YieldedResult(Iterator[Any]):
    """An iterator over what ``execute_task`` has yielded; the pieces may be cut at different places.

    A view can return it like a `str`, and ``flask.Response(result, mimetype=…)`` accepts it. It can be read after the
    request's NDB context has closed, which is the case while a response is sent. ``iter(result)`` starts again from the
    beginning. A damaged piece raises `DamagedDataError` before any of it is returned. The first one is read at once:
    while a response is sent, an error can no longer be answered.
    """

    is_text: bool  #: whether the pieces are `str`; otherwise they are `bytes`
    size: int  #: the size in bytes; for text, encoded as UTF-8

    def __init__(
        self,
        stored: Stored,
        *,
        task_id: str,
        contexts: NdbContexts,
        on_error: Callable[[BaseException], object] | None = None,
    ) -> None:
        """Raise `DamagedDataError` if a chunk is missing, or if the first block or an inline block is damaged.

        What reading the rest raises is passed to `on_error` first. An NDB context must be active.
        """
        chunks.check_presence(stored, task_id=task_id)
        self.is_text = stored.manifest.layout["kind"] == Kind.TEXT.value
        self.size = stored.manifest.size
        self._stored = stored
        self._task_id = task_id
        self._contexts = contexts
        self._on_error = on_error
        self._iterator: Iterator[Any] | None = None
        self._blocks: Iterator[Buffer] | None = chunks.raw_blocks(stored, task_id=task_id)
        self._first = bytes(next(self._blocks, b""))

    def __iter__(self) -> Self:
        self._iterator = None
        return self

    def __next__(self) -> Any:
        if self._iterator is None:
            pieces = self._pieces()
            self._iterator = filter(None, codecs.iterdecode(pieces, "utf-8")) if self.is_text else pieces
        try:
            return next(self._iterator)
        except (DamagedDataError, *STORE_ERRORS) as exc:
            if self._on_error is not None:
                self._on_error(exc)
            raise

    def read(self) -> Any:
        """Return the whole result as one `str` or `bytes`."""
        return ("" if self.is_text else b"").join(self)

    def _pieces(self) -> Iterator[bytes]:
        blocks, self._blocks = self._blocks, None
        if blocks is None:  # it starts again
            blocks = chunks.raw_blocks(self._stored, task_id=self._task_id, skip=1)
        if self._first:
            yield self._first
        while True:
            with self._contexts():
                block = next(blocks, None)
            if block is None:
                return
            yield bytes(block)
