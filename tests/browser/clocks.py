"""The clock of a page: its tests let time pass, and do not wait for it."""

from __future__ import annotations

from playwright.sync_api import Page


def let_poll(page: Page) -> None:
    """Let so much time pass that the page asks for news, and wait for the answer.

    The page's clock must have been installed before the page was opened. Pages of tasks that are older than ten minutes
    ask every five seconds, all others more often.
    """
    with page.expect_event("requestfinished"):
        page.clock.run_for(5_000)


def pass_time(page: Page, seconds: int) -> None:
    """Let time pass in the page, and let its requests be answered."""
    for _ in range(seconds):
        page.clock.run_for(1_000)
        page.wait_for_timeout(30)
