"""A client of a Cloud Tasks emulator, and the application that the emulator delivers to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from google.cloud import tasks_v2

from tests.dev.tasks_support import App, connected, connected_by_rest

_numbers = itertools.count(1)


class Transport(StrEnum):
    """How the client for Python talks to the emulator."""

    GRPC = "gRPC"
    REST = "REST"


_CONNECTED: dict[Transport, Callable[[str], AbstractContextManager[tasks_v2.CloudTasksClient]]] = {
    Transport.GRPC: connected,
    Transport.REST: connected_by_rest,
}


@dataclass(frozen=True, kw_only=True)
class TasksPeer:
    """What a check gets."""

    host: str
    client: tasks_v2.CloudTasksClient
    app: App
    #: A location of its own for each check, so that checks leave nothing behind for others.
    parent: str

    @property
    def default(self) -> str:
        return f"{self.parent}/queues/default"

    def queue(self, name: str = "q", **settings: Any) -> str:
        """Create a queue, and return its name."""
        return str(
            self.client.create_queue(
                parent=self.parent, queue={"name": f"{self.parent}/queues/{name}", **settings}
            ).name
        )

    def paused(self, **settings: Any) -> str:
        """Create a queue that keeps its tasks."""
        return str(self.client.pause_queue(name=self.queue(**settings)).name)

    def delivered(self) -> Any:
        """Wait for the next request to the application."""
        return self.app.next()


@contextmanager
def peer_at(host: str, app: App, transport: Transport = Transport.GRPC) -> Iterator[TasksPeer]:
    """Connect to an emulator."""
    while not app.received.empty():  # of an earlier check that has failed
        app.received.get()
    app.answer = lambda _: 200
    with _CONNECTED[transport](host) as client:
        yield TasksPeer(host=host, client=client, app=app, parent=f"projects/peers/locations/l{next(_numbers)}")
