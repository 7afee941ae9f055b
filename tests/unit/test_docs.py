"""The code in README.md and docs/ runs, and the names in them exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from google.appengine.api import appinfo

import gaetk_longtask
from gaetk_longtask import LongRunningTaskHandler
from gaetk_longtask.config import Config
from gaetk_longtask.web.calls import WorkCalls
from tests.pages import DOCS, ROOT, blocks, fences, file_name, run

README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
TUTORIAL = DOCS / "tutorial.md"

#: Code for pages whose blocks are not complete programs. It runs before the blocks.
AN_APP = """
from flask import Flask
app = Flask(__name__)
"""
PREPARED = {
    "events.md": "import logging",
    "identity.md": AN_APP,
    "long-jobs.md": """
from datetime import timedelta
from decimal import Decimal
from flask import Response
from google.cloud import ndb
from google.cloud.ndb import Cursor
from gaetk_longtask import LongRunningTaskHandler
self = LongRunningTaskHandler()
months = ["2026-01", "2026-02"]
days_of = list
read = str
""",
    "own-page.md": "from gaetk_longtask import LongRunningTaskHandler",
    "parts.md": "from gaetk_longtask import LongRunningTaskHandler",
    "progress.md": AN_APP,
    "tutorial.md": AN_APP,
}
#: These pages register receivers of signals or change os.environ, so they run in another process.
CHANGE_THE_PROCESS = {"events.md", "progress.md"}
#: The languages of blocks. `python2` is not run; it shows code from 2012.
LANGUAGES = {"", "css", "html+jinja", "js", "po", "python", "python2", "sh", "yaml"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path) -> None:
    prepared = PREPARED.get(page.name, "")
    if page.name not in CHANGE_THE_PROCESS:
        run(page, prepared)
        return
    program = f"import pathlib, tests.pages as pages; pages.run(pathlib.Path({str(page)!r}), {prepared!r})"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_names_its_language(page: Path) -> None:
    assert {info for info, _ in fences(page)} <= LANGUAGES
    assert len(fences(page)) * 2 == len(re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE))


def test_every_page_with_prepared_code_exists() -> None:
    assert PREPARED.keys() <= {page.name for page in PAGES}


def test_the_reference_has_every_public_name() -> None:
    listed = re.findall(r"^::: gaetk_longtask\.(\w+)$", (DOCS / "reference.md").read_text(), re.MULTILINE)
    modules = {"events", "identity", "testing"}
    assert sorted(set(listed) - modules) == sorted(gaetk_longtask.__all__)


def test_the_reference_has_everything_that_a_handler_may_override_and_call() -> None:
    reference = (DOCS / "reference.md").read_text()
    section = reference[reference.index("## The handler") : reference.index("## The manager")]
    listed = re.findall(r"^ +- (\w+)$", section, re.MULTILINE)
    flasks = {"as_view", "dispatch_request", "methods", "options"}
    own = vars(LongRunningTaskHandler) | vars(WorkCalls)
    assert set(listed) == {name for name in own if not name.startswith("_")} - flasks


@pytest.mark.parametrize("page", [DOCS / "settings.md", DOCS / "deploy.md"], ids=lambda page: page.name)
def test_the_settings_are_those_that_exist(page: Path) -> None:
    listed = re.findall(r"^\| `(LONGTASK_[A-Z_]+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(f"LONGTASK_{field.name.upper()}" for field in fields(Config))


# The tutorial.


def test_the_tutorial_names_the_wheel_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    wheels = re.findall(r"gaetk_longtask-([\w.]+)-py3-none-any\.whl", TUTORIAL.read_text())
    assert wheels
    assert set(wheels) == {version}


def test_the_tutorial_is_deployed_like_the_sample_application() -> None:
    [block] = blocks(TUTORIAL, "yaml")
    assert file_name(block) == "app.yaml"
    ours = appinfo.LoadSingleAppInfo((ROOT / "app.yaml").read_text())
    shown = appinfo.LoadSingleAppInfo(block)
    assert shlex.split(shown.entrypoint)[:-1] == shlex.split(ours.entrypoint)[:-1]
    assert shown.ToDict() | {"entrypoint": ""} == ours.ToDict() | {"entrypoint": ""}


def test_the_tutorial_runs_the_command_that_it_deploys() -> None:
    [block] = blocks(TUTORIAL, "yaml")
    command = appinfo.LoadSingleAppInfo(block).entrypoint.removeprefix("exec ")
    assert any(command in block.splitlines() for block in blocks(TUTORIAL, "sh"))
