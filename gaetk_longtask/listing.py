"""Reads a query of tasks page by page: the keys of a page, and where the next one begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from google.api_core.exceptions import FailedPrecondition, InvalidArgument
from google.cloud import ndb

from gaetk_longtask.exceptions import ConfigurationError

PAGE = 25  #: the default number of tasks in a list


def page_of(query: ndb.Query, *, cursor: str | None = None, limit: int = PAGE) -> tuple[list[str], str | None]:
    """Return the ids of a page, and the cursor of the next page or None; one query for keys.

    Datastore only continues an identical query. Raise `ValueError` for an invalid cursor, and `ConfigurationError` if
    an index is missing.
    """
    start = None if cursor is None else _read(cursor)
    ids: list[str] = []
    with asking():
        try:
            results = query.iter(limit=limit + 1, keys_only=True, start_cursor=start)
            while len(ids) < limit and results.has_next():
                ids.append(results.next().id())
        except InvalidArgument as exc:
            raise ValueError(f"Datastore refused the cursor: {exc.message}") from exc
        return ids, results.cursor_after().urlsafe().decode() if results.has_next() else None


@contextmanager
def asking() -> Iterator[None]:
    """Raise `ConfigurationError` if Datastore lacks an index."""
    try:
        yield
    except FailedPrecondition as exc:
        message = "Datastore has no index for this query. Run gcloud app deploy index.yaml and wait until it is ready."
        raise ConfigurationError(message) from exc


def _read(cursor: str) -> ndb.Cursor:
    try:
        if cursor and cursor.isascii():
            return ndb.Cursor(urlsafe=cursor.encode())
    except ValueError:  # not Base64
        pass
    raise ValueError("The cursor is invalid. Use the one that the previous page returned.")
