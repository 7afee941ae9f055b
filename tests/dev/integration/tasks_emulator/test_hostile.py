"""Whatever a handler does, an attempt ends at its deadline, and the next task is dispatched.

``FUZZ=full`` tests 1,000 generated handlers instead of 200.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from gaetk_longtask.dev.tasks_emulator import serve
from gaetk_longtask.dev.tasks_emulator.answers import Answer, Silence
from gaetk_longtask.dev.tasks_emulator.exchange import exchange
from gaetk_longtask.dev.tasks_emulator.requests import Outgoing
from tests.dev.tasks_support import DEFAULT, PARENT, App, app_engine, connected, wait_until

MIB = 1024 * 1024
DEADLINE = timedelta(seconds=0.5)
HOSTILE = f"{PARENT}/queues/hostile"
FULL = os.environ.get("FUZZ") == "full"


@dataclass(frozen=True)
class Send:
    data: bytes


@dataclass(frozen=True)
class Flood:
    """Sends up to a gibibyte, as fast as possible."""

    piece: bytes


@dataclass(frozen=True)
class Drip:
    """Sends a byte every 20 milliseconds, for ever."""


@dataclass(frozen=True)
class Hang:
    """Neither sends nor closes."""


@dataclass(frozen=True)
class Reset:
    """Resets the connection."""


Step = Send | Flood | Drip | Hang | Reset


class HostileApp:
    """Runs the script for a request's path on its connection, and then closes it."""

    def __init__(self) -> None:
        self.scripts: dict[str, list[Step]] = {}
        self.sent = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1000)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            for step in self.scripts[head.split(b" ")[1].decode()]:
                await self._act(step, writer)
            if writer.can_write_eof():
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort() if writer.transport.is_closing() else writer.close()
            self._tasks.discard(task)

    async def _act(self, step: Step, writer: asyncio.StreamWriter) -> None:
        match step:
            case Send(data):
                writer.write(data)
                await writer.drain()
            case Flood(piece):
                for _ in range(1024 * MIB // len(piece)):
                    writer.write(piece)
                    await writer.drain()
                    self.sent += len(piece)
            case Drip():
                while True:
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.02)
            case Hang():
                await asyncio.Event().wait()
            case Reset():
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()


OK = b"HTTP/1.1 200 OK\r\n"
GOOD = Send(OK + b"Content-Length: 2\r\n\r\nok")


