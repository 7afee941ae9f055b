"""A hidden tab: how often it asks, what its title says at the end, and the notification that a visitor can ask for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from flask import Request, Response
from playwright.sync_api import Page, Route, expect

from gaetk_longtask import Status
from tests.browser.clocks import let_poll
from tests.browser.stage import Stage
from tests.browser.states import WORKING

SOON = 8_000
BUTTON = "[data-lt=call]"
PRESS = "Tell me when it is ready"
TITLED = "Your browser does not show notifications for this site."
CARD = '<section class="longtask" data-longtask="{{ url }}"><a href="{{ url }}">Your report</a></section>'

#: Records the browser's notifications, and how often it was asked for the permission.
RECORD = """
window.asked = 0;
window.shown = [];
const Original = window.Notification;
window.Notification = class extends Original {
  static requestPermission() {
    window.asked += 1;
    return Original.requestPermission();
  }
  constructor(title, options) {
    super(title, options);
    window.shown.push([title, options.body]);
    window.last = this;
  }
};
"""
#: A browser whose visitor answers the question in one way; that of a blocked site never asks.
ANSWERING = """
window.asked = 0;
window.shown = [];
window.Notification = class extends EventTarget {
  static permission = "BEFORE";
  static async requestPermission() {
    window.asked += 1;
    return (this.permission = "ANSWER");
  }
  constructor(title, options) {
    super();
    if (window.Notification.permission === "granted") window.shown.push([title, options.body]);
  }
  close() {}
};
"""
#: Records how many milliseconds each timer is set to.
WAITS = """
window.waits = [];
const setTimer = window.setTimeout;
window.setTimeout = (action, wait, ...rest) => {
  window.waits.push(wait);
  return setTimer(action, wait, ...rest);
};
"""
#: The browser of a phone.
ILLEGAL = """
const Original = window.Notification;
window.Notification = class extends Original {
  constructor() { throw new TypeError("Illegal constructor."); }
};
"""


def answering(answer: str, before: str = "default") -> str:
    return ANSWERING.replace("ANSWER", answer).replace("BEFORE", before)


def polls(stage: Stage) -> int:
    return sum("application/json" in accept for _, accept in stage.requests)


def started(stage: Stage, *, endpoint: str = "report", seconds: float = 60) -> str:
    """Return the id of a task that has been working for some time."""
    task_id = stage.task(Status.STARTED, endpoint=endpoint)
    stage.report(task_id, seconds=seconds, **WORKING)
    return task_id


@contextmanager
def hidden(tab: Page) -> Iterator[None]:
    """Hide the tab behind another one, and show it again."""
    other = tab.context.new_page()
    tab.wait_for_function("document.hidden", polling=50)
    yield
    other.close()
    tab.bring_to_front()


def set_clock(tab: Page) -> None:
    """Give the tab a clock that the test advances, and record the waits that its script asks for."""
    tab.clock.install()
    tab.add_init_script(WAITS)


def settle(tab: Page) -> None:
    """Wait until the script of a hidden tab has handled the last answer and waits for a minute."""
    deadline = time.monotonic() + SOON / 1_000
    while tab.evaluate("waits.at(-1)") != 60_000:
        assert time.monotonic() < deadline, "the script does not wait for a minute"
        tab.wait_for_timeout(10)


def pass_minute(tab: Page) -> None:
    """Let a minute pass in a hidden tab that asks once a minute."""
    settle(tab)
    with tab.expect_event("requestfinished"):
        tab.clock.run_for(60_000)


def signed_out(request: Request) -> Response:
    """Answer as an application does whose visitor has to sign in again."""
    script = "application/json" in request.headers["Accept"]
    return Response(status=401) if script else Response("<!doctype html><h1>Sign in</h1>")


def press(page: Page) -> None:
    page.get_by_role("button", name=PRESS).click()


# How often a hidden tab asks.


def test_a_hidden_tab_asks_once_a_minute_for_half_an_hour(tab: Page, stage: Stage) -> None:
    set_clock(tab)
    tab.goto(stage.page(started(stage)))
    with hidden(tab):
        stage.requests.clear()
        for minute in range(1, 26):
            tab.clock.run_for(58_000)
            assert polls(stage) == minute - 1
            with tab.expect_event("requestfinished"):
                tab.clock.run_for(2_000)
            settle(tab)
        for _ in range(8):  # the page's clock also goes on by itself, so the last minutes are not exact
            tab.clock.run_for(60_000)
            settle(tab)
        asked = polls(stage)
        assert asked in (28, 29, 30)
        tab.clock.run_for(3_600_000)
        tab.wait_for_timeout(100)
        assert polls(stage) == asked
        tab.context.set_offline(True)
        tab.context.set_offline(False)
        tab.wait_for_timeout(300)
        assert polls(stage) == asked


def test_after_the_press_a_hidden_tab_asks_until_the_end(tab: Page, stage: Stage) -> None:
    tab.add_init_script(answering("granted"))
    set_clock(tab)
    task_id = started(stage)
    tab.goto(stage.page(task_id))
    let_poll(tab)
    press(tab)
    with hidden(tab):
        stage.requests.clear()
        pass_minute(tab)
        with tab.expect_event("requestfinished"):
            tab.clock.fast_forward(2_400_000)
        pass_minute(tab)
        assert polls(stage) == 3
        stage.finish(task_id)
        pass_minute(tab)
        expect(tab).to_have_title("✓ Making the report")
        stage.requests.clear()
        tab.clock.run_for(3_600_000)
        tab.wait_for_timeout(100)
        assert stage.requests == []


# The end in a hidden tab.


def test_the_title_of_a_hidden_tab_says_that_the_result_is_ready_and_the_visitor_comes_back_to_it(
    tab: Page, stage: Stage
) -> None:
    set_clock(tab)
    task_id = started(stage)
    tab.goto(stage.page(task_id))
    with hidden(tab):
        stage.finish(task_id)
        pass_minute(tab)
        expect(tab).to_have_title("✓ Making the report")
        expect(tab.locator("h1")).to_have_text("The result is ready")
        assert stage.find(task_id).status is Status.DONE
    expect(tab.locator("h1")).to_have_text("The report of March", timeout=SOON)


@pytest.mark.parametrize("end", ["cancel", "end_attempt"])
def test_the_title_of_a_hidden_tab_says_that_there_will_be_no_result(tab: Page, stage: Stage, end: str) -> None:
    set_clock(tab)
    task_id = started(stage)
    tab.goto(stage.page(task_id))
    with hidden(tab):
        getattr(stage, end)(task_id, **({"permanent": True} if end == "end_attempt" else {}))
        pass_minute(tab)
        expect(tab).to_have_title("✗ Making the report")
    expect(tab).to_have_title(f"{tab.locator('h1').inner_text()} – Making the report")


def test_a_task_that_vanishes_ends_without_a_result(tab: Page, stage: Stage) -> None:
    set_clock(tab)
    task_id = started(stage)
    tab.goto(stage.page(task_id))
    with hidden(tab):
        with stage.services.ndb_context():
            stage.find(task_id).key.delete()
        stage.progress.stored.pop(task_id)
        pass_minute(tab)
        expect(tab).to_have_title("✗ Making the report")
    expect(tab.locator("h1")).to_have_text("Task not found")


def test_a_hidden_tab_does_not_download_before_it_is_shown(tab: Page, stage: Stage) -> None:
    set_clock(tab)
    task_id = started(stage, endpoint="export")
    tab.goto(stage.page(task_id, endpoint="export"))
    with hidden(tab):
        stage.finish(task_id)
        pass_minute(tab)
        expect(tab).to_have_title("✓ Making the export")
        assert stage.find(task_id).status is Status.DONE
    expect(tab).to_have_title("The result is ready – Making the export")
    tab.wait_for_timeout(500)
    assert stage.find(task_id).status is Status.FINISHED


def test_a_frozen_tab_catches_up_when_it_is_shown(tab: Page, stage: Stage) -> None:
    task_id = started(stage)
    tab.goto(stage.page(task_id))
    with hidden(tab):
        session = tab.context.new_cdp_session(tab)
        session.send("Page.setWebLifecycleState", {"state": "frozen"})
        stage.requests.clear()
        stage.finish(task_id)
        tab.context.pages[-1].wait_for_timeout(2_000)
        assert stage.requests == []
        session.send("Page.setWebLifecycleState", {"state": "active"})
    expect(tab.locator("h1")).to_have_text("The report of March", timeout=SOON)


def test_a_hidden_tab_does_not_open_the_login(tab: Page, stage: Stage) -> None:
    set_clock(tab)
    tab.goto(stage.page(started(stage)))
    with hidden(tab):
        stage.instead = signed_out
        stage.requests.clear()
        pass_minute(tab)
        assert all("application/json" in accept for _, accept in stage.requests)
    expect(tab.locator("h1")).to_have_text("Sign in", timeout=SOON)


# The press.


def test_the_permission_is_asked_for_at_the_press_and_a_notification_is_shown_at_the_end(
    page: Page, stage: Stage
) -> None:
    page.add_init_script(answering("granted"))
    page.clock.install()
    task_id = started(stage, endpoint="export")
    page.goto(stage.page(task_id, endpoint="export"))
    let_poll(page)
    button = page.get_by_role("button", name=PRESS)
    expect(button).to_have_attribute("aria-pressed", "false")
    assert page.evaluate("asked") == 0
    press(page)
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(button).to_be_focused()
    expect(page.get_by_text("You will get a notification. Keep this tab open.").first).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("You will get a notification. Keep this tab open.")
    expect(page.locator("[data-lt=leave]")).to_be_hidden()
    assert page.evaluate("[asked, shown]") == [1, []]
    stage.finish(task_id)
    let_poll(page)
    expect(page.locator("h1")).to_have_text("The result is ready", timeout=SOON)
    let_poll(page)
    expect(page.locator("article")).to_have_attribute("data-status", "finished", timeout=SOON)
    assert page.evaluate("shown") == [["✓ Making the export", "The result is ready"]]
    assert page.evaluate("asked") == 1


def test_the_browsers_own_notifications_work(tab: Page, stage: Stage) -> None:
    tab.context.grant_permissions(["notifications"])
    tab.add_init_script(RECORD)
    set_clock(tab)
    task_id = started(stage)
    tab.goto(stage.page(task_id))
    let_poll(tab)
    press(tab)
    expect(tab.locator("[data-lt=notified]")).to_be_visible()
    assert tab.evaluate("shown") == []  # none only to find out whether they work
    with hidden(tab):
        stage.end_attempt(task_id, permanent=True)
        pass_minute(tab)
        expect(tab).to_have_title("✗ Making the report")
        assert tab.evaluate("shown") == [["✗ Making the report", "The task failed"]]
        tab.evaluate("window.focus = () => { window.focussed = true; }; last.dispatchEvent(new Event('click'))")
        assert tab.evaluate("focussed") is True


@pytest.mark.parametrize(
    "browser",
    [answering("denied", "denied"), answering("denied"), answering("default")],
    ids=["blocked", "refused", "dismissed"],
)
def test_without_the_permission_the_title_is_what_is_left(tab: Page, stage: Stage, browser: str) -> None:
    tab.add_init_script(browser)
    set_clock(tab)
    task_id = started(stage)
    tab.goto(stage.page(task_id))
    let_poll(tab)
    press(tab)
    expect(tab.locator("[data-lt=titled]")).to_contain_text(TITLED)
    expect(tab.locator("[data-lt=titled]")).to_be_visible()
    expect(tab.locator("[data-lt=notified]")).to_be_hidden()
    with hidden(tab):
        with tab.expect_event("requestfinished"):
            tab.clock.fast_forward(2_400_000)
        stage.finish(task_id)
        pass_minute(tab)
        expect(tab).to_have_title("✓ Making the report")
        assert tab.evaluate("shown") == []
    expect(tab.locator("h1")).to_have_text("The report of March", timeout=SOON)


@pytest.mark.parametrize("browser", ["delete window.Notification;", ILLEGAL], ids=["none", "a phone"])
def test_where_notifications_do_not_work_there_is_no_button_but_the_title(
    tab: Page, stage: Stage, browser: str
) -> None:
    tab.add_init_script(browser)
    set_clock(tab)
    task_id = started(stage)
    tab.goto(stage.page(task_id))
    tab.clock.run_for(5_000)
    expect(tab.locator("[data-lt=percent]")).to_have_text("42%")
    expect(tab.locator(BUTTON)).to_be_hidden()
    with hidden(tab):
        stage.finish(task_id)
        pass_minute(tab)
        expect(tab).to_have_title("✓ Making the report")
    expect(tab.locator("h1")).to_have_text("The report of March", timeout=SOON)


def test_there_is_no_button_on_an_insecure_page(page: Page, stage: Stage) -> None:
    def serve(route: Route) -> None:
        route.fulfill(response=route.fetch(url=route.request.url.replace("http://shop.example", stage.url)))

    page.route("http://shop.example/**", serve)
    page.clock.install()
    page.goto(stage.page(started(stage)).replace(stage.url, "http://shop.example"))
    assert page.evaluate("isSecureContext") is False
    elapsed = page.locator("[data-lt=elapsed]")
    elapsed.evaluate("each => { each.textContent = ''; }")
    let_poll(page)
    expect(elapsed).not_to_be_empty(timeout=SOON)
    expect(page.locator(BUTTON)).to_be_hidden()


@pytest.mark.parametrize(("host", "offered"), [("127.0.0.1", True), ("localhost", False)])
def test_there_is_no_button_in_a_frame_of_another_site(page: Page, stage: Stage, host: str, offered: bool) -> None:
    def unprotected(route: Route) -> None:
        answer = route.fetch()
        headers = {
            name: value for name, value in answer.headers.items() if "policy" not in name and "frame" not in name
        }
        route.fulfill(response=answer, headers=headers)

    page.route(f"{stage.url}/**", unprotected)
    outside = stage.url.replace("127.0.0.1", host) + "/outside"
    frame = f'<iframe src="{stage.page(started(stage))}" width="600" height="500"></iframe>'
    page.route(outside, lambda route: route.fulfill(body=f"<!doctype html>{frame}", content_type="text/html"))
    page.clock.install()
    page.goto(outside)
    inside = page.frame_locator("iframe")
    expect(inside.locator("[data-lt=manual]")).to_have_count(0)
    elapsed = inside.locator("[data-lt=elapsed]")
    elapsed.evaluate("each => { each.textContent = ''; }")
    let_poll(page)
    expect(elapsed).not_to_be_empty(timeout=2 * SOON)
    expect(inside.locator(BUTTON)).to_be_visible(visible=offered)


def test_the_button_is_for_work_that_takes_longer_than_ten_seconds(page: Page, stage: Stage) -> None:
    page.clock.install()
    short = {"message": "Reading", "step": 1, "total_steps": 4}
    task_id = stage.task(Status.STARTED, **short)
    page.goto(stage.page(task_id))
    for seconds, eta, offered in ((1, 3, False), (3, None, False), (3, None, True)):
        stage.report(task_id, seconds=seconds, **short, eta_seconds=eta)
        with page.expect_response("**"):
            page.clock.run_for(2_000)
        expect(page.locator("[data-lt=elapsed]")).to_contain_text("seconds so far")
        page.wait_for_timeout(100)
        assert page.locator(BUTTON).is_visible() is offered, seconds
    expect(page.locator(BUTTON)).to_have_text(PRESS)
    assert page.locator(BUTTON).evaluate("button => button.matches(':disabled')") is False


def test_the_button_is_offered_at_once_if_much_time_is_left(page: Page, stage: Stage) -> None:
    page.clock.install()
    page.goto(stage.page(stage.task(Status.STARTED, **WORKING)))
    let_poll(page)
    expect(page.locator(BUTTON)).to_be_visible(timeout=SOON)


def test_a_second_press_takes_the_first_one_back(page: Page, stage: Stage) -> None:
    page.add_init_script(answering("granted"))
    page.clock.install()
    task_id = started(stage, endpoint="export")
    page.goto(stage.page(task_id, endpoint="export"))
    let_poll(page)
    press(page)
    expect(page.locator("[data-lt=notified]")).to_be_visible()
    press(page)
    expect(page.locator(BUTTON)).to_have_attribute("aria-pressed", "false")
    expect(page.locator("[data-lt=notified]")).to_be_hidden()
    stage.finish(task_id)
    let_poll(page)
    expect(page.locator("h1")).to_have_text("The result is ready", timeout=SOON)
    assert page.evaluate("[asked, shown]") == [1, []]


def test_the_press_outlasts_a_new_attempt_and_a_reload(page: Page, stage: Stage) -> None:
    page.add_init_script(answering("granted", "granted"))
    page.clock.install()
    task_id = started(stage, endpoint="export")
    page.goto(stage.page(task_id, endpoint="export"))
    let_poll(page)
    press(page)
    stage.end_attempt(task_id)
    let_poll(page)
    expect(page.locator("h1")).to_have_text("Trying again", timeout=SOON)
    expect(page.locator(BUTTON)).to_have_attribute("aria-pressed", "true")
    page.reload()
    let_poll(page)
    expect(page.locator(BUTTON)).to_have_attribute("aria-pressed", "true", timeout=SOON)
    expect(page.locator("[data-lt=notified]")).to_be_visible()
    stage.begin(task_id)
    stage.finish(task_id)
    let_poll(page)
    expect(page.locator("h1")).to_have_text("The result is ready", timeout=SOON)
    assert page.evaluate("[asked, shown]") == [0, [["✓ Making the export", "The result is ready"]]]
    page.reload()
    assert page.evaluate("shown") == []


def test_without_storage_the_press_lasts_as_long_as_the_page(page: Page, stage: Stage) -> None:
    page.add_init_script("Object.defineProperty(window, 'sessionStorage', {get() { throw new DOMException('no'); }});")
    page.add_init_script(answering("granted"))
    page.clock.install()
    page.goto(stage.page(started(stage)))
    let_poll(page)
    press(page)
    expect(page.locator("[data-lt=notified]")).to_be_visible()


def test_a_visitor_from_germany_is_called_in_german(visitor: Callable[..., Page], stage: Stage) -> None:
    page = visitor(locale="de-DE")
    page.add_init_script(answering("granted"))
    page.clock.install()
    task_id = started(stage, endpoint="export")
    page.goto(stage.page(task_id, endpoint="export"))
    let_poll(page)
    page.get_by_role("button", name="Benachrichtigen, wenn es fertig ist").click()
    expect(page.locator("[data-lt=notified]")).to_contain_text("Sie werden benachrichtigt.")
    stage.finish(task_id)
    let_poll(page)
    expect(page.locator("h1")).to_have_text("Das Ergebnis ist fertig", timeout=SOON)
    assert page.evaluate("shown") == [["✓ Making the export", "Das Ergebnis ist fertig"]]


# Two tasks on one page of the application.


def test_two_tasks_on_a_dashboard_are_called_back_separately(tab: Page, stage: Stage) -> None:
    tab.add_init_script(answering("granted"))
    set_clock(tab)
    report, export = started(stage), started(stage, endpoint="export")
    more = CARD.replace("{{ url }}", stage.page(export, endpoint="export").removeprefix(stage.url))
    stage.desk = stage.desk.replace("</main>", f"{more}</main>")
    tab.goto(f"{stage.url}/desk/{report}")
    cards = tab.locator("section")
    expect(cards.locator("article")).to_have_count(2)
    tab.clock.run_for(5_000)
    expect(tab.get_by_role("button", name=PRESS)).to_have_count(2)
    cards.nth(1).get_by_role("button", name=PRESS).click()
    expect(cards.nth(1).locator("[data-lt=notified]")).to_be_visible()
    expect(cards.nth(0).locator("[data-lt=notified]")).to_be_hidden()
    expect(tab).to_have_title("Desk")
    with hidden(tab):
        stage.end_attempt(report, permanent=True)
        tab.clock.run_for(60_000)
        expect(tab).to_have_title("✗ Making the report")
        assert tab.evaluate("shown") == []
        stage.finish(export)
        tab.clock.run_for(60_000)
        expect(tab).to_have_title("✗ Making the report, ✓ Making the export")
        assert tab.evaluate("shown") == [["✓ Making the export", "The result is ready"]]
    expect(tab).to_have_title("Desk")
    expect(tab.get_by_role("link", name="Show the result")).to_be_visible()
    assert stage.find(export).status is Status.DONE


def test_only_a_page_of_its_own_says_that_it_can_be_left(page: Page, stage: Stage) -> None:
    leave = page.get_by_text("You can leave this page.")
    page.clock.install()
    task_id = started(stage)
    page.goto(stage.page(task_id))
    expect(leave).to_be_visible()
    page.goto(f"{stage.url}/desk/{task_id}")
    expect(page.locator("article")).to_be_visible()
    expect(leave).to_have_count(0)
    stage.end_attempt(task_id)
    let_poll(page)
    expect(page.locator("section h1")).to_have_text("Trying again", timeout=SOON)
    expect(leave).to_have_count(0)
