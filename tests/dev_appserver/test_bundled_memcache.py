"""Progress works with the memcache of the Cloud SDK's dev_appserver.py. Run by ``nox -s dev_appserver``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dev_appserver.server import copy_sample_app, dev_appserver, document, documents

MAIN = """
from flask import Flask
from google.appengine.api import wrap_wsgi_app

from gaetk_longtask import LongTaskManager
from sample_app.counting import Count

app = Flask(__name__)
app.config["LONGTASK_PROGRESS_URL"] = "appengine:"
LongTaskManager(app)
app.add_url_rule("/", endpoint="index", view_func=lambda: "")
app.add_url_rule("/count/<int:seconds>", view_func=Count.as_view("count"))
app.wsgi_app = wrap_wsgi_app(app.wsgi_app)
"""


def use_bundled_services(folder: Path) -> None:
    settings = (folder / "app.yaml").read_text().replace("sample_app.main:app", "bundled:app")
    (folder / "app.yaml").write_text(f"{settings}\napp_engine_apis: true\n")
    (folder / "bundled.py").write_text(MAIN)
    pinned = (folder / "requirements.txt").read_text().splitlines()
    # Google's package requires urllib3 1.26.
    fitting = [line for line in pinned if not line.startswith("urllib3==")]
    (folder / "requirements.txt").write_text("\n".join([*fitting, "appengine-python-standard==3.1.0"]))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("app")
    copy_sample_app(folder)
    use_bundled_services(folder)
    with dev_appserver(folder) as url:
        yield url


def test_a_running_task_shows_its_progress(app: str) -> None:
    *running, last = documents(app, document(f"{app}/count/5"))
    assert last["status"] == "done"
    assert {state["progress"]["total_steps"] for state in running} >= {5}
