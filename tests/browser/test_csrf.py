"""The buttons still work when the page was open for longer than a CSRF token lasts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from flask import Request, Response, redirect
from itsdangerous import TimestampSigner
from playwright.sync_api import Page, expect

from gaetk_longtask import Status
from tests.browser.stage import Stage
from tests.browser.states import WORKING
from tests.browser.test_bad_answers import first, is_fetch, is_poll

CSRF_PROTECTION = True
SOON = 8_000


@pytest.fixture
def pass_hours(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let hours pass for Flask-WTF, whose tokens last one hour."""

    def pass_hours(hours: int) -> None:
        monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda self: int(time.time()) + hours * 3_700)

    return pass_hours


@pytest.mark.parametrize("where", ["report", "desk"])
def test_a_button_is_pressed_with_a_fresh_token(
    page: Page, stage: Stage, pass_hours: Callable[[int], None], where: str
) -> None:
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id) if where == "report" else f"{stage.url}/desk/{task_id}")
    page.get_by_role("button", name="Cancel").wait_for()
    pass_hours(1)
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("heading", name="The task was cancelled").wait_for()
    page.get_by_role("button", name="Try again").wait_for()
    pass_hours(2)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".lt-state")).to_have_text("Waiting to start")


def test_two_presses_are_one(page: Page, stage: Stage) -> None:
    page.goto(stage.page(stage.task(Status.STARTED, **WORKING)))
    stage.requests.clear()
    page.get_by_role("button", name="Cancel").dblclick()
    expect(page.locator("h1")).to_have_text("The task was cancelled")
    assert sum("cancel" in path for path, _ in stage.requests) == 1


def test_a_token_that_is_still_valid_is_sent_if_no_fresh_one_can_be_fetched(page: Page, stage: Stage) -> None:
    for answer in (lambda: Response(status=503), lambda: Response("Maintenance"), lambda: Response(status=404)):
        page.goto(stage.page(stage.task(Status.STARTED, **WORKING)))
        stage.instead = first(1, answer, lambda request: is_fetch(request) and not is_poll(request))
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("h1")).to_have_text("The task was cancelled")


def test_the_press_does_not_wait_long_for_a_fresh_token(page: Page, stage: Stage) -> None:
    page.clock.install()
    page.goto(stage.page(stage.task(Status.STARTED, **WORKING)))
    page.route("**/report?*&_longtaskrefresh=on", lambda route: None)  # never answered
    page.get_by_role("button", name="Cancel").click()
    page.clock.run_for(5_000)
    expect(page.locator("h1")).to_have_text("The task was cancelled")


def test_a_press_after_the_end_of_the_session_leads_to_the_login(page: Page, stage: Stage) -> None:
    task_id = stage.task(Status.STARTED, **WORKING)
    page.clock.install()  # no poll finds out first
    page.goto(stage.page(task_id))
    stage.instead = lambda request: (
        Response("<h1>Sign in</h1>") if request.path == "/login" else redirect("/login", 303)
    )
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("h1")).to_have_text("Sign in")
    stage.mend()
    assert stage.find(task_id).status is Status.STARTED


def test_a_button_that_a_poll_has_replaced_meanwhile_is_pressed_nevertheless(page: Page, stage: Stage) -> None:
    task_id = stage.task()
    page.goto(stage.page(task_id))
    asked, replaced = threading.Event(), threading.Event()

    def wait(request: Request) -> None:
        if is_fetch(request) and not is_poll(request) and not asked.is_set():
            asked.set()
            replaced.wait(10)

    stage.instead = wait
    page.get_by_role("button", name="Cancel").click()
    assert asked.wait(10)
    stage.begin(task_id)
    expect(page.locator(".lt-state")).to_have_text("Working")
    replaced.set()
    expect(page.locator("h1")).to_have_text("The task was cancelled", timeout=SOON)


# Without the script.


@pytest.mark.parametrize("endpoint", ["report", "export"])
def test_without_the_script_the_page_has_the_button_again(
    visitor: Callable[..., Page], stage: Stage, pass_hours: Callable[[int], None], endpoint: str
) -> None:
    page = visitor(java_script_enabled=False)
    task_id = stage.task(Status.STARTED, endpoint=endpoint, **WORKING)
    page.goto(stage.page(task_id, endpoint=endpoint, more="&month=March&_longtaskrefresh=off"))
    pass_hours(1)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("h1")).to_have_text("Nothing has changed yet")
    assert stage.find(task_id).status is Status.STARTED
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("h1")).to_have_text("The task was cancelled")
    assert "month=March" in page.url
    pass_hours(2)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("h1")).to_have_text("Nothing has changed yet")
    page.get_by_role("link", name="Back to the task").click()
    expect(page.locator("h1")).to_have_text("The task was cancelled")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".lt-state")).to_have_text("Waiting to start")


def test_an_operators_button_is_there_again(page: Page, stage: Stage, pass_hours: Callable[[int], None]) -> None:
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(f"{stage.url}/_longtask/tasks/{task_id}")
    pass_hours(1)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("h1")).to_have_text("Nothing has changed yet")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".lt-state")).to_have_text("Cancelled")
