"""What the clients of other languages and libraries get from a Datastore, and plain HTTP."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from google.cloud import datastore, ndb
from google.cloud.datastore.query import And, Or, PropertyFilter

from gaetk_longtask.dev.datastore_emulator.messages import REQUESTS, RESPONSES
from tests.dev.datastore_client import DatastoreClient, entity, key, properties
from tests.peers.checklist import Checklist

CLIENTS = Checklist()

_NODE = Path(__file__).with_name("datastore_node.js")
#: Where nox installs the client for Node.
NODE_MODULES = Path(__file__).parents[2] / ".nox" / "npm-peers" / "node_modules"


class Address(ndb.Model):
    city = ndb.StringProperty()


class Person(ndb.Model):
    name = ndb.StringProperty()
    address = ndb.StructuredProperty(Address)


@contextmanager
def _emulator(client: DatastoreClient) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATASTORE_EMULATOR_HOST", client.host)
        yield


@contextmanager
def python_client(client: DatastoreClient, **options: Any) -> Iterator[datastore.Client]:
    with _emulator(client):
        yield datastore.Client(project="python", **options)


@contextmanager
def ndb_context(client: DatastoreClient, **options: Any) -> Iterator[None]:
    with _emulator(client), ndb.Client(project="ndb").context(cache_policy=False, **options):
        yield


@CLIENTS("google-cloud-datastore: entities within entities, indexed by default")
def _(client: DatastoreClient) -> None:
    with python_client(client) as library:
        outer, inner = datastore.Entity(library.key("A", 1)), datastore.Entity()
        inner["city"] = "Bonn"
        outer["address"] = inner
        library.put(outer)
        found = list(library.query(kind="A", filters=[("address.city", "=", "Bonn")]).fetch())
        assert [each["address"]["city"] for each in found] == ["Bonn"]


@CLIENTS("google-cloud-datastore: count")
def _(client: DatastoreClient) -> None:
    with python_client(client) as library:
        library.put_multi([datastore.Entity(library.key("A", number)) for number in range(1, 4)])
        [[result]] = list(library.aggregation_query(library.query(kind="A")).count(alias="n").fetch())
        assert result.value == 3


@CLIENTS("google-cloud-datastore: OR of ANDs")
def _(client: DatastoreClient) -> None:
    with python_client(client) as library:
        for number in range(1, 6):
            made = datastore.Entity(library.key("A", number))
            made.update(n=number, half=number % 2)
            library.put(made)
        either = Or([And([PropertyFilter("half", "=", 1), PropertyFilter("n", ">", 4)]), PropertyFilter("n", "=", 2)])
        query = library.query(kind="A")
        query.add_filter(filter=either)
        assert [each["n"] for each in query.fetch()] == [2, 5]


@CLIENTS("google-cloud-datastore: another database")
def _(client: DatastoreClient) -> None:
    with python_client(client) as first, python_client(client, database="second") as second:
        for number, library in enumerate((first, second), 1):
            made = datastore.Entity(library.key("A", 1))
            made["n"] = number
            library.put(made)
        assert [library.get(library.key("A", 1))["n"] for library in (first, second)] == [1, 2]
        assert second.get(second.key("A", 1)).key.database == "second"


@CLIENTS("google-cloud-datastore: 1,000 entities of 10 kB")
def _(client: DatastoreClient) -> None:
    with python_client(client) as library:
        for start in range(1, 1001, 250):
            batch = []
            for number in range(start, start + 250):
                made = datastore.Entity(library.key("A", number), exclude_from_indexes=("t",))
                made["t"] = "x" * 10_000
                batch.append(made)
            library.put_multi(batch)
        assert len(list(library.query(kind="A").fetch())) == 1000


@CLIENTS("google-cloud-datastore: reserve_ids_multi")
def _(client: DatastoreClient) -> None:
    with python_client(client) as library:
        library.reserve_ids_multi([library.key("A", 7)])


@CLIENTS("google-cloud-ndb: StructuredProperty with legacy_data=False")
def _(client: DatastoreClient) -> None:
    with ndb_context(client, legacy_data=False):
        Person(name="a", address=Address(city="Bonn")).put()
        assert [person.name for person in Person.query(Person.address.city == "Bonn").fetch()] == ["a"]


@CLIENTS("google-cloud-ndb: a query without an ancestor in a transaction")
def _(client: DatastoreClient) -> None:
    with ndb_context(client):
        Person(name="a").put()
        assert ndb.transaction(lambda: Person.query(Person.name == "a").count(), retries=0) == 1


@CLIENTS("google-cloud-ndb: !=")
def _(client: DatastoreClient) -> None:
    with ndb_context(client):
        ndb.put_multi([Person(name=name) for name in "abc"])
        assert [person.name for person in Person.query(Person.name != "b").order(Person.name)] == ["a", "c"]


@CLIENTS("google-cloud-ndb: 26 entity groups in a transaction")
def _(client: DatastoreClient) -> None:
    with ndb_context(client):
        people = [Person(id=number) for number in range(1, 27)]
        assert len(ndb.transaction(lambda: ndb.put_multi(people), retries=0)) == 26


def post(client: DatastoreClient, path: str, body: bytes, content_type: str) -> tuple[int, bytes]:
    """Send a request of HTTP/1.1, and return the status and the body of the response."""
    request = urllib.request.Request(f"http://{client.host}{path}", body, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read()


@CLIENTS("REST: JSON")
def _(client: DatastoreClient) -> None:
    upsert = {"key": {"path": [{"kind": "A", "id": "1"}]}, "properties": {"n": {"integerValue": "5"}}}
    commit = json.dumps({"mode": "NON_TRANSACTIONAL", "mutations": [{"upsert": upsert}]}).encode()
    assert post(client, f"/v1/projects/{client.project}:commit", commit, "application/json")[0] == 200
    lookup = json.dumps({"keys": [upsert["key"]]}).encode()
    status, body = post(client, f"/v1/projects/{client.project}:lookup", lookup, "application/json")
    assert status == 200
    assert json.loads(body)["found"][0]["entity"]["properties"] == upsert["properties"]


@CLIENTS("REST: protobuf")
def _(client: DatastoreClient) -> None:
    client.put(entity(key("A", 1), n=5))
    lookup = REQUESTS["Lookup"](keys=[key("A", 1)]).SerializeToString()
    status, body = post(client, f"/v1/projects/{client.project}:lookup", lookup, "application/x-protobuf")
    assert status == 200
    assert properties(RESPONSES["Lookup"].FromString(body).found[0].entity) == {"n": 5}


@CLIENTS("REST: a refusal has its status and a message")
def _(client: DatastoreClient) -> None:
    update = {"update": {"key": {"path": [{"kind": "A", "id": "1"}]}}}
    commit = json.dumps({"mode": "NON_TRANSACTIONAL", "mutations": [update]}).encode()
    status, body = post(client, f"/v1/projects/{client.project}:commit", commit, "application/json")
    assert (status, json.loads(body)["error"]["status"]) == (404, "NOT_FOUND")


@CLIENTS("HTTP: GET / answers, and other paths are not found")
def _(client: DatastoreClient) -> None:
    with urllib.request.urlopen(f"http://{client.host}/", timeout=20) as response:
        assert response.read().strip() == b"Ok"
    assert post(client, "/nonsense", b"", "text/plain")[0] == 404


def _node_check(what: str) -> Callable[[DatastoreClient], None]:
    def check(client: DatastoreClient) -> None:
        failure = _node_outcome(client.host)[what]
        assert failure is None, failure

    return check


@lru_cache
def _node_outcome(host: str) -> dict[str, str | None]:
    """Run all checks of the Node client."""
    run = subprocess.run(
        ["node", str(_NODE)],
        env={**os.environ, "DATASTORE_EMULATOR_HOST": host, "NODE_PATH": str(NODE_MODULES)},
        capture_output=True,
        text=True,
        timeout=400,
        check=True,
    )
    outcome: dict[str, str | None] = json.loads(run.stdout.splitlines()[-1])
    return outcome


def has_node() -> bool:
    """Return whether the Node client can run here."""
    return shutil.which("node") is not None and (NODE_MODULES / "@google-cloud" / "datastore").is_dir()


if has_node():
    for _what in re.findall(r'^  "(.+)": async', _NODE.read_text(encoding="utf-8"), re.MULTILINE):
        CLIENTS(f"Node: {_what}")(_node_check(_what))
