"""A proxy between a TCP client and its server. It counts round trips, and can simulate faults."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A fault: how the proxy handles requests."""

    name: str
    answer: bytes = b""  #: sent instead of the server's response
    hangs_up: bool = False


HANGS = Fault(name="hangs")
HANGS_UP = Fault(name="hangs up", hangs_up=True)
NONSENSE = [
    Fault(name="says nothing we know", answer=b"\x00\xff\xfe\r\n" * 20),
    Fault(name="speaks HTTP", answer=b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
    Fault(name="answers in HTTP", answer=b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xff\xff\xff"),
    Fault(name="answers packed", answer=b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnone"),
    Fault(name="never comes to the point", answer=b"*1\r\n" * 3000),
    Fault(name="answers something else", answer=b"$5\r\nhello\r\n"),
    Fault(name="refuses", answer=b"-ERR unknown command\r\n"),
    Fault(name="refuses as memcached", answer=b"SERVER_ERROR out of memory\r\n"),
    Fault(name="knows another key", answer=b"VALUE other 0 2 1\r\n[]\r\nEND\r\n"),
]
FAULTS = [HANGS, HANGS_UP, *NONSENSE]


class Relay:
    """Forwards data in both directions while there is no fault."""

    def __init__(self, server: str) -> None:
        name, _, port = server.rpartition(":")
        self._server = name, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self._connections: list[socket.socket] = []
        #: The first word of each request. For memcached, this is the command.
        self.commands: list[str] = []
        self._fault: Fault | None = None
        self._struck = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def round_trips(self) -> int:
        return len(self.commands)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def break_down(self, fault: Fault) -> None:
        self._struck.clear()
        self._fault = fault

    def recover(self) -> None:
        self._fault = None

    def wait_until_struck(self, seconds: float = 10) -> bool:
        """Wait until the fault has affected a client."""
        return self._struck.wait(seconds)

    def close(self) -> None:
        for connection in (self._listener, *self._connections):
            _close(connection)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            self._connections += [client, server]
            turn = _Turn()
            threading.Thread(target=self._pass_on, args=(client, server, turn), daemon=True).start()
            threading.Thread(target=self._pass_back, args=(server, client, turn), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket, turn: _Turn) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if not turn.is_clients:
                    turn.is_clients = True
                    self.commands += [word.decode(errors="replace") for word in data.split(maxsplit=1)[:1]]
                fault = self._fault
                if fault is None:
                    server.sendall(data)
                    continue
                self._struck.set()
                if fault.hangs_up:
                    break
                client.sendall(fault.answer)
                turn.is_clients = False
        _close(client)
        _close(server)

    def _pass_back(self, server: socket.socket, client: socket.socket, turn: _Turn) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                turn.is_clients = False
                client.sendall(data)
        _close(client)
        _close(server)


@dataclass(kw_only=True)
class _Turn:
    """Whether the client or the server is sending on a connection."""

    is_clients: bool = False


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def relay_to(server: str) -> Iterator[Relay]:
    relay = Relay(server)
    yield relay
    relay.close()
