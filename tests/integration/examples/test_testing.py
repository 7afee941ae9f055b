"""docs/testing.md: its tests pass, and its application works with other input too."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.integration.examples.conftest import Example
from tests.pages import blocks, file_name, page_named

TESTING = "testing.md"
SHOP = 2  # the block that is shop.py


@pytest.mark.parametrize("month", ["2026-01", "März", "", "%"])
@pytest.mark.calls(TESTING, "Turnover.execute_task")
def test_the_turnover_of_a_month_is_the_sum_of_its_orders(example: Example, month: str) -> None:
    runner, names = example(TESTING, only=[SHOP])
    with runner.datastore():
        for value in (40, 2):
            names["Order"](month=month, value=value).put()
        names["Order"](month="another", value=1000).put()
    assert runner.run(f"/turnover?month={quote(month)}").json == {"turnover": 42}
    assert runner.run("/turnover?month=none").json == {"turnover": 0}


@pytest.mark.parametrize("query", ["", "Month=2026-01", "month=2026-01&month=2026-02"])
def test_without_one_month_the_task_fails_at_once(example: Example, query: str) -> None:
    runner, _ = example(TESTING, only=[SHOP])
    task = runner.start(f"/turnover?{query}")
    assert runner.deliver().status_code == 200
    assert task.document["error"] == "Please choose a month."


def test_its_own_tests_pass(pytester: pytest.Pytester) -> None:
    tests = 0
    for block in blocks(page_named(TESTING), "python"):
        name = file_name(block)
        assert name is not None
        with (pytester.path / name).open("a", encoding="utf-8") as file:
            file.write(block)
        tests += block.count("\ndef test_")
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=tests)


def test_the_developers_own_datastore_is_not_touched(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", "127.0.0.1:1")
    pytester.makeconftest('pytest_plugins = ["gaetk_longtask.pytest_plugin"]')
    pytester.makepyfile(
        """
        import os

        def test_it_is_another_one(longtask_datastore):
            assert longtask_datastore == os.environ["DATASTORE_EMULATOR_HOST"] != "127.0.0.1:1"
        """
    )
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
