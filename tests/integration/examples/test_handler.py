"""docs/handler.md and docs/requests.md: the table of squares, for visitors and for programs."""

from __future__ import annotations

from typing import Any

import pytest

from gaetk_longtask import LongTaskManager
from tests.integration.examples.conftest import Example

HANDLER = "handler.md"


@pytest.mark.calls(HANDLER, "test_the_squares_are_right", "Squares.execute_task", "Squares.display_result")
def test_its_own_test_passes(example: Example) -> None:
    runner, names = example(HANDLER)
    names["test_the_squares_are_right"](runner)


@pytest.mark.parametrize(
    ("query", "lines"), [("", 1000), ("?count=0", 0), ("?count=%201%20", 1), ("?count=100000", 100_000)]
)
def test_a_visitor_gets_as_many_squares_as_they_want(example: Example, query: str, lines: int) -> None:
    runner, _ = example(HANDLER)
    result = runner.run(f"/squares{query}")
    assert len(result.text.splitlines()) == lines
    assert result.mimetype == "text/csv"


@pytest.mark.parametrize(
    "query",
    ["count=", "count=many", "count=1&count=2", "count=-1", "count=1.5", "count=100001", f"count={'9' * 1000}"],
)
def test_what_is_no_count_is_refused_at_once(example: Example, query: str) -> None:
    runner, _ = example(HANDLER)
    task = runner.start(f"/squares?{query}")
    assert runner.deliver().status_code == 200
    assert task.document["error"] == "Please give a whole number up to 100,000."


@pytest.mark.parametrize("parameters", [{"count": 3}, {"count": "3"}])
def test_the_task_may_be_started_from_code(example: Example, parameters: dict[str, Any]) -> None:
    runner, _ = example(HANDLER)
    with runner.app.app_context():
        task = runner.started(LongTaskManager.start("squares", parameters, created_by="Jürgen"))
    runner.deliver_all()
    assert runner.queue.delivered
    assert runner.client.get(task.url).status_code == 403  # it is Jürgen's


def test_a_program_follows_the_links_of_the_status_document(example: Example) -> None:
    runner, _ = example(HANDLER)
    asks = {"Accept": "application/json"}
    started = runner.client.get("/squares?count=3", headers=asks)
    assert (started.status_code, started.json["status"], started.json["links"]["result"]) == (202, "ready", None)
    runner.deliver_all()
    document = runner.client.get(started.json["links"]["self"], headers=asks).json
    assert document["done"]
    assert runner.client.get(document["links"]["result"], headers=asks).text == "0,0\r\n1,1\r\n2,4\r\n"


@pytest.mark.calls(HANDLER, "FromFilledForm.form_url")
@pytest.mark.parametrize(("query", "field"), [("?count=many", "many"), ("?count=1.5", "1.5")])
def test_a_visitor_gets_back_to_the_form_as_they_filled_it(example: Example, query: str, field: str) -> None:
    runner, _ = example(HANDLER, filled="FromFilledForm")
    task = runner.start(f"/filled{query}")
    runner.deliver_all()
    assert f'href="/squares/form?count={field}"' in runner.client.get(task.url).text


@pytest.mark.calls(HANDLER, "Titled.title_of")
@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("", "The squares below 1000"),
        ("?count=3", "The squares below 3"),
        ("?count=1&count=2", "The squares below ['1', '2']"),
        (f"?count={'9' * 500}", f"The squares below {'9' * 101}…"),
    ],
)
def test_each_table_has_its_title(example: Example, query: str, title: str) -> None:
    runner, _ = example(HANDLER, titled="Titled")
    assert runner.start(f"/titled{query}").document["title"] == title


@pytest.mark.calls(HANDLER, "Import.execute_task")
def test_a_visitor_sees_what_was_imported(example: Example) -> None:
    runner, _ = example(HANDLER, **{"import": "Import"})
    task = runner.start("/import", data={"lines": "100\n250\ntotal\n"})
    runner.deliver_all()
    document = task.document
    assert document["facts"] == {"imported": 2, "skipped": 1}
    assert document["progress"]["phase"] == {"name": "Storing", "number": 3, "count": 3}
    assert task.result().status_code == 200
