"""Phases and facts in a browser, with and without the script."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from gaetk_longtask import Status
from gaetk_longtask.info import Phase
from tests.browser.clocks import let_poll
from tests.browser.stage import Stage
from tests.browser.test_own_markup import ROOT, SOON, document
from tests.browser.test_with_script import WATCH, loads, told

NAMES = ("Reading", "Checking", "Storing")
#: The phases of a page as a screen reader reads them.
LIST = """() => [...document.querySelectorAll("[data-lt=phases] li")].map(each =>
  [each.textContent.trim().replace(/\\s+/g, " "), each.dataset.state, each.getAttribute("aria-current")].join("|"))"""


def at(number: int, **more: Any) -> dict[str, Any]:
    """Return the progress of a task that is in a phase."""
    return {
        "message": NAMES[number - 1],
        "phase": Phase(name=NAMES[number - 1], number=number, count=3),
        "share": (number - 1) / 3,
        **more,
    }


IN_READING = ["Reading in progress|now|step", "Checking to come|next|", "Storing to come|next|"]
IN_CHECKING = ["Reading done|done|", "Checking in progress|now|step", "Storing to come|next|"]


@pytest.fixture
def page(visitor: Callable[..., Page]) -> Page:
    page = visitor()
    page.add_init_script(WATCH)
    page.clock.install()
    return page


def test_the_page_follows_the_phases_and_announces_each_once(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, endpoint="import", **at(1))
    page.goto(stage.page(task_id, endpoint="import"))
    assert page.evaluate(LIST) == IN_READING
    stage.report(task_id, **at(2))
    let_poll(page)
    expect(page.locator("[aria-current=step]")).to_contain_text("Checking", timeout=SOON)
    assert page.evaluate(LIST) == IN_CHECKING
    expect(page.locator("progress")).to_have_attribute("value", "33")
    stage.report(task_id, **at(2, share=0.6))
    let_poll(page)
    expect(page.locator("progress")).to_have_attribute("value", "60", timeout=SOON)
    assert told(page) == ["Now: Checking", "50% done"]
    assert loads(page) == 1


def test_the_first_phase_is_announced_if_the_page_was_open_before(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, endpoint="import")
    page.goto(stage.page(task_id, endpoint="import"))
    stage.report(task_id, **at(1))
    let_poll(page)
    expect(page.locator("[aria-current=step]")).to_contain_text("Reading", timeout=SOON)
    assert told(page) == ["Now: Reading"]


def test_the_page_follows_the_facts(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, endpoint="import", **at(1))
    page.goto(stage.page(task_id, endpoint="import"))
    imported, file = (page.locator(f"[data-lt=fact-{name}]") for name in ("imported", "file"))
    expect(imported).to_have_text("–")
    stage.report(task_id, **at(1, facts={"imported": 1234.5, "file": "<b>.csv"}))
    let_poll(page)
    expect(imported).to_have_text("1,234.5", timeout=SOON)
    expect(file).to_have_text("<b>.csv")
    stage.report(task_id, **at(1, facts={"imported": 12_000}))
    let_poll(page)
    expect(imported).to_have_text("12,000", timeout=SOON)
    expect(file).to_have_text("–")


def test_the_facts_stay_when_the_task_fails(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, endpoint="import", **at(2, facts={"imported": 7}))
    page.goto(stage.page(task_id, endpoint="import"))
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("h1")).to_have_text("The task was cancelled")
    expect(page.locator("dl")).to_have_text("Imported 7", use_inner_text=True)
    expect(page.locator("[data-lt=phases]")).to_have_count(0)


@pytest.mark.parametrize("options", [{"java_script_enabled": False}, {"java_script_enabled": True}])
def test_server_and_script_write_the_same(visitor: Callable[..., Page], stage: Stage, options: dict[str, Any]) -> None:
    german = visitor(locale="de-DE", **options)
    german.clock.install()
    task_id = stage.task(Status.STARTED, endpoint="import")
    if options["java_script_enabled"]:
        german.goto(stage.page(task_id, endpoint="import"))
    stage.report(task_id, **at(2, facts={"imported": 1234.5, "file": "a.csv"}))
    if options["java_script_enabled"]:
        let_poll(german)
    else:
        german.goto(stage.page(task_id, endpoint="import"))
    expect(german.locator("[data-lt=fact-imported]")).to_have_text("1.234,5", timeout=SOON)
    expect(german.locator("[data-lt=phases] li")).to_have_text(
        ["Reading erledigt", "Checking in Arbeit", "Storing steht noch aus"], use_inner_text=False
    )
    expect(german.locator("[aria-current=step]")).to_have_count(1)


def test_the_states_are_seen_without_colours(page: Page, stage: Stage) -> None:
    page.goto(stage.page(stage.task(Status.STARTED, endpoint="import", **at(2)), endpoint="import"))
    marks = page.eval_on_selector_all(
        "[data-lt=phases] li", "each => each.map(li => getComputedStyle(li).listStyleType)"
    )
    assert [mark.strip('" ') for mark in marks] == ["✓", "●", "○"]


def test_own_markup_may_leave_them_out_or_use_the_documented_names(page: Page, stage: Stage) -> None:
    names = """<p data-lt="message"></p><ol data-lt="phases"><li>One</li><li>Two</li><li>Three</li></ol>
<b data-lt="fact-imported"></b>"""
    stage.show(document(f"<main {ROOT}><article>{names}</article></main>"))
    task_id = stage.task(Status.STARTED, endpoint="own", **at(1))
    page.goto(stage.page(task_id, endpoint="own"))
    stage.report(task_id, **at(2, facts={"imported": 12_000}))
    let_poll(page)
    expect(page.locator("[data-lt=fact-imported]")).to_have_text("12,000", timeout=SOON)
    expect(page.locator("[aria-current=step]")).to_have_text("Two")
    assert page.eval_on_selector_all("li", "each => each.map(li => li.dataset.state)") == ["done", "now", "next"]
    assert told(page)[-1] == "Now: Checking"
