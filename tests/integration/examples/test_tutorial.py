"""docs/tutorial.md: both applications, with limits as people type them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gaetk_longtask.testing import ManualClock, TaskRunner
from tests.integration.examples.conftest import Example
from tests.pages import blocks, file_name, page_named, run
from tests.support import result_text

TUTORIAL = "tutorial.md"
FIRST, LAST = 1, 2  # the blocks that are main.py
NO_NUMBER = "Please give a whole number."
TOO_HIGH = "Please give a number up to 20,000,000."


@pytest.mark.calls(TUTORIAL, "is_prime", "Primes.execute_task")
@pytest.mark.usefixtures("longtask_datastore")
def test_the_first_application_counts_prime_numbers() -> None:
    names = run(page_named(TUTORIAL), only=[FIRST])
    names["range"] = lambda *limits: range(*(20 if limit == 2_000_000 else limit for limit in limits))
    with TaskRunner(names["app"]).opened() as runner:
        assert result_text(runner.run("/primes")) == "There are 8 prime numbers below 2,000,000."


@pytest.mark.calls(TUTORIAL, "index", "is_prime (2)", "Primes.execute_task (2)", "Primes.display_result")
def test_the_form_leads_to_a_file(example: Example) -> None:
    runner, _ = example(TUTORIAL, only=[LAST])
    form = runner.client.get("/").text
    assert '<form action="/primes">' in form
    assert '<input name="limit"' in form
    result = runner.run("/primes?limit=20")
    assert result.text.split() == ["2", "3", "5", "7", "11", "13", "17", "19"]
    assert result.headers["Content-Disposition"] == "attachment; filename=primes.txt"


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("", NO_NUMBER),
        ("limit=", NO_NUMBER),
        ("limit=many", NO_NUMBER),
        ("limit=1&limit=2", NO_NUMBER),
        ("limit=1.5", NO_NUMBER),
        ("limit=1e3", NO_NUMBER),
        ("limit=2,000", NO_NUMBER),
        ("limit=NaN", NO_NUMBER),
        ("limit=%C2%B2", NO_NUMBER),
        ("limit=%00", NO_NUMBER),
        ("LIMIT=20", NO_NUMBER),
        ("limit=20000001", TOO_HIGH),
        (f"limit={'9' * 1000}", TOO_HIGH),
    ],
)
def test_what_is_no_limit_is_refused_at_once(example: Example, query: str, error: str) -> None:
    runner, _ = example(TUTORIAL, only=[LAST])
    task = runner.start(f"/primes?{query}")
    assert runner.deliver().status_code == 200
    assert task.document["error"] == error
    assert error in task.page().text


@pytest.mark.parametrize(
    ("query", "last"),
    [("limit=3", "2"), ("limit=%203%20", "2"), ("limit=2_000", "1999"), ("limit=%D9%A3", "2"), ("limit=1009", "997")],
)
def test_the_limit_itself_is_left_out(example: Example, query: str, last: str) -> None:
    runner, _ = example(TUTORIAL, only=[LAST])
    assert runner.run(f"/primes?{query}").text.split()[-1] == last


@pytest.mark.parametrize("limit", ["2", "0", "-5", f"-{'9' * 1000}"])
def test_below_a_low_limit_there_is_nothing(example: Example, limit: str) -> None:
    runner, _ = example(TUTORIAL, only=[LAST])
    result = runner.run(f"/primes?limit={limit}")
    assert (result.text, result.mimetype) == ("", "text/plain")


def test_the_form_may_be_sent_by_post(example: Example) -> None:
    runner, _ = example(TUTORIAL, only=[LAST])
    assert runner.run("/primes", method="POST", data={"limit": "3"}).text == "2\n"
    task = runner.start("/primes", method="POST", data={"limit": "9" * 5_000})
    runner.deliver()
    assert task.document["error"] == NO_NUMBER


def test_a_cancelled_task_continues_from_its_last_checkpoint(example: Example, longtask_clock: ManualClock) -> None:
    runner, names = example(TUTORIAL, only=[LAST], clock=longtask_clock)
    tried: list[int] = []

    def slow(number: int) -> bool:
        tried.append(number)
        longtask_clock.advance(timedelta(seconds=0.02))
        if len(tried) == 2_500:
            task.cancel()
            runner.clock.advance(timedelta(seconds=60))
        return number == 2

    names["is_prime"] = slow
    task = runner.start("/primes?limit=4000")
    runner.deliver_all()
    assert task.status == "cancelled"
    task.retry()
    runner.deliver_all()
    assert task.result().text == "2\n"
    assert tried.count(0) == 1
    assert set(tried) == set(range(4_000))


def test_its_own_tests_pass(pytester: pytest.Pytester) -> None:
    for block in blocks(page_named(TUTORIAL), "python"):
        if name := file_name(block):
            (pytester.path / name).write_text(block, encoding="utf-8")
    tests = (pytester.path / "test_main.py").read_text().count("def test_")
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=tests)
