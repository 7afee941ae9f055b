"""The library's own addresses in an application that matches hosts."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from google.cloud import ndb

from gaetk_longtask import LongTask, LongTaskManager
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue, ManualClock
from tests.support import Work

CRON = {"X-Appengine-Cron": "true"}
HOSTS = ["localhost", "www.example.com", "www.example.com:8080", "project.appspot.com"]


@pytest.fixture
def app(ndb_client: ndb.Client, queue: InMemoryQueue, progress: InMemoryProgressStore, clock: ManualClock) -> Flask:
    app = Flask("tests", host_matching=True, static_folder=None)
    app.config.update(LONGTASK_ADMIN=lambda: True, LONGTASK_PROJECT="project")
    LongTaskManager(app, ndb_client=ndb_client, queue=queue, progress=progress, clock=clock)
    app.add_url_rule("/work", host="<tenant>", view_func=Work.as_view("work"))
    return app


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/_longtask/static/longtask.css", {}),
        ("/_longtask/sweep", CRON),
        ("/_longtask/purge", CRON),
        ("/_longtask/tasks", {}),
        ("/_longtask/statistics", {}),
    ],
)
def test_our_own_addresses_are_answered_under_each_host(
    app: Flask, host: str, path: str, headers: dict[str, str]
) -> None:
    with app.test_client().get(path, base_url=f"https://{host}", headers=headers) as answer:
        assert answer.status_code == 200


@pytest.mark.parametrize("host", HOSTS)
def test_the_waiting_page_finds_its_files_under_its_host(app: Flask, host: str) -> None:
    client = app.test_client()
    page = client.get(client.get("/work", base_url=f"https://{host}").headers["Location"], base_url=f"https://{host}")
    files = re.findall(r'(?:src|href)="([^"]*_longtask/static/[^"]*)"', page.text)
    assert len(files) >= 2
    for file in files:
        assert file.startswith("/_longtask/static/")
        with client.get(file, base_url=f"https://{host}") as answer:
            assert answer.status_code == 200


def test_the_operators_pages_link_to_one_another(app: Flask, stored: Callable[[], list[LongTask]]) -> None:
    client, site = app.test_client(), "https://www.example.com"
    client.get("/work", base_url=site)
    [task] = stored()
    assert f'href="/_longtask/tasks/{task.id}"' in client.get("/_longtask/tasks", base_url=site).text
    assert client.get(f"/_longtask/tasks/{task.id}", base_url=site).status_code == 200
    pressed: Any = client.post(f"/_longtask/tasks/{task.id}/cancel", base_url=site)
    assert (pressed.status_code, pressed.headers["Location"]) == (303, f"/_longtask/tasks/{task.id}")
