"""One bad answer is no end: the page goes on, calls nothing offline that is not, and leads to the login."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator

import pytest
from flask import Flask, Request, Response, redirect, request
from playwright.sync_api import Page, expect
from werkzeug.serving import make_server

from gaetk_longtask import Status
from tests.browser.clocks import let_poll, pass_time
from tests.browser.stage import Silent, Stage
from tests.browser.states import STATES, WORKING

SOON = 8_000
READY = WORKING | {"step": 283}


def html(body: str, status: int = 200) -> Callable[[], Response]:
    return lambda: Response(f"<!doctype html><title>Hello</title>{body}", status)


def json(text: str, status: int = 200, kind: str = "application/json") -> Callable[[], Response]:
    return lambda: Response(text, status, mimetype=kind)


#: Answers that are not about the task.
STRANGE: dict[str, Callable[[], Response]] = {
    "no route": html("<h1>Not Found</h1>", 404),
    "gone": html("<h1>Gone</h1>", 410),
    "bad request": html("", 400),
    "forbidden": html("", 403),
    "not acceptable": html("", 406),
    "teapot": json("{}", 418),
    "a problem of somebody else": json('{"status": 404, "title": "Not Found"}', 404, "application/problem+json"),
    "nothing": lambda: Response(status=204),
    "an empty text": json(""),
    "a page instead": html("<h1>Maintenance</h1>"),
    "another card": html('<div class="longtask"><article>Hello</article></div>'),
    "the page of another task": html(
        '<div class="longtask" data-longtask="/report?_longtaskid=other"><article>A</div>'
    ),
    "half a document": json('{"id": "'),
    "null": json("null"),
    "a number": json("1"),
    "a list": json("[]"),
    "a text": json('"ok"'),
    "no fields": json("{}"),
    "a health check": json('{"status": "done", "done": true, "progress": {}, "links": {}}'),
    "another task": json('{"id": "x", "status": "failed", "done": true, "progress": {}, "links": {}}'),
}
#: Answers that ask to come back later.
LATER: dict[str, Callable[[], Response]] = {
    "too many requests": html("", 429),
    "error": html("", 500),
    "bad gateway": html("", 502),
    "unavailable": html("", 503),
    "timeout": json("{}", 504),
}


def is_poll(request: Request) -> bool:
    return request.headers.get("Accept") == "application/json"


def is_fetch(request: Request) -> bool:
    """Whether the page's script has sent the request."""
    return request.headers.get("Sec-Fetch-Mode") != "navigate" and request.path in ("/report", "/own")


def first(number: int, answer: Callable[[], Response], applies: Callable[[Request], bool]) -> Callable[..., object]:
    """Return a function that answers the first requests of a kind."""
    count = itertools.count()
    return lambda request: answer() if applies(request) and next(count) < number else None


# Answers that are not about the task.


@pytest.mark.parametrize("applies", [is_poll, is_fetch], ids=["polls", "polls and pages"])
def test_the_page_goes_on_after_answers_that_are_not_about_the_task(
    page: Page, stage: Stage, applies: Callable[[Request], bool]
) -> None:
    page.clock.install()
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    link = page.get_by_role("link", name="Refresh the page")
    for step, answer in enumerate(STRANGE.values(), start=1):
        stage.instead = lambda request, answer=answer: answer() if applies(request) else None
        pass_time(page, 2)
        expect(link).to_be_visible()
        expect(page.locator("h1")).to_have_text("Making the report")
        expect(page.locator("[data-lt=offline]")).to_be_hidden()
        stage.mend()
        stage.report(task_id, step=step, total_steps=100)
        pass_time(page, 4)
        expect(page.locator("progress")).to_have_attribute("value", str(step))
        expect(link).to_have_count(0)
    stage.end_attempt(task_id, permanent=True)
    pass_time(page, 2)
    expect(page.locator("h1")).to_have_text("The task failed")
    assert page.evaluate("sessionStorage.length") == 0  # the page was not loaded again


