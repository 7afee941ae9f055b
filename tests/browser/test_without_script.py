"""The pages in a browser that runs no JavaScript, or can't load the page's script."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from gaetk_longtask import Status
from tests.browser.stage import Stage
from tests.browser.states import WORKING

SOON = 8_000


@pytest.fixture
def page(visitor: Callable[..., Page]) -> Page:
    return visitor(java_script_enabled=False)


def only_task(stage: Stage) -> str:
    """Return the id of the latest task."""
    return stage.queue.tasks[-1].request.uri.partition("_longtaskid=")[2]


def test_a_form_leads_to_the_result_without_another_click(page: Page, stage: Stage) -> None:
    page.goto(stage.url)
    page.get_by_role("button", name="Report").click()
    expect(page.locator("h1")).to_have_text("Making the report")
    assert "month=March" in page.url
    task_id = only_task(stage)
    stage.begin(task_id)
    stage.report(task_id, **WORKING)
    expect(page.locator("progress")).to_have_attribute("value", "42", timeout=SOON)
    expect(page.locator(".lt-figures")).to_contain_text("about 2 minutes left")
    stage.finish(task_id)
    expect(page.locator("h1")).to_have_text("The report of March", timeout=SOON)


def test_back_from_the_result_leads_to_the_form_and_later_visits_show_a_link(page: Page, stage: Stage) -> None:
    page.goto(stage.url)
    task_id = stage.task(Status.DONE)
    page.goto(stage.page(task_id))
    expect(page.locator("h1")).to_have_text("The report of March")
    page.go_back()
    expect(page.get_by_role("button", name="Report")).to_be_visible()
    page.goto(stage.page(task_id))
    expect(page.get_by_role("link", name="Show the result")).to_be_visible()


def test_a_download_starts_by_itself_and_the_page_stays_with_a_link(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, endpoint="export", **WORKING)
    page.goto(stage.page(task_id, endpoint="export"))
    with page.expect_download(timeout=SOON) as download:
        stage.finish(task_id)
    assert download.value.suggested_filename == "export.csv"
    expect(page.locator("h1")).to_have_text("The result is ready")
    with page.expect_download():
        page.get_by_role("link", name="Show the result").click()


def test_automatic_refresh_can_be_stopped_and_resumed(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    page.get_by_role("link", name="Stop refreshing").click()
    expect(page.get_by_role("link", name="Refresh the page")).to_be_visible()
    stage.requests.clear()
    page.wait_for_timeout(2_500)
    assert [path for path, _ in stage.requests if path.startswith("/report")] == []
    page.get_by_role("link", name="Refresh the page").click()
    page.get_by_role("link", name="Refresh automatically").click()
    stage.report(task_id, **WORKING | {"step": 283})
    expect(page.locator("progress")).to_have_attribute("value", "100", timeout=SOON)


def test_a_page_that_does_not_refresh_does_not_forward_to_the_result(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    page.get_by_role("link", name="Stop refreshing").click()
    stage.finish(task_id)
    page.get_by_role("link", name="Refresh the page").click()
    expect(page.locator("h1")).to_have_text("The result is ready")
    page.get_by_role("link", name="Show the result").click()
    expect(page.locator("h1")).to_have_text("The report of March")


def test_the_refresh_interval_is_that_of_the_status_document(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, **WORKING)
    for seconds, pace in [(0, 1), (30, 2), (300, 3), (3000, 5)]:
        stage.report(task_id, seconds=seconds, **WORKING)
        with stage.app.test_client() as client:
            html = client.get(stage.page(task_id).removeprefix(stage.url)).text
        assert re.search(r'<noscript><meta http-equiv="refresh" content="(\d+);', html)[1] == str(pace)


def test_cancel_and_retry_are_buttons(page: Page, stage: Stage) -> None:
    task_id = stage.task()
    page.goto(stage.page(task_id))
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("h1")).to_have_text("The task was cancelled")
    assert stage.find(task_id).status is Status.CANCELLED
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".lt-state")).to_have_text("Waiting to start")
    assert stage.find(task_id).status is Status.READY


def test_the_page_of_a_failed_task_can_start_a_new_one(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.FAILED)
    page.goto(stage.page(task_id, more="&month=March"))
    expect(page.locator("article")).to_contain_text("Reference for support: 00c0ffee")
    page.get_by_role("link", name="Start again").click()
    expect(page.locator(".lt-state")).to_have_text("Waiting to start")
    assert task_id not in page.url
    assert "month=March" in page.url


def test_a_bookmark_that_has_expired_says_so(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.FINISHED)
    stage.clock.advance(timedelta(days=2))
    answer = page.goto(stage.page(task_id, more="&month=March"))
    assert answer is not None
    assert answer.status == 410
    expect(page.locator("h1")).to_have_text("Result expired")
    page.get_by_role("link", name="Start again").click()
    expect(page.locator(".lt-state")).to_have_text("Waiting to start")


# The browser runs JavaScript, but can't load the script.


@pytest.fixture
def scriptless(visitor: Callable[..., Page]) -> Page:
    page = visitor()
    page.route("**/longtask.js", lambda route: route.abort())
    return page


def let_ten_seconds_pass(page: Page) -> None:
    """Finish the animation that delays the link."""
    page.evaluate("document.getAnimations().forEach(each => { if (each.animationName === 'lt-late') each.finish(); })")


def test_without_the_script_a_link_appears_after_a_while_and_leads_to_the_result(
    scriptless: Page, stage: Stage
) -> None:
    scriptless.goto(stage.url)
    scriptless.get_by_role("button", name="Report").click()
    link = scriptless.get_by_role("link", name="Refresh the page")
    expect(scriptless.locator("h1")).to_have_text("Making the report")
    expect(link).to_be_hidden()
    let_ten_seconds_pass(scriptless)
    expect(link).to_be_visible()
    task_id = only_task(stage)
    stage.begin(task_id)
    stage.report(task_id, **WORKING)
    link.click()
    expect(scriptless.locator("progress")).to_have_attribute("value", "42")
    stage.finish(task_id)
    let_ten_seconds_pass(scriptless)
    link.click()
    expect(scriptless.locator("h1")).to_have_text("The report of March")


def test_a_page_that_does_not_refresh_leads_to_the_result_without_its_script(scriptless: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, **WORKING)
    scriptless.goto(stage.page(task_id, more="&_longtaskrefresh=off"))
    stage.finish(task_id)
    scriptless.get_by_role("link", name="Refresh the page").click()
    scriptless.get_by_role("link", name="Show the result").click()
    expect(scriptless.locator("h1")).to_have_text("The report of March")


def test_until_the_link_appears_the_page_looks_as_if_the_script_had_loaded(
    scriptless: Page, visitor: Callable[..., Page], stage: Stage
) -> None:
    with_script = visitor()
    url = stage.page(stage.task(Status.STARTED, **WORKING | {"eta_seconds": 3}))
    for page in (scriptless, with_script):
        page.goto(url)
    expect(with_script.locator("[data-lt=manual]")).to_have_count(0)
    assert scriptless.locator("[data-lt=manual]").count() == 1
    boxes = [page.locator("article").bounding_box() for page in (scriptless, with_script)]
    assert boxes[0] == boxes[1]
    assert scriptless.locator("article").inner_text() == with_script.locator("article").inner_text()
