"""The one port of the embedded Datastore: gRPC, and the few HTTP requests that the Cloud SDK's emulator answers.

So a test uses any emulator in the same way, ``POST /reset`` included. grpcio can't answer plain HTTP: a connection
that begins with HTTP/2 is passed on to it, and every other one is answered here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

_HTTP2_PREFACE = b"PRI"
_CHUNK_BYTES = 256 * 1024


class Front:
    """Accepts connections for a gRPC server on another port, and answers ``GET /`` and ``POST /reset`` itself."""

    def __init__(self, grpc_port: int, *, reset: Callable[[], None]) -> None:
        self._grpc_port = grpc_port
        self._reset = reset

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        # The loop cancels the connections that are open at the end.
        with contextlib.suppress(
            OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError
        ):
            start = await reader.readexactly(len(_HTTP2_PREFACE))
            if start == _HTTP2_PREFACE:
                await self._pass_on(start, reader, writer)
            else:
                await self._answer(start + await reader.readuntil(b"\r\n\r\n"), writer)
        writer.close()

    async def _pass_on(self, start: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._grpc_port)
        back_writer.write(start)
        await asyncio.gather(_copy(reader, back_writer), _copy(back_reader, writer))

    async def _answer(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        match head.split()[:2]:
            case [b"GET", b"/"]:
                status, body = "200 OK", "Ok\n"
            case [b"POST", b"/reset"]:
                await asyncio.to_thread(self._reset)
                status, body = "200 OK", "Ok\n"
            case _:
                status, body = "404 Not Found", "There are GET /, POST /reset and gRPC.\n"
        head_lines = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}"
        writer.write(f"{head_lines}\r\nConnection: close\r\n\r\n{body}".encode())
        await writer.drain()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()
