"""The stand-in for memcached answers as memcached itself does."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pymemcache
import pytest
from pymemcache.exceptions import MemcacheClientError, MemcacheServerError

from gaetk_longtask.dev.pieces import MemcachedKind, Piece, start_memcached
from gaetk_longtask.dev.processes import MissingPieceError
from tests.missing import missing

Talk = Callable[..., bytes]
MIB = 1024 * 1024


@pytest.fixture(scope="module", params=list(MemcachedKind), ids=str)
def piece(request: pytest.FixtureRequest) -> Iterator[Piece]:
    try:
        found = start_memcached(request.param)
    except MissingPieceError as exc:
        missing(exc)
        raise
    with found:
        yield found


@pytest.fixture
def cache(piece: Piece) -> Iterator[pymemcache.Client]:
    with closing(pymemcache.Client(piece.host, timeout=20, default_noreply=False)) as client:
        client.flush_all()
        yield client


@pytest.fixture
def talk(piece: Piece, cache: pymemcache.Client) -> Talk:
    """A function that sends bytes, and returns the answer up to the one to `version`."""

    def talk(sent: bytes) -> bytes:
        host, _, port = piece.host.partition(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(sent + b"version\r\nquit\r\n")
            return connection.makefile("rb").read().partition(b"VERSION")[0]

    return talk


def test_a_value_is_stored_and_found(cache):
    cache.set("a", b"one\r\ntwo\0")
    cache.set("b", b"")
    assert cache.get_many(["a", "b", "c"]) == {"a": b"one\r\ntwo\0", "b": b""}


def test_flags_come_back(talk):
    assert talk(b"set a 4294967295 0 1\r\nx\r\nget a\r\n") == b"STORED\r\nVALUE a 4294967295 1\r\nx\r\nEND\r\n"


def test_add_stores_only_what_is_not_there(cache):
    assert (cache.add("a", b"1"), cache.add("a", b"2"), cache.get("a")) == (True, False, b"1")


def test_replace_stores_only_what_is_there(cache):
    assert cache.replace("a", b"1") is False
    cache.set("a", b"1")
    assert (cache.replace("a", b"2"), cache.get("a")) == (True, b"2")


def test_append_and_prepend_change_a_value_and_keep_its_flags(cache, talk):
    assert (cache.append("a", b"x"), cache.prepend("a", b"x")) == (False, False)
    talk(b"set a 7 0 1\r\nb\r\n")
    assert (cache.append("a", b"c"), cache.prepend("a", b"a")) == (True, True)
    assert talk(b"get a\r\n") == b"VALUE a 7 3\r\nabc\r\nEND\r\n"


def test_cas_stores_only_what_has_not_changed(cache):
    assert cache.cas("a", b"1", b"1") is None
    cache.set("a", b"1")
    _, unique = cache.gets("a")
    cache.set("a", b"2")
    assert (cache.cas("a", b"3", unique), cache.get("a")) == (False, b"2")
    _, unique = cache.gets("a")
    assert (cache.cas("a", b"3", unique), cache.get("a")) == (True, b"3")


def test_the_same_value_stored_again_is_a_change(cache):
    cache.set("a", b"1")
    _, unique = cache.gets("a")
    cache.set("a", b"1")
    assert cache.cas("a", b"2", unique) is False


def test_delete_says_whether_it_was_there(cache):
    cache.set("a", b"1")
    assert (cache.delete("a"), cache.delete("a"), cache.get("a")) == (True, False, None)


def test_numbers_are_counted(cache):
    assert cache.incr("n", 1) is None
    cache.set("n", b"10")
    assert (cache.incr("n", 5), cache.decr("n", 6), cache.decr("n", 100)) == (15, 9, 0)
    cache.set("n", str(2**64 - 1).encode())
    assert cache.incr("n", 2) == 1


def test_a_shorter_number_keeps_its_length(cache):
    cache.set("n", b"10")
    cache.decr("n", 1)
    assert cache.get("n") == b"9 "
    cache.incr("n", 0)
    assert cache.get("n") == b"9 "


def test_what_is_no_number_is_not_counted(cache, talk):
    cache.set("n", b"x")
    with pytest.raises(MemcacheClientError, match="non-numeric"):
        cache.incr("n", 1)
    assert talk(b"incr n x\r\n") == b"CLIENT_ERROR invalid numeric delta argument\r\n"


@pytest.mark.parametrize("seconds", [-1, 1_000_000_000], ids=["negative", "in the past"])
def test_a_value_that_has_expired_is_gone(cache, seconds):
    cache.set("a", b"1", expire=seconds)
    assert cache.get("a") is None
    assert cache.add("a", b"2") is True


def test_expiry_is_relative_or_a_time(cache):
    cache.set("relative", b"1", expire=1)
    cache.set("absolute", b"1", expire=int(time.time()) + 1)
    cache.set("later", b"1", expire=int(time.time()) + 1000)
    cache.set("never", b"1")
    assert len(cache.get_many(["relative", "later", "never"])) == 3

    deadline = time.monotonic() + 10
    while cache.get_many(["relative", "absolute"]):
        assert time.monotonic() < deadline
        time.sleep(0.1)

    assert sorted(cache.get_many(["relative", "absolute", "later", "never"])) == ["later", "never"]


def test_touch_and_gat_change_the_expiry(cache, talk):
    assert cache.touch("a", 10) is False
    assert talk(b"gat 10 a\r\n") == b"END\r\n"
    cache.set("a", b"1")
    assert talk(b"gat 10 a\r\n") == b"VALUE a 0 1\r\n1\r\nEND\r\n"
    assert (cache.touch("a", -1), cache.get("a")) == (True, None)
    cache.set("a", b"1")
    assert talk(b"gats -1 a\r\n").startswith(b"VALUE a 0 1 ")
    assert cache.get("a") is None


def test_flush_all_deletes_everything(cache):
    cache.set_many({"a": b"1", "b": b"2"})
    cache.flush_all()
    assert cache.get_many(["a", "b"]) == {}


def test_nothing_is_answered_after_noreply(talk):
    sent = b"set a 0 0 1 noreply\r\n1\r\nincr a 1 noreply\r\nadd a 0 0 1 noreply\r\n9\r\ntouch a 9 noreply\r\n"
    assert talk(sent + b"get a\r\n") == b"VALUE a 0 1\r\n2\r\nEND\r\n"
    assert talk(b"delete a noreply\r\nget a\r\nflush_all noreply\r\n") == b"END\r\n"


def test_noreply_also_silences_a_refusal(talk):
    assert talk(b"incr a x noreply\r\ntouch " + b"k" * 251 + b" 0 noreply\r\n") == b""


def test_other_statistics_may_be_asked_for(talk):
    assert talk(b"stats reset\r\n") == b"RESET\r\n"
    assert talk(b"stats items\r\n").endswith(b"END\r\n")


def test_commands_may_come_all_at_once(talk):
    count = 1000
    sent = b"".join(b"set k%d 0 0 3\r\n%03d\r\n" % (number, number) for number in range(count))
    assert talk(sent) == b"STORED\r\n" * count
    keys = b" ".join(b"k%d" % number for number in range(count))
    assert talk(b"get " + keys + b"\r\n").count(b"VALUE") == count


def test_a_value_that_is_too_large_is_refused_and_the_old_one_is_gone(cache):
    cache.set("a", b"old")
    with pytest.raises(MemcacheServerError, match="too large"):
        cache.set("a", b"x" * (MIB + 1))
    assert cache.get("a") is None
    cache.set("a", b"x" * (MIB - 1000))
    assert len(cache.get("a")) == MIB - 1000


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"\r\n", b"ERROR\r\n"),
        (b"nosuch\r\n", b"ERROR\r\n"),
        (b"get\r\n", b"ERROR\r\n"),
        (b"set a 0 0\r\n", b"ERROR\r\n"),
        (b"set a x 0 1\r\n", b"CLIENT_ERROR bad command line format\r\n"),
        (b"get " + b"k" * 251 + b"\r\n", b"CLIENT_ERROR bad command line format\r\n"),
        (b"touch a x\r\n", b"CLIENT_ERROR invalid exptime argument\r\n"),
    ],
)
def test_a_line_that_is_no_command_is_refused(talk, sent, answer):
    assert talk(sent) == answer


def test_it_counts(cache):
    before = cache.stats()
    cache.set("a", b"1")
    cache.get("a")
    cache.get("b")
    after = cache.stats()
    counts = {key: int(after[key]) - int(before[key]) for key in (b"cmd_set", b"get_hits", b"get_misses")}
    assert counts == {b"cmd_set": 1, b"get_hits": 1, b"get_misses": 1}
    assert int(after[b"curr_items"]) == 1
    assert cache.version()
