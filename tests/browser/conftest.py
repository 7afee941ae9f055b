"""Fixtures: Chromium, and the application under test."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud import ndb
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

from gaetk_longtask.dev.pieces import Piece
from tests.browser.stage import Stage
from tests.missing import missing

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium."""
    program = shutil.which("chromium")
    if program is None:
        missing("chromium is not installed; apt install chromium")
        raise AssertionError
    return program


# Not for the whole session: the driver leaves an event loop running, which disturbs the tests of other packages.
@pytest.fixture(scope="package")
def driver() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="package")
def browser(driver: Playwright, chromium: str) -> Iterator[Browser]:
    browser = driver.chromium.launch(executable_path=chromium, args=ARGUMENTS)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def stage(datastore_piece: Piece, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The application. The tests of a module share it, and each creates its own tasks.

    It has CSRF protection if the module says so with ``CSRF_PROTECTION = True``.
    """
    before = os.environ.get("DATASTORE_EMULATOR_HOST")
    os.environ["DATASTORE_EMULATOR_HOST"] = datastore_piece.host
    client = ndb.Client(project=f"test-{secrets.token_hex(6)}")
    stage = Stage(client, csrf_protection=getattr(request.module, "CSRF_PROTECTION", False))
    with stage.serving():
        yield stage
    del os.environ["DATASTORE_EMULATOR_HOST"]
    if before is not None:
        os.environ["DATASTORE_EMULATOR_HOST"] = before


@pytest.fixture(autouse=True)
def _mend(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test, let the application answer as usual again."""
    yield
    if "stage" in request.fixturenames:
        request.getfixturevalue("stage").mend()


def listen(context: BrowserContext) -> list[str]:
    """Return a list that collects violations of the policy and JavaScript errors."""
    complaints: list[str] = []
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("console", lambda message: "Content Security Policy" in message.text and complaints.append(message.text))
    return complaints


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a separate browser with an empty page. Policy violations and JavaScript errors fail the test."""
    contexts: list[tuple[BrowserContext, list[str]]] = []

    def open_browser(**options: Any) -> Page:
        context = browser.new_context(**{"locale": "en-GB", "accept_downloads": True} | options)
        context.set_default_timeout(10_000)
        contexts.append((context, listen(context)))
        return context.new_page()

    yield open_browser
    for context, _ in contexts:
        context.close()
    assert [complaint for _, complaints in contexts for complaint in complaints] == []


@pytest.fixture
def tab(driver: Playwright, chromium: str, tmp_path: Path) -> Iterator[Page]:
    """A tab of a browser in which background tabs are really hidden, unlike in Playwright's own browsers."""
    port_file = tmp_path / "DevToolsActivePort"
    options = ["--headless=new", "--remote-debugging-port=0", f"--user-data-dir={tmp_path}"]
    with subprocess.Popen([chromium, *options, *ARGUMENTS, "about:blank"], stderr=subprocess.DEVNULL) as process:
        try:
            while not port_file.exists() or not port_file.read_text():
                assert process.poll() is None
                time.sleep(0.05)
            url = f"http://127.0.0.1:{port_file.read_text().split()[0]}"
            browser = driver.chromium.connect_over_cdp(url, no_defaults=True)
            [context] = browser.contexts
            complaints = listen(context)
            yield context.pages[0]
            browser.close()
        finally:
            process.terminate()
    assert complaints == []


@pytest.fixture
def page(visitor: Callable[..., Page]) -> Page:
    return visitor()


@pytest.fixture(scope="session")
def npm_packages() -> Path:
    """The folder with axe-core and vnu-jar, which the nox session installs with npm."""
    folder = Path(__file__).parents[2] / ".nox" / "npm" / "node_modules"
    if not folder.is_dir():
        missing("axe-core and vnu-jar are not installed; apt install npm, and nox -s tests fetches them")
    return folder
