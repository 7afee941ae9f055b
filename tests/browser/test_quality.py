"""Every page is accessible, valid and small in every state, in both text directions."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from playwright.sync_api import Page

from gaetk_longtask import Status
from tests.browser.stage import Stage
from tests.browser.states import MORE_STATES, OVERVIEW, STATES, WORKING, open_state
from tests.missing import missing
from tests.support import JSON

#: WCAG 2.2 AA, and the rules that axe calls best practice.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
FIRST_LOAD_BYTES, POLL_BYTES = 12_000, 650


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visitor: Callable[..., Page], stage: Stage, npm_packages: Path, scheme: str) -> None:
    axe = (npm_packages / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    found = {}
    page = visitor(color_scheme=scheme, viewport={"width": 390, "height": 800})
    for name in STATES | OVERVIEW:
        open_state(page, stage, name)
        page.evaluate(axe)
        options = {"runOnly": {"type": "tag", "values": RULES}, "resultTypes": ["violations", "incomplete"]}
        result = page.evaluate("options => axe.run(options)", options)
        assert len(result["passes"]) > 10
        if troubles := result["violations"] + result["incomplete"]:
            found[name] = [(one["id"], [node["html"] for node in one["nodes"]]) for one in troubles]
    assert found == {}


def test_the_nu_validator_finds_nothing(stage: Stage, npm_packages: Path, tmp_path: Path) -> None:
    client = stage.app.test_client()
    pages = list(product((STATES | MORE_STATES | OVERVIEW).items(), ["en", "de"]))
    for (name, make), language in pages:
        site = "cross-site" if name == "start" else "same-origin"
        headers = {"Accept": "text/html", "Accept-Language": language, "Sec-Fetch-Site": site}
        path = make(stage).removeprefix(stage.url)
        (tmp_path / f"{name}-{language}.html").write_bytes(client.get(path, headers=headers).data)
    jar = npm_packages / "vnu-jar" / "build" / "dist" / "vnu.jar"
    try:
        files = sorted(tmp_path.glob("*.html"))
        command = ["java", "-jar", jar, "--format", "json", *files]
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except FileNotFoundError:
        missing("java is not installed; apt install default-jre-headless")
        raise
    assert json.loads(run.stderr)["messages"] == []
    assert len(files) == len(pages)


def test_the_first_load_is_small(stage: Stage) -> None:
    client = stage.app.test_client()
    path = stage.page(stage.task(Status.STARTED, **WORKING)).removeprefix(stage.url)
    urls = [path, *(f"/_longtask/static/{name}" for name in ("longtask.css", "longtask.js", "icon.svg"))]
    sizes = []
    for url in urls:
        with client.get(url, headers={"Accept": "text/html"}) as answer:
            sizes.append(len(gzip.compress(answer.data)))
    assert sum(sizes) <= FIRST_LOAD_BYTES, sizes


def test_a_poll_is_small(stage: Stage) -> None:
    path = stage.page(stage.task(Status.STARTED, **WORKING)).removeprefix(stage.url)
    answer = stage.app.test_client().get(path, headers=JSON)
    assert len(answer.data) <= POLL_BYTES


def test_the_page_loads_only_its_stylesheet_and_its_script(page: Page, stage: Stage) -> None:
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url.removeprefix(stage.url)))
    url = STATES["finished"](stage)
    page.goto(url)
    assert [one for one in loaded if "favicon" not in one] == [
        url.removeprefix(stage.url),
        "/_longtask/static/longtask.css",
        "/_longtask/static/longtask.js",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_bars_of_the_browser_have_the_colour_of_the_page(
    visitor: Callable[..., Page], stage: Stage, scheme: str
) -> None:
    page = visitor(color_scheme=scheme)
    page.goto(STATES["unknown"](stage))
    ground = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--lt-ground')")
    colours = page.evaluate(
        "[...document.querySelectorAll('[name=theme-color]')].filter(each => matchMedia(each.media).matches)"
        ".map(each => each.content)"
    )
    assert colours == [ground.strip()]


def test_the_icon_is_a_picture(page: Page, stage: Stage) -> None:
    page.goto(STATES["working"](stage))
    load = """async () => {
      const icon = new Image();
      icon.src = document.querySelector("link[rel=icon]").href;
      await icon.decode();
      return icon.naturalWidth > 0;
    }"""
    assert page.evaluate(load) is True


@pytest.mark.parametrize("first", ["theirs", "ours"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_order_of_the_stylesheets_does_not_matter(
    visitor: Callable[..., Page], stage: Stage, scheme: str, first: str
) -> None:
    page = visitor(color_scheme=scheme)
    style = ":root { --lt-accent: #7a1fa2 } @media (prefers-color-scheme: dark) { :root { --lt-accent: #d9a6f5 } }"
    page.route("**/brand.css", lambda route: route.fulfill(body=style, content_type="text/css"))
    link = '<link rel="stylesheet" href="/brand.css">'
    stage.desk = stage.desk.replace("<link", f"{link}<link", 1) if first == "theirs" else stage.desk + link
    page.goto(f"{stage.url}/desk/{stage.task()}")
    accent = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--lt-accent')")
    assert accent.strip() == {"light": "#7a1fa2", "dark": "#d9a6f5"}[scheme]


@pytest.mark.parametrize("width", [320, 390, 1920])
def test_the_page_does_not_scroll_sideways(visitor: Callable[..., Page], stage: Stage, width: int) -> None:
    page = visitor(viewport={"width": width, "height": 640})
    long = {**WORKING, "message": "Reading " + "VeryLongNameOfAFile" * 20}
    page.goto(stage.page(stage.task(Status.STARTED, **long)))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("width", [320, 1920])
@pytest.mark.parametrize("name", OVERVIEW)
def test_the_operators_pages_do_not_scroll_sideways(
    visitor: Callable[..., Page], stage: Stage, name: str, width: int
) -> None:
    stage.task(Status.STARTED, message="Reading " + "VeryLongNameOfAFile" * 20)
    page = visitor(viewport={"width": width, "height": 640})
    open_state(page, stage, name)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_page_is_mirrored_from_right_to_left(page: Page, stage: Stage) -> None:
    page.goto(STATES["working"](stage))
    card = page.locator("article").bounding_box()
    button = page.get_by_role("button", name="Cancel").bounding_box()
    page.evaluate("document.querySelectorAll('[dir]').forEach(each => each.dir = 'rtl')")
    mirrored = page.get_by_role("button", name="Cancel").bounding_box()
    assert card is not None
    assert button is not None
    assert mirrored is not None
    assert button["x"] - card["x"] == card["x"] + card["width"] - mirrored["x"] - mirrored["width"]


def test_a_printed_page_has_no_buttons(page: Page, stage: Stage) -> None:
    page.goto(STATES["failed"](stage))
    page.emulate_media(media="print")
    assert page.locator("article").is_visible()
    assert not page.get_by_role("button").is_visible()


def test_nothing_moves_if_the_visitor_prefers_reduced_motion(visitor: Callable[..., Page], stage: Stage) -> None:
    page = visitor(reduced_motion="reduce")
    page.goto(STATES["working-without-steps"](stage))
    assert page.evaluate("document.getAnimations().length") == 0


@pytest.mark.parametrize("state", ["working", "failed", "expired", "start"])
def test_without_the_stylesheet_the_icon_is_small_and_an_outline(page: Page, stage: Stage, state: str) -> None:
    page.route("**/longtask.css", lambda route: route.abort())
    open_state(page, stage, state)
    box = page.locator("article svg").bounding_box()
    assert box is not None
    assert (box["width"], box["height"]) == (20, 20)
    style = "each => [getComputedStyle(each).fill, getComputedStyle(each).stroke]"
    fill, stroke = page.locator("article svg path").evaluate(style)
    assert fill == "none"
    assert stroke != "none"


#: Returns the colours of some pixels of a picture.
PIXELS = """async ([data, places]) => {
  const picture = await createImageBitmap(await (await fetch(`data:image/png;base64,${data}`)).blob());
  const context = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
  context.drawImage(picture, 0, 0);
  return places.map(([x, y]) => [...context.getImageData(x * picture.width, y * picture.height, 1, 1).data].join());
}"""


def test_a_bar_without_a_percentage_has_round_ends(visitor: Callable[..., Page], stage: Stage) -> None:
    page = visitor(reduced_motion="reduce", device_scale_factor=4)
    page.goto(STATES["working-without-steps"](stage))
    picture = base64.b64encode(page.locator("progress").screenshot()).decode()
    page.goto("about:blank")
    tops = [(x, 0.05) for x in (0.352, 0.5, 0.648)]
    middles = [(x, 0.5) for x in (0.1, 0.356, 0.5, 0.644, 0.9)]
    left, top, right, track, *bar, end = page.evaluate(PIXELS, [picture, tops + middles])
    assert (left, right, end) == (track, track, track)
    assert set(bar) == {top}
    assert top != track
