"""The tests in docs/handler.md and docs/testing.md pass."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gaetk_longtask.testing.runner import TaskRunner

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
HANDLER = (ROOT / "docs" / "handler.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("longtask_datastore")
def test_the_page_about_handlers_tests_its_own_example() -> None:
    squares, test = re.findall(r"^```python\n(.*?)^```$", HANDLER, re.DOTALL | re.MULTILINE)
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(compile(squares + test, "handler.md", "exec"), namespace)
    with TaskRunner(namespace["app"]).opened() as longtask:
        namespace["test_the_squares_are_right"](longtask)


def test_every_example_of_the_manual_runs(pytester: pytest.Pytester) -> None:
    for name, code in re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", MANUAL, re.DOTALL | re.MULTILINE):
        with (pytester.path / name).open("a", encoding="utf-8") as file:
            file.write(code)
    assert MANUAL.count("```python") == MANUAL.count("```python\n# ")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--durations=9")
    result.assert_outcomes(passed=MANUAL.count("\ndef test_"))


def test_the_developers_own_datastore_is_not_changed(
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
