"""The names and attributes that docs/own-page.md lists: a page of nothing else works, with and without each of them.

The page is built from the tables of the manual.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

import gaetk_longtask
from gaetk_longtask import Status
from gaetk_longtask.info import Parts, Phase
from gaetk_longtask.web.languages.language import Language
from tests.browser.clocks import let_poll
from tests.browser.stage import Stage
from tests.browser.states import WORKING
from tests.browser.test_called_back import answering
from tests.pages import DOCS

SOON = 8_000
PACKAGE = Path(gaetk_longtask.__file__).parent
SECTION = (DOCS / "own-page.md").read_text(encoding="utf-8").split("\n## Markup of your own\n")[1].split("\n## ")[0]


def rows(heading: str) -> dict[str, list[str]]:
    """Return the other cells of a table by the names in its first column."""
    lines = SECTION.split(f"\n| {heading} |")[1].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    return {name: others for first, *others in cells for name in re.findall(r"`([a-z-]+)`", first)}


NAMES, ATTRIBUTES = rows("`data-lt`"), rows("attribute")
#: The names whose elements are hidden at first, as the manual says.
HIDDEN = re.findall(r"`(\w+)`", SECTION.split("Give `hidden` to ")[1].split(", so that")[0])
#: Texts of the author, in place of those of the library.
WORDS = {
    "data-percent": "{} of 100",
    "data-elapsed": "for {}",
    "data-left": "{} to go",
    "data-usual": "mostly {}",
    "data-seconds": "1:{} s",
    "data-minutes": "1:{} min",
    "data-hours": "1:{} h",
    "data-parts": "{done}/{total} done",
    "data-phase": "On to {}",
    "data-title": "The report",
    "data-name": "Our report",
    "data-milestone": "Now {} of 100",
}


PARTS = Parts(done=3, total=12)


def element(name: str) -> str:
    match name:
        case "call":
            return '<button type="button" data-lt="call" hidden>Call me</button>'
        case "phases":
            return '<ol data-lt="phases">{% for phase in page.phases %}<li>{{ phase.name }}</li>{% endfor %}</ol>'
        case "manual" | "result":
            return f'<a data-lt="{name}" href="{{{{ page.links.{"self" if name == "manual" else name} }}}}">{name}</a>'
        case _:
            return f'<p data-lt="{name}"{" hidden" if name in HIDDEN else ""}>This is {name}</p>'


def value(attribute: str) -> str:
    match attribute.removeprefix("data-"):
        case "status":
            return "{{ page.status.value }}"
        case "attempt":
            return "{{ page.task.attempt }}"
        case "poll":
            return "{{ page.refresh or '' }}"
        case "announce":
            return "Now it is {{ page.status.value }}"
        case _:
            return escape(WORDS[attribute])


def source(without: str = "") -> str:
    """Return a template with everything that the manual lists, except one name or attribute."""
    attributes = " ".join(f'{name}="{value(name)}"' for name in ATTRIBUTES if name != without)
    elements = "\n".join(element(name) for name in NAMES if name != without)
    return f"""<!doctype html><html lang="en"><title>Our shop</title>
