"""The guard that keeps unit tests from opening sockets works."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Callable

import grpc
import pytest


@pytest.mark.parametrize(
    "reach_out",
    [
        socket.socket,
        lambda: socket.create_connection(("127.0.0.1", 1)),
        lambda: urllib.request.urlopen("http://127.0.0.1:1"),
        lambda: grpc.insecure_channel("127.0.0.1:1"),
    ],
)
def test_opening_a_socket_fails_a_unit_test(reach_out: Callable[[], object]) -> None:
    with pytest.raises(pytest.fail.Exception, match="opens no socket"):
        reach_out()


def test_a_pair_of_sockets_within_the_process_is_allowed() -> None:
    here, there = socket.socketpair()
    with here, there:
        here.sendall(b"x")
        assert there.recv(1) == b"x"
