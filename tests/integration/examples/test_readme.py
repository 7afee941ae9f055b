"""README.md and docs/cost-and-scale.md: the first example, and the calculation of instance hours."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.integration.examples.conftest import Example
from tests.pages import page_named, run
from tests.support import result_text

README = "README.md"


@pytest.mark.parametrize("seconds", [0, 1, 3, 600])
@pytest.mark.calls(README, "Count.execute_task")
def test_it_counts_one_second_after_the_other(example: Example, seconds: int) -> None:
    runner, names = example(README)
    slept: list[float] = []
    names["time"] = SimpleNamespace(sleep=slept.append)
    assert result_text(runner.run(f"/count/{seconds}")) == f"Counted {seconds} seconds."
    assert slept == [1] * seconds


@pytest.mark.parametrize("seconds", ["601", "-1", "1.5", "ten", "", "99999999999999999999"])
def test_what_is_no_number_of_seconds_is_not_found(example: Example, seconds: str) -> None:
    runner, _ = example(README)
    assert runner.client.get(f"/count/{seconds}").status_code == 404
    assert not runner.queue.tasks


@pytest.mark.parametrize(("tasks", "hours"), [(0, 0), (1000, 0.69), (1_000_000, 694.44)])
@pytest.mark.calls("cost-and-scale.md", "instance_hours")
def test_instance_hours_are_calculated(tasks: int, hours: float) -> None:
    names = run(page_named("cost-and-scale.md"))
    assert round(names["instance_hours"](tasks=tasks, seconds=10, at_a_time=4), 2) == hours
