"""Serves the connections of a cache."""

from __future__ import annotations

import asyncio
import contextlib

from gaetk_longtask.dev.memcached.commands import STORAGE, Commands, StorageLine, WrongLineError

#: The longest line: a `get` of some thousand keys.
_MAX_LINE_BYTES = 1024 * 1024
_PIECE_BYTES = 64 * 1024


class Connections:
    """Reads commands and writes replies."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def listen(self, host: str, port: int) -> asyncio.Server:
        """Begin to accept connections."""
        return await asyncio.start_server(self._accept, host, port, limit=_MAX_LINE_BYTES)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The loop cancels the connections that are open at the end.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            try:
                while (words := (await reader.readuntil(b"\n")).split()) != [b"quit"]:
                    writer.write(await self._answer(words, reader))
                    await writer.drain()
            except asyncio.LimitOverrunError:
                writer.write(b"CLIENT_ERROR line too long\r\n")
        writer.close()

    async def _answer(self, words: list[bytes], reader: asyncio.StreamReader) -> bytes:
        if not words:
            return b"ERROR\r\n"
        try:
            if words[0] in STORAGE:
                return await self._store(words, reader)
            reply = self._commands.reply(words)
        except WrongLineError as exc:
            reply = bytes(exc.args[0])
        return b"" if words[-1] == b"noreply" else reply

    async def _store(self, words: list[bytes], reader: asyncio.StreamReader) -> bytes:
        line = StorageLine(words)
        if self._commands.is_too_large(line):
            await _skip(reader, line.length + 2)
            reply = self._commands.refuse_large(line)
        else:
            value = await reader.readexactly(line.length)
            if await reader.readexactly(2) != b"\r\n":
                await reader.readuntil(b"\n")
                return b"CLIENT_ERROR bad data chunk\r\n"
            reply = self._commands.store(line, value)
        return b"" if line.is_silent else reply


async def _skip(reader: asyncio.StreamReader, length: int) -> None:
    while length > 0:
        piece = await reader.read(min(length, _PIECE_BYTES))
        if not piece:
            raise asyncio.IncompleteReadError(b"", length)
        length -= len(piece)
