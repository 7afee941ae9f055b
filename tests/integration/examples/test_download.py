"""docs/download.md: counts and file names as people type them."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from werkzeug.http import parse_options_header

from gaetk_longtask.testing import TaskRunner
from tests.integration.examples.conftest import Example

DOWNLOAD = "download.md"
#: What every WSGI server sends in a header.
SENDABLE = re.compile(r"[ \t\x21-\x7e\x80-\xff]*")
REFUSAL = "Please give a whole number up to 100,000."


def refusal(runner: TaskRunner, url: str) -> Any:
    """Return why the task failed; it must fail in its first attempt."""
    task = runner.start(url)
    assert runner.deliver().status_code == 200
    return task.document["error"]


@pytest.mark.parametrize("count", ["3", "%203%20", "%2B3"])
@pytest.mark.calls(DOWNLOAD, "count_in", "Squares.execute_task", "Squares.display_result")
def test_a_download_is_a_file(example: Example, count: str) -> None:
    runner, _ = example(DOWNLOAD)
    result = runner.run(f"/squares?count={count}")
    assert result.text == "0,0\r\n1,1\r\n2,4\r\n"
    assert result.mimetype == "text/csv"
    assert result.headers["Content-Disposition"] == "attachment; filename=squares.csv"


@pytest.mark.calls(DOWNLOAD, "ManySquares.execute_task")
def test_both_ways_lead_to_the_same_file(example: Example) -> None:
    runner, _ = example(DOWNLOAD, many="ManySquares")
    assert runner.run("/many").data == runner.run("/squares").data


def test_the_highest_count_is_not_refused(example: Example) -> None:
    runner, _ = example(DOWNLOAD, many="ManySquares")
    assert runner.run("/many?count=100000").text.endswith("99999,9999800001\r\n")


@pytest.mark.parametrize("endpoint", ["squares", "many"])
def test_no_squares_are_an_empty_file(example: Example, endpoint: str) -> None:
    runner, _ = example(DOWNLOAD, many="ManySquares")
    result = runner.run(f"/{endpoint}?count=0")
    assert (result.data, result.mimetype) == (b"", "text/csv")


@pytest.mark.parametrize("endpoint", ["squares", "many"])
@pytest.mark.parametrize(
    "query",
    [
        "count=many",
        "count=",
        "count=1&count=2",
        "count=-1",
        "count=1.5",
        "count=1e3",
        "count=NaN",
        "count=100001",
        "count=100000000000000000000",
        f"count={'9' * 1000}",
    ],
)
def test_what_is_no_count_is_refused_at_once(example: Example, endpoint: str, query: str) -> None:
    runner, _ = example(DOWNLOAD, many="ManySquares")
    assert refusal(runner, f"/{endpoint}?{query}") == REFUSAL


@pytest.mark.parametrize(
    ("typed", "saved"),
    [
        ("Łódź", "Łódź.csv"),
        ("März 2026", "März 2026.csv"),
        ("日本", "日本.csv"),
        ('the "good" ones', 'the "good" ones.csv'),
        ('die "größeren"', 'die "größeren".csv'),
        ("a/b", "a/b.csv"),
        ("a\\b", "a\\b.csv"),
        ("a\nb", "a b.csv"),
        ("a\r\nSet-Cookie: b=c", "a Set-Cookie: b=c.csv"),
        ("ä\u2028b", "ä b.csv"),
        ("a; filename=b", "a; filename=b.csv"),
        ("a%41", "a%41.csv"),
        ("a\0b", "a b.csv"),
        ("", "squares.csv"),
    ],
)
@pytest.mark.calls(DOWNLOAD, "NamedSquares.display_result")
def test_a_visitor_names_the_file(example: Example, typed: str, saved: str) -> None:
    runner, _ = example(DOWNLOAD, named="NamedSquares")
    header = runner.run(f"/named?count=3&{urlencode({'name': typed})}").headers["Content-Disposition"]
    assert SENDABLE.fullmatch(header)
    assert parse_options_header(header) == ("attachment", {"filename": saved})


def test_two_names_are_a_name_too(example: Example) -> None:
    runner, _ = example(DOWNLOAD, named="NamedSquares")
    assert runner.run("/named?name=a&name=b").headers["Content-Disposition"].startswith("attachment; filename=")


@pytest.mark.parametrize("name", ["Łódź.csv", "2026-01.zip"])
@pytest.mark.calls(DOWNLOAD, "Archive.execute_task", "Archive.display_result")
def test_an_archive_is_in_cloud_storage(example: Example, name: str) -> None:
    runner, names = example(DOWNLOAD)
    names["write_archive"] = lambda year: name if year == 2026 else None
    names["signed_url"] = lambda name, minutes: f"https://storage.example.com/{quote(name)}?expires={minutes}"
    runner.app.add_url_rule("/archive/<int:year>", view_func=names["Archive"].as_view("archive"))
    result = runner.run("/archive/2026")
    assert result.status_code == 302
    assert result.headers["Location"] == f"https://storage.example.com/{quote(name)}?expires=5"
