"""The one port of the emulator: passes connections on to gRPC or to REST.

grpcio can't answer HTTP/1.1, so a look at the first bytes decides.
"""

from __future__ import annotations

import asyncio
import contextlib

_HTTP2_PREFACE = b"PRI"
_CHUNK_BYTES = 256 * 1024


class Front:
    """Accepts connections for a gRPC server and for a server of HTTP/1.1, which listen on ports of 127.0.0.1."""

    def __init__(self, *, grpc_port: int, http_port: int) -> None:
        self._grpc_port = grpc_port
        self._http_port = http_port

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        # The loop cancels the connections that are open at the end.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            start = await reader.readexactly(len(_HTTP2_PREFACE))
            port = self._grpc_port if start == _HTTP2_PREFACE else self._http_port
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", port)
            back_writer.write(start)
            await asyncio.gather(_copy(reader, back_writer), _copy(back_reader, writer))
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()