<script src="{{{{ url_for('longtask.static', filename='longtask.js') }}}}" defer></script>
<main data-longtask="{{{{ page.links.self }}}}"><article {attributes}>
<h1>{{{{ page.heading }}}}</h1><progress></progress>
{elements}
</article></main>"""


@pytest.fixture
def logged(page: Page) -> list[str]:
    found: list[str] = []
    page.on("console", lambda message: found.append(message.text))
    return found


def open_task(page: Page, stage: Stage, without: str = "") -> str:
    """Open the page of a task that is working, and return its id."""
    page.add_init_script(answering("granted"))
    page.clock.install()
    stage.show(source(without))
    task_id = stage.task(Status.STARTED, endpoint="own", **WORKING)
    page.goto(stage.page(task_id, endpoint="own"))
    return task_id


def test_the_manual_lists_the_names_and_attributes_that_the_library_uses() -> None:
    templates = PACKAGE / "templates" / "gaetk_longtask"
    fragment = (templates / "fragment.html").read_text(encoding="utf-8")
    markup = fragment + (templates / "_progress.html").read_text(encoding="utf-8")
    article = fragment[fragment.index("<article") : fragment.index('<p class="lt-state"')]
    script = (PACKAGE / "static" / "longtask.js").read_text(encoding="utf-8")
    names = re.findall(r'data-lt="([a-z]+)"', markup + (templates / "_facts.html").read_text(encoding="utf-8"))
    assert NAMES.keys() == {*names, "fact-imported"}
    assert NAMES.keys() >= set(re.findall(r'(?:part\(|put\(|data-lt=)"([a-z]+)"', script))
    units = {f"data-{unit}" for unit in Language().units}  # from a loop
    assert ATTRIBUTES.keys() == {*re.findall(r" (data-[a-z]+)=", article), *units}


@pytest.mark.parametrize("without", ["", *NAMES])
def test_all_other_elements_work_if_one_is_missing(page: Page, stage: Stage, logged: list[str], without: str) -> None:
    words = {"message": WORKING["message"], "percent": "42 of 100"}
    words |= {"left": "2 min to go", "elapsed": "for 1 min", "fact-imported": "120", "parts": "3/12 done"}
    task_id = open_task(page, stage, without)
    stage.report(task_id, seconds=60, facts={"imported": 120}, parts=PARTS, **WORKING)
    let_poll(page)
    for name in NAMES.keys() - {without}:
        found = page.locator(f"[data-lt={name}]")
        if name in words:
            expect(found).to_have_text(str(words[name]), timeout=SOON)
        elif name == "manual":
            expect(found).to_have_count(0)
        elif name == "call":
            expect(found).to_be_visible(timeout=SOON)
        elif name in HIDDEN:
            expect(found).to_be_hidden()
        else:
            expect(found).to_be_visible()
    if without != "call":
        page.get_by_role("button", name="Call me").click()
        for name in {"notified", "titled"} - {without}:
            expect(page.locator(f"[data-lt={name}]")).to_be_visible(visible=name == "notified")
    stage.broken.add("/own")
    let_poll(page)
    for name in {"offline", "manual"} - {without}:
        expect(page.locator(f"[data-lt={name}]")).to_be_visible(timeout=SOON)
    stage.broken.clear()
    stage.finish(task_id)
    let_poll(page)
    expect(page.locator("h1")).to_have_text("The report of March", timeout=2 * SOON)
    assert [text for text in logged if "404" not in text and "503" not in text] == []


@pytest.mark.parametrize("without", ["", *ATTRIBUTES])
def test_a_missing_attribute_has_the_effect_that_the_manual_says(page: Page, stage: Stage, without: str) -> None:
    def says(attribute: str, given: str, otherwise: str) -> str:
        return otherwise if attribute == without else given

    stage.requests.clear()
    task_id = open_task(page, stage, without)
    stage.report(task_id, seconds=60, parts=PARTS, **WORKING)
    let_poll(page)
    one, two, three = (says("data-minutes", f"{n} min", f"{n} minute{'s' * (n > 1)}") for n in (1, 2, 3))
    percent = says("data-percent", "42 of 100", "42%")
    expect(page.locator("[data-lt=percent]")).to_have_text(percent, timeout=SOON)
    expect(page.locator("[data-lt=elapsed]")).to_have_text(says("data-elapsed", f"for {one}", f"{one} so far"))
    expect(page.locator("[data-lt=left]")).to_have_text(says("data-left", f"{two} to go", f"about {two} left"))
    parts = says("data-parts", "3/12 done", "Parts done: 3 of 12")
    expect(page.locator("[data-lt=parts]")).to_have_text(parts)
    expect(page).to_have_title(f"{percent} – {says('data-title', 'The report', 'Our shop')}")
    fetched = sum("text/html" in accept for path, accept in stage.requests if path.startswith("/own"))
    assert fetched == (2 if without in ("data-status", "data-attempt") else 1)
    stage.report(task_id, **WORKING | {"step": 150})
    half = says("data-milestone", "Now 50 of 100", "50%")
    if without in ("", "data-milestone"):
        let_poll(page)
        expect(page.get_by_role("status")).to_have_text(half, timeout=SOON)
    stage.report(task_id, phase=Phase(name="Checking", number=2, count=3), **WORKING | {"step": 151})
    phase = says("data-phase", "On to Checking", "Now: Checking")
    if without in ("", "data-phase"):
        let_poll(page)
        expect(page.get_by_role("status")).to_have_text(phase, timeout=SOON)
    stage.report(task_id, message="Asking", eta_seconds=120)
    let_poll(page)
    usual = says("data-usual", f"mostly {three}", f"usually takes about {three}")
    expect(page.locator("[data-lt=left]")).to_have_text(usual, timeout=SOON)
    page.get_by_role("button", name="Call me").click()
    stage.end_attempt(task_id, permanent=True)
    let_poll(page)
    expect(page.locator("h1")).to_have_text("The task failed", timeout=SOON)
    expect(page.get_by_role("status")).to_have_text(says("data-announce", "Now it is failed", "The task failed"))
    name, body = says("data-name", "Our report", "Our shop"), says("data-announce", "Now it is failed", "")
    assert page.evaluate("shown") == [[f"✗ {name}", body]]


@pytest.mark.parametrize(("without", "polls"), [("", False), ("data-poll", True)])
def test_the_first_poll_waits_for_as_long_as_the_markup_says(
    page: Page, stage: Stage, without: str, polls: bool
) -> None:
    stage.show(source(without))
    task_id = stage.task(Status.STARTED, endpoint="own")
    stage.report(task_id, seconds=700, **WORKING)  # by now, the polling interval is 5 seconds
    stage.requests.clear()
    page.goto(stage.page(task_id, endpoint="own"))
    page.wait_for_timeout(1_500)
    assert any("application/json" in accept for _, accept in stage.requests) is polls