def test_the_page_goes_on_after_a_server_that_asks_to_come_back_later(page: Page, stage: Stage) -> None:
    page.clock.install()
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    for step, answer in enumerate(LATER.values(), start=1):
        stage.instead = lambda request, answer=answer: answer() if is_fetch(request) else None
        pass_time(page, 2)
        expect(page.locator("[data-lt=offline]")).to_be_visible()
        expect(page.get_by_role("link", name="Refresh the page")).to_be_visible()
        stage.mend()
        stage.report(task_id, step=step, total_steps=100)
        pass_time(page, 4)
        expect(page.locator("progress")).to_have_attribute("value", str(step))
        expect(page.locator("[data-lt=offline]")).to_be_hidden()


def test_a_new_state_is_shown_although_its_page_is_not_found_at_first(page: Page, stage: Stage) -> None:
    page.clock.install()
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    stage.instead = first(2, STRANGE["no route"], lambda request: is_fetch(request) and not is_poll(request))
    stage.end_attempt(task_id, permanent=True)
    pass_time(page, 10)
    expect(page.locator("h1")).to_have_text("The task failed")


def test_the_result_is_opened_although_the_page_is_not_found(page: Page, stage: Stage) -> None:
    page.clock.install()
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    stage.instead = lambda request: STRANGE["no route"]() if is_fetch(request) and not is_poll(request) else None
    stage.finish(task_id)
    let_poll(page)
    expect(page.locator("h1")).to_have_text("The report of March", timeout=SOON)


def test_the_page_follows_the_task_where_polls_are_never_answered(page: Page, stage: Stage) -> None:
    page.clock.install()
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    page.evaluate("told = []; live = document.querySelector('.lt-live')")
    page.evaluate("new MutationObserver(() => told.push(live.textContent)).observe(live, {childList: true})")
    stage.instead = lambda request: STRANGE["forbidden"]() if is_poll(request) else None
    pass_time(page, 5)
    stage.report(task_id, **READY)
    pass_time(page, 10)
    expect(page.locator("progress")).to_have_attribute("value", "100")
    stage.end_attempt(task_id, permanent=True)
    pass_time(page, 40)
    expect(page.locator("h1")).to_have_text("The task failed")
    assert page.evaluate("told") == ["The task failed"]


@pytest.mark.parametrize("state", ["expired", "unknown"])
def test_polling_ends_if_our_own_page_says_that_there_is_nothing(page: Page, stage: Stage, state: str) -> None:
    page.clock.install()
    page.goto(STATES["working"](stage))
    url = STATES[state](stage).removeprefix(stage.url)
    headers = [("Accept", "text/html")]
    gone = stage.app.test_client().get(url, headers=headers)
    stage.instead = lambda request: Response(gone.data, gone.status_code) if is_fetch(request) else None
    pass_time(page, 4)
    expect(page.locator("article")).to_have_attribute("data-status", state)
    stage.requests.clear()
    page.clock.run_for(3_600_000)
    assert stage.requests == []


def test_a_task_that_was_refused_for_a_while_is_shown_again(page: Page, stage: Stage) -> None:
    page.clock.install()
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    problem = stage.app.test_client().get("/report?_longtaskjob=query", headers={"Accept": "text/html"}).data
    stage.instead = lambda request: Response(problem, 403) if is_fetch(request) else None
    pass_time(page, 2)
    expect(page.locator("article")).to_have_attribute("data-status", "problem")
    stage.mend()
    pass_time(page, 10)
    expect(page.locator("progress")).to_have_attribute("value", "42")


def test_the_server_is_not_flooded_whatever_pace_it_asks_for(page: Page, stage: Stage) -> None:
    page.clock.install()
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    for percent, pace in enumerate(["null", "0", "-5", "0.001", "1e12", '"soon"', "[]", "{}"], start=1):
        progress = f'{{"message": "", "percent": {percent}, "eta_seconds": null}}'
        rest = f'"progress": {progress}, "elapsed_seconds": 5, "poll_after_seconds": {pace}'
        text = f'{{"id": "{task_id}", "status": "started", "attempt": 1, {rest}}}'
        stage.instead = lambda request, text=text: Response(text) if is_poll(request) else None
        pass_time(page, 1)
        page.evaluate("dispatchEvent(new Event('online'))")  # the script polls at once
        expect(page.locator("progress")).to_have_attribute("value", str(percent))
        stage.requests.clear()
        pass_time(page, 5)
        assert len(stage.requests) <= 5


