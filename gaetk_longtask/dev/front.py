"""The one port of an emulator: passes connections on to gRPC or to REST.

grpcio can't answer HTTP/1.1, so a look at the first bytes decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable

from gaetk_longtask.dev.stoppable import Stoppable

_HTTP2_PREFACE = b"PRI"
_CHUNK_BYTES = 256 * 1024


class Front:
    """Accepts connections for a gRPC server and for a server of HTTP/1.1, which listen on ports of 127.0.0.1."""

    def __init__(self, *, grpc_port: int, http_port: int) -> None:
        self._grpc_port = grpc_port
        self._http_port = http_port
        # asyncio has only weak references to a task, and none at all once the client has said everything.
        self._connections: set[asyncio.Task[None] | None] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self._connections.add(task := asyncio.current_task())
        # asyncio does it for the sockets alone that it has created itself.
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The loop cancels the connections that are open at the end.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            start = await reader.readexactly(len(_HTTP2_PREFACE))
            await self._pass_on(start, reader, writer)
        writer.close()
        self._connections.discard(task)

    async def _pass_on(self, start: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = self._grpc_port if start == _HTTP2_PREFACE else self._http_port
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            back_writer.write(start)
            # A client may have said everything, and still wait for the answer.
            to_server = _copy(reader, back_writer, at_end=back_writer.write_eof)
            await asyncio.gather(to_server, _copy(back_reader, writer, at_end=writer.close))
        finally:
            back_writer.close()


class FrontThread(Stoppable):
    """A front in a thread of its own, for an emulator without an event loop."""

    def __init__(self, listener: socket.socket, front: Front) -> None:
        self._listener = listener
        self._front = front
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="front", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._front.accept, sock=self._listener)
        await self._end.wait()
        server.close()

    def stop(self) -> None:
        """Close the port and all connections."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, at_end: Callable[[], None]) -> None:
    try:
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        at_end()
    except OSError:
        writer.close()
