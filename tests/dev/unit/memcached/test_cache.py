"""The size limits of the stand-in for memcached, and its clock."""

from __future__ import annotations

from gaetk_longtask.dev.memcached.cache import MAX_ITEM_BYTES, Cache


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


def cache_of(max_bytes: int, clock: Clock | None = None) -> Cache:
    return Cache(max_bytes=max_bytes, clock=clock or Clock())


def keep(cache: Cache, key: bytes, value: bytes = b"x" * 100, seconds: int = 0) -> str:
    return cache.store("set", key, value, flags=0, seconds=seconds)


def test_what_was_not_used_for_longest_goes_first():
    cache = cache_of(500)
    for key in (b"a", b"b", b"c"):
        keep(cache, key)
    assert cache.get(b"a") is not None
    keep(cache, b"d")

    assert [key for key in (b"a", b"b", b"c", b"d") if cache.get(key) is None] == [b"b"]
    assert (cache.evictions, cache.bytes <= 500) == (1, True)


def test_a_value_that_is_replaced_needs_no_more_room():
    cache = cache_of(500)
    for _ in range(100):
        keep(cache, b"a")

    assert (len(cache), cache.evictions) == (1, 0)
    cache.delete(b"a")
    assert cache.bytes == 0


def test_a_value_that_grew_too_large_stays_as_it_was():
    cache = cache_of(10 * MAX_ITEM_BYTES)
    half = b"x" * (MAX_ITEM_BYTES // 2)
    keep(cache, b"a", half)

    assert cache.store("append", b"a", half, flags=0, seconds=0) == "TOO_LARGE"
    item = cache.get(b"a")
    assert item is not None
    assert item.value == half


def test_a_value_is_there_until_the_second_it_expires():
    clock = Clock()
    cache = cache_of(10_000, clock)
    keep(cache, b"a", seconds=5)
    clock.now += 4.9
    assert cache.get(b"a") is not None
    clock.now += 0.1
    assert cache.get(b"a") is None


def test_up_to_thirty_days_are_relative():
    clock = Clock()
    cache = cache_of(10_000, clock)
    month = 30 * 24 * 60 * 60
    keep(cache, b"a", seconds=month)
    keep(cache, b"b", seconds=month + 1)  # a day in 1970

    assert (cache.get(b"a") is None, cache.get(b"b") is None) == (False, True)


def test_what_a_delayed_flush_has_deleted_can_t_be_deleted_again():
    clock = Clock()
    cache = cache_of(10_000, clock)
    keep(cache, b"a")
    cache.clear(delay=10)
    clock.now += 10
    assert not cache.delete(b"a")
    assert len(cache) == 0


def test_everything_goes_when_a_delayed_flush_is_due():
    clock = Clock()
    cache = cache_of(10_000, clock)
    keep(cache, b"a")
    cache.clear(delay=10)
    assert cache.get(b"a") is not None
    clock.now += 10
    assert cache.get(b"a") is None
    keep(cache, b"a")
    assert cache.get(b"a") is not None