def answer_of(*steps: Step, method: str = "GET", deadline: timedelta = DEADLINE) -> tuple[Answer, int]:
    """Return how the exchange with a handler that takes these steps ends, and how many flooded bytes went out."""

    async def run() -> Answer:
        app = HostileApp()
        app.scripts["/x"] = list(steps)
        async with app.running() as port:
            request = Outgoing(method=method, url=f"http://127.0.0.1:{port}/x", headers={}, body=b"")
            answer = await exchange(request, deadline)
            await asyncio.sleep(0)
        nonlocal sent
        sent = app.sent
        return answer

    sent = 0
    return asyncio.run(run()), sent


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([GOOD], id="with a length"),
        pytest.param([Send(OK + b"\r\nbody")], id="without a length, closed"),
        pytest.param([Send(OK + b"Content-Length: 0\r\n\r\n"), Hang()], id="empty, kept open"),
        pytest.param([Send(OK + b"Content-Length: 2\r\n\r\nok"), Hang()], id="complete, kept open"),
        pytest.param([Send(b"HTTP/1.1 204 \r\n\r\n"), Hang()], id="204, kept open"),
        pytest.param(
            [Send(OK + b"Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\n\r\n"), Hang()], id="chunked, kept open"
        ),
        pytest.param([Send(OK + b"Content-Length: 2\r\n\r\nok and much more")], id="longer than it says"),
        pytest.param([Send(b"HTTP/1.1 100 Continue\r\n\r\n"), GOOD], id="after 100"),
        pytest.param([Send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 5), GOOD], id="after 103"),
        pytest.param([Send(b"HTTP/1.0 200\r\n\r\n")], id="HTTP/1.0 without a reason"),
        pytest.param([*(Send(bytes([byte])) for byte in GOOD.data)], id="byte by byte"),
        pytest.param([Send(OK + b"\r\n"), Flood(b"x" * 65536)], id="a gibibyte"),
        pytest.param([Send(OK + b"Content-Length: 1073741824\r\n\r\n"), Flood(b"x" * 65536)], id="a gibibyte as said"),
        pytest.param(
            [Send(OK + b"Transfer-Encoding: chunked\r\n\r\n"), Flood(b"10000\r\n" + b"x" * 65536 + b"\r\n")],
            id="a gibibyte in chunks",
        ),
        pytest.param(
            [Send(OK + b"Transfer-Encoding: chunked\r\n\r\n40000000\r\n"), Flood(b"x" * 65536)],
            id="a gibibyte, one chunk",
        ),
    ],
)
def test_an_odd_answer_is_understood(steps):
    answer, sent = answer_of(*steps, deadline=timedelta(seconds=10))

    assert answer.is_success, answer
    assert sent < 64 * MIB, "the answer should not have been read to its end"


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([], id="closed at once"),
        pytest.param([Reset()], id="reset at once"),
        pytest.param([Send(b"HTTP/1.1 200"), Reset()], id="reset in the head"),
        pytest.param([Send(OK + b"Content-Length: 100\r\n\r\nshort")], id="shorter than it says"),
        pytest.param([Send(OK + b"Content-Length: 100\r\n\r\nshort"), Reset()], id="reset in the body"),
        pytest.param([Send(OK + b"Content-Length: many\r\n\r\n")], id="a length that is no number"),
        pytest.param([Send(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")], id="a chunk size that is no number"),
        pytest.param([Send(OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nx")], id="a negative chunk size"),
        pytest.param([Send(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab")], id="a chunk that breaks off"),
        pytest.param([Send(b"hello\r\n\r\n")], id="no HTTP"),
        pytest.param([Send(b"HTTP/9.9 999999 OK\r\n\r\n")], id="no HTTP that anybody knows"),
        pytest.param([Send(b"\x00\xff" * 1000 + b"\r\n\r\n")], id="bytes"),
        pytest.param([Flood(b"x" * 65536)], id="an endless head"),
        pytest.param([Send(OK), Flood(b"X: y\r\n" * 1000)], id="endless headers"),
        pytest.param([Flood(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)], id="endless interim answers"),
    ],
)
def test_a_broken_answer_is_no_answer(steps):
    answer, sent = answer_of(*steps, deadline=timedelta(seconds=10))

    assert (answer.status, answer.silence) == (None, Silence.UNREACHABLE)
    assert answer.detail
    assert sent < 64 * MIB


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([Hang()], id="nothing"),
        pytest.param([Send(OK), Hang()], id="half a head"),
        pytest.param([Send(OK + b"Content-Length: 100\r\n\r\nshort"), Hang()], id="half a body"),
        pytest.param([Send(OK), Drip()], id="a dripping head"),
        pytest.param([Send(OK + b"\r\n"), Drip()], id="a dripping body"),
        pytest.param([Send(b"HTTP/1.1 100 Continue\r\n\r\n"), Hang()], id="an interim answer alone"),
    ],
)
def test_an_answer_that_does_not_end_meets_the_deadline(steps):
    answer, _ = answer_of(*steps)

    assert (answer.status, answer.silence) == (None, Silence.DEADLINE)


@pytest.mark.parametrize("status", [101, 301, 302, 304, 307])
def test_an_answer_that_asks_for_something_else_is_a_failure(status):
    answer, _ = answer_of(Send(b"HTTP/1.1 %d X\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n" % status))

    assert (answer.status, answer.is_success) == (status, False)


def test_an_answer_to_head_has_no_body():
    answer, _ = answer_of(Send(OK + b"Content-Length: 100\r\n\r\n"), Hang(), method="HEAD")

    assert answer.is_success


@pytest.mark.parametrize(
    ("header", "seconds"), [(b"120", 120), (b"-5", 0), (b"99999999999999999999", 3600), (b"soon", 0)]
)
def test_a_retry_after_is_read_in_seconds_and_bounded(header, seconds):
    answer, _ = answer_of(Send(b"HTTP/1.1 503 X\r\nContent-Length: 0\r\nRetry-After: %s\r\n\r\n" % header))

    assert answer.retry_after == timedelta(seconds=min(seconds, 3600))


@pytest.mark.parametrize("url", ["http:///x", "https://127.0.0.1:1/", "http://127.0.0.1:1/", "http://a..b/"])
def test_a_url_that_leads_nowhere_is_no_answer(url):
    answer = asyncio.run(exchange(Outgoing(method="GET", url=url, headers={}, body=b""), timedelta(seconds=10)))

    assert (answer.status, answer.silence) == (None, Silence.UNREACHABLE)


class BesideTheLoop:
    """Runs a hostile app in its own thread."""

    def __init__(self) -> None:
        self.app = HostileApp()
        self.port = 0
        self._up = threading.Event()
        self._stop: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._stop = lambda: loop.call_soon_threadsafe(over.set)
        async with self.app.running() as self.port:
            self._up.set()
            await over.wait()

    def __enter__(self) -> BesideTheLoop:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._thread.join()


fragments = st.sampled_from(
    [
        OK,
        b"HTTP/1.1 500 X\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 999 X\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Retry-After: 1e9\r\n",
        b"Location: http://127.0.0.1:1/\r\n",
        b": \r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"FFFFFFFFFFFFFFFFFFFF\r\n",
    ]
)
steps = st.one_of(
    st.builds(Send, st.lists(fragments, min_size=1, max_size=6).map(b"".join)),
    st.builds(Send, st.binary(min_size=1, max_size=200)),
    st.builds(Flood, st.sampled_from([b"x" * 65536, b"HTTP/1.1 100 X\r\n\r\n" * 1000, b"1\r\nx\r\n" * 5000])),
    st.sampled_from([Drip(), Hang(), Reset()]),
)


@pytest.mark.timeout(600 if FULL else 120)
@seed(1)
@settings(
    max_examples=20 if FULL else 4,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(scripts=st.lists(st.lists(steps, max_size=4), min_size=50, max_size=50).filter(len))
def test_whatever_handlers_do_the_next_task_is_dispatched_within_its_deadline(scripts):
    """Fifty generated handlers run at a time, and meanwhile a task for a well-behaved handler is dispatched."""
    good = App()
    try:
        with (
            BesideTheLoop() as hostile,
            serve(
                app_url=f"http://127.0.0.1:{hostile.port}", routes={"good": good.url}, default_deadline=DEADLINE
            ) as emulator,
            connected(emulator.host) as client,
        ):
            client.create_queue(parent=PARENT, queue={"name": HOSTILE, "retry_config": {"max_attempts": 1}})
            for number, script in enumerate(scripts):
                hostile.app.scripts[f"/{number}"] = script
                client.create_task(parent=HOSTILE, task=app_engine(f"/{number}"))
            client.create_task(parent=DEFAULT, task=app_engine("/good", app_engine_routing={"service": "good"}))

            assert good.next().path == "/good"
            wait_until(lambda: not list(client.list_tasks(parent=DEFAULT)))
            wait_until(lambda: not list(client.list_tasks(parent=HOSTILE)))
    finally:
        good.stop()
