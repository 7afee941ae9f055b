"""The sample app works under the Cloud SDK's dev_appserver.py. Run by ``nox -s dev_appserver``."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from tests.dev_appserver.server import copy_sample_app, dev_appserver, document, documents


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("app")
    copy_sample_app(folder)
    with dev_appserver(folder) as url:
        yield url


def test_a_task_is_started_watched_and_collected(app: str) -> None:
    *_, state = documents(app, document(f"{app}/count/2"))
    assert state["status"] == "done"
    with urllib.request.urlopen(app + state["links"]["result"], timeout=30) as response:
        assert response.read() == b"Counted 2 seconds."


def test_a_forged_delivery_is_refused(app: str) -> None:
    state = document(f"{app}/count/1")
    connection = HTTPConnection(urlsplit(app).netloc, timeout=30)
    # This server forwards such headers. Only the secret execute key of the task proves a delivery.
    headers = {"X-AppEngine-QueueName": "default", "X-Longtask-Execute-Key": "A" * 22}
    connection.request("GET", state["links"]["self"].replace("=query", "=execute"), headers=headers)
    assert connection.getresponse().status == 403
    connection.close()
