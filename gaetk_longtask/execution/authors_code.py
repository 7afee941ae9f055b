"""The boundary to the code of the author: what it raises is wrapped, so that it is not taken for an error of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gaetk_longtask.foreign import must_pass


class WorkError(Exception):
    """The author's code raised an exception."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__()
        self.cause = cause


@contextmanager
def authors_code() -> Iterator[None]:
    """Wrap whatever the author's code raises, so that it is not taken for an error of ours."""
    try:
        yield
    except BaseException as exc:
        if must_pass(exc):
            raise
        raise WorkError(exc) from exc


def of_author(pieces: Iterator[object]) -> Iterator[object]:
    """Iterate over the author's generator, and wrap its errors."""
    while True:
        with authors_code():
            try:
                piece = next(pieces)
            except StopIteration:
                return
        yield piece
