"""The pages in a browser that runs the page's script."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from gaetk_longtask import LongTaskManager, Status
from gaetk_longtask.web.languages.language import Language
from tests.browser.clocks import let_poll
from tests.browser.stage import Stage
from tests.browser.states import STATES, WORKING

SOON = 8_000

#: Records everything that a screen reader announces, and how often the page was loaded.
WATCH = """
addEventListener("DOMContentLoaded", () => {
  window.told = [];
  const live = document.querySelector("[role=status]");
  const tell = () => live.textContent && told.push(live.textContent);
  if (live) new MutationObserver(tell).observe(live, {childList: true});
});
sessionStorage.loads = Number(sessionStorage.loads ?? 0) + 1;
"""

#: Clears everything that the script has to fill in.
FORGET = """() => {
  document.querySelectorAll("p [data-lt], [data-lt=elapsed]").forEach(each => { each.textContent = ""; });
  document.title = "";
}"""


@pytest.fixture
def page(visitor: Callable[..., Page]) -> Page:
    page = visitor()
    page.add_init_script(WATCH)
    page.clock.install()
    return page


def loads(page: Page) -> int:
    return int(page.evaluate("sessionStorage.loads"))


def told(page: Page) -> list[str]:
    return page.evaluate("told")


def is_hidden(page: Page) -> bool:
    return page.evaluate("document.hidden")


def polls(stage: Stage) -> int:
    return sum("application/json" in accept for _, accept in stage.requests)


# From the form to the result.


def test_the_page_follows_the_task_to_the_result_without_a_reload(page: Page, stage: Stage) -> None:
    page.goto(stage.url)
    page.get_by_role("button", name="Report").click()
    expect(page.locator(".lt-state")).to_have_text("Waiting to start")
    before = loads(page)
    task_id = stage.queue.tasks[-1].request.uri.partition("_longtaskid=")[2]
    stage.begin(task_id)
    let_poll(page)
    expect(page.locator(".lt-state")).to_have_text("Working", timeout=SOON)
    expect(page.locator("[data-lt=manual]")).to_have_count(0)
    stage.report(task_id, **WORKING)
    let_poll(page)
    expect(page.locator("progress")).to_have_attribute("value", "42", timeout=SOON)
    expect(page.locator(".lt-message")).to_have_text("Reading the invoices of March")
    expect(page.locator(".lt-figures")).to_contain_text("about 2 minutes left")
    expect(page).to_have_title("42% – Making the report")
    assert loads(page) == before
    stage.finish(task_id)
    let_poll(page)
    expect(page.locator("h1")).to_have_text("The report of March", timeout=SOON)
    page.go_back()
    expect(page.locator("h1")).to_have_text("The result is ready")
    page.clock.run_for(10_000)
    page.wait_for_timeout(1_500)
    expect(page.locator("h1")).to_have_text("The result is ready")
    page.get_by_role("link", name="Show the result").click()
    expect(page.locator("h1")).to_have_text("The report of March")


def test_a_download_starts_once_and_the_page_stays_with_a_link(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, endpoint="export", **WORKING)
    page.goto(stage.page(task_id, endpoint="export"))
    downloads: list[str] = []
    page.on("download", lambda download: downloads.append(download.suggested_filename))
    with page.expect_download(timeout=SOON):
        stage.finish(task_id)
        let_poll(page)
    let_poll(page)
    expect(page.locator("article")).to_have_attribute("data-status", "finished", timeout=SOON)
    expect(page).to_have_title("The result is ready – Making the export")
    page.clock.run_for(120_000)
    page.wait_for_timeout(1_000)
    assert downloads == ["export.csv"]
    assert loads(page) == 1
    with page.expect_download():
        page.get_by_role("link", name="Show the result").click()


def test_the_page_of_an_ended_task_does_not_poll(page: Page, stage: Stage) -> None:
    page.goto(stage.page(stage.task(Status.FINISHED)))
    stage.requests.clear()
    page.clock.run_for(3_600_000)
    assert polls(stage) == 0


# Cancel and retry.


def test_cancel_and_try_again(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("h1")).to_have_text("The task was cancelled")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".lt-state")).to_have_text("Waiting to start")
    assert stage.find(task_id).status is Status.READY


@pytest.mark.parametrize(("end", "heading"), [("cancel", "The task was cancelled"), ("end_attempt", "The task failed")])
def test_an_end_without_a_result_is_shown_without_a_reload(page: Page, stage: Stage, end: str, heading: str) -> None:
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    getattr(stage, end)(task_id, **({"permanent": True} if end == "end_attempt" else {}))
    let_poll(page)
    expect(page.locator("h1")).to_have_text(heading, timeout=SOON)
    expect(page).to_have_title(f"{heading} – Making the report")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    assert loads(page) == 1


def test_if_a_focused_button_disappears_the_heading_gets_the_focus(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    page.get_by_role("button", name="Cancel").focus()
    stage.cancel(task_id)
    let_poll(page)
    expect(page.locator("h1", has_text="The task was cancelled")).to_be_focused(timeout=SOON)


# Announcements for screen readers.


def test_only_start_milestones_new_attempts_and_the_end_are_announced(page: Page, stage: Stage) -> None:
    task_id = stage.task()
    page.goto(stage.page(task_id))
    stage.begin(task_id)
    page.clock.run_for(1_000)
    expect(page.locator(".lt-state")).to_have_text("Working")
    for step in (10, 26, 30, 52, 60, 99):
        stage.report(task_id, message=f"Page {step}", step=step, total_steps=100)
        page.clock.run_for(2_000)
        expect(page.locator("progress")).to_have_attribute("value", str(step))
    stage.end_attempt(task_id)
    page.clock.run_for(2_000)
    expect(page.locator("h1")).to_have_text("Trying again")
    stage.begin(task_id)
    page.clock.run_for(2_000)
    expect(page.locator(".lt-state")).to_have_text("Working, attempt 2")
    stage.end_attempt(task_id, permanent=True)
    page.clock.run_for(2_000)
    expect(page.locator("h1")).to_have_text("The task failed")
    assert told(page) == [
        "The work has started.",
        "25% done",
        "50% done",
        "75% done",
        "Attempt 2 has started.",
        "The task failed",
    ]


# The network and the tab.


def test_a_page_without_a_connection_says_so_backs_off_and_recovers(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    page.context.set_offline(True)
    page.clock.run_for(5_000)
    expect(page.locator("[data-lt=offline]")).to_be_visible(timeout=SOON)
    stage.report(task_id, **WORKING | {"step": 283})
    page.context.set_offline(False)
    page.clock.run_for(5_000)
    expect(page.locator("progress")).to_have_attribute("value", "100", timeout=SOON)
    expect(page.locator("[data-lt=offline]")).to_be_hidden()
    assert told(page) == ["75% done"]


def test_a_failing_server_is_polled_less_and_less_often(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    stage.broken.add("/report")
    stage.requests.clear()
    for asked, seconds in enumerate([1, 2, 4, 8, 16, 32, 60, 60]):
        if seconds > 2:  # the clock also advances by itself
            page.clock.run_for(1_000 * (seconds - 2))
        assert polls(stage) == asked
        with page.expect_response("**"):
            page.clock.run_for(2_000)
        page.wait_for_timeout(50)
    expect(page.locator("[data-lt=offline]")).to_be_visible()
    stage.broken.clear()
    page.clock.run_for(60_000)
    expect(page.locator("[data-lt=offline]")).to_be_hidden()


def test_a_hidden_tab_polls_at_once_when_it_is_shown(tab: Page, stage: Stage) -> None:
    tab.clock.install()
    task_id = stage.task(Status.STARTED, **WORKING)
    stage.report(task_id, seconds=700, **WORKING)  # by now, the polling interval is 5 seconds
    tab.goto(stage.page(task_id))
    other = tab.context.new_page()
    tab.wait_for_function("document.hidden", polling=50)
    tab.clock.fast_forward(3_600_000)
    stage.report(task_id, **WORKING | {"step": 283})
    assert is_hidden(tab)
    tab.bring_to_front()
    expect(tab.locator("progress")).to_have_attribute("value", "100", timeout=3_000)
    assert is_hidden(other)


def test_the_polling_interval_is_the_one_that_the_server_asks_for(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED)
    stage.report(task_id, seconds=700, **WORKING)
    page.goto(stage.page(task_id))
    stage.requests.clear()
    page.clock.run_for(3_000)
    assert polls(stage) == 0
    with page.expect_response("**"):
        page.clock.run_for(2_000)


# Bookmarks and a second browser.


def test_a_bookmark_shows_the_running_task_and_forwards_only_one_browser(
    page: Page, visitor: Callable[..., Page], stage: Stage
) -> None:
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    other = visitor()
    other.goto(stage.page(task_id))
    expect(other.locator("progress")).to_have_attribute("value", "42")
    other.close()
    stage.finish(task_id)
    let_poll(page)
    expect(page.locator("h1")).to_have_text("The report of March", timeout=SOON)
    later = visitor()
    later.goto(stage.page(task_id))
    expect(later.locator("h1")).to_have_text("The result is ready")
    later.reload()
    expect(later.locator("h1")).to_have_text("The result is ready")
    later.get_by_role("link", name="Show the result").click()
    expect(later.locator("h1")).to_have_text("The report of March")


def test_a_reloaded_page_continues_with_the_current_progress(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    page.reload()
    expect(page.locator("progress")).to_have_attribute("value", "42")
    stage.report(task_id, **WORKING | {"step": 283})
    let_poll(page)
    expect(page.locator("progress")).to_have_attribute("value", "100", timeout=SOON)


def test_a_bookmark_after_expiry_says_so(page: Page, stage: Stage) -> None:
    page.goto(STATES["expired"](stage))
    expect(page.locator("h1")).to_have_text("Result expired")


def test_a_page_whose_task_is_deleted_meanwhile_says_so(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    with stage.services.ndb_context():
        stage.find(task_id).key.delete()
    stage.progress.stored.pop(task_id)
    let_poll(page)
    expect(page.locator("h1")).to_have_text("Task not found", timeout=SOON)
    assert loads(page) == 1


# Texts.


@pytest.mark.parametrize("locale", ["en-GB", "de-DE"])
def test_server_and_script_use_the_same_words(visitor: Callable[..., Page], stage: Stage, locale: str) -> None:
    page = visitor(locale=locale)
    task_id = stage.task(Status.STARTED, **WORKING)
    for seconds in (0, 50, 700, 10_000):
        stage.report(task_id, seconds=seconds, **WORKING | {"eta_seconds": 7 + 3 * seconds, "step": 130 + seconds})
        page.goto(stage.page(task_id))
        page.evaluate("document.querySelector('[data-lt=call]').remove()")  # only the script shows it
        said = page.locator("article").inner_text()
        title = page.title()
        page.evaluate(FORGET)
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # the script polls at once
        expect(page.locator("[data-lt=elapsed]")).not_to_be_empty()
        assert page.locator("article").inner_text() == said
        assert page.title() == title


def test_a_visitor_from_germany_reads_german(visitor: Callable[..., Page], stage: Stage) -> None:
    page = visitor(locale="de-AT")
    page.goto(STATES["working"](stage))
    assert page.locator("html").get_attribute("lang") == "de"
    expect(page.locator(".lt-figures")).to_have_text("42\N{NO-BREAK SPACE}% noch etwa 2 Minuten", use_inner_text=False)
    expect(page.get_by_role("button", name="Abbrechen")).to_be_visible()


def test_a_task_without_steps_says_how_long_it_usually_takes(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, message="Asking the customs office", eta_seconds=32)
    page.goto(stage.page(task_id))
    expected = f"usually takes about {Language().estimate(36)}"
    expect(page.locator(".lt-figures")).to_contain_text(expected)
    page.evaluate("document.querySelector('[data-lt=left]').textContent = ''")
    let_poll(page)
    expect(page.locator(".lt-figures")).to_contain_text(expected, timeout=SOON)


def test_no_time_is_shown_until_it_is_a_second_and_then_nothing_moves(page: Page, stage: Stage) -> None:
    with stage.app.app_context():
        task_id = LongTaskManager.start("report", {}).id
    page.goto(stage.page(task_id))
    expect(page.locator("[data-lt=elapsed]")).to_have_text("")
    before = page.locator("article").bounding_box()
    stage.clock.advance(timedelta(seconds=1))
    let_poll(page)
    expect(page.locator("[data-lt=elapsed]")).to_have_text("1 second so far", timeout=SOON)
    assert page.locator("article").bounding_box() == before


# The page and the status document.


@pytest.mark.parametrize("status", Status)
def test_the_page_has_the_state_and_the_attempt_of_the_document(stage: Stage, status: Status) -> None:
    """Otherwise the script would fetch the page at every poll."""
    client = stage.app.test_client()
    url = stage.page(stage.task(status), more="&_longtaskrefresh=on").removeprefix(stage.url)
    document = client.get(url, headers={"Accept": "application/json"}).json
    assert document is not None
    page = client.get(url, headers={"Accept": "text/html"}).text
    assert f'data-status="{document["status"]}" data-attempt="{document["attempt"]}"' in page


# A task in a page of the application.


def test_a_page_of_the_application_shows_a_task_and_keeps_it_current(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(f"{stage.url}/desk/{task_id}")
    expect(page.locator("progress")).to_have_attribute("value", "42")
    stage.finish(task_id)
    let_poll(page)
    expect(page.get_by_role("link", name="Show the result")).to_be_visible(timeout=SOON)
    page.clock.run_for(10_000)
    page.wait_for_timeout(1_000)
    expect(page).to_have_title("Desk")


def test_without_javascript_the_task_in_a_page_is_a_link(visitor: Callable[..., Page], stage: Stage) -> None:
    page = visitor(java_script_enabled=False)
    page.goto(f"{stage.url}/desk/{stage.task()}")
    page.get_by_role("link", name="Your report").click()
    expect(page.locator("h1")).to_have_text("Making the report")
