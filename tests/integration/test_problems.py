"""Problem pages for people, in the visitor's language, and problem documents for programs."""

from __future__ import annotations

import re
from collections.abc import Callable

import grpc
import pytest
from flask import Flask
from flask.testing import FlaskClient
from google.cloud import ndb

from gaetk_longtask import LongRunningTaskHandler
from gaetk_longtask.dev.pieces import Piece
from gaetk_longtask.exceptions import EnqueueRefusedError
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue, put_between
from tests.support import JSON, polled

HTML = {"Accept": "text/html"}
GERMAN = {"Accept-Language": "de-DE,de;q=0.9"}
UNKNOWN = "/report?_longtaskjob=query&_longtaskid=AAAAAAAAAAAAAAAAAAAAAA"


@pytest.fixture
def client(make_app: Callable[..., Flask]) -> FlaskClient:
    class Report(LongRunningTaskHandler):
        def execute_task(self, parameters):
            """Do nothing."""

    return make_app(Report).test_client()


def heading(html: str) -> str:
    return re.search(r"<h1[^>]*>(.*?)</h1>", html)[1]


def test_a_page_speaks_the_visitors_language(client: FlaskClient) -> None:
    english = client.get(UNKNOWN, headers=HTML).text
    german = client.get(UNKNOWN, headers=HTML | GERMAN).text
    assert (heading(english), heading(german)) == ("Task not found", "Aufgabe nicht gefunden")
    assert '<html lang="de" dir="ltr">' in german
    assert "Diese Aufgabe wurde nicht gefunden." in german


def test_a_document_is_translated_in_what_is_for_people_alone(client: FlaskClient) -> None:
    english = polled(client, UNKNOWN)
    german = client.get(UNKNOWN, headers=JSON | GERMAN).json
    assert english["detail"] == "We can't find this task. Check the address, or start again."
    assert german["detail"] == "Diese Aufgabe wurde nicht gefunden. Prüfen Sie die Adresse, oder beginnen Sie neu."
    assert english | {"detail": ""} == german | {"detail": ""}


def test_values_are_put_into_the_translation(client: FlaskClient) -> None:
    answer = client.get("/report?_longtaskjob=query", headers=JSON | GERMAN)
    assert answer.json["detail"].startswith("_longtaskjob=query braucht _longtaskid")


@pytest.mark.parametrize("hostile", ["%(x)s", "%s", "100%", "<script>"])
def test_what_a_request_says_is_put_in_as_it_is(client: FlaskClient, hostile: str) -> None:
    url = "/report"
    answer = client.get(url, query_string={"_longtaskjob": hostile}, headers=JSON)
    assert answer.status_code == 400
    assert hostile in answer.json["detail"]
    assert "<script>" not in client.get(url, query_string={"_longtaskjob": hostile}, headers=HTML).text


def test_a_page_that_the_database_has_failed_comes_back_by_itself(
    client: FlaskClient, progress: InMemoryProgressStore, ndb_client: ndb.Client, datastore_piece: Piece
) -> None:
    url = client.get("/report").headers["Location"]
    progress.is_down = True
    put_between(ndb_client).lose_request("Lookup", grpc.StatusCode.PERMISSION_DENIED)
    answer = client.get(url, headers=HTML)
    assert answer.status_code == 503
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in answer.text
    assert '<a class="lt-button" href="">Refresh the page</a>' in answer.text


def test_a_start_that_was_refused_is_repeated_by_the_button_alone(client: FlaskClient, queue: InMemoryQueue) -> None:
    queue.errors.append(EnqueueRefusedError("no such queue"))
    answer = client.get("/report", headers=HTML)
    assert answer.status_code == 503
    assert "http-equiv" not in answer.text
    assert 'method="post"' in answer.text
