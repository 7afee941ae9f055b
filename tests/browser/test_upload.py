"""A form with longtask-upload.js shows the progress of its upload and leads to the waiting page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Response, redirect
from playwright.sync_api import CDPSession, FilePayload, Page, expect

from tests.browser.stage import Report, Stage
from tests.browser.test_quality import RULES

CSRF_PROTECTION = True  # of the application; the token goes along with the form
SOON = 8_000
SCRIPT = """<script src="{{ url_for('longtask.static', filename='longtask-upload.js') }}" defer></script>"""
PLAIN = "data-longtask-upload"
TOKEN = '<input type="hidden" name="csrf_token" value="{{ csrf_token() }}">'
FAILED = "The server did not accept the upload. Check your connection, or reload the page, and try again."

#: Records everything that a screen reader announces.
TOLD = """() => {
  const told = [];
  new MutationObserver(() => {
    const text = document.querySelector("[role=status]")?.textContent;
    if (text && text !== told.at(-1)) told.push(text);
    sessionStorage.told = JSON.stringify(told);
  }).observe(document, {childList: true, subtree: true});
}"""


#: Chooses a file of this size; much faster than sending its content to the browser.
CHOOSE = """size => {
  const chosen = new DataTransfer();
  chosen.items.add(new File([new Uint8Array(size).fill(255)], "numbers.csv", {type: "text/csv"}));
  document.querySelector("[type=file]").files = chosen.files;
}"""


def form(attributes: str = "{{ longtask_upload() }}", *, enctype: str = "multipart/form-data", more: str = "") -> str:
    """Return the source of a page with a form for a file."""
    return f"""<!doctype html>
<html lang="en"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Add up</title>{SCRIPT}
<main><h1>Add up</h1>
<form action="/report" method="post" enctype="{enctype}" {attributes}>{TOKEN}
<label>File <input name="file" type="file" required></label>
<label>Month <input name="month" value="März"></label>{more}
<button name="how" value="quickly">Add up</button>
</form></main>"""


def file(size: int, name: str = "numbers.csv") -> FilePayload:
    return {"name": name, "mimeType": "text/csv", "buffer": b"\xff" * size}


def open_form(page: Page, stage: Stage, source: str, size: int = 1_000) -> None:
    """Open a page with a form, and choose a file."""
    stage.desk = source
    page.goto(f"{stage.url}/desk/form")
    page.evaluate(TOLD)
    page.evaluate(CHOOSE, size)
    stage.requests.clear()


def submit(page: Page) -> None:
    page.get_by_role("button", name="Add up").click()


def slowly(page: Page, *, bytes_per_second: int) -> CDPSession:
    """Slow the browser's uploads down until the session is detached."""
    session = page.context.new_cdp_session(page)
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second}
    session.send("Network.emulateNetworkConditions", limits)
    return session


def sent(stage: Stage) -> list[str]:
    """Return the Accept headers of the requests that could have started a task."""
    return [accept for path, accept in stage.requests if path.startswith("/report") and "_longtaskid" not in path]


def parameters(stage: Stage, task_id: str) -> Any:
    with stage.services.ndb_context():
        task = stage.services.store.get(task_id)
        assert task is not None
        return stage.services.load(task, "parameters", Report.serializer)


def task_of(page: Page) -> str:
    """Return the id of the task whose waiting page is open."""
    expect(page.locator(".lt-state")).to_have_text("Waiting to start", timeout=SOON)
    return page.url.partition("_longtaskid=")[2].partition("&")[0]


def test_an_upload_leads_to_the_waiting_page_and_brings_the_whole_form(page: Page, stage: Stage) -> None:
    open_form(page, stage, form())
    submit(page)
    task_id = task_of(page)
    assert sent(stage) == ["application/json"]
    expected = {"file": b"\xff" * 1_000, "month": "März", "how": "quickly"}
    assert parameters(stage, task_id) == expected
    page.go_back()
    expect(page.locator("form button")).to_have_count(1)
    expect(page.locator("progress")).to_have_count(0)


def test_the_progress_is_shown_and_announced_at_milestones(page: Page, stage: Stage) -> None:
    open_form(page, stage, form(), 600_000)
    slowly(page, bytes_per_second=200_000)
    submit(page)
    expect(page.locator("form")).to_have_attribute("aria-busy", "true")
    bar = page.get_by_role("progressbar")
    expect(bar).to_be_visible()
    expect(page.locator(".lt-upload > p").first).to_have_text(re.compile(r"Uploading: [3-9]\d%"), timeout=SOON)
    assert 30 <= bar.evaluate("bar => bar.value") <= 100
    task_of(page)
    told = json.loads(page.evaluate("sessionStorage.told"))
    assert told[0] == "Uploading: 0%"
    assert told[-1] == "Uploaded. The work is about to start."
    assert 3 <= len(told) <= 5  # and not every per cent


