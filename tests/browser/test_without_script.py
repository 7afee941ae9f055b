"""The journey of a visitor whose browser runs no JavaScript, or does not get the page's script."""

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
    """The task that was started last."""
    return stage.queue.tasks[-1].request.uri.partition("_longtaskid=")[2]


def test_a_form_leads_by_itself_to_the_result_page(page: Page, stage: Stage) -> None:
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


def test_back_from_the_result_is_the_page_with_the_link_or_the_form_before(page: Page, stage: Stage) -> None:
    page.goto(stage.url)
    task_id = stage.task(Status.DONE)
    page.goto(stage.page(task_id))
    expect(page.locator("h1")).to_have_text("The report of March")
    page.go_back()
    expect(page.get_by_role("button", name="Report")).to_be_visible()
    page.goto(stage.page(task_id))
    expect(page.get_by_role("link", name="Show the result")).to_be_visible()


def test_a_download_comes_by_itself_and_leaves_the_page_with_the_link(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, endpoint="export", **WORKING)
    page.goto(stage.page(task_id, endpoint="export"))
    with page.expect_download(timeout=SOON) as download:
        stage.finish(task_id)
    assert download.value.suggested_filename == "export.csv"
    expect(page.locator("h1")).to_have_text("The result is ready")
    with page.expect_download():
        page.get_by_role("link", name="Show the result").click()


def test_the_page_stops_loading_itself_anew_where_it_is_told_to_and_goes_on(page: Page, stage: Stage) -> None:
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


def test_a_stopped_page_does_not_run_off_to_the_result(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    page.get_by_role("link", name="Stop refreshing").click()
    stage.finish(task_id)
    page.get_by_role("link", name="Refresh the page").click()
    expect(page.locator("h1")).to_have_text("The result is ready")
    page.get_by_role("link", name="Show the result").click()
    expect(page.locator("h1")).to_have_text("The report of March")


def test_the_pace_is_that_of_the_status_document(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, **WORKING)
    for seconds, pace in [(0, 1), (30, 2), (300, 3), (3000, 5)]:
        stage.report(task_id, seconds=seconds, **WORKING)
        with stage.app.test_client() as client:
            html = client.get(stage.page(task_id).removeprefix(stage.url)).text
        assert re.search(r'<noscript><meta http-equiv="refresh" content="(\d+);', html)[1] == str(pace)


def test_cancel_and_try_again_are_buttons(page: Page, stage: Stage) -> None:
    task_id = stage.task()
    page.goto(stage.page(task_id))
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("h1")).to_have_text("The task was cancelled")
    assert stage.find(task_id).status is Status.CANCELLED
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".lt-state")).to_have_text("Waiting to start")
    assert stage.find(task_id).status is Status.READY


def test_a_failed_task_can_be_started_anew_from_its_page(page: Page, stage: Stage) -> None:
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
    answer = page.goto(stage.page(task_id))
    assert answer is not None
    assert answer.status == 410
    expect(page.locator("h1")).to_have_text("Result expired")
    page.get_by_role("link", name="Start again").click()
    expect(page.locator(".lt-state")).to_have_text("Waiting to start")


# Where the browser would run the script and does not get it.


@pytest.fixture
def forsaken(visitor: Callable[..., Page]) -> Page:
    page = visitor()
    page.route("**/longtask.js", lambda route: route.abort())
    return page


def let_ten_seconds_pass(page: Page) -> None:
    """To an animation, which is what holds the link back."""
    page.evaluate("document.getAnimations().forEach(each => { if (each.animationName === 'lt-late') each.finish(); })")


def test_where_the_script_does_not_come_a_link_does_after_a_while_and_leads_to_the_result(
    forsaken: Page, stage: Stage
) -> None:
    forsaken.goto(stage.url)
    forsaken.get_by_role("button", name="Report").click()
    link = forsaken.get_by_role("link", name="Refresh the page")
    expect(forsaken.locator("h1")).to_have_text("Making the report")
    expect(link).to_be_hidden()
    let_ten_seconds_pass(forsaken)
    expect(link).to_be_visible()
    task_id = only_task(stage)
    stage.begin(task_id)
    stage.report(task_id, **WORKING)
    link.click()
    expect(forsaken.locator("progress")).to_have_attribute("value", "42")
    stage.finish(task_id)
    let_ten_seconds_pass(forsaken)
    link.click()
    expect(forsaken.locator("h1")).to_have_text("The report of March")


def test_a_page_that_was_stopped_leads_on_without_its_script(forsaken: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, **WORKING)
    forsaken.goto(stage.page(task_id, more="&_longtaskrefresh=off"))
    stage.finish(task_id)
    forsaken.get_by_role("link", name="Refresh the page").click()
    forsaken.get_by_role("link", name="Show the result").click()
    expect(forsaken.locator("h1")).to_have_text("The report of March")


def test_until_the_link_shows_nothing_tells_the_page_from_one_whose_script_has_come(
    forsaken: Page, visitor: Callable[..., Page], stage: Stage
) -> None:
    with_script = visitor()
    url = stage.page(stage.task(Status.STARTED, **WORKING))
    for page in (forsaken, with_script):
        page.goto(url)
    expect(with_script.locator("[data-lt=manual]")).to_have_count(0)
    assert forsaken.locator("[data-lt=manual]").count() == 1
    boxes = [page.locator("article").bounding_box() for page in (forsaken, with_script)]
    assert boxes[0] == boxes[1]
    assert forsaken.locator("article").inner_text() == with_script.locator("article").inner_text()
