"""Takes the screenshots for the docs: ``python -m tools.screenshots``.

The states of the waiting page, an upload and a page with two tasks go to ``docs/images/states/``: light, dark, and on a
phone. The operators' overview and a picture with all languages go to ``docs/images/``. This needs Chromium and a
Datastore emulator.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from google.cloud import ndb
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from werkzeug.serving import make_server

import gaetk_longtask
from gaetk_longtask import Status
from gaetk_longtask.dev.pieces import start_datastore
from sample_app.main import create_app
from tests.browser.conftest import ARGUMENTS
from tests.browser.stage import DESK, Silent, Stage
from tests.browser.states import IN_PHASES, STATES, WORKING, open_state
from tests.browser.test_upload import CHOOSE

PROJECT = "screenshots"
FOLDER = Path(__file__).parents[1] / "docs" / "images" / "states"
#: The variants of each screenshot: colour scheme and viewport.
LOOKS = {
    "light": ("light", {"width": 680, "height": 520}),
    "dark": ("dark", {"width": 680, "height": 520}),
    "phone": ("light", {"width": 375, "height": 560}),
}
#: States that look much like other states.
LEFT_OUT = {"failed-explained", "damaged", "unpressed", "problem"}
TEXT = "Invoices in March: 283\nCancelled: 4\n\nLargest: 581234, 1,204.50 pounds\nSmallest: 581301, 0.85 pounds\n"
#: States in which the script offers a notification, because the work takes long.
LONG = {"working", "working-in-phases", "working-in-parts", "second-attempt"}
#: The states that are shown in all languages.
SPOKEN = ("working-in-phases", "failed")
TRANSLATIONS = Path(gaetk_longtask.__path__[0], "translations")
LANGUAGES = ["en", *sorted(each.parent.name for each in TRANSLATIONS.glob("*/LC_MESSAGES"))]
FONTS = "On Debian: apt-get install fonts-dejavu fonts-ipafont-gothic"
UPLOAD_BYTES, BYTES_PER_SECOND = 8_000_000, 2_000_000
CARD = """<section class="longtask" data-longtask="{}"><a href="{}">A task</a></section>"""

SHEET = """<!doctype html><style>
body { margin: 16px; display: grid; grid-template-columns: repeat(5, 335px); gap: 16px; background: #f3f5f8; }
figure { margin: 0; font: 14px sans-serif; }
img { margin-top: 8px; }
</style>{}"""


def open_called(page: Page, stage: Stage) -> None:
    """Open a task that takes long, and press the button that asks for a notification."""
    open_state(page, stage, "working")
    page.locator("[data-lt=call]").click()
    page.locator("[data-lt=notified]").wait_for()


def open_dashboard(page: Page, stage: Stage) -> None:
    """Open a page of the application with two tasks."""
    importing = stage.task(Status.STARTED, endpoint="import", **IN_PHASES)
    reporting = stage.task(Status.STARTED, **WORKING)
    urls = [stage.page(importing, endpoint="import"), stage.page(reporting)]
    cards = "".join(CARD.format(url, url) for url in urls)
    head, _ = DESK.split("<main>")
    stage.desk = f'{head}<body class="longtask-page"><main>{cards}</main>'
    page.goto(f"{stage.url}/desk/both")
    page.locator("article").nth(1).wait_for()


def open_text(page: Page, stage: Stage) -> None:
    """Open a result that is text."""
    task_id = stage.task(Status.STARTED, endpoint="notes")
    stage.finish(task_id, TEXT)
    page.goto(stage.page(task_id, job="showresult", endpoint="notes"))


#: The pictures of each look: the states, and pages that need more than their URL.
PICTURES: dict[str, Callable[[Page, Stage], None]] = {
    **{name: lambda page, stage, name=name: open_state(page, stage, name) for name in STATES.keys() - LEFT_OUT},
    "text": open_text,
    "called": open_called,
    "two-tasks": open_dashboard,
}


@contextmanager
def serving_sample() -> Iterator[str]:
    """Serve the sample application without queue and progress store, and yield its URL."""
    server = make_server("127.0.0.1", 0, create_app(), threaded=True, request_handler=Silent)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()


def upload(page: Page, site: str) -> None:
    """Bring an upload half-way, in the sample application's form."""
    page.goto(site)
    page.evaluate(CHOOSE, UPLOAD_BYTES)
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": BYTES_PER_SECOND}
    page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", limits)
    page.get_by_role("button", name="Upload and import").click()
    while page.evaluate("document.querySelector('progress')?.position ?? 0") < 0.4:
        page.wait_for_timeout(50)


def new_context(browser: Browser, **more: Any) -> BrowserContext:
    """Return a context of a visitor who has allowed notifications."""
    settings = {"locale": "en-GB", "reduced_motion": "reduce", "device_scale_factor": 1}
    context = browser.new_context(**(settings | more))
    context.grant_permissions(["notifications"])
    return context


def take(browser: Browser, stage: Stage, site: str) -> None:
    """Take the screenshots in each look."""
    for look, (scheme, size) in LOOKS.items():
        context = new_context(browser, color_scheme=scheme, viewport=size)
        page = context.new_page()
        for name, open_it in PICTURES.items():
            open_it(page, stage)
            wait_for_script(page, name)
            page.screenshot(path=FOLDER / f"{name}-{look}.png", full_page=True)
        upload(page, site)
        page.locator("#import-title").scroll_into_view_if_needed()
        page.locator("section").first.screenshot(path=FOLDER / f"uploading-{look}.png")
        context.close()


def wait_for_script(page: Page, name: str) -> None:
    """Wait until the script has shown what it adds to a state."""
    if name in LONG:
        page.locator("[data-lt=call]").wait_for()


def take_overview(browser: Browser, stage: Stage) -> None:
    """Take the screenshots of the operators' overview: the list, and a task that has failed."""
    context = new_context(browser, viewport={"width": 1000, "height": 720})
    page = context.new_page()
    for name, path in (("overview", "overview-light.png"), ("overview-failed", "overview-failed-light.png")):
        open_state(page, stage, name)
        page.screenshot(path=FOLDER.parent / path, full_page=True)
    context.close()


def take_languages(browser: Browser, stage: Stage) -> None:
    """Take one picture with two states in each language."""
    figures = ""
    for language in LANGUAGES:
        context = new_context(browser, viewport={"width": 375, "height": 600}, locale=language)
        page = context.new_page()
        figures += f"<figure><figcaption>{language}</figcaption>"
        for name in SPOKEN:
            open_state(page, stage, name)
            wait_for_script(page, name)
            picture = b64encode(page.locator("article").screenshot()).decode()
            figures += f'<img src="data:image/png;base64,{picture}">'
        figures += "</figure>"
        context.close()
    context = new_context(browser, viewport={"width": 5 * 335 + 6 * 16, "height": 600})
    page = context.new_page()
    page.set_content(SHEET.replace("{}", figures))
    page.screenshot(path=FOLDER.parent / "languages.png", full_page=True)
    context.close()


def check_fonts() -> None:
    """End the program if there is no font for one of the languages."""
    for language in LANGUAGES:
        fonts = subprocess.run(["fc-list", f":lang={language}"], capture_output=True, check=True)
        if not fonts.stdout:
            raise SystemExit(f"There is no font for the language {language}. {FONTS}")


def main() -> None:
    """Start the services, take all screenshots, and stop the services."""
    check_fonts()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with start_datastore() as datastore, sync_playwright() as playwright:
        os.environ |= {"DATASTORE_EMULATOR_HOST": datastore.host, "GOOGLE_CLOUD_PROJECT": PROJECT}
        stage = Stage(ndb.Client(project=PROJECT))
        with stage.serving(), serving_sample() as site:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
            take_overview(browser, stage)
            take(browser, stage, site)
            take_languages(browser, stage)
            browser.close()


if __name__ == "__main__":
    main()
