"""Work in parts in a browser, with and without the script."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from gaetk_longtask import Status
from gaetk_longtask.info import Parts
from tests.browser.clocks import let_poll
from tests.browser.stage import Stage
from tests.browser.test_own_markup import SOON
from tests.browser.test_with_script import WATCH, loads, told

PARTS = '[data-lt="parts"]'


def done(number: int, **more: Any) -> dict[str, Any]:
    """Return the progress of a task with so many of 1,200 parts done."""
    return {"message": "Reading", "parts": Parts(done=number, total=1200), "share": number / 1201, **more}


@pytest.fixture
def page(visitor: Callable[..., Page]) -> Page:
    page = visitor()
    page.add_init_script(WATCH)
    page.clock.install()
    return page


def test_the_page_follows_the_parts_and_announces_milestones_alone(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED)
    page.goto(stage.page(task_id))
    expect(page.locator(PARTS)).to_be_empty()
    for number, shown, percent in ((1, "1 of 1,200", 0), (299, "299 of 1,200", 24), (301, "301 of 1,200", 25)):
        stage.report(task_id, **done(number))
        let_poll(page)
        expect(page.locator(PARTS)).to_have_text(f"Parts done: {shown}", timeout=SOON)
        expect(page.locator("progress")).to_have_attribute("value", str(percent))
    assert told(page) == ["25% done"]
    assert loads(page) == 1


def test_numbers_and_text_are_those_of_the_language(visitor: Callable[..., Page], stage: Stage) -> None:
    page = visitor(locale="de-DE")
    page.clock.install()
    task_id = stage.task(Status.STARTED, **done(301))
    page.goto(stage.page(task_id))
    expect(page.locator(PARTS)).to_have_text("Fertige Teile: 301 von 1.200")
    stage.report(task_id, **done(302))
    let_poll(page)
    expect(page.locator(PARTS)).to_have_text("Fertige Teile: 302 von 1.200", timeout=SOON)


def test_the_parts_are_not_shown_while_they_are_not_known(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, **done(301))
    page.goto(stage.page(task_id))
    expect(page.locator(PARTS)).not_to_be_empty()
    stage.progress.stored.clear()
    stage.report(task_id, message="Reading")
    let_poll(page)
    expect(page.locator(PARTS)).to_be_empty(timeout=SOON)
    expect(page.locator("progress")).not_to_have_attribute("value", "25")


def test_without_the_script_the_page_has_the_parts(visitor: Callable[..., Page], stage: Stage) -> None:
    page = visitor(java_script_enabled=False)
    page.goto(stage.page(stage.task(Status.STARTED, **done(301))))
    expect(page.locator(PARTS)).to_have_text("Parts done: 301 of 1,200")
