"""The doctor finds missing services, versions and TTL policies."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask

from gaetk_longtask.operators.doctor import AdminApi, Outcome
from gaetk_longtask.operators.doctor.platform import check_services, check_ttl
from gaetk_longtask.operators.doctor.subject import Subject
from tests.integration.doctor.planting import (
    PROJECT,
    Report,
    make,
)
from tests.support import services_of

SERVICES = f"/v1/apps/{PROJECT}/services"
FIELDS = f"/v1/projects/{PROJECT}/databases/(default)/collectionGroups"


@pytest.fixture
def google() -> Iterator[tuple[dict[str, Any], AdminApi]]:
    """A simulation of Google's REST APIs: documents by path. Other paths are 404, and None is 403."""
    documents: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = documents.get(self.path, ...)
            self.send_response(404 if document is ... else 403 if document is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(None if document is ... else document).encode())

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    with requests.Session() as session:
        yield documents, AdminApi(session=session, app_engine_url=url, firestore_url=url)
    server.shutdown()
    server.server_close()


def subject(app: Flask, admin: AdminApi) -> Subject:
    return Subject(app, services_of(app), directory=Path(), admin=admin, patience=timedelta(0))


@pytest.mark.usefixtures("in_production")
def test_services_that_are_deployed_are_well(google: tuple[dict[str, Any], AdminApi]) -> None:
    documents, admin = google
    documents |= {f"{SERVICES}/default": {}, f"{SERVICES}/worker": {}, f"{SERVICES}/default/versions/v1": {}}

    class Work(Report):
        service = "worker"

    found = list(check_services(subject(make(Report, Work, LONGTASK_SERVICE="default", LONGTASK_VERSION="v1"), admin)))
    assert [(finding.check, finding.outcome) for finding in found] == [
        ("service default, version v1", Outcome.OK),
        ("service worker", Outcome.OK),
    ]


@pytest.mark.usefixtures("in_production")
@pytest.mark.parametrize("setting", [{"LONGTASK_SERVICE": "worker"}, {"LONGTASK_VERSION": "v2"}], ids=str)
def test_a_service_or_version_that_is_not_deployed_is_found(
    google: tuple[dict[str, Any], AdminApi], setting: dict[str, str]
) -> None:
    documents, admin = google
    documents[f"{SERVICES}/default"] = {}
    [found] = check_services(subject(make(**setting), admin))
    assert found.outcome is Outcome.PROBLEM
    assert next(iter(setting)) in found.remedy


@pytest.mark.usefixtures("in_production")
@pytest.mark.parametrize("state", ["ACTIVE", "CREATING"])
def test_ttl_policies_are_well(google: tuple[dict[str, Any], AdminApi], state: str) -> None:
    documents, admin = google
    for kind in ("LongTask", "LongTaskChunk", "LongTaskPart", "LongTaskProgress", "LongTaskTraceback"):
        documents[f"{FIELDS}/{kind}/fields/expires_at"] = {"ttlConfig": {"state": state}}
    [found] = check_ttl(subject(make(), admin))
    assert found.outcome is Outcome.OK


@pytest.mark.usefixtures("in_production")
@pytest.mark.parametrize("field", [{}, {"ttlConfig": {"state": "NEEDS_REPAIR"}}], ids=str)
def test_a_missing_ttl_policy_is_found(google: tuple[dict[str, Any], AdminApi], field: dict[str, Any]) -> None:
    documents, admin = google
    for kind in ("LongTask", "LongTaskChunk", "LongTaskPart", "LongTaskTraceback"):
        documents[f"{FIELDS}/{kind}/fields/expires_at"] = {"ttlConfig": {"state": "ACTIVE"}}
    documents[f"{FIELDS}/LongTaskProgress/fields/expires_at"] = field
    [found] = check_ttl(subject(make(), admin))
    assert found.outcome is Outcome.PROBLEM
    assert "--collection-group=LongTaskProgress --enable-ttl" in found.remedy
    assert "LongTaskChunk" not in found.remedy


@pytest.mark.usefixtures("in_production")
@pytest.mark.parametrize("check", [check_services, check_ttl])
def test_without_permission_the_advice_is_how_to_check_it_manually(
    google: tuple[dict[str, Any], AdminApi], check: Any
) -> None:
    documents, admin = google
    documents |= {f"{SERVICES}/default": None, f"{FIELDS}/LongTask/fields/expires_at": None}
    [found] = check(subject(make(), admin))
    assert found.outcome is Outcome.NOT_CHECKED
    assert "403" in found.text
    assert "gcloud" in found.remedy
