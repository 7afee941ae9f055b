"""The work continues and its result is committed, whatever fault the server of the progress store has."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler, LongTaskManager
from gaetk_longtask.testing import InMemoryQueue
from tests.contracts.stores import Served, store_at
from tests.relay import HANGS, HANGS_UP, NONSENSE, Relay, relay_to
from tests.support import JSON, job


class Report(LongRunningTaskHandler):
    relay: Relay

    def execute_task(self, parameters: Any) -> list[str]:
        met = []
        for fault in self.track([HANGS, HANGS_UP, *NONSENSE[:2]]):
            self.relay.break_down(fault)
            if self.relay.wait_until_struck():
                met.append(fault.name)
        return met


@pytest.mark.parametrize("kind", list(Served), ids=lambda kind: kind.name.lower())
def test_the_work_does_not_notice(
    kind: Served, request: pytest.FixtureRequest, ndb_client: ndb.Client, queue: InMemoryQueue
) -> None:
    with relay_to(request.getfixturevalue(kind.value)) as relay, store_at(kind, relay.host) as progress:
        app = Flask("tests")
        LongTaskManager(app, ndb_client=ndb_client, queue=queue, progress=progress)
        app.add_url_rule("/report", view_func=type("Faulty", (Report,), {"relay": relay}).as_view("report"))
        client = app.test_client()
        links = client.get("/report", headers=JSON).json["links"]
        assert queue.deliver(client).status_code == 200
        result = client.get(job(links["self"], "showresult"))
    assert result.get_json() == [HANGS.name, HANGS_UP.name, *(fault.name for fault in NONSENSE[:2])]
