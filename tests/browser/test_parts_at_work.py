"""A task in parts on the real local stack, from the first click to the result, with and without the script."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from gaetk_longtask.pytest_plugin import LocalStack

#: In milliseconds; the work takes four seconds, or eight if the stack has fewer workers than the task has lanes.
END = 45_000
PARTS = '[data-lt="parts"]'


@pytest.fixture(scope="module")
def stack(longtask_stack: Callable[[str], LocalStack]) -> Iterator[LocalStack]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield longtask_stack("tests.chaos.app:app")


@pytest.fixture(params=[True, False], ids=["with script", "without script"])
def page(request: pytest.FixtureRequest, visitor: Callable[..., Page], stack: LocalStack) -> Page:
    """A page with a form that starts a task in parts."""
    page = visitor(java_script_enabled=request.param)
    page.set_default_timeout(END)
    page.goto(f"{stack.url}/memory")  # any page of the application
    form = f'<form action="{stack.url}/rowing/1"><input name="seconds" value="4"><button>Start</button></form>'
    page.set_content(form)
    return page


def test_one_click_leads_through_the_parts_to_the_result(page: Page) -> None:
    page.get_by_role("button", name="Start").click()
    expect(page.locator(PARTS)).to_have_text("Parts done: 0 of 8", timeout=END)
    expect(page.locator("progress")).to_have_attribute("value", re.compile("[1-9]"), timeout=END)
    expect(page.locator("body")).to_contain_text("0 1 2 3 4 5 6 7", timeout=END)


def test_a_cancelled_task_in_parts_is_completed_by_a_retry(page: Page) -> None:
    page.get_by_role("button", name="Start").click()
    expect(page.locator(PARTS)).to_have_text("Parts done: 0 of 8", timeout=END)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("h1")).to_have_text("The task was cancelled")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(PARTS)).to_have_text("Parts done: 0 of 8", timeout=END)
    expect(page.locator("body")).to_contain_text("0 1 2 3 4 5 6 7", timeout=END)
