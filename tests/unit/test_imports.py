"""Which modules an application loads, and which it does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Creates an application, and prints the loaded modules.
SERVING = """
import sys
from flask import Flask
from gaetk_longtask import LongTaskManager
app = Flask("serving")
app.config["LONGTASK_ADMIN"] = {admin}
LongTaskManager(app)
print(*sys.modules)
"""


def loaded(admin: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", SERVING.format(admin=admin)], check=True, capture_output=True, text=True, timeout=60
    )
    return set(run.stdout.split())


@pytest.fixture(scope="module")
def serving() -> set[str]:
    return loaded("None")


@pytest.mark.parametrize(
    "module", ["dev", "operators.cli", "operators.doctor", "operators.overview", "operators.pages", "testing"]
)
def test_modules_for_operators_and_tests_are_not_loaded(serving: set[str], module: str) -> None:
    assert f"gaetk_longtask.{module}" not in serving


@pytest.mark.parametrize("module", ["gaetk_longtask.progress.redis", "gaetk_longtask.web.identity", "google.appengine"])
def test_unused_modules_are_not_loaded(serving: set[str], module: str) -> None:
    assert module not in serving


def test_the_overview_is_loaded_if_it_is_enabled() -> None:
    assert "gaetk_longtask.operators.pages" in loaded("lambda: True")
