"""The embedded Datastore has every behaviour of the checklist that compares it with Google's emulators."""

from __future__ import annotations

import pytest

from tests.dev.datastore_client import DatastoreClient
from tests.peers.checklist import Behaviour
from tests.peers.datastore_clients import CLIENTS
from tests.peers.datastore_entities import ENTITIES
from tests.peers.datastore_queries import QUERIES
from tests.peers.datastore_transactions import TRANSACTIONS


@pytest.mark.parametrize("behaviour", [*ENTITIES, *QUERIES, *TRANSACTIONS, *CLIENTS], ids=str)
@pytest.mark.filterwarnings("ignore")  # of the clients
def test_it_does(behaviour: Behaviour, raw: DatastoreClient) -> None:
    behaviour.check(raw)
