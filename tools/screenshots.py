"""Takes the screenshots for the docs: ``python -m tools.screenshots``.

The operators' overview goes to ``docs/images/``. The states of the waiting page go to ``docs/images/states/``: light,
dark, and on a phone. This needs Chromium and a Datastore emulator.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from google.cloud import ndb
from playwright.sync_api import Browser, sync_playwright

from gaetk_longtask.dev.pieces import start_datastore
from tests.browser.conftest import ARGUMENTS
from tests.browser.stage import Stage
from tests.browser.states import STATES, open_state

FOLDER = Path(__file__).parents[1] / "docs" / "images" / "states"
#: The variants of each screenshot: colour scheme and viewport.
LOOKS = {
    "light": ("light", {"width": 680, "height": 520}),
    "dark": ("dark", {"width": 680, "height": 520}),
    "phone": ("light", {"width": 375, "height": 560}),
}
#: States that look much like other states.
LEFT_OUT = {"failed-explained", "damaged", "text", "unpressed", "problem"}


def take(browser: Browser, stage: Stage) -> None:
    """Take the screenshots of the waiting page."""
    for look, (scheme, size) in LOOKS.items():
        context = browser.new_context(
            color_scheme=scheme, viewport=size, locale="en-GB", reduced_motion="reduce", device_scale_factor=1
        )
        page = context.new_page()
        for name in STATES.keys() - LEFT_OUT:
            open_state(page, stage, name)
            page.screenshot(path=FOLDER / f"{name}-{look}.png")
        context.close()


def take_overview(browser: Browser, stage: Stage) -> None:
    """Take the screenshot of the operators' overview."""
    page = browser.new_page(viewport={"width": 1000, "height": 720}, locale="en-GB", reduced_motion="reduce")
    open_state(page, stage, "overview")
    page.screenshot(path=FOLDER.parent / "overview-light.png")
    page.close()


def main() -> None:
    """Start the services, take all screenshots, and stop the services."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with start_datastore() as datastore, sync_playwright() as playwright:
        os.environ["DATASTORE_EMULATOR_HOST"] = datastore.host
        stage = Stage(ndb.Client(project="screenshots"))
        with stage.serving():
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
            take_overview(browser, stage)
            take(browser, stage)
            browser.close()


if __name__ == "__main__":
    main()