def test_an_upload_can_be_cancelled_and_sent_again(page: Page, stage: Stage) -> None:
    open_form(page, stage, form(), 600_000)
    before = len(stage.queue.tasks)
    slow = slowly(page, bytes_per_second=50_000)
    submit(page)
    page.get_by_role("button", name="Cancel the upload").click()
    expect(page.get_by_role("status")).to_have_text("The upload was cancelled. Nothing has started.")
    expect(page.locator("progress")).to_have_count(0)
    expect(page.get_by_role("button", name="Add up")).to_be_focused()
    assert page.locator("form").get_attribute("aria-busy") is None
    assert len(stage.queue.tasks) == before
    slow.detach()
    submit(page)
    task_of(page)
    assert len(stage.queue.tasks) == before + 1


def test_a_second_press_during_the_upload_sends_nothing(page: Page, stage: Stage) -> None:
    open_form(page, stage, form(), 300_000)
    before = len(stage.queue.tasks)
    page.evaluate("() => { for (const each of [1, 2]) document.querySelector('form button').click(); }")
    task_of(page)
    assert len(stage.queue.tasks) == before + 1


# What is refused.


@pytest.mark.parametrize(
    ("attributes", "limit", "size", "shown"),
    [
        ("{{ longtask_upload() }}", None, 32 * 1024 * 1024, "32 MB"),
        ("{{ longtask_upload() }}", 1_500_000, 1_500_000, "1.4 MB"),
        ("{{ longtask_upload() }}", 64 * 1024 * 1024, 33 * 1024 * 1024, "32 MB"),
        (PLAIN, None, 32 * 1024 * 1024, "32 MB"),
        (f'{PLAIN} data-longtask-limit="10240"', None, 10_240, "10 kB"),
        (f'{PLAIN} data-longtask-limit="many"', None, 32 * 1024 * 1024, "32 MB"),
    ],
)
def test_a_form_over_the_limit_is_not_sent(
    page: Page, stage: Stage, attributes: str, limit: int | None, size: int, shown: str
) -> None:
    stage.app.config["MAX_CONTENT_LENGTH"] = limit
    open_form(page, stage, form(attributes), size)
    stage.app.config["MAX_CONTENT_LENGTH"] = None
    submit(page)
    expect(page.get_by_role("status")).to_have_text(
        f"This upload is larger than {shown}, the most that we accept. Nothing was sent."
    )
    assert sent(stage) == []
    page.locator("[type=file]").set_input_files(file(100))
    submit(page)
    task_of(page)


def test_the_reason_of_a_problem_is_shown_in_the_form(page: Page, stage: Stage) -> None:
    open_form(page, stage, form().replace('"/report"', '"/report?a=%FF"'))
    submit(page)
    expect(page.get_by_role("status")).to_have_text("The query of this URL is not UTF-8.")
    assert page.url.endswith("/desk/form")


def test_without_its_csrf_token_the_form_says_so(page: Page, stage: Stage) -> None:
    open_form(page, stage, form().replace(TOKEN, ""))
    submit(page)
    expect(page.locator(".lt-upload > p").first).to_have_text("The CSRF token is missing.")
    assert page.url.endswith("/desk/form")


def answer(body: str, status: int, kind: str = "text/html") -> Callable[[], Response]:
    return lambda: Response(body, status, mimetype=kind)


@pytest.mark.parametrize(
    ("answers", "shown"),
    [
        (answer("<!doctype html><title>400</title><h1>No</h1><p>Choose a file.</p>", 400), "Choose a file."),
        (answer("<!doctype html><p>Shop</p><main><p> Choose a file. </p></main>", 422), "Choose a file."),
        (answer("<!doctype html><h1>No</h1>", 403), FAILED),
        (answer("<!doctype html><p>Traceback</p>", 500), FAILED),
        (answer("<!doctype html><p>Here you are</p>", 200), FAILED),
        (
            answer("<html><h1>Error</h1><h2>Too large</h2>", 413),
            "This upload is larger than 32 MB, the most that we accept.",
        ),
        (answer("", 401), FAILED),
        (answer('{"detail": "No <b>rows</b>."}', 400, "application/problem+json"), "No <b>rows</b>."),
        (answer('{"title": "Conflict"}', 409, "application/json"), "Conflict"),
        (answer('{"detail": ["No"]}', 422, "application/json"), FAILED),
        (answer('{"detail": "', 500, "application/problem+json"), FAILED),
        (answer("null", 400, "application/json"), FAILED),
        (answer("{}", 202, "application/json"), FAILED),
    ],
)
def test_an_answer_that_is_no_start_is_shown_in_the_form(
    page: Page, stage: Stage, answers: Callable[[], Response], shown: str
) -> None:
    open_form(page, stage, form())
    stage.instead = lambda each: answers() if each.path == "/report" else None
    submit(page)
    expect(page.locator(".lt-upload > p").first).to_contain_text(shown)
    expect(page.get_by_role("status")).to_contain_text(shown)
    expect(page.locator("progress")).to_have_count(0)
    stage.instead = lambda request: None
    submit(page)
    task_of(page)


