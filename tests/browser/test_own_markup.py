"""The script works with an author's own markup, as docs/own-page.md says, and speaks the language of the fragment."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from gaetk_longtask import Status
from tests.browser.clocks import let_poll, pass_time
from tests.browser.stage import Stage
from tests.browser.states import WORKING
from tests.pages import DOCS, blocks

SOON = 8_000
SCRIPT = """<script src="{{ url_for('longtask.static', filename='longtask.js') }}" defer></script>"""
STYLE = """<link rel="stylesheet" href="{{ url_for('longtask.static', filename='longtask.css') }}">"""
#: The documented names, and the page's attributes of the same names.
NAMES = """
<h2>{{ page.heading }}</h2>
<p data-lt="message">{{ page.message }}</p>
<progress max="100"></progress>
<p><b data-lt="percent"></b> <i data-lt="left">{{ page.time_left }}</i> <i data-lt="elapsed">{{ page.elapsed }}</i></p>
<p data-lt="offline" hidden>Offline</p>
<p data-lt="manual"><a href="{{ page.links.self }}">Look again</a></p>
{% if page.links.cancel %}
<form method="post" action="{{ page.links.cancel }}"><button>Stop it</button></form>
{% endif %}
"""
ROOT = 'data-longtask="{{ page.links.self }}"'
EXAMPLE = blocks(DOCS / "own-page.md", "html+jinja")[-1]
#: Pages with nothing but the documented names.
MARKUP = {
    "an article": f'<div class="longtask" {ROOT}><article>{NAMES}</article></div>',
    "an article without the class": f"<main {ROOT}><article>{NAMES}</article></main>",
    "an article around it": f"<article {ROOT}>{NAMES}</article>",
    "no article": f'<div class="longtask" {ROOT}>{NAMES}</div>',
    "a state": f'<div {ROOT}><article data-status="{{{{ page.status.value }}}}">{NAMES}</article></div>',
    "something around the article": f'<div class="longtask" {ROOT}><h1>Us</h1><article>{NAMES}</article><hr></div>',
}


@pytest.fixture
def page(visitor: Callable[..., Page]) -> Page:
    page = visitor()
    page.clock.install()
    return page


def document(body: str, *, lang: str = "en", title: str = "Our shop") -> str:
    return f'<!doctype html><html lang="{lang}"><title>{title}</title>{SCRIPT}{body}'


@pytest.mark.parametrize("name", MARKUP)
def test_the_documented_names_are_enough(page: Page, stage: Stage, name: str) -> None:
    stage.show(document(MARKUP[name]))
    task_id = stage.task(endpoint="own")
    page.goto(stage.page(task_id, endpoint="own"))
    stage.begin(task_id)
    stage.report(task_id, seconds=2, **WORKING)
    let_poll(page)
    expect(page.locator("[data-lt=message]")).to_have_text("Reading the invoices of March", timeout=SOON)
    expect(page.locator("[data-lt=percent]")).to_have_text("42%")
    expect(page.locator("[data-lt=left]")).to_have_text("about 2 minutes left")
    expect(page.locator("[data-lt=elapsed]")).to_have_text("6 seconds so far")
    expect(page.locator("progress")).to_have_attribute("value", "42")
    expect(page.locator("[data-lt=offline]")).to_be_hidden()
    expect(page.locator("[data-lt=manual]")).to_have_count(0)
    expect(page).to_have_title("42% – Our shop")
    stage.requests.clear()
    stage.report(task_id, **WORKING | {"step": 283})
    let_poll(page)
    expect(page.locator("progress")).to_have_attribute("value", "100", timeout=SOON)
    assert all("application/json" in accept for _, accept in stage.requests)  # the page is not fetched at every poll
    stage.finish(task_id)
    let_poll(page)
    expect(page.locator("h1")).to_have_text("The report of March", timeout=SOON)


@pytest.mark.parametrize("name", MARKUP)
def test_an_end_without_a_result_replaces_the_authors_markup(page: Page, stage: Stage, name: str) -> None:
    stage.show(document(MARKUP[name]))
    task_id = stage.task(Status.STARTED, endpoint="own", **WORKING)
    page.goto(stage.page(task_id, endpoint="own"))
    page.get_by_role("button", name="Stop it").focus()
    stage.cancel(task_id)
    let_poll(page)
    expect(page.locator("h2")).to_have_text("The task was cancelled", timeout=SOON)
    expect(page.get_by_role("button", name="Stop it")).to_have_count(0)
    expect(page.locator("[role=status]")).to_have_count(1)
    expect(page).to_have_title("Our shop")
    stage.requests.clear()
    page.clock.run_for(120_000)
    page.wait_for_timeout(100)
    assert stage.requests == []


def test_the_example_of_the_manual_works(page: Page, stage: Stage) -> None:
    stage.show(EXAMPLE)
    task_id = stage.task(endpoint="own")
    page.goto(stage.page(task_id, endpoint="own"))
    stage.begin(task_id)
    stage.report(task_id, **WORKING)
    let_poll(page)
    expect(page.locator("[data-lt=message]")).to_have_text("Reading the invoices of March", timeout=SOON)
    expect(page.locator("[data-lt=left]")).to_have_text("about 2 minutes left")
    expect(page.locator("progress")).to_have_attribute("value", "42")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("h1")).to_have_text("The task was cancelled")


def test_a_page_without_any_of_the_optional_elements_is_no_fault(page: Page, stage: Stage) -> None:
    logged: list[str] = []
    page.on("console", lambda message: logged.append(message.text))
    stage.show(document(f'<div {ROOT}><article><p data-lt="message"></p></article></div>'))
    task_id = stage.task(Status.STARTED, endpoint="own", **WORKING)
    page.goto(stage.page(task_id, endpoint="own"))
    expect(page.locator("[data-lt=message]")).to_have_text("Reading the invoices of March", timeout=SOON)
    stage.end_attempt(task_id, permanent=True)
    with page.expect_response(lambda response: "text/html" in response.headers["content-type"]):
        let_poll(page)
    page.wait_for_timeout(100)
    assert [text for text in logged if "favicon" not in text and "404" not in text] == []


@pytest.mark.parametrize("limit", ["", 'max="1"', 'max="283"', 'max="100"'])
def test_a_bar_may_have_a_scale_of_its_own(page: Page, stage: Stage, limit: str) -> None:
    stage.show(document(f'<div {ROOT}><progress {limit}></progress><p data-lt="percent"></p></div>'))
    task_id = stage.task(Status.STARTED, endpoint="own", **WORKING)
    page.goto(stage.page(task_id, endpoint="own"))
    expect(page.locator("[data-lt=percent]")).to_have_text("42%", timeout=SOON)
    assert page.locator("progress").evaluate("bar => Math.round(100 * bar.position)") == 42


def test_an_end_that_the_author_shows_in_another_way_is_opened(page: Page, stage: Stage) -> None:
    ended = (
        "{% if page.done %}<h1>All over: {{ page.status.value }}</h1>{% else %}" + MARKUP["an article"] + "{% endif %}"
    )
    stage.show(document(ended))
    task_id = stage.task(Status.STARTED, endpoint="own", **WORKING)
    page.goto(stage.page(task_id, endpoint="own"))
    stage.end_attempt(task_id, permanent=True)
    pass_time(page, 20)
    expect(page.locator("h1")).to_have_text("All over: failed")


def test_the_author_chooses_the_words_by_attributes(page: Page, stage: Stage) -> None:
    words = 'data-left="{} to go" data-elapsed="for {}" data-percent="{} of 100"'
    stage.show(document(f"<div {ROOT}><article {words}>{NAMES}</article></div>"))
    task_id = stage.task(Status.STARTED, endpoint="own", **WORKING)
    stage.report(task_id, seconds=60, **WORKING)
    page.goto(stage.page(task_id, endpoint="own"))
    expect(page.locator("[data-lt=left]")).to_have_text("2 minutes to go", timeout=SOON)
    expect(page.locator("[data-lt=elapsed]")).to_have_text("for 1 minute")
    expect(page.locator("[data-lt=percent]")).to_have_text("42 of 100")


@pytest.mark.parametrize(
    ("lang", "left"),
    [("de", "2 Minuten"), ("fr", "2 minutes"), ("en-GB", "about 2 minutes left"), ("", "about 2 minutes left")],
)
def test_words_of_one_language_are_not_put_around_those_of_another(
    page: Page, stage: Stage, lang: str, left: str
) -> None:
    stage.show(document(MARKUP["an article"], lang=lang))
    task_id = stage.task(Status.STARTED, endpoint="own", **WORKING)
    page.goto(stage.page(task_id, endpoint="own"))
    expect(page.locator("[data-lt=left]")).to_have_text(left, timeout=SOON)


@pytest.mark.parametrize("lang", ["de_DE", "x", "english please"])
def test_a_language_that_is_none_is_no_fault(page: Page, stage: Stage, lang: str) -> None:
    stage.show(document(MARKUP["an article"], lang=lang))
    task_id = stage.task(Status.STARTED, endpoint="own", **WORKING)
    page.goto(stage.page(task_id, endpoint="own"))
    expect(page.locator("[data-lt=left]")).to_contain_text("2 minutes", timeout=SOON)
    expect(page.locator("[data-lt=manual]")).to_have_count(0)


# The fragment in a layout of another language.

LAYOUT = '<main>{% include "gaetk_longtask/fragment.html" %}</main>'


@pytest.mark.parametrize(
    ("layout", "locale", "words"),
    [
        ('lang="fr"', "en-GB", ["6 seconds so far", "about 2 minutes left"]),
        ('lang="ar" dir="rtl"', "en-GB", ["6 seconds so far", "about 2 minutes left"]),
        ('lang="fr"', "de-DE", ["bisher 6 Sekunden", "noch etwa 2 Minuten"]),
        ("", "de-DE", ["bisher 6 Sekunden", "noch etwa 2 Minuten"]),
    ],
)
def test_language_and_direction_come_from_the_fragment(
    visitor: Callable[..., Page], stage: Stage, layout: str, locale: str, words: list[str]
) -> None:
    page = visitor(locale=locale)
    page.clock.install()
    stage.show(f"<!doctype html><html {layout}><title>Boutique</title>{STYLE}{SCRIPT}{LAYOUT}")
    task_id = stage.task(endpoint="own")
    page.goto(stage.page(task_id, endpoint="own"))
    stage.begin(task_id)
    stage.report(task_id, seconds=2, **WORKING)
    let_poll(page)
    for text in words:
        expect(page.locator("article")).to_contain_text(text, timeout=SOON)
    spoken = "[...document.querySelectorAll('article, .lt-live')].map(each => each.closest('[lang]').lang)"
    assert set(page.evaluate(spoken)) == {locale[:2]}
    assert page.locator("article").evaluate("each => getComputedStyle(each).direction") == "ltr"


def test_on_a_page_of_another_language_the_task_keeps_its_own(page: Page, stage: Stage) -> None:
    stage.desk = stage.desk.replace('lang="en"', 'lang="fr" dir="rtl"')
    task_id = stage.task(Status.STARTED, **WORKING)
    stage.report(task_id, seconds=60, **WORKING)
    page.goto(f"{stage.url}/desk/{task_id}")
    expect(page.locator("[data-lt=elapsed]")).to_have_text("1 minute so far")
    page.evaluate("document.querySelector('[data-lt=elapsed]').textContent = ''")
    let_poll(page)
    expect(page.locator("[data-lt=elapsed]")).to_have_text("1 minute so far", timeout=SOON)
    spoken = "[...document.querySelectorAll('article, .lt-live')].map(each => each.closest('[lang]').lang + each.dir)"
    assert page.evaluate(spoken) == ["enltr", "enltr"]


# A task on another page.


@pytest.mark.parametrize(
    "inside", ["Your report", '<a href="{{ url }}">Your report</a>', '<h2>Report</h2> <a href="{{ url }}">Look</a>', ""]
)
def test_the_element_may_contain_anything(page: Page, stage: Stage, inside: str) -> None:
    stage.desk = f'<!doctype html>{SCRIPT}<section data-longtask="{{{{ url }}}}">{inside}</section>'
    page.goto(f"{stage.url}/desk/{stage.task(Status.STARTED, **WORKING)}")
    expect(page.locator("section > *")).to_have_count(2)
    expect(page.locator("section > article progress")).to_have_attribute("value", "42")


@pytest.mark.parametrize("where", ["http://mail.example", "https://mail.example:8443", ""])
def test_the_url_may_have_the_host_that_mails_use(page: Page, stage: Stage, where: str) -> None:
    stage.desk = stage.desk.replace('data-longtask="{{ url }}', f'data-longtask="{where}{{{{ url }}}}')
    page.goto(f"{stage.url}/desk/{stage.task(Status.STARTED, **WORKING)}")
    expect(page.locator("progress")).to_have_attribute("value", "42")


@pytest.mark.parametrize("url", ["", "/report", "nonsense", "http://", "/report?_longtaskid="])
def test_an_element_without_a_task_does_not_disturb_the_others(page: Page, stage: Stage, url: str) -> None:
    stage.desk += f'<section data-longtask="{url}"><a href="/">Another report</a></section>'
    stage.desk = stage.desk.replace("<section", f'<section data-longtask="{url}">{{# #}}Nothing</section><section', 1)
    page.goto(f"{stage.url}/desk/{stage.task(Status.STARTED, **WORKING)}")
    expect(page.locator("progress")).to_have_attribute("value", "42")
    expect(page.get_by_role("link", name="Another report")).to_be_visible()


def test_the_script_may_be_loaded_without_defer(page: Page, stage: Stage) -> None:
    stage.desk = stage.desk.replace(" defer", "")
    page.goto(f"{stage.url}/desk/{stage.task(Status.STARTED, **WORKING)}")
    expect(page.locator("progress")).to_have_attribute("value", "42")


def test_an_unknown_task_on_a_page_says_so(page: Page, stage: Stage) -> None:
    page.goto(f"{stage.url}/desk/{'A' * 22}")
    expect(page.locator("section h1")).to_have_text("Task not found")