# Answers that do not come.


@pytest.fixture
def released() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_request_without_an_answer_is_given_up(page: Page, stage: Stage, released: threading.Event) -> None:
    page.clock.install()
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    stage.instead = first(1, lambda: Response(str(released.wait(60))), is_fetch)
    pass_time(page, 31)
    expect(page.locator("[data-lt=offline]")).to_be_visible()
    stage.report(task_id, **READY)
    pass_time(page, 3)
    expect(page.locator("progress")).to_have_attribute("value", "100")


@pytest.mark.parametrize("of", ["polls", "pages"])
def test_an_answer_that_does_not_end_is_given_up(page: Page, stage: Stage, released: threading.Event, of: str) -> None:
    def endless() -> Response:
        def parts() -> Iterator[bytes]:
            yield b" " * 1000
            released.wait(60)

        return Response(parts())

    page.clock.install()
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    stage.instead = first(1, endless, lambda request: is_fetch(request) and is_poll(request) == (of == "polls"))
    stage.end_attempt(task_id, permanent=True)
    pass_time(page, 2)
    expect(page.locator("h1")).to_have_text("Making the report")
    pass_time(page, 34)
    expect(page.locator("h1")).to_have_text("The task failed")


# The login.


@pytest.fixture
def login() -> Iterator[str]:
    """The URL of a login page on another origin. It leads back to the page in its query."""
    app = Flask("login")

    @app.get("/")
    def sign_in() -> str:
        return f'<h1>Sign in</h1><a href="{request.args["continue"]}">Done</a>'

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://localhost:{server.port}/"
    server.shutdown()
    thread.join()


def to_login(login: str, request: Request) -> Response:
    return redirect(f"{login}?continue={request.url.replace('&', '%26')}")


#: How a request without a session is answered.
GUARDS: dict[str, Callable[[str, Request], Response]] = {
    "Identity-Aware Proxy": lambda login, request: (
        Response(status=401)
        if request.headers.get("X-Requested-With") == "XMLHttpRequest"
        else to_login(login, request)
    ),
    "a redirect to another origin": to_login,
    "a redirect to our origin": lambda login, request: (
        redirect("/login") if request.path == "/report" else Response("<h1>Sign in</h1>")
    ),
    "401 for all but pages": lambda login, request: (
        to_login(login, request) if "text/html" in request.headers.get("Accept", "") else Response(status=401)
    ),
}


@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("where", ["report", "desk"])
def test_the_end_of_the_session_leads_to_the_login_and_back(
    page: Page, stage: Stage, login: str, guard: str, where: str
) -> None:
    page.clock.install()
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id) if where == "report" else f"{stage.url}/desk/{task_id}")
    expect(page.locator("progress")).to_have_attribute("value", "42")
    stage.instead = lambda request: GUARDS[guard](login, request)
    page.clock.run_for(5_000)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible(timeout=SOON)
    stage.mend()
    if "our origin" not in guard:
        page.get_by_role("link").click()
        expect(page.locator("h1")).to_have_text("Making the report")
        assert page.url == stage.page(task_id)


def test_a_new_state_after_the_end_of_the_session_leads_to_the_login(page: Page, stage: Stage, login: str) -> None:
    page.clock.install()
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    stage.end_attempt(task_id)
    stage.instead = lambda request: None if is_poll(request) else to_login(login, request)
    page.clock.run_for(5_000)
    expect(page.locator("h1")).to_have_text("Sign in", timeout=SOON)


