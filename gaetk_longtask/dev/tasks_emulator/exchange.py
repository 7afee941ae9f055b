"""Sends one HTTP request and reads the answer as far as the attempt's end depends on it.

Each attempt has a connection of its own: the app may close an idle connection just when it is used again, and the
attempt would fail without a reason.
"""

from __future__ import annotations

import asyncio
import functools
import re
import ssl
import urllib.parse
from datetime import timedelta

from gaetk_longtask.dev.tasks_emulator.answers import Answer, Silence
from gaetk_longtask.dev.tasks_emulator.requests import Outgoing

#: A longer head is not accepted.
_MAX_HEAD_BYTES = 256 * 1024
#: The rest of a longer body is not read; its content does not matter.
_MAX_BODY_BYTES = 1024 * 1024
_PIECE_BYTES = 64 * 1024
_MAX_INTERIM_RESPONSES = 100
_MAX_RETRY_AFTER_SECONDS = 3600
_BODILESS_STATUSES = {204, 304}

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?")
_ERRORS = (OSError, EOFError, ValueError, asyncio.LimitOverrunError)


class _MalformedAnswerError(ValueError):
    """The answer is not HTTP."""


async def exchange(request: Outgoing, deadline: timedelta) -> Answer:
    """Send the request and return the answer, at the latest at the deadline; redirects are not followed."""
    try:
        async with asyncio.timeout(deadline.total_seconds()):
            return await _exchange(request)
    except TimeoutError:
        return Answer(silence=Silence.DEADLINE, detail=f"no answer within {deadline.total_seconds():g} s")
    except _ERRORS as exc:
        return Answer(detail=f"{type(exc).__name__}: {exc}"[:300])


async def _exchange(request: Outgoing) -> Answer:
    parts = urllib.parse.urlsplit(request.url)
    if not parts.hostname:
        raise ValueError("the URL names no host")
    secure = parts.scheme.lower() == "https"
    reader, writer = await asyncio.open_connection(
        parts.hostname,
        parts.port or (443 if secure else 80),
        ssl=_tls() if secure else None,
        limit=_MAX_HEAD_BYTES,
    )
    try:
        writer.write(_head(request, parts) + request.body)
        # No drain before reading: an app may answer and close before it has read the body.
        return await _answer(reader, request.method)
    finally:
        # Abort instead of close: an app that goes on sending must not keep the connection open.
        writer.transport.abort()


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _head(request: Outgoing, parts: urllib.parse.SplitResult) -> bytes:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = parts.netloc.rpartition("@")[2]
    lines = [f"{request.method} {target} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


async def _answer(reader: asyncio.StreamReader, method: str) -> Answer:
    for _ in range(_MAX_INTERIM_RESPONSES):
        status, headers = await _read_head(reader)
        if not 100 <= status < 200 or status == 101:
            break
    else:
        raise _MalformedAnswerError("nothing but interim responses")
    if method != "HEAD" and status not in _BODILESS_STATUSES:
        await _skip_body(reader, headers)
    return Answer(status=status, retry_after=_retry_after(headers))


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head[:-4].split(b"\r\n")
    match = _STATUS_LINE.fullmatch(first)
    if match is None:
        raise _MalformedAnswerError(f"the answer begins with {first[:60]!r}")
    fields = (line.decode("latin-1").partition(":") for line in lines)
    return int(match[1]), {name.strip().lower(): value.strip() for name, _, value in fields}


async def _skip_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> None:
    """Read the body to its end or to the limit.

    A handler that streams its answer has done its work at the body's end; if the body breaks off, it has failed.
    """
    room = _MAX_BODY_BYTES
    if "chunked" in headers.get("transfer-encoding", "").lower():
        while room > 0 and (size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16)):
            if size < 0:
                raise _MalformedAnswerError("a chunk has a negative size")
            await _skip(reader, min(size, room))
            room -= size
            if room > 0:
                await reader.readexactly(2)
    elif "content-length" in headers:
        await _skip(reader, min(int(headers["content-length"]), room))
    else:
        while room > 0 and (piece := await reader.read(_PIECE_BYTES)):
            room -= len(piece)


async def _skip(reader: asyncio.StreamReader, size: int) -> None:
    while size > 0:
        piece = await reader.read(min(size, _PIECE_BYTES))
        if not piece:
            raise EOFError("the answer breaks off")
        size -= len(piece)


def _retry_after(headers: dict[str, str]) -> timedelta:
    try:
        seconds = int(headers.get("retry-after", "0"))
    except ValueError:  # a date, or nonsense
        return timedelta(0)
    return timedelta(seconds=min(max(seconds, 0), _MAX_RETRY_AFTER_SECONDS))
