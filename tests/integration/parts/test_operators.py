"""What operators see of a task in parts: on the command line, in the overview and in a list."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from gaetk_longtask import LongTask, PermanentTaskFailure
from gaetk_longtask.operators.cli import watching
from gaetk_longtask.testing import InMemoryQueue, ManualClock
from tests.in_parts import Letters
from tests.integration.conftest import Invoke
from tests.support import load


@pytest.fixture
def app(make_app: Callable[..., Flask], letters: type[Letters]) -> Flask:
    return make_app(letters, LONGTASK_ADMIN=lambda: True)


@pytest.fixture
def failed(app: Flask, client: FlaskClient, task: LongTask, queue: InMemoryQueue, letters: type[Letters]) -> LongTask:
    """A task whose part 4 has failed for good."""

    def do(handler: Letters, letter: str) -> str:
        if letter == "e":
            raise PermanentTaskFailure("no e today")
        return letter.upper()

    letters.do = do
    queue.deliver_all(client)
    return load(app, task)


def test_the_command_line_shows_the_first_open_part_of_each_row(
    client: FlaskClient, task: LongTask, queue: InMemoryQueue, invoke: Invoke, clock: ManualClock
) -> None:
    for _ in range(3):
        clock.advance(timedelta(seconds=2))
        queue.deliver(client)
    output = invoke("show", task.id).output
    assert "parts: 2 of 8 done" in output
    lines = output[output.index("open parts:") :].splitlines()
    assert [line.split()[:4] for line in lines[2:5]] == [
        ["2", "2", "ready", "1"],
        ["3", "1", "ready", "1"],
        ["5", "0", "ready", "1"],
    ]
    found = json.loads(invoke("show", task.id, "--json").output)
    assert [part["number"] for part in found["open_parts"]] == [2, 3, 5]
    assert found["parts"] == {"done": 2, "total": 8}
    assert "2 of 8" in invoke("list").output


def test_who_waits_for_a_task_in_parts_reads_how_many_are_done(
    client: FlaskClient, queue: InMemoryQueue, invoke: Invoke, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pass_time(seconds: float) -> None:
        clock.advance(timedelta(seconds=2))
        queue.deliver(client)

    monkeypatch.setattr(watching, "sleep", pass_time)
    lines = invoke("start", "letters", "--wait").stderr.splitlines()
    numbers = [int(found[1]) for line in lines if (found := re.search(r"\((\d) of 8 parts done\)$", line))]
    assert numbers[0] == 0
    assert numbers == sorted(set(numbers))
    assert len(numbers) > 4


def test_a_part_that_has_failed_is_shown_with_its_reason_and_reference(
    client: FlaskClient, failed: LongTask, invoke: Invoke
) -> None:
    for found in (invoke("show", failed.id).output, client.get(f"/_longtask/tasks/{failed.id}").text):
        assert "PermanentTaskFailure: no e today" in found
        assert failed.error_reference in found
    page = client.get(f"/_longtask/tasks/{failed.id}").text
    assert "<h2>Open parts</h2>" in page
    assert "Part 4 · " in page


def test_the_reference_of_a_part_finds_its_task(failed: LongTask, invoke: Invoke) -> None:
    assert failed.id in invoke("show", failed.error_reference).output


def test_a_task_in_one_piece_has_no_open_parts(make_app: Callable[..., Flask], task: LongTask, invoke: Invoke) -> None:
    assert "open parts" not in invoke("show", task.id).output
    assert "open_parts" not in json.loads(invoke("show", task.id, "--json").output)
