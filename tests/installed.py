"""A check of the installed package. `nox -s wheel` runs it in an environment that contains nothing else."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path

from flask import Flask
from flask.testing import FlaskClient

import gaetk_longtask
from gaetk_longtask import LongRunningTaskHandler, LongTaskManager
from gaetk_longtask.dev.pieces import start_datastore
from gaetk_longtask.testing import InMemoryQueue

PACKAGE = Path(gaetk_longtask.__file__).parent
QUEUE = InMemoryQueue()
DATA = (
    "py.typed",
    "static/icon.svg",
    "static/longtask-upload.js",
    "static/longtask.css",
    "static/longtask.js",
    "static/copy.js",
    "static/overview.css",
    "templates/gaetk_longtask/status.html",
    "translations/de/LC_MESSAGES/gaetk_longtask.mo",
    "translations/formats.json",
    "translations/gaetk_longtask.pot",
)


class Squares(LongRunningTaskHandler):
    """A minimal task."""

    def execute_task(self, parameters):
        return [number**2 for number in self.track(range(int(parameters["count"])), "Multiplying")]


def main() -> None:
    check(Path(sys.prefix) in PACKAGE.parents, f"{PACKAGE} is in {sys.prefix}")
    for name in DATA:
        check((PACKAGE / name).is_file(), name)
    with start_datastore("embedded") as datastore:
        work(serve(datastore.host))
    print(f"gaetk-longtask {importlib.metadata.version('gaetk-longtask')} works in {sys.prefix}")


def serve(datastore: str) -> FlaskClient:
    """Check some pages, and return a client of the application."""
    os.environ["DATASTORE_EMULATOR_HOST"] = datastore
    app = Flask("installed")
    app.config["LONGTASK_PROJECT"] = "installed"
    LongTaskManager(app, queue=QUEUE)
    app.add_url_rule("/squares", view_func=Squares.as_view("squares"))
    client = app.test_client()
    check(client.get("/_longtask/static/longtask.css").status_code == 200, "the stylesheet is served")
    foreign = {"Sec-Fetch-Site": "cross-site", "Accept-Language": "de"}
    check("Diese Aufgabe starten?" in client.get("/squares?count=3", headers=foreign).text, "a page speaks German")
    return client


def work(client: FlaskClient) -> None:
    """Run a task from the click to its result."""
    url = client.get("/squares?count=3").headers["Location"]
    check(QUEUE.deliver(client).status_code == 200, "a task is delivered")
    check(client.get(url, follow_redirects=True).json == [0, 1, 4], "and has its result")


def check(is_so: bool, what: str) -> None:
    if not is_so:
        sys.exit(f"failed: {what}")


if __name__ == "__main__":
    main()
