"""A result that is text: it can be read, copied and downloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.stage import NOTES, Stage
from tests.browser.states import STATES


def test_the_text_can_be_copied_and_the_page_says_so(visitor: Callable[..., Page], stage: Stage) -> None:
    page = visitor(permissions=["clipboard-read", "clipboard-write"])
    page.goto(STATES["text"](stage))
    status = page.locator(".lt-actions [role=status]")
    expect(status).to_have_text("")
    page.get_by_role("button", name="Copy").click()
    expect(status).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == NOTES


def test_if_the_browser_refuses_the_text_is_selected(page: Page, stage: Stage) -> None:
    page.add_init_script("navigator.clipboard.writeText = () => Promise.reject(new Error())")
    page.goto(STATES["text"](stage))
    page.get_by_role("button", name="Copy").click()
    page.wait_for_function("String(getSelection()).includes('Sums:')")
    expect(page.locator(".lt-actions [role=status]")).to_have_text("")


def test_without_a_clipboard_there_is_no_button(page: Page, stage: Stage) -> None:
    page.add_init_script("delete Navigator.prototype.clipboard")
    page.goto(STATES["text"](stage))
    expect(page.get_by_role("link", name="Download")).to_be_visible()
    expect(page.locator("button")).to_be_hidden()


def test_without_the_script_there_is_no_button(visitor: Callable[..., Page], stage: Stage) -> None:
    page = visitor(java_script_enabled=False)
    page.goto(STATES["text"](stage))
    expect(page.get_by_role("link", name="Download")).to_be_visible()
    expect(page.locator("button")).to_be_hidden()


def test_the_text_can_be_downloaded_as_it_is(page: Page, stage: Stage, tmp_path: Path) -> None:
    page.goto(STATES["text"](stage))
    with page.expect_download() as started:
        page.get_by_role("link", name="Download").click()
    started.value.save_as(tmp_path / "file")
    assert started.value.suggested_filename == "Reading the notes.txt"
    assert (tmp_path / "file").read_text(encoding="utf-8") == NOTES


@pytest.mark.parametrize("width", [320, 1920])
def test_a_long_line_does_not_make_the_page_scroll_sideways(
    visitor: Callable[..., Page], stage: Stage, width: int
) -> None:
    page = visitor(viewport={"width": width, "height": 640})
    page.goto(STATES["text"](stage))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_each_line_has_its_own_direction(page: Page, stage: Stage) -> None:
    page.goto(STATES["text"](stage))
    program = """() => {
      const text = document.querySelector(".lt-text");
      const node = text.firstChild;
      const box = (words) => {
        const range = document.createRange();
        range.setStart(node, node.data.indexOf(words));
        range.setEnd(node, node.data.indexOf(words) + words.length);
        return range.getBoundingClientRect();
      };
      const { left, right } = text.getBoundingClientRect();
      return [box("Sums").left - left, right - box("مرحبا").right];
    }"""
    from_the_left, from_the_right = page.evaluate(program)
    assert from_the_left < 1
    assert from_the_right < 1