def test_a_lost_connection_is_shown_in_the_form(page: Page, stage: Stage) -> None:
    open_form(page, stage, form())
    page.route("**/report", lambda route: route.abort("connectionreset"))
    submit(page)
    expect(page.get_by_role("status")).to_have_text(FAILED)
    page.unroute("**/report")
    submit(page)
    task_of(page)


def test_a_redirect_is_followed_by_the_page(page: Page, stage: Stage) -> None:
    open_form(page, stage, form())
    login = Response("<!doctype html><h1>Sign in</h1>")
    stage.instead = lambda each: redirect("/login") if each.path == "/report" else login
    submit(page)
    expect(page.locator("h1")).to_have_text("Sign in")
    assert page.url == f"{stage.url}/login"


# Where the browser sends the form as usual.


def test_without_javascript_the_form_works(visitor: Callable[..., Page], stage: Stage) -> None:
    page = visitor(java_script_enabled=False)
    stage.desk = form()
    page.goto(f"{stage.url}/desk/form")
    page.locator("[type=file]").set_input_files(file(1_000))
    submit(page)
    task_of(page)


def test_without_the_script_file_the_form_works(page: Page, stage: Stage) -> None:
    page.route("**/longtask-upload.js", lambda route: route.abort())
    open_form(page, stage, form())
    submit(page)
    task_of(page)
    assert len(sent(stage)) == 1
    assert "text/html" in sent(stage)[0]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("multipart/form-data", "application/x-www-form-urlencoded"),
        ('enctype="multipart/form-data"', ""),
        ('method="post"', 'method="get"'),
        ("<button", '<button formtarget="_self"'),
        ("<button", '<button formmethod="get"'),
        (PLAIN, "data-something"),
    ],
)
def test_a_form_that_is_no_upload_is_sent_by_the_browser(page: Page, stage: Stage, before: str, after: str) -> None:
    open_form(page, stage, form(PLAIN).replace(before, after))
    submit(page)
    task_of(page)
    assert all("text/html" in accept for accept in sent(stage))


def test_a_form_that_the_application_holds_back_is_not_sent(page: Page, stage: Stage) -> None:
    open_form(page, stage, form())
    page.evaluate("document.forms[0].addEventListener('submit', event => event.preventDefault())")
    submit(page)
    page.wait_for_timeout(300)
    assert sent(stage) == []


def test_the_browser_checks_the_fields_first(page: Page, stage: Stage) -> None:
    stage.desk = form()
    page.goto(f"{stage.url}/desk/form")
    stage.requests.clear()
    submit(page)
    page.wait_for_timeout(300)
    assert sent(stage) == []


def test_fields_and_buttons_may_have_any_name(page: Page, stage: Stage) -> None:
    names = ("action", "method", "submit", "append", "dataset")
    more = "".join(f'<input type="hidden" name="{name}" value="1">' for name in names)
    source = form(more=more).replace('action="/report"', 'action="/elsewhere#there"')
    open_form(page, stage, source.replace("<button", '<button formaction="/report#here"'))
    submit(page)
    task_id = task_of(page)
    assert parameters(stage, task_id).keys() >= {*names, "how"}


def test_several_files_and_forms_that_come_later_work_as_well(page: Page, stage: Stage) -> None:
    stage.desk = form().replace('type="file"', 'type="file" multiple')
    page.goto(f"{stage.url}/desk/form")
    page.evaluate("() => { const main = document.querySelector('main'); main.innerHTML = main.innerHTML; }")
    page.locator("[type=file]").set_input_files([file(10), file(20, "more.csv")])
    submit(page)
    task_id = task_of(page)
    assert [len(each) for each in parameters(stage, task_id)["file"]] == [10, 20]


# Languages and access.


def test_a_visitor_from_germany_reads_german(visitor: Callable[..., Page], stage: Stage) -> None:
    page = visitor(locale="de-DE")
    open_form(page, stage, form(), 600_000)
    slowly(page, bytes_per_second=10_000)
    submit(page)
    expect(page.locator(".lt-upload > p").first).to_have_text("Wird hochgeladen: 0\N{NO-BREAK SPACE}%")
    assert page.locator(".lt-upload").get_attribute("lang") == "de"
    page.get_by_role("button", name="Hochladen abbrechen").click()
    expect(page.get_by_role("status")).to_have_text("Das Hochladen wurde abgebrochen. Es wurde nichts gestartet.")


@pytest.mark.parametrize("attributes", ["{{ longtask_upload() }}", PLAIN])
def test_axe_finds_nothing_during_and_after_the_upload(
    page: Page, stage: Stage, npm_packages: Path, attributes: str
) -> None:
    open_form(page, stage, form(attributes), 600_000)
    slowly(page, bytes_per_second=10_000)
    submit(page)
    page.evaluate((npm_packages / "axe-core" / "axe.min.js").read_text(encoding="utf-8"))
    expect(page.get_by_role("progressbar")).to_be_visible()
    for _ in range(2):
        found = page.evaluate("tags => axe.run({runOnly: {type: 'tag', values: tags}})", RULES)
        assert [each["id"] for each in found["violations"]] == []
        if page.locator("progress").count():
            page.get_by_role("button", name="Cancel").click()
