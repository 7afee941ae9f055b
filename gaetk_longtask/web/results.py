"""Builds the response with a result if the handler does not override `display_result`."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta, tzinfo
from http import HTTPStatus
from math import isfinite
from typing import Any

from flask import Response, jsonify

from gaetk_longtask.exceptions import SerializationError, describe_type
from gaetk_longtask.payloads.yielded import YieldedResult
from gaetk_longtask.web.headers import attached, sandboxed
from gaetk_longtask.web.problems import ProblemError, report_exception

_REMEDY = "Write display_result, which returns the response."


#: Longer text is streamed as plain text instead of shown in our page.
_LARGEST_PAGE_BYTES = 256 * 1024
_PIECE_CHARACTERS = 64 * 1024
#: The ends of the names of downloads, by media type.
_EXTENSIONS = {
    "text/html": ".html",
    "text/plain": ".txt",
    "application/json": ".json",
    "application/octet-stream": ".bin",
}


def response_with(result: Any, *, text_page: Callable[[str], Response], download_title: str | None = None) -> Response:
    """Return the response that shows a result, or is a download with this title.

    Text that begins with ``<`` is an HTML document in which nothing can run. Other text is shown by `text_page`, or
    streamed as plain text if it was yielded or is long. `bytes` are a download. Anything else is JSON, if JSON can show
    it.
    """
    if download_title is None:
        return text_page(result) if _fits_page(result) else _response(result)
    response = _response(result)
    return attached(response, download_title, _EXTENSIONS.get(response.mimetype or "", ""))


def _fits_page(result: Any) -> bool:
    if not isinstance(result, str) or is_markup(result) or len(result) > _LARGEST_PAGE_BYTES:
        return False
    return len(result.encode(errors="replace")) <= _LARGEST_PAGE_BYTES


def _response(result: Any) -> Response:
    match result:
        case str() if is_markup(result):
            return sandboxed(Response(result, mimetype="text/html"))
        case str():
            starts = range(0, len(result), _PIECE_CHARACTERS)
            return Response((result[start : start + _PIECE_CHARACTERS] for start in starts), mimetype="text/plain")
        case YieldedResult(is_text=True):
            beginning = _beginning(result)
            whole = _continued(beginning, result)
            if is_markup("".join(beginning)):
                return sandboxed(Response(whole, mimetype="text/html"))
            return Response(whole, mimetype="text/plain")
        case bytes() | YieldedResult():
            headers = {"Content-Disposition": "attachment"}
            return Response(result, mimetype="application/octet-stream", headers=headers)
        case _:
            return _as_json(result)


def is_markup(text: str) -> bool:
    """Return whether the first character of a text, after white space and a byte order mark, is ``<``."""
    return text.lstrip("\ufeff \t\n\r\f\v").lstrip()[:1] == "<"


def _beginning(result: YieldedResult) -> list[str]:
    """Return the first pieces of a text, up to one that is more than white space."""
    pieces: list[str] = []
    for piece in result:
        pieces.append(piece)
        if piece.strip("\ufeff \t\n\r\f\v"):
            break
    return pieces


def _continued(beginning: list[str], rest: Iterable[str]) -> Iterator[str]:
    yield from beginning
    while (piece := next(rest, None)) is not None:  # type: ignore[call-overload]  # iter() would start it again
        yield piece


def _as_json(result: Any) -> Response:
    try:
        return jsonify(jsonable(result))
    except (TypeError, ValueError, RecursionError, SerializationError) as exc:
        report_exception(exc)
        message = "This result can't be shown as JSON. The reason is in the application's log."
        raise ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, message) from exc


def jsonable(value: Any, path: str = "result") -> Any:
    """Convert a result to what Flask's JSON accepts.

    Sets become lists, keys strings, bytes Base64, and dates and times ISO 8601: naive ones without an offset. Raise
    `SerializationError` if two keys would become the same.
    """
    match value:
        case dict():
            return _object(value, path)
        case list() | tuple() | set() | frozenset():
            return [jsonable(one, f"{path}[{number}]") for number, one in enumerate(value)]
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode()
        case float() if not isfinite(value):
            return None
        case date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case tzinfo():
            return str(value)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {field.name: jsonable(getattr(value, field.name), f"{path}.{field.name}") for field in fields(value)}
        case _:
            return value


def _object(value: dict[Any, Any], path: str) -> dict[str, Any]:
    shown = {_key(key): jsonable(one, f"{path}[{key!r}]") for key, one in value.items()}
    if len(shown) < len(value):
        keys = [_key(key) for key in value]
        twice = next(key for key in keys if keys.count(key) > 1)
        alike = " and ".join(repr(key) for key in value if _key(key) == twice)
        message = f"{path} has the keys {alike}, which are the same in JSON. {_REMEDY}"
        raise SerializationError(message, path=path, type_name=describe_type(value))
    return shown


def _key(key: Any) -> str:
    return str(jsonable(key)) if isinstance(key, (bytes, date, time, timedelta)) else str(key)
