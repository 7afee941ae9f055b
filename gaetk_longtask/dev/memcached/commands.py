"""The commands of memcached's text protocol, and their replies."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import cast

from gaetk_longtask.dev.memcached.cache import MAX_ITEM_BYTES, Cache, Item, Mode, Outcome

VERSION = "1.6.0-gaetk"
STORAGE = frozenset({b"set", b"add", b"replace", b"append", b"prepend", b"cas"})
_ERROR = b"ERROR\r\n"
_BAD_FORMAT = b"CLIENT_ERROR bad command line format\r\n"
_TOO_LARGE = b"SERVER_ERROR object too large for cache\r\n"
_NOT_A_NUMBER = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
_LONGEST_KEY = 250
_U32, _U64 = 2**32, 2**64
_DIGITS = re.compile(rb"[0-9]{1,20} *")


class WrongLineError(Exception):
    """A line that is no command; the argument is the reply."""


class StorageLine:
    """The line before a value that is to be stored."""

    def __init__(self, words: list[bytes]) -> None:
        """Read the line; raise `WrongLineError` if it is not valid."""
        name, *rest = words
        self.is_silent = rest[-1:] == [b"noreply"]
        arguments = rest[:-1] if self.is_silent else rest
        if len(arguments) != (5 if name == b"cas" else 4):
            raise WrongLineError(_ERROR)
        key, flags, seconds, length, *unique = arguments
        self.name = name.decode()
        self.key = _checked_key(key)
        self.flags = _number(flags, below=_U32)
        self.seconds = _seconds(seconds)
        self.length = _number(length, below=2**31)
        self.unique = _number(unique[0], below=_U64) if unique else 0


class Commands:
    """Executes the commands of all connections. `clock` returns the Unix time."""

    def __init__(self, *, max_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self._cache = Cache(max_bytes=max_bytes, clock=clock)
        self._max_bytes = max_bytes
        self._clock = clock
        self._began = clock()
        self._counts = dict.fromkeys(("cmd_get", "cmd_set", "get_hits", "get_misses"), 0)

    def store(self, line: StorageLine, value: bytes) -> bytes:
        """Store a value, and return the reply."""
        self._counts["cmd_set"] += 1
        outcome: Outcome
        if line.name == "cas":
            outcome = self._cache.compare_and_set(line.key, value, line.unique, flags=line.flags, seconds=line.seconds)
        else:
            outcome = self._cache.store(
                cast("Mode", line.name), line.key, value, flags=line.flags, seconds=line.seconds
            )
        return self.refuse_large(line) if outcome == "TOO_LARGE" else f"{outcome}\r\n".encode()

    def refuse_large(self, line: StorageLine) -> bytes:
        """Return the reply to a value that is too large."""
        if line.name == "set":
            self._cache.delete(line.key)  # the old value is out of date
        return _TOO_LARGE

    def is_too_large(self, line: StorageLine) -> bool:
        """Return whether the value need not be read."""
        return line.length > MAX_ITEM_BYTES

    def reply(self, words: list[bytes]) -> bytes:
        """Execute a command without a value, and return the reply."""
        name, *arguments = words
        match name:
            case b"get" | b"gets" if arguments:
                return self._found([(key, self._get(key)) for key in arguments], with_unique=name == b"gets")
            case b"gat" | b"gats" if len(arguments) >= 2:
                seconds = _seconds(arguments[0])
                touched = [(key, self._touch(key, seconds)) for key in arguments[1:]]
                return self._found(touched, with_unique=name == b"gats")
            case b"version":
                return f"VERSION {VERSION}\r\n".encode()
            case b"stats" if not arguments:
                return b"".join(f"STAT {key} {value}\r\n".encode() for key, value in self._stats().items()) + b"END\r\n"
            case b"stats":
                return b"RESET\r\n" if arguments == [b"reset"] else b"END\r\n"
            case b"verbosity" if arguments:
                return b"OK\r\n"
            case _:
                return self._change(name, [word for word in arguments if word != b"noreply"])

    def _change(self, name: bytes, arguments: list[bytes]) -> bytes:
        match name, arguments:
            case (b"delete", [key] | [key, b"0"]):
                return b"DELETED\r\n" if self._cache.delete(_checked_key(key)) else b"NOT_FOUND\r\n"
            case (b"touch", [key, seconds]):
                touched = self._cache.touch(_checked_key(key), _seconds(seconds))
                return b"NOT_FOUND\r\n" if touched is None else b"TOUCHED\r\n"
            case (b"incr" | b"decr", [key, delta]):
                return self._count(_checked_key(key), delta, sign=1 if name == b"incr" else -1)
            case (b"flush_all", [] | [_]):
                self._cache.clear(delay=_seconds(arguments[0]) if arguments else 0)
                return b"OK\r\n"
            case _:
                return _ERROR

    def _count(self, key: bytes, delta: bytes, *, sign: int) -> bytes:
        if not _DIGITS.fullmatch(delta) or int(delta) >= _U64:
            return b"CLIENT_ERROR invalid numeric delta argument\r\n"
        item = self._cache.get(key)
        if item is None:
            return b"NOT_FOUND\r\n"
        if not _DIGITS.fullmatch(item.value) or int(item.value) >= _U64:
            return _NOT_A_NUMBER
        number = int(item.value) + sign * int(delta)
        text = str(number % _U64 if sign > 0 else max(number, 0)).encode()
        # A shorter number keeps the length, as in memcached.
        self._cache.change(key, text.ljust(len(item.value)))
        return text + b"\r\n"

    def _get(self, key: bytes) -> Item | None:
        item = self._cache.get(_checked_key(key))
        self._counts["cmd_get"] += 1
        self._counts["get_misses" if item is None else "get_hits"] += 1
        return item

    def _touch(self, key: bytes, seconds: int) -> Item | None:
        return self._cache.touch(_checked_key(key), seconds)

    def _found(self, found: list[tuple[bytes, Item | None]], *, with_unique: bool) -> bytes:
        pieces = []
        for key, item in found:
            if item is not None:
                unique = f" {item.unique}" if with_unique else ""
                head = f" {item.flags} {len(item.value)}{unique}\r\n".encode()
                pieces += [b"VALUE ", key, head, item.value, b"\r\n"]
        return b"".join([*pieces, b"END\r\n"])

    def _stats(self) -> dict[str, object]:
        return {
            "pid": os.getpid(),
            "uptime": int(self._clock() - self._began),
            "time": int(self._clock()),
            "version": VERSION,
            **self._counts,
            "curr_items": len(self._cache),
            "bytes": self._cache.bytes,
            "evictions": self._cache.evictions,
            "limit_maxbytes": self._max_bytes,
        }


def _checked_key(key: bytes) -> bytes:
    if not 0 < len(key) <= _LONGEST_KEY:
        raise WrongLineError(_BAD_FORMAT)
    return key


def _number(text: bytes, *, below: int) -> int:
    if not re.fullmatch(rb"[0-9]{1,20}", text) or int(text) >= below:
        raise WrongLineError(_BAD_FORMAT)
    return int(text)


def _seconds(text: bytes) -> int:
    if not re.fullmatch(rb"-?[0-9]{1,12}", text):
        raise WrongLineError(b"CLIENT_ERROR invalid exptime argument\r\n")
    return int(text)
