"""The items of a cache: they expire, and those that were not used for longest go if there are too many."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

#: The largest key and value together (``-I`` of memcached).
MAX_ITEM_BYTES = 1024 * 1024
#: What memcached needs for an item beside its key and value.
_OVERHEAD_BYTES = 56
#: A larger expiration time is a Unix time, and not a number of seconds from now.
_LONGEST_RELATIVE_SECONDS = 60 * 60 * 24 * 30

Mode = Literal["set", "add", "replace", "append", "prepend"]
Outcome = Literal["STORED", "NOT_STORED", "EXISTS", "NOT_FOUND", "TOO_LARGE"]


@dataclass(slots=True)
class Item:
    """A value."""

    value: bytes
    flags: int
    #: The Unix time from which on it is gone; None if it does not expire.
    expires: float | None
    #: Changes with every write.
    unique: int


class Cache:
    """Items by key; used by one thread. `clock` returns the Unix time."""

    def __init__(self, *, max_bytes: int, clock: Callable[[], float]) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._items: OrderedDict[bytes, Item] = OrderedDict()  # the one that was used last comes last
        self._unique = 0
        self._flush_at: float | None = None
        self.bytes = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: bytes) -> Item | None:
        """Return the item, if it is there and has not expired."""
        now = self._clock()
        if self._flush_at is not None and self._flush_at <= now:
            self.clear()
        item = self._items.get(key)
        if item is None:
            return None
        if item.expires is not None and item.expires <= now:
            self._drop(key)
            return None
        self._items.move_to_end(key)
        return item

    def store(self, mode: Mode, key: bytes, value: bytes, *, flags: int, seconds: int) -> Outcome:
        """Store a value as memcached's command of that name does."""
        found = self.get(key)
        if (found is None) != (mode == "add") and mode != "set":
            return "NOT_STORED"
        if found is None or mode in ("set", "replace"):
            return self._put(key, value, flags=flags, expires=self._expiry(seconds))
        value = found.value + value if mode == "append" else value + found.value
        return self._put(key, value, flags=found.flags, expires=found.expires)

    def compare_and_set(self, key: bytes, value: bytes, unique: int, *, flags: int, seconds: int) -> Outcome:
        """Store a value if the item has not changed since it was read."""
        found = self.get(key)
        if found is None:
            return "NOT_FOUND"
        if found.unique != unique:
            return "EXISTS"
        return self._put(key, value, flags=flags, expires=self._expiry(seconds))

    def change(self, key: bytes, value: bytes) -> None:
        """Replace the value of an item that is there, and keep its flags and expiry."""
        found = self._items[key]
        self._put(key, value, flags=found.flags, expires=found.expires)

    def touch(self, key: bytes, seconds: int) -> Item | None:
        """Change when an item expires, and return it."""
        if (item := self.get(key)) is not None:
            item.expires = self._expiry(seconds)
        return item

    def delete(self, key: bytes) -> bool:
        """Delete an item, and return whether it was there."""
        was_there = self.get(key) is not None
        self._drop(key)
        return was_there

    def clear(self, *, delay: int = 0) -> None:
        """Delete everything: now, or in `delay` seconds."""
        self._flush_at = self._expiry(delay) if delay > 0 else None
        if delay <= 0:
            self._items.clear()
            self.bytes = 0

    def _drop(self, key: bytes) -> None:
        if (item := self._items.pop(key, None)) is not None:
            self.bytes -= _size(key, item.value)

    def _expiry(self, seconds: int) -> float | None:
        if seconds == 0:
            return None
        if seconds < 0:
            return 0.0
        return float(seconds) if seconds > _LONGEST_RELATIVE_SECONDS else self._clock() + seconds

    def _put(self, key: bytes, value: bytes, *, flags: int, expires: float | None) -> Outcome:
        if _size(key, value) > MAX_ITEM_BYTES:
            return "TOO_LARGE"
        self._drop(key)
        self._unique += 1
        self._items[key] = Item(value=value, flags=flags, expires=expires, unique=self._unique)
        self.bytes += _size(key, value)
        while self.bytes > self._max_bytes:
            oldest, item = self._items.popitem(last=False)
            self.bytes -= _size(oldest, item.value)
            self.evictions += 1
        return "STORED"


def _size(key: bytes, value: bytes) -> int:
    return len(key) + len(value) + _OVERHEAD_BYTES
