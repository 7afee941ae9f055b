"""A guarded program ends together with its starter or its guard, in any order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gaetk_longtask.dev.options import LOCAL, listen
from gaetk_longtask.dev.pieces import start_memcached
from gaetk_longtask.dev.processes import (
    MissingPieceError,
    PieceEndedError,
    Process,
    StackError,
    answers,
    free_port,
)
from tests.missing import missing

#: Starts a child, prints both process ids and sleeps. An option makes it ignore SIGTERM.
PARENT = """
import os, signal, subprocess, sys, time
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("ready:", os.getpid(), child.pid, flush=True)
time.sleep(600)
"""
STARTER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts the tests in the background ignores it
from gaetk_longtask.dev.processes import Process
process = Process("family", [sys.executable, "-c", sys.argv[1]])
print(process.ready_line(timeout_seconds=20), flush=True)
time.sleep(600)
"""


def start_family(*arguments: str) -> tuple[Process, list[int]]:
    process = Process("family", [sys.executable, "-c", PARENT, *arguments])
    return process, [int(pid) for pid in process.ready_line(timeout_seconds=20).split()]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/status")
    return not (status.exists() and "\nState:\tZ" in status.read_text())


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def gone(pids: list[int]) -> bool:
    return eventually(lambda: not any(map(alive, pids)))


@pytest.mark.parametrize("arguments", [(), ("deaf",)])
def test_stop_ends_children_too(arguments: tuple[str, ...]) -> None:
    process, pids = start_family(*arguments)
    process.stop()
    assert gone(pids)


def test_stop_may_be_called_again() -> None:
    process, _ = start_family()
    process.stop()
    process.stop()
    assert process.exit_code is not None


def test_children_of_a_dead_program_are_ended() -> None:
    process, pids = start_family()
    os.kill(pids[0], signal.SIGKILL)
    assert gone(pids)
    assert eventually(lambda: process.exit_code == 128 + signal.SIGKILL)
    process.stop()


def test_a_killed_guard_leaves_nothing() -> None:
    process, pids = start_family()
    os.kill(process._guard.pid, signal.SIGKILL)
    assert eventually(lambda: process.exit_code is not None)
    assert gone(pids)
    process.stop()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_when_the_starter_dies_no_process_is_left(how: signal.Signals) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, PARENT],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert starter.stdout is not None
    with starter:
        pids = [int(pid) for pid in starter.stdout.readline().split()]
        assert all(map(alive, pids))
        starter.send_signal(how)
        starter.wait(10)
    assert gone(pids)


def test_the_last_output_of_a_program_is_reported() -> None:
    process = Process("piece", [sys.executable, "-c", "print('no\\nspace left'); raise SystemExit(3)"])
    with pytest.raises(PieceEndedError, match=r"(?s)piece ended with exit code 3.*no\n.*space left") as caught:
        process.ready_line(timeout_seconds=20)
    assert caught.value.piece == "piece"
    process.stop()


def test_a_program_that_does_not_exist_counts_as_ended() -> None:
    process = Process("piece", ["/no/such/program"])
    with pytest.raises(PieceEndedError, match="No such file or directory: '/no/such/program'"):
        process.wait_until_ready(lambda: False, timeout_seconds=20)
    process.stop()


def test_a_program_that_is_never_ready_is_named() -> None:
    process, _ = start_family()
    with pytest.raises(PieceEndedError, match="family was not ready after 0 seconds"):
        process.wait_until_ready(lambda: False, timeout_seconds=0.1)
    process.stop()


def test_lines_are_read_in_any_encoding() -> None:
    heard: list[tuple[str, str]] = []
    process = Process(
        "piece",
        [sys.executable, "-c", "import os; os.write(1, b'gr\\xfcn\\nready: yes\\n')"],
        log=lambda name, line: heard.append((name, line)),
    )
    assert process.ready_line(timeout_seconds=20) == "yes"
    process.stop()
    assert heard == [("piece", "gr\ufffdn"), ("piece", "ready: yes")]


@pytest.mark.parametrize("port", [0, 8080])
def test_an_address_of_another_machine_is_named(port: int) -> None:
    with pytest.raises(StackError, match=r"app: can't listen on 203\.0\.113\.1 \(.*assign requested address"):
        free_port("203.0.113.1", port, name="app")


def test_any_port_is_one_that_no_outgoing_connection_takes() -> None:
    ports = [free_port() for _ in range(10)]
    assert len(set(ports)) > 5
    assert all(20_000 <= port < 32_768 for port in ports)


def test_a_port_that_is_taken_is_refused_and_says_what_to_do() -> None:
    with listen(LOCAL, 0) as listener, pytest.raises(StackError, match=r"app: port \d+ is not free .* 0 takes one"):
        free_port(LOCAL, listener.getsockname()[1], name="app")


def test_memcached_answers_and_ends() -> None:
    try:
        piece = start_memcached()
    except MissingPieceError as exc:
        missing(exc)
        raise
    with piece:
        assert answers(piece.host)
    assert not answers(piece.host)


@pytest.mark.parametrize("host", ["127.0.0.1:1", "127.0.0.1", "127.0.0.1:none", "", "no.such.host.invalid:80"])
def test_an_invalid_host_does_not_answer(host: str) -> None:
    assert not answers(host)
