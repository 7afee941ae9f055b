"""The operators' pages refresh in place: what is selected, focused, opened or looked at stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, expect

from gaetk_longtask import Status
from tests.browser.stage import Stage

#: The script waits that long between two refreshes.
SECONDS = 10


@pytest.fixture
def page(stage: Stage, browser: Browser) -> Page:
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    page.clock.install()
    page.set_default_timeout(10_000)
    yield page
    context.close()


@pytest.fixture
def refreshed(page: Page) -> Callable[[], None]:
    """A function that lets the page refresh, and waits for the answer."""

    def refresh() -> None:
        with page.expect_response(lambda answer: "/_longtask/tasks" in answer.url):
            page.clock.run_for(1000 * SECONDS)
        page.wait_for_function("() => new Promise((done) => { Promise.resolve().then(() => done(true)); })")

    return refresh


def test_new_tasks_appear_and_the_selection_and_the_focus_stay(
    stage: Stage, page: Page, refreshed: Callable[[], None]
) -> None:
    first = stage.task(Status.READY)
    page.goto(f"{stage.url}/_longtask/tasks")
    box = page.locator(f'input[value="{first}"]')
    box.check()
    page.locator(f'a[href$="{first}"]').focus()
    second = stage.task(Status.FAILED)
    expect(page.locator(f'[data-id="{second}"]')).to_have_count(0)
    refreshed()
    expect(page.locator(f'[data-id="{second}"]')).to_have_count(1)
    expect(box).to_be_checked()
    assert page.evaluate("document.activeElement.getAttribute('href')").endswith(first)
    expect(page.get_by_text("Refreshes every 10 seconds.")).to_be_visible()


def test_a_selected_task_that_leaves_the_page_stays_selected(
    stage: Stage, page: Page, refreshed: Callable[[], None]
) -> None:
    task = stage.task(Status.READY)
    page.goto(f"{stage.url}/_longtask/tasks?status=ready")
    page.locator(f'input[value="{task}"]').check()
    stage.cancel(task)
    refreshed()
    refreshed()
    expect(page.locator(f'input[value="{task}"]')).to_have_count(1)
    expect(page.locator(f'input[value="{task}"]')).to_be_checked()


def test_the_row_that_one_looks_at_keeps_its_place(stage: Stage, page: Page, refreshed: Callable[[], None]) -> None:
    tasks = [stage.task(Status.READY) for _ in range(20)]
    page.set_viewport_size({"width": 800, "height": 500})
    page.goto(f"{stage.url}/_longtask/tasks")
    row = page.locator(f'[data-id="{tasks[8]}"]')
    row.evaluate("row => window.scrollBy(0, row.getBoundingClientRect().top + 5)")
    anchor = row
    before = anchor.bounding_box()
    stage.task(Status.FAILED)
    refreshed()
    after = anchor.bounding_box()
    assert before is not None
    assert after is not None
    assert abs(before["y"] - after["y"]) < 2


def test_a_still_page_asks_for_nothing(stage: Stage, page: Page) -> None:
    page.goto(f"{stage.url}/_longtask/tasks")
    page.get_by_text("Stop refreshing").click()
    page.wait_for_url("**still=1")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "static" not in request.url else None)
    page.clock.run_for(1000 * 3 * SECONDS)
    assert asked == []
    page.get_by_text("Refresh automatically").click()
    page.wait_for_url(lambda url: "still" not in url)


def test_a_hidden_tab_rests(stage: Stage, page: Page) -> None:
    page.add_init_script("Object.defineProperty(document, 'hidden', { get: () => window.isHidden ?? false });")
    page.goto(f"{stage.url}/_longtask/tasks")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "static" not in request.url else None)
    page.evaluate("window.isHidden = true; document.dispatchEvent(new Event('visibilitychange'));")
    page.clock.run_for(1000 * 5 * SECONDS)
    assert asked == []
    with page.expect_response(lambda answer: "/_longtask/tasks" in answer.url):
        page.evaluate("window.isHidden = false; document.dispatchEvent(new Event('visibilitychange'));")


def test_a_page_that_gets_no_answer_says_so(stage: Stage, page: Page) -> None:
    page.goto(f"{stage.url}/_longtask/tasks")
    note = page.get_by_text("Not refreshed: the server is not responding.")
    page.route("**/_longtask/tasks", lambda route: route.abort())
    for _ in range(3):
        expect(note).to_be_hidden()
        with page.expect_event("requestfailed"):
            page.clock.run_for(1000 * SECONDS)
    expect(note).to_be_visible()


def test_without_script_tasks_are_selected_and_cancelled(stage: Stage, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    task, other = stage.task(Status.READY), stage.task(Status.READY)
    page.goto(f"{stage.url}/_longtask/tasks")
    page.locator(f'input[value="{task}"]').check()
    page.get_by_role("button", name="Cancel…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Cancel 1 task?")
    page.get_by_role("button", name="Cancel the tasks").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("1 task cancelled")
    assert stage.find(task).status is Status.CANCELLED
    assert stage.find(other).status is Status.READY
    context.close()
