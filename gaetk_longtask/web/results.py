"""Builds the response with a result if the handler does not override `display_result`."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta, tzinfo
from http import HTTPStatus
from math import isfinite
from types import NoneType
from typing import Any

from flask import Response, jsonify

from gaetk_longtask.exceptions import SerializationError, describe_type
from gaetk_longtask.payloads.yielded import YieldedResult
from gaetk_longtask.web.headers import attached, sandboxed
from gaetk_longtask.web.problems import ProblemError, report_exception

_ONLY_REPR: Any = object.__str__  #: the ``__str__`` of a class that has none of its own
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

    Sets become sorted lists, bytes Base64, and dates and times ISO 8601: naive ones without an offset. A key becomes
    text as `_key` says. Raise `SerializationError` if two keys would become the same, or if a key has no text.
    """
    match value:
        case dict():
            return _object(value, path)
        case set() | frozenset():
            return _in_order([jsonable(one, path) for one in value])
        case list() | tuple():
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
    keys = [_key(key, path) for key in value]
    shown = {text: jsonable(one, f"{path}[{key!r}]") for text, (key, one) in zip(keys, value.items(), strict=True)}
    if len(shown) < len(value):
        twice = next(text for text in keys if keys.count(text) > 1)
        alike = " and ".join(repr(key) for key, text in zip(value, keys, strict=True) if text == twice)
        raise _refusal(f"{path} has the keys {alike}, which are the same in JSON.", value, path)
    return shown


def _key(key: Any, path: str) -> str:
    """Return a key as text: what `jsonable` makes of it, if that is text, else its JSON as Python writes it."""
    if isinstance(key, str):
        return key

    def own_text(value: Any) -> str:
        if type(value).__str__ is _ONLY_REPR:
            raise _refusal(f"{path} has the key {key!r}, which has no text of its own.", value, path)
        return str(value)

    shown = key if isinstance(key, float) else jsonable(key, path)
    if not isinstance(shown, (str, int, float, list, dict, NoneType)):
        shown = own_text(shown)  # a Decimal or a UUID, for example
    return shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False, default=own_text)


def _in_order(items: list[Any]) -> list[Any]:
    """Sort what was a set, so that an equal set is always shown the same."""
    try:
        return sorted(items)
    except TypeError:  # of several types
        return sorted(items, key=lambda item: json.dumps(item, default=str))


def _refusal(message: str, value: Any, path: str) -> SerializationError:
    return SerializationError(f"{message} {_REMEDY}", path=path, type_name=describe_type(value))