@pytest.mark.parametrize("answer", [lambda: Response(status=401), lambda: redirect("/login")], ids=["401", "redirect"])
def test_a_page_that_is_only_refused_to_the_script_is_not_loaded_again_and_again(
    page: Page, stage: Stage, answer: Callable[[], Response]
) -> None:
    page.clock.install()
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    stage.instead = lambda request: answer() if is_fetch(request) else None
    stage.requests.clear()
    pass_time(page, 50)
    pages = [path for path, accept in stage.requests if path.startswith("/report") and "text/html" in accept]
    assert len(pages) == 1
    expect(page.get_by_role("link", name="Refresh the page")).to_be_visible()
    expect(page.locator("[data-lt=offline]")).to_be_hidden()


def test_without_storage_the_page_is_not_loaded_again_and_again(page: Page, stage: Stage) -> None:
    page.add_init_script("Object.defineProperty(window, 'sessionStorage', {get() { throw new Error('no storage'); }})")
    page.clock.install()
    page.goto(stage.page(stage.task(Status.STARTED, **WORKING)))
    stage.instead = lambda request: Response(status=401) if is_fetch(request) else None
    stage.requests.clear()
    pass_time(page, 20)
    assert all("application/json" in accept for path, accept in stage.requests if path.startswith("/report"))


# Browsers without what the script needs, and faults of the script.

#: Scripts that take a feature away.
WITHOUT = {
    "AbortSignal.timeout": "delete AbortSignal.timeout",
    "AbortController": "delete window.AbortController; delete window.AbortSignal",
    "onLine": "Object.defineProperty(Navigator.prototype, 'onLine', {get: () => undefined})",
    "fetch": "delete window.fetch",
    "URL": "delete window.URL",
    "replaceWith": "delete Element.prototype.replaceWith",
    "Intl": "delete window.Intl",
    "units": """
        const Format = Intl.NumberFormat;
        Intl.NumberFormat = function (lang, options) {
          if (options?.style === "unit") throw new RangeError("style");
          return new Format(lang, options);
        };
    """,
}
STILL_WORKS = {"AbortSignal.timeout", "AbortController", "onLine", "units"}


@pytest.mark.parametrize("feature", WITHOUT)
def test_a_browser_without_a_feature_gets_news_or_the_link_that_works_without_the_script(
    page: Page, stage: Stage, feature: str
) -> None:
    page.clock.install()
    page.add_init_script(WITHOUT[feature])
    task_id = stage.task(Status.STARTED, **WORKING)
    page.goto(stage.page(task_id))
    stage.report(task_id, **READY)
    pass_time(page, 2)
    page.evaluate("document.getAnimations().forEach(each => { if (each.animationName === 'lt-late') each.finish(); })")
    link = page.get_by_role("link", name="Refresh the page")
    assert link.is_visible() != (feature in STILL_WORKS)
    expect(page.locator("[data-lt=offline]")).to_be_hidden()
    stage.finish(task_id)
    if link.is_visible():
        link.click()
    pass_time(page, 2)
    expect(page.locator("h1")).to_have_text("The report of March")


def test_a_fault_of_the_script_is_logged_and_not_called_offline(page: Page, stage: Stage) -> None:
    logged: list[str] = []
    page.on("console", lambda message: logged.append(message.text))
    page.clock.install()
    page.goto(stage.page(stage.task(Status.STARTED, **WORKING)))
    page.evaluate("Intl.PluralRules = null")
    let_poll(page)
    expect(page.get_by_role("link", name="Refresh the page")).to_be_visible(timeout=SOON)
    expect(page.locator("[data-lt=offline]")).to_be_hidden()
    assert any("TypeError" in text for text in logged)


def test_a_request_that_a_policy_forbids_leaves_the_link(page: Page, stage: Stage) -> None:
    page.route("**/report?*&_longtaskrefresh=on", lambda route: route.abort("blockedbyclient"))
    page.clock.install()
    page.goto(stage.page(stage.task(Status.STARTED, **WORKING)))
    page.clock.run_for(5_000)
    expect(page.get_by_role("link", name="Refresh the page")).to_be_visible(timeout=SOON)
