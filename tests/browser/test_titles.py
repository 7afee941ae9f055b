"""The title of the tab, in every state, with the script and without."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from gaetk_longtask import LongTaskManager
from tests.browser.stage import Stage
from tests.browser.states import MORE_STATES, STATES, WORKING, open_state
from tests.support import JSON

SOON = 8_000
REPORT = "Making the report"
TITLES = {
    "waiting": REPORT,
    "starting-later": REPORT,
    "working-in-phases": "42% – Importing invoices",
    "working-in-parts": f"29% – {REPORT}",
    "working": f"42% – {REPORT}",
    "working-without-steps": REPORT,
    "trying-again": f"30% – Trying again – {REPORT}",
    "second-attempt": f"42% – {REPORT}",
    "finished": f"The result is ready – {REPORT}",
    "finished-with-facts": "The result is ready – Importing invoices",
    "text": "Reading the notes",
    "failed": f"The task failed – {REPORT}",
    "failed-explained": f"The task failed – {REPORT}",
    "cancelled": f"The task was cancelled – {REPORT}",
    "expired": f"Result expired – {REPORT}",
    "unknown": f"Task not found – {REPORT}",
    "damaged": f"The result is damaged – {REPORT}",
    "unpressed": f"Nothing has changed yet – {REPORT}",
    "problem": f"Invalid request – {REPORT}",
    "start": f"Start this task? – {REPORT}",
    "stopped": f"42% – {REPORT}",
    "done": f"The result is ready – {REPORT}",
}


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
@pytest.mark.parametrize("name", STATES)
def test_every_tab_says_the_state_and_the_title(
    visitor: Callable[..., Page], stage: Stage, name: str, *, script: bool
) -> None:
    page = visitor(java_script_enabled=script)
    open_state(page, stage, name)
    expect(page).to_have_title(TITLES[name])


@pytest.mark.parametrize("name", MORE_STATES)
def test_a_tab_that_stays_without_the_script_says_them_too(
    visitor: Callable[..., Page], stage: Stage, name: str
) -> None:
    page = visitor(java_script_enabled=False)
    page.goto(MORE_STATES[name](stage))
    expect(page).to_have_title(TITLES[name] if name == "stopped" else "The report")


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
@pytest.mark.parametrize(
    ("title", "titles"),
    [
        (
            "",
            [
                "Waiting to start",
                "42% – Working",
                "30% – Trying again",
                "30% – Working, attempt 2",
                "The task was cancelled",
            ],
        ),
        (
            "50% – off",
            [
                f"{share}50% – off"
                for share in ("", "42% – ", "30% – Trying again – ", "30% – ", "The task was cancelled – ")
            ],
        ),
    ],
    ids=["no title", "title of the task"],
)
def test_the_tab_follows_the_task(
    visitor: Callable[..., Page], stage: Stage, title: str, titles: list[str], *, script: bool
) -> None:
    page = visitor(java_script_enabled=script)
    page.clock.install()
    with stage.app.app_context():
        task_id = LongTaskManager.start("plain", {"title": title}).id
    page.goto(stage.page(task_id, endpoint="plain"))
    changes: list[Callable[[], None]] = [
        lambda: None,
        lambda: (stage.begin(task_id), stage.report(task_id, **WORKING))[0],
        lambda: stage.end_attempt(task_id),
        lambda: stage.begin(task_id),
        lambda: stage.cancel(task_id),
    ]
    for change, expected in zip(changes, titles, strict=True):
        change()
        if script:
            page.clock.run_for(5_000)
        expect(page).to_have_title(expected, timeout=SOON)


@pytest.mark.parametrize("width", [320, 1920])
def test_the_longest_title_does_not_make_the_page_scroll_sideways(
    visitor: Callable[..., Page], stage: Stage, width: int
) -> None:
    with stage.app.app_context():
        task_id = LongTaskManager.start("plain", {"title": "VeryLongNameOfAFile" * 10}).id
    page = visitor(viewport={"width": width, "height": 640})
    addresses = [stage.page(task_id, endpoint="plain"), f"{stage.url}/_longtask/tasks"]
    addresses += [f"{stage.url}/_longtask/tasks/{task_id}"]
    for address in addresses:
        page.goto(address)
        expect(page.get_by_text("VeryLongNameOfAFile").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
    stage.cancel(task_id)
    page.goto(addresses[0])
    expect(page.locator("h1")).to_have_text("The task was cancelled")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_poll_with_the_longest_title_is_small(stage: Stage) -> None:
    with stage.app.app_context():
        task_id = LongTaskManager.start("plain", {"title": "Invoices " * 20}).id
    stage.begin(task_id)
    stage.report(task_id, **WORKING)
    answer = stage.app.test_client().get(stage.page(task_id, endpoint="plain"), headers=JSON)
    assert len(answer.json["title"]) == 120
    assert len(answer.data) <= 650
