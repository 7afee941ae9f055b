"""The Cloud Tasks emulator has every behaviour of the checklist, over gRPC and REST and from Node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gaetk_longtask.dev.tasks_emulator import serve
from tests.dev.tasks_support import App
from tests.peers.checklist import Behaviour
from tests.peers.tasks_calls import CALLS
from tests.peers.tasks_client import Transport, peer_at
from tests.peers.tasks_clients import CLIENTS
from tests.peers.tasks_deliveries import DELIVERIES


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[str, App]]:
    app = App()
    with serve(app_url=app.url) as emulator:
        yield emulator.host, app
    app.stop()


@pytest.mark.parametrize("transport", list(Transport), ids=str)
@pytest.mark.parametrize("behaviour", [*CALLS, *DELIVERIES], ids=str)
def test_it_does_over(transport: Transport, behaviour: Behaviour, place: tuple[str, App]) -> None:
    with peer_at(*place, transport) as peer:
        behaviour.check(peer)


@pytest.mark.parametrize("behaviour", CLIENTS, ids=str)
def test_it_does(behaviour: Behaviour, place: tuple[str, App]) -> None:
    with peer_at(*place) as peer:
        behaviour.check(peer)
